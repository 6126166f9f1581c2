"""Sets are compared in equal numbers and with the classes of the data."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.matching import (
    check_classes,
    choose_rows,
    class_shares,
    largest_match,
    patient_halves,
    subset,
)


def test_shares_by_hand():
    assert class_shares([1341, 2530], 1000) == [346, 654]  # 346.42 and 653.58
    assert class_shares([1, 1, 1], 10) == [4, 3, 3]  # ties go to the first
    assert class_shares([1, 1000], 10) == [0, 10]
    assert class_shares([5, 0, 5], 3) == [2, 0, 1]
    assert class_shares([2, 3], 0) == [0, 0]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any), st.integers(0, 10**6))
def test_shares_sum_to_the_total_and_are_within_one_of_exact(frequencies, total):
    counts = class_shares(frequencies, total)
    n = sum(frequencies)
    assert sum(counts) == total
    assert all(abs(c * n - total * f) < n for c, f in zip(counts, frequencies, strict=True))


@pytest.mark.parametrize(("frequencies", "total"), [([0, 0], 5), ([1, 2], -1), ([-1, 2], 1)])
def test_shares_of_nothing_are_refused(frequencies, total):
    with pytest.raises(ValueError, match="to divide"):
        class_shares(frequencies, total)


def test_the_largest_match_by_hand():
    assert largest_match([234, 242], [1341, 2530], 10**6) == [129, 242]  # 128.52 and 242.48
    assert largest_match([1341, 2530], [1341, 2530], 1000) == [346, 654]
    assert largest_match([100, 100], [1, 1], 10**6) == [100, 100]
    assert largest_match([100, 100], [1, 1], 7) == [4, 3]
    assert largest_match([0, 9], [1, 0], 5) == [0, 0]
    assert largest_match([3, 9], [1, 0], 5) == [3, 0]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=4),
    st.integers(0, 60),
)
def test_no_larger_match_exists(pairs, most):
    available, frequencies = zip(*pairs, strict=True)
    if not any(frequencies):
        return
    shares = [class_shares(frequencies, total) for total in range(most + 1)]
    possible = [
        counts for counts in shares if all(c <= a for c, a in zip(counts, available, strict=True))
    ]
    assert largest_match(available, frequencies, most) == possible[-1]


def test_rows_are_chosen_by_class_and_seed():
    labels = torch.tensor([0, 1] * 50)
    rows = choose_rows(labels, [10, 20], seed=3)
    assert Counter(labels[rows].tolist()) == {0: 10, 1: 20}
    assert rows.unique().equal(rows)  # ascending, none twice
    assert torch.equal(rows, choose_rows(labels, [10, 20], seed=3))
    assert not torch.equal(rows, choose_rows(labels, [10, 20], seed=4))
    among = torch.arange(100) < 40
    assert choose_rows(labels, [20, 20], 0, among).tolist() == list(range(40))
    with pytest.raises(ValueError, match="class 1: 21 images wanted, there are 20"):
        choose_rows(labels, [0, 21], 0, among)


def test_every_row_is_as_likely():
    labels = torch.zeros(10, dtype=torch.int64)
    counts = torch.stack(
        [choose_rows(labels, [5], seed).bincount(minlength=10) for seed in range(400)]
    )
    assert (counts.sum(0) - 200).abs().max() < 5 * 10  # five standard deviations of a binomial


def test_classes_that_do_not_fit_are_named():
    real = {"normal": 3, "bacterial": 4}
    check_classes({"bacterial": 1, "normal": 2}, real, "fakes")
    with pytest.raises(UserError, match=r"^fakes: there are no images of bacterial, which"):
        check_classes({"normal": 2}, real, "fakes")
    with pytest.raises(UserError, match="no images of normal"):
        check_classes({"normal": 0, "bacterial": 1}, real, "fakes")
    with pytest.raises(UserError, match=r"class 'norml' is not among .*; did you mean 'normal'"):
        check_classes({"norml": 1}, real, "fakes")


@pytest.fixture
def dataset() -> ImageDataset:
    n = 60
    return ImageDataset(
        images=torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 8, 8).clone(),
        labels=torch.arange(n) % 3,
        class_names=("a", "b", "c"),
        patients=[f"p{row // 4}" for row in range(n)],
        files=[f"{row}.png" for row in range(n)],
        name="set",
    )


def test_halves_share_no_patient_and_leave_no_image_out(dataset):
    first, second = patient_halves(dataset, seed=1)
    assert torch.equal(first, ~second)
    owners = [
        {p for p, of in zip(dataset.patients, mask, strict=True) if of} for mask in (first, second)
    ]
    assert not owners[0] & owners[1]
    assert [len(of) for of in owners] == [7, 8]
    assert not torch.equal(first, patient_halves(dataset, seed=2)[0])


def test_a_subset_keeps_everything_of_its_images(dataset):
    part = subset(dataset, torch.tensor([3, 50]))
    assert part.images[:, 0, 0, 0].tolist() == [3, 50]
    assert part.labels.tolist() == [0, 2]
    assert (part.patients, part.files) == (["p0", "p12"], ["3.png", "50.png"])
    assert part.class_names == dataset.class_names
