"""Effects paired by fold and seed: their value, their error, and what is refused."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.effects import (
    Effect,
    FoldScores,
    auc_effect,
    holm,
    mean_effect,
    number_patients,
    trainings_effect,
)

SEEDS = 6


def a_fold(seed: int = 0, n: int = 60, images: int = 1, seeds: int = SEEDS) -> FoldScores:
    """Scores of two arms on as many normal as diseased images, so many a patient."""
    rng = np.random.default_rng(seed)
    diseased = np.repeat([False, True], n)
    ours, theirs = (rng.normal(size=(seeds, 2 * n)) + diseased for _ in range(2))
    return FoldScores(diseased, [str(row // images) for row in range(2 * n)], ours, theirs)


def test_the_value_is_the_mean_over_folds_of_the_mean_over_seeds() -> None:
    folds = [a_fold(0), a_fold(1, n=30, seeds=3)]
    folds[0].ours[:, :5] = folds[0].ours[:, -5:]  # ties
    expected = np.mean([
        np.mean([roc_auc_score(fold.diseased, ours) - roc_auc_score(fold.diseased, theirs)
                 for ours, theirs in zip(fold.ours, fold.theirs, strict=True)])
        for fold in folds
    ])  # fmt: skip
    effect = auc_effect(folds)
    assert effect.value == pytest.approx(expected, abs=1e-12)
    assert (effect.trainings, effect.patients) == (9, 180)
    alone = auc_effect([FoldScores(fold.diseased, fold.patients, fold.ours) for fold in folds])
    of_ours = [np.mean([roc_auc_score(f.diseased, each) for each in f.ours]) for f in folds]
    assert alone.value == pytest.approx(np.mean(of_ours), abs=1e-12)


def test_a_mean_over_images_counts_those_that_are_asked_for() -> None:
    fold = a_fold()
    values = np.where(fold.diseased, np.nan, fold.ours)
    effect = mean_effect([fold], [values])
    assert effect.value == pytest.approx(fold.ours[:, ~fold.diseased].mean())
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="the same images in every seed"):
        mean_effect([fold], [values])


def test_equal_arms_have_no_effect_and_no_error() -> None:
    fold = a_fold()
    effect = auc_effect([FoldScores(fold.diseased, fold.patients, fold.ours, fold.ours)])
    assert (effect.value, effect.standard_error, effect.p_value()) == (0, 0, 1)
    assert effect.interval() == (0, 0)
    assert effect.smallest_effect() == 0


def test_where_only_patients_differ_the_error_is_that_of_their_mean() -> None:
    fold = a_fold(n=200)
    of_image = np.random.default_rng(5).normal(size=400)
    effect = mean_effect([fold], [np.tile(of_image, (SEEDS, 1))], 4000)
    # Those with and without disease are drawn apart.
    parts = of_image.reshape(2, 200)
    expected = np.sqrt(parts.var(axis=1, ddof=1).sum() / 200) / 2
    assert effect.standard_error == pytest.approx(expected, rel=0.05)
    assert effect.from_patients == pytest.approx(1, abs=1e-9)
    assert effect.freedom > 300


def test_where_only_trainings_differ_it_is_that_of_the_seeds() -> None:
    folds = [a_fold(0), a_fold(1)]
    of_seed = np.random.default_rng(5).normal(size=(2, SEEDS))
    effect = mean_effect(folds, [np.tile(each[:, None], (1, 120)) for each in of_seed])
    errors = of_seed.std(axis=1, ddof=1) / np.sqrt(SEEDS)
    assert effect.standard_error == pytest.approx(np.sqrt((errors**2).sum()) / 2)
    assert effect.from_patients == pytest.approx(0, abs=1e-12)
    satterthwaite = (errors**2).sum() ** 2 / (errors**4 / (SEEDS - 1)).sum()
    assert effect.freedom == pytest.approx(satterthwaite)
    same = trainings_effect(of_seed.tolist())
    assert same.standard_error == pytest.approx(effect.standard_error)


def test_the_noise_of_a_training_on_a_patient_is_counted_once() -> None:
    """As a hierarchical bootstrap has it, the variance would be three times as large."""
    ratios = []
    for seed in range(30):
        fold = a_fold(n=100)
        noise = np.random.default_rng(seed).normal(size=(SEEDS, 200))
        effect = mean_effect([fold], [noise], 300)
        ratios.append(effect.standard_error**2 / (1 / (SEEDS * 200)))
    assert 0.9 < np.mean(ratios) < 1.6  # what is below 0 by chance counts as 0


def test_images_of_a_patient_are_drawn_together() -> None:
    of_patient = np.random.default_rng(0).normal(size=60)
    errors = []
    for images in (1, 4):
        fold = a_fold(n=30 * images, images=images)
        values = np.tile(np.repeat(of_patient, images), (SEEDS, 1))
        errors.append(mean_effect([fold], [values], 2000).standard_error)
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)  # no more is known of four images


def test_effects_of_the_same_folds_see_the_same_patients() -> None:
    fold = a_fold()
    values = np.tile(np.arange(120.0), (SEEDS, 1))
    first, second = mean_effect([fold], [values]), mean_effect([fold], [2 * values])
    np.testing.assert_allclose(second.replicates, 2 * first.replicates)


def test_interval_and_p_value_are_student_s() -> None:
    effect = Effect(0.02, 0.01, 12.0, 0.5, 30, 100, 0.0, np.zeros(0))
    low, high = effect.interval()
    half = stats.t.ppf(0.975, 12) * 0.01
    assert (low, high) == pytest.approx((0.02 - half, 0.02 + half))
    assert effect.p_value() == pytest.approx(2 * stats.t.sf(2, 12))
    certain = Effect(0.02, 0.0, 12.0, 0.5, 30, 100, 0.0, np.zeros(0))
    assert certain.p_value() == 0.0


@pytest.mark.parametrize("comparisons", [1, 7])
def test_the_smallest_effect_would_be_found_in_80_of_100_studies(comparisons: int) -> None:
    effect = Effect(0.0, 0.01, 20.0, 0.5, 30, 100, 0.0, np.zeros(0))
    shift = effect.smallest_effect(comparisons) / 0.01
    level = stats.t.ppf(1 - 0.025 / comparisons, 20)
    assert stats.nct.sf(level, 20, shift) == pytest.approx(0.8, abs=0.02)


def test_trainings_of_one_fold_are_tested_as_a_paired_t_test() -> None:
    values = np.random.default_rng(3).normal(0.5, 1, 8)
    effect = trainings_effect([values.tolist()])
    other = stats.ttest_1samp(values, 0)
    assert effect.p_value() == pytest.approx(other.pvalue)
    assert effect.interval() == pytest.approx(tuple(other.confidence_interval()))


def test_holm_corrects_by_how_many_are_left() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_too_few_seeds_or_patients_are_refused() -> None:
    with pytest.raises(UserError, match="fold 1: 1 seeds of both arms"):
        auc_effect([a_fold(), a_fold(seeds=1)])
    with pytest.raises(UserError, match="fold 0: 1 seeds"):
        trainings_effect([[0.1]])
    fold = a_fold(n=4, images=4)  # one patient of each kind
    with pytest.raises(UserError, match="1 patients with disease"):
        auc_effect([fold])


def test_patients_are_numbered_by_their_whole_names() -> None:
    assert number_patients(["b", "a", "a\0", "b", "e\udcff"]).tolist() == [0, 1, 2, 0, 3]
