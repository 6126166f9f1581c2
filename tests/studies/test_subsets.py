"""Nested subsets: the smaller in the larger, at the class shares, by whole patients."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.folds import Fold
from cxrgan_fast.studies.augmentation.subsets import nested_order, nested_subsets, parse_sizes

NAMES = ("normal", "bacterial")


def a_fold(*of_class: int, images: int = 3) -> tuple[Fold, list[str], list[int]]:
    """A fold of so many training images a class, three a patient, and two rows that are not its."""
    labels = [label for label, count in enumerate(of_class) for _ in range(count)]
    patients = [f"{label}-{row // images}" for row, label in enumerate(labels)]
    n = len(labels)
    fold = Fold(1, "f", tuple(range(n)), (n,), (n + 1,))
    return fold, [*patients, "v", "t"], [*labels, 0, 0]


def test_a_smaller_subset_is_part_of_a_larger_one_and_all_is_all() -> None:
    fold, patients, labels = a_fold(60, 120)
    sizes = [10, 25, 100, "all"]
    subsets = nested_subsets(fold, patients, labels, NAMES, sizes)
    assert [len(subsets[size]) for size in sizes] == [10, 25, 100, 180]
    for smaller, larger in pairwise(sizes):
        assert set(subsets[smaller]) < set(subsets[larger])
    assert subsets["all"] == fold.train


@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.integers(0, 2**32))
def test_each_size_has_the_class_shares_to_within_one_image(counts: list[int], seed: int) -> None:
    fold, patients, labels = a_fold(*counts)
    order = nested_order(fold, patients, labels, seed=seed)
    assert sorted(order) == list(fold.train)
    taken = [0] * len(counts)
    for size, row in enumerate(order, 1):
        taken[labels[row]] += 1
        for label, count in enumerate(counts):
            assert abs(taken[label] - count * size / len(order)) < 1


def test_patients_are_taken_whole_but_for_one_of_each_class() -> None:
    fold, patients, labels = a_fold(60, 120)
    rows = nested_subsets(fold, patients, labels, NAMES, [50])[50]
    for label in (0, 1):
        images = [patients[row] for row in rows if labels[row] == label]
        partial = [name for name in set(images) if images.count(name) < 3]
        assert len(partial) <= 1


def test_a_seed_repeats_itself_and_seeds_and_folds_draw_other_images() -> None:
    fold, patients, labels = a_fold(60, 120)
    other = Fold(2, "f", fold.train, fold.validation, fold.test)
    first = nested_order(fold, patients, labels, seed=0)
    assert first == nested_order(fold, patients, labels, seed=0)
    assert first != nested_order(fold, patients, labels, seed=1)
    assert first != nested_order(other, patients, labels, seed=0)


def test_a_size_above_the_set_and_one_without_a_class_are_refused() -> None:
    fold, patients, labels = a_fold(3, 60)
    with pytest.raises(UserError, match=r"size 64: fold 1 has 63 training images"):
        nested_subsets(fold, patients, labels, NAMES, [64])
    with pytest.raises(UserError, match=r"size 5: .* no image of normal; .* (\d+) or more") as told:
        nested_subsets(fold, patients, labels, NAMES, [5])
    fewest = int(str(told.value).split(", ")[-1].split()[0])
    assert nested_subsets(fold, patients, labels, NAMES, [fewest])
    with pytest.raises(UserError, match="no image of normal"):
        nested_subsets(fold, patients, labels, NAMES, [fewest - 1])


def test_sizes_are_read_in_order() -> None:
    assert parse_sizes("400, all,50") == [50, 400, "all"]
    for text in ("0", "50,", "a", "-3", "1e3", "50 60", "all,ALL"):
        with pytest.raises(UserError, match=r"is no size; expected whole numbers over 0, or all"):
            parse_sizes(text)
    with pytest.raises(UserError, match="50 is given twice"):
        parse_sizes("50,50")
