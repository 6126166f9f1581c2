"""Simulated studies: the model has the AUCs that it says, and the estimates hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from commands import call
from research import simulated_studies
from research.simulated_studies import MODELS, estimate, report, summarize


def test_the_model_s_aucs_are_those_of_its_scores() -> None:
    model = replace(MODELS[4], quality=0.5)
    found = []
    for seed in range(60):
        for size, folds in enumerate(model.draw(seed)):
            for fold in folds[:1]:
                found += [(size, arm, roc_auc_score(fold.diseased, scores[0]))
                          for arm, scores in ((True, fold.ours), (False, fold.theirs))]  # fmt: skip
    for size in range(3):
        for arm in (True, False):
            values = [value for of, which, value in found if (of, which) == (size, arm)]
            error = np.std(values) / np.sqrt(len(values))
            assert abs(np.mean(values) - model.auc(size, arm)) < 4 * error


def test_models_without_an_effect_have_none() -> None:
    for model in MODELS:
        gains = [model.gain(size) for size in range(3)]
        assert (gains == [0, 0, 0]) == model.name.startswith("no effect")


def test_what_is_right_and_wrong_is_counted() -> None:
    study = {
        "p_values": [0.01, 0.2, 0.3], "holm": [0.03, 0.4, 0.4], "smallest": [0.1, 0.2, 0.3],
        "held": [True, True, False], "held_auc": [True] * 3, "type_1_p_values": [0.01, 0.5, 0.5],
        "mcnemar": [0.01, None], "break_even": [100, 300, 200], "worth": [-5, None, 10],
    }  # fmt: skip
    other = {**study, "p_values": [0.2, 0.2, 0.3], "holm": [0.6, 0.6, 0.6], "worth": [11, 20, 10],
             "mcnemar": [0.5, 0.5]}  # fmt: skip
    found = summarize(MODELS[0], [study, other])
    assert found["held"] == pytest.approx(4 / 6)
    assert found["found"] == [0.5, 0, 0]
    assert (found["found_any_by_holm"], found["worth_held"]) == (0.5, 0.5)
    assert found["type_1_found"] == pytest.approx(2 / 6)
    assert (found["mcnemar_found"], found["mcnemar_by_patient_found"]) == (0.5, 0.0)
    assert (found["break_even_told"], found["break_even_held"]) == (2, 1.0)
    assert summarize(MODELS[4], [study])["type_1_found"] is None


def test_the_command_writes_what_it_prints(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(simulated_studies, "MODELS", MODELS[3:5])
    out = tmp_path / "simulated.json"
    assert call(simulated_studies.main, "--studies", 2, "--out", out) == 0
    record = json.loads(out.read_text())
    assert [case["model"]["name"] for case in record["models"]] == [m.name for m in MODELS[3:5]]
    assert report(record) in capsys.readouterr().out
    assert call(simulated_studies.main, "--studies", 1, "--out", out) == 2
    assert "--studies: got 1, expected 2 or more" in capsys.readouterr().err


def test_an_effect_is_found_and_none_is_not_found(monkeypatch) -> None:
    """Of few studies; of hundreds it is a slow test, of a thousand bench/results has them."""
    monkeypatch.setattr(simulated_studies, "RESAMPLES", 100)
    none = summarize(MODELS[0], [estimate(MODELS[0], 500 + seed) for seed in range(12)])
    assert none["held"] >= 28 / 36  # a right interval is below once in 10,000
    assert none["found_any_by_holm"] <= 4 / 12
    some = summarize(MODELS[5], [estimate(MODELS[5], 500 + seed) for seed in range(6)])
    assert some["found_any_by_holm"] >= 3 / 6


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name.replace(" ", "-"))
def test_intervals_hold_the_truth_and_nothing_is_found_where_nothing_is(model) -> None:
    """Of 200 studies. What is right is outside of these bounds once in 10,000."""
    found = summarize(model, [estimate(model, 10_000 + seed) for seed in range(200)])
    least = stats.binom.ppf(1e-4, 200, 0.95) / 200
    for size in ("held", "held_auc"):  # of three sizes, which have patients in common
        assert found[size] >= least
    assert found["worth_held"] >= least
    if not any(model.gains):
        assert max(found["found"]) <= stats.binom.ppf(1 - 1e-4, 200, 0.05) / 200
        assert found["found_any_by_holm"] <= stats.binom.ppf(1 - 1e-4, 200, 0.05) / 200
        assert found["type_1_found"] <= stats.binom.ppf(1 - 1e-4, 200, 0.05) / 200
