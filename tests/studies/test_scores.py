"""Scores of disease, from logits of two classes or more."""

import numpy as np
import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.scores import disease_scores, negative_label, probabilities


def test_of_two_classes_the_score_is_the_difference_of_logits() -> None:
    logits = np.array([[1.0, 3.0], [2.0, -1.0]])
    np.testing.assert_allclose(disease_scores(logits, 0), [2.0, -3.0])
    np.testing.assert_allclose(disease_scores(logits, 1), [-2.0, 3.0])


def test_of_three_classes_it_is_the_log_odds_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3)) * 3
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(disease_scores(logits, 1)), 1 - softmax[:, 1])


def test_probabilities_do_not_overflow() -> None:
    with np.errstate(over="raise"):
        assert probabilities(np.array([-1e6, 0.0, 1e6])).tolist() == [0.0, 0.5, 1.0]


def test_the_class_without_disease_is_found_or_asked_for() -> None:
    assert negative_label(["bacterial", "NORMAL"]) == 1
    assert negative_label(["healthy", "ill"], "Healthy") == 0
    with pytest.raises(UserError, match="negative class 'normal': the classes are a, b; name"):
        negative_label(["a", "b"])
    with pytest.raises(UserError, match="did you mean 'healthy'"):
        negative_label(["healthy", "ill"], "helthy")
    with pytest.raises(UserError, match="expected two or more"):
        negative_label(["normal"])
