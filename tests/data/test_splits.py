"""Splits by patient: no patient in two, every class in its share."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.data.sources import open_source, select
from cxrgan_fast.data.splits import assign_splits, held_out_patients, split_warnings
from cxrgan_fast.errors import UserError

images = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=200)
shares = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@given(images=images, shares=shares, seed=st.integers(0, 5), turn=st.randoms())
def test_no_patient_crosses_and_the_order_does_not_matter(
    images: list[tuple[int, int]], shares: tuple[float, float], seed: int, turn: object
) -> None:
    patients, labels = [f"p{patient}" for patient, _ in images], [label for _, label in images]
    settings = {"val_share": shares[0], "test_share": shares[1], "seed": seed}
    try:
        splits = assign_splits(patients, labels, **settings)  # type: ignore[arg-type]
    except UserError as error:
        assert "too few" in str(error)  # noqa: PT017  # it is not always raised
        return
    of_patient = dict(zip(patients, splits, strict=True))
    assert [of_patient[patient] for patient in patients] == splits
    order = list(range(len(images)))
    turn.shuffle(order)  # type: ignore[attr-defined]
    again = assign_splits([patients[i] for i in order], [labels[i] for i in order], **settings)  # type: ignore[arg-type]
    assert again == [splits[i] for i in order]


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=60), seed=st.integers(0, 9))
def test_shares_are_met_to_within_a_patient(sizes: list[int], seed: int) -> None:
    patients = [f"p{patient}" for patient, size in enumerate(sizes) for _ in range(size)]
    splits = Counter(assign_splits(patients, [0] * len(patients), seed=seed))
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert splits[split] > 0
        assert splits[split] - share * len(patients) < max(sizes)


def test_seeds_differ_and_repeat() -> None:
    patients = [f"p{n}" for n in range(100)]
    first, again, other = (assign_splits(patients, [0] * 100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert Counter(first) == {"train": 70, "test": 20, "val": 10}


def test_every_class_has_its_share() -> None:
    labels = [0] * 300 + [1] * 50
    splits = assign_splits([f"p{n}" for n in range(350)], labels)
    for label, number in ((0, 300), (1, 50)):
        counts = Counter(s for s, own in zip(splits, labels, strict=True) if own == label)
        assert counts == {"train": 0.7 * number, "val": 0.1 * number, "test": 0.2 * number}


def test_a_share_of_nothing() -> None:
    splits = assign_splits(["a", "b"], [0, 0], val_share=0, test_share=0.5)
    assert sorted(splits) == ["test", "train"]
    assert set(assign_splits(["a"], [0], val_share=0, test_share=0)) == {"train"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_share": -0.1}, "val share -0.1"),
        ({"test_share": 1.0}, "test share 1.0"),
        ({"val_share": 0.5, "test_share": 0.5}, "nothing is left to train on"),
        ({"seed": -1}, "seed -1"),
        ({}, "class '1' has 1 patients, too few for the splits train, val, test"),
    ],
)
def test_what_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(["a", "b", "c", "d", "d"], ["0", "0", "0", "1", "1"], **settings)  # type: ignore[arg-type]


def test_warnings_of_splits_that_a_set_comes_with() -> None:
    patients = [f"p{n}" for n in range(30)] + ["p3", "p4", "x"]
    splits = ["train"] * 30 + ["test"] * 2 + ["val"]
    shared, small = split_warnings(patients, splits)
    assert shared.startswith("train and test share 2 of 2 patients of test")
    assert small.startswith("val has 1 images: too few")
    assert split_warnings(["a", "b"], ["train", "test"]) == []


def test_the_published_set(chest_xrays: Path) -> None:
    source = open_source(chest_xrays)
    chosen = select(source, None, ["normal", "bacterial", "viral"])
    names, files = chosen.class_names, chosen.files
    patients = [file.patient for file in files]
    labels = [names.index(file.class_name) for file in files]
    splits = assign_splits(patients, labels)
    whose: dict[str, set[str]] = {}
    for patient, split in zip(patients, splits, strict=True):
        whose.setdefault(split, set()).add(patient)
    assert not whose["train"] & whose["test"]
    assert not (whose["train"] | whose["test"]) & whose["val"]
    for label in range(3):
        counts = Counter(s for s, own in zip(splits, labels, strict=True) if own == label)
        for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            assert abs(counts[split] / counts.total() - share) < 0.005
    (warning,) = split_warnings(patients, [file.split for file in files])
    assert "train and test share 170 of 427 patients" in warning


def test_whole_patients_of_each_class_are_held_out() -> None:
    patients = [f"p{image // 3}" for image in range(150)]  # three images each
    labels = [int(image >= 90) for image in range(150)]  # 30 patients and 20
    by_share = held_out_patients(patients, labels, 0.1, seed=4)
    class_of = dict(zip(patients, labels, strict=True))
    assert sorted(class_of[patient] for patient in by_share) == [0, 0, 0, 1, 1]
    by_count = held_out_patients(patients, labels, 4, seed=4)
    assert sorted(class_of[patient] for patient in by_count) == [0] * 4 + [1] * 4
    order = np.random.default_rng(0).permutation(150).tolist()
    mixed = ([patients[place] for place in order], [labels[place] for place in order])
    assert held_out_patients(*mixed, 0.1, seed=4) == by_share
    assert held_out_patients(patients, labels, 0.1, seed=5) != by_share
    assert len(held_out_patients(patients, labels, 0.001)) == 2  # one of each class at least


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (0.0, "--hold-out-patients 0: expected a share"),
        (1.5, "--hold-out-patients 1.5: expected a share"),
        (float("inf"), "--hold-out-patients inf: expected a share"),
        (2, "--hold-out-patients 2: class 1 has 2 patients, and none is left to train on"),
        (0.9, "--hold-out-patients 0.9: class 0 has 3 patients, and none is left"),
    ],
)
def test_who_cannot_be_held_out(amount: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        held_out_patients(["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1], amount)


def test_a_patient_of_two_classes_is_held_out_of_both() -> None:
    patients, labels = ["a", "b", "c", "a", "d", "e"], [0, 0, 0, 1, 1, 1]
    drawn = [held_out_patients(patients, labels, 1, seed) for seed in range(20)]
    assert all(len(chosen & {"a", "b", "c"}) == 1 for chosen in drawn)
    assert all(len(chosen & {"d", "e"}) == 1 for chosen in drawn)
