"""Folds by patient: disjoint, stratified, the same from run to run, and refused where they fail."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.folds import Fold, make_folds

NAMES = ("normal", "bacterial")


def some_set(of_class: Sequence[int] = (40, 80), images: int = 3) -> tuple[list[str], list[int]]:
    """Patients of one class each, with 1 to ``images`` images; their names and their labels."""
    patients: list[str] = []
    labels: list[int] = []
    for label, count in enumerate(of_class):
        for number in range(count):
            several = 1 + number % images
            patients += [f"{label}-{number}"] * several
            labels += [label] * several
    return patients, labels


def test_every_image_is_tested_once_and_no_patient_is_in_two_parts() -> None:
    patients, labels = some_set()
    folds = make_folds("f", patients, labels, NAMES)
    assert [fold.number for fold in folds] == [0, 1, 2, 3, 4]
    tested = Counter(row for fold in folds for row in fold.test)
    assert tested == dict.fromkeys(range(len(labels)), 1)
    for fold in folds:
        assert sorted(fold.train + fold.validation + fold.test) == list(range(len(labels)))
        whose = [{patients[row] for row in part} for part in (fold.train, fold.validation)]
        whose.append({patients[row] for row in fold.test})
        assert not whose[0] & whose[1]
        assert not (whose[0] | whose[1]) & whose[2]


def test_parts_have_their_shares_and_those_of_the_classes() -> None:
    patients, labels = some_set((100, 200))
    share = sum(labels) / len(labels)
    for fold in make_folds("f", patients, labels, NAMES):
        for part, wanted in ((fold.test, 1 / 5), (fold.validation, 4 / 25), (fold.train, 16 / 25)):
            assert len(part) / len(labels) == pytest.approx(wanted, abs=0.02)
            assert sum(labels[row] for row in part) / len(part) == pytest.approx(share, abs=0.04)


def test_a_seed_gives_the_same_folds_and_another_gives_others() -> None:
    patients, labels = some_set()
    first = make_folds("f", patients, labels, NAMES, seed=3)
    assert first == make_folds("f", patients, labels, NAMES, seed=3)
    assert first != make_folds("f", patients, labels, NAMES, seed=4)


def test_a_fold_is_kept_as_plain_values_and_read_again() -> None:
    patients, labels = some_set()
    for fold in make_folds("f", patients, labels, NAMES):
        assert Fold.from_plain(json.loads(json.dumps(fold.to_plain()))) == fold


@pytest.mark.parametrize(
    ("name", "value"),
    [("train", None), ("test", [1.0]), ("validation", [-1]), ("number", "0"), ("fingerprint", 3)],
)
def test_a_fold_with_anything_else_in_it_is_refused(name: str, value: object) -> None:
    plain = {"number": 0, "fingerprint": "f", "train": [0], "validation": [1], "test": [2]}
    assert Fold.from_plain(plain).test == (2,)
    with pytest.raises(UserError, match=name):
        Fold.from_plain({**plain, name: value})


def test_a_class_with_too_few_patients_is_refused() -> None:
    patients, labels = some_set((4, 20))
    with pytest.raises(UserError, match=r"class 'normal' has 4 patients, .* 5 folds.* 5 or more"):
        make_folds("f", patients, labels, NAMES)
    # With two folds, two patients would leave none for validation.
    patients, labels = some_set((2, 20))
    with pytest.raises(UserError, match=r"2 patients, .*expected 3 or more"):
        make_folds("f", patients, labels, NAMES, folds=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"folds": 1}, "folds 1: expected 2"), ({"validation_parts": 1}, "validation parts 1"),
     ({"seed": -1}, "seed -1"), ({"seed": 2**32}, "seed 4294967296")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_folds("f", *some_set(), NAMES, **settings)


@given(
    sizes=st.lists(st.integers(3, 12), min_size=2, max_size=3),
    folds=st.integers(2, 5),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_of_few_patients_are_whole_or_refused_in_words(
    sizes: list[int], folds: int, images: int, seed: int
) -> None:
    patients, labels = some_set(sizes, images)
    names = [f"class {label}" for label in range(len(sizes))]
    made, told = [], ""
    try:
        made = make_folds("f", patients, labels, names, folds=folds, seed=seed)
    except UserError as error:
        told = str(error)
    assert made or "add patients" in told
    for fold in made:
        for part in (fold.train, fold.validation, fold.test):
            assert {labels[row] for row in part} == set(range(len(sizes)))
