"""Inception Score against sums as the paper writes them, and its limits."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.inception_score import inception_score


def predictions(n: int, classes: int, *, sharpness: float = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, classes, generator=generator) * sharpness).softmax(1)


def by_divergences(probabilities: Tensor) -> float:
    rows = probabilities.double().numpy()
    rows = rows / rows.sum(1, keepdims=True)
    return float(np.exp(np.mean(scipy.stats.entropy(rows, rows.mean(0)[None], axis=1))))


def test_one_split_is_the_formula() -> None:
    rows = predictions(50, 5)
    found = inception_score(rows, splits=1)
    assert found.value == pytest.approx(by_divergences(rows), rel=1e-12)
    assert found.details["all_images"] == found.value
    assert found.details["deviation"] == 0
    assert (found.n_real, found.n_fake, found.details["classes"]) == (0, 50, 5)
    assert found.standard_error is None


@pytest.mark.parametrize("sizes", [(2, 40, 20), (10, 103, 10)])
def test_splits(sizes: tuple[int, int, int]) -> None:
    """Those of a known order: the image's own number tells which split it came into."""
    splits, n, smallest = sizes
    rows = predictions(n, 4)
    order = np.random.default_rng(5).permutation(n)
    scores = [by_divergences(rows[part]) for part in np.array_split(order, splits)]
    found = inception_score(rows, splits=splits, seed=5)
    assert found.value == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.details["deviation"] == pytest.approx(np.std(scores), rel=1e-9)
    assert found.details["split_size"] == smallest
    assert found.details["all_images"] == pytest.approx(by_divergences(rows), rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_sure_and_balanced_gives_the_number_of_classes(classes: int) -> None:
    rows = torch.eye(classes).repeat(2, 1)  # with zeros, whose logarithm is not a number
    assert inception_score(rows, splits=1).value == pytest.approx(classes, rel=1e-12)


@pytest.mark.parametrize("rows", [torch.full((40, 4), 0.25), torch.eye(4)[:1].repeat(40, 1)])
def test_the_same_of_every_image_gives_one(rows: Tensor) -> None:
    assert inception_score(rows).value == pytest.approx(1, abs=1e-12)
    assert inception_score(rows).value >= 1


def test_rounding_does_not_take_it_below_one() -> None:
    """Of such rows about every third would be, by 2e-16."""
    for seed in range(20):
        rows = predictions(1, 7, seed=seed).repeat(40, 1)
        assert inception_score(rows, splits=1).value >= 1


def test_images_in_order_of_their_class_are_mixed_before_splitting() -> None:
    """Unmixed, each of ten splits would see one of the two classes only and score 1."""
    rows = torch.eye(2).repeat_interleave(500, 0)
    first, again, other = (inception_score(rows, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert other.value != first.value
    # Of 100 images p(y) is 1/2 ± 1/20: an entropy below log 2 by 2/400, give or take as much.
    assert first.value == pytest.approx(2 * np.exp(-2 / 400), abs=0.03)


def test_nearly_sure_predictions_keep_their_digits() -> None:
    rows = torch.tensor([[1.0, 0.0], [1 - 2**-20, 2**-20]]).repeat(10, 1)
    assert inception_score(rows, splits=1).value - 1 == pytest.approx(
        by_divergences(rows) - 1, rel=1e-6
    )


def test_half_precision_rows_are_made_to_sum_to_one() -> None:
    rows = predictions(60, 7)
    rough = inception_score(rows.half(), splits=1).value
    assert rough == pytest.approx(by_divergences(rows.half()), rel=1e-12)
    assert rough == pytest.approx(inception_score(rows, splits=1).value, rel=1e-2)


@pytest.mark.parametrize(("n", "splits", "needed"), [(19, 10, 20), (1, 1, 2), (0, 10, 20)])
def test_too_few_images(n: int, splits: int, needed: int) -> None:
    with pytest.raises(UserError, match=f"expected {needed} .* got {n}; generate more"):
        inception_score(predictions(n, 3), splits=splits)


@pytest.mark.parametrize(
    "rows",
    [
        torch.randn(40, 3),
        torch.ones(40, 3),
        torch.tensor([1.5, -0.5]).repeat(40, 1),
        torch.full((40, 3), float("nan")),
    ],
    ids=["logits", "scores", "negative", "nan"],
)
def test_what_is_no_probability(rows: Tensor) -> None:
    with pytest.raises(ValueError, match="probabilities: expected rows"):
        inception_score(rows)


def test_other_shapes_and_splits() -> None:
    with pytest.raises(ValueError, match=r"expected \(M, K\), got \(40,\)"):
        inception_score(torch.ones(40))
    with pytest.raises(ValueError, match="splits: expected 1 or more, got 0"):
        inception_score(predictions(40, 3), splits=0)


def test_a_resample_is_its_images_as_often_as_it_says() -> None:
    rows = predictions(24, 3)
    resamples = Resamples.draw(1, 24, count=6)
    parts = np.array_split(np.random.default_rng(0).permutation(24), 3)
    values = []
    for counts in resamples.fake.long():
        scores = [by_divergences(rows[p].repeat_interleave(counts[p], 0)) for p in parts]
        values.append(np.mean(scores))
    found = inception_score(rows, splits=3, resamples=resamples).standard_error
    assert found == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_a_split_that_a_resample_leaves_empty_is_left_out() -> None:
    rows = predictions(4, 3)
    parts = np.array_split(np.random.default_rng(0).permutation(4), 2)
    empty = torch.ones(2, 4).double()
    empty[0, parts[0]] = 0
    found = inception_score(
        rows, splits=2, resamples=Resamples(torch.ones(2, 1).double(), empty)
    ).standard_error
    scores = [by_divergences(rows[part]) for part in parts]
    assert found == pytest.approx(np.std([scores[1], np.mean(scores)], ddof=1), rel=1e-9)


def test_the_standard_error_is_the_spread_of_new_samples() -> None:
    """60 samples know their spread to 1/√120 = 9 %: four of these and a little."""
    values, errors = [], []
    for seed in range(60):
        rows = predictions(500, 4, seed=seed)
        values.append(inception_score(rows).value)
        if seed < 8:
            resamples = Resamples.draw(1, 500, seed=seed)
            errors.append(inception_score(rows, resamples=resamples).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)
