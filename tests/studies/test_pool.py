"""The pool of an arm's images, and its order: classes as the subset has them, in every arm."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.arms import ARMS, training_images
from cxrgan_fast.studies.augmentation.pool import PoolOrder, make_pool

NAMES = ("normal", "bacterial")
LABELS = [0, 1, 1] * 8


def images(labels: list[int], name: str = "real") -> ImageDataset:
    """Images of one pixel's value each, which is the row's number."""
    n = len(labels)
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 8, 8).clone()
    rows = [f"{name}{row}" for row in range(n)]
    return ImageDataset(pixels, torch.tensor(labels), NAMES, rows, list(rows), name)


def pool_of(name: str, ratio: float | None = None) -> tuple[ImageDataset, ImageDataset]:
    """The whole set, and an arm's pool of its first 12 images."""
    whole = images(LABELS)
    made = training_images(ARMS[name], ratio, tuple(range(24)), 12, LABELS, NAMES)
    labels = [label for label, count in enumerate(made.synthetic) for _ in range(count)]
    return whole, make_pool(whole, made, images(labels, "synthetic") if labels else None)


def test_a_pool_has_the_arm_s_images() -> None:
    assert pool_of("R")[1].files == [f"real{row}" for row in range(12)]
    assert pool_of("RR")[1].files == 2 * [f"real{row}" for row in range(12)]
    pool = pool_of("RS", 0.5)[1]
    assert pool.files == [f"real{row}" for row in range(12)] + [f"synthetic{n}" for n in range(6)]
    assert pool.labels.tolist() == [*LABELS[:12], 0, 0, 1, 1, 1, 1]
    assert pool_of("S", 1)[1].files == [f"synthetic{n}" for n in range(12)]
    assert pool_of("N", 1)[1].files == [f"real{row}" for row in range(24)]


def test_all_arms_see_the_same_classes_at_the_same_steps() -> None:
    balance = torch.tensor(LABELS[:12])
    seen = []
    for name, ratio in (("R", None), ("RR", None), ("RS", 2.0), ("S", 1.0), ("N", 0.5)):
        pool = pool_of(name, ratio)[1]
        rows = PoolOrder(balance, pool.labels, seed=3).rows(5, 100)
        seen.append(pool.labels[rows].tolist())
    assert all(classes == seen[0] for classes in seen)
    assert seen[0][7:19].count(0) == 4  # an epoch of the subset, which begins at 12, has its shares


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_rows_are_those_of_one_order_wherever_they_are_cut(start: int, one: int, two: int) -> None:
    order = PoolOrder(torch.tensor([0, 1, 1, 0, 2]), torch.tensor([2, 1, 0, 1, 1, 0]), seed=1)
    whole = order.rows(start, one + two)
    parts = torch.cat([order.rows(start, one), order.rows(start + one, two)])
    assert torch.equal(whole, parts)


def test_of_a_class_every_image_is_shown_before_any_is_shown_again() -> None:
    order = PoolOrder(torch.tensor([0, 1]), torch.tensor([0] * 4 + [1] * 7), seed=0)
    rows = order.rows(0, 56).tolist()
    first, second = ([row for row in rows if (row < 4) == which] for which in (True, False))
    assert all(sorted(first[at : at + 4]) == [0, 1, 2, 3] for at in range(0, 28, 4))
    assert all(sorted(second[at : at + 7]) == list(range(4, 11)) for at in range(0, 28, 7))


def test_a_pool_that_is_not_the_arm_s_is_refused() -> None:
    whole = images(LABELS)
    made = training_images(ARMS["RS"], 1.0, tuple(range(24)), 12, LABELS, NAMES)
    right = images([0] * 4 + [1] * 8)
    assert len(make_pool(whole, made, right)) == 24
    for wrong, message in (
        (None, r"\(0, 0\) synthetic images .* expected \(4, 8\)"),
        (images([0] * 5 + [1] * 8), r"\(5, 8\) synthetic"),
        (replace(right, class_names=("normal", "viral")), "of normal, viral: expected"),
        (replace(right, images=right.images[:, :, :4]), r"of shape \(1, 4, 8\): expected"),
    ):
        with pytest.raises(UserError, match=message):
            make_pool(whole, made, wrong)
    with pytest.raises(UserError, match="class 1 has no image in the pool"):
        PoolOrder(torch.tensor([0, 1]), torch.tensor([0, 0]), seed=0)
