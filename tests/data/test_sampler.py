"""The data order: complete epochs, balanced classes, the same rows from wherever one asks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrgan_fast.data import BalancedOrder, EpochOrder, Order
from cxrgan_fast.errors import UserError

UNEQUAL = torch.tensor([0] * 17 + [1] * 5 + [2] * 2)


def orders() -> dict[str, Order]:
    return {"epoch": EpochOrder(24, 3), "balanced": BalancedOrder(UNEQUAL, 3, seed=3)}


@pytest.mark.parametrize("n", [1, 7, 10])
def test_every_epoch_holds_every_image_once(n: int) -> None:
    drawn = EpochOrder(n, 0).rows(0, 4 * n)
    assert drawn.dtype == torch.int64
    assert len(drawn) == 4 * n
    for epoch in drawn.split(n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_epochs_and_seeds_differ() -> None:
    first, second = EpochOrder(50, 0).rows(0, 100).split(50)
    assert not torch.equal(first, second)
    assert not torch.equal(first, EpochOrder(50, 1).rows(0, 50))
    assert not torch.equal(first, EpochOrder(50, 0, 1).rows(0, 50))
    assert torch.equal(first, EpochOrder(50, 0).rows(0, 50))


def test_the_order_is_a_known_one() -> None:
    # Philox and SeedSequence promise their streams: a resumed run elsewhere sees this too.
    assert EpochOrder(8, 0).rows(0, 8).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


@pytest.mark.parametrize("kind", orders())
@given(start=st.integers(0, 10_000), count=st.integers(0, 200), before=st.integers(0, 10_000))
def test_rows_depend_on_their_position_alone(kind: str, start: int, count: int, before: int):
    asked_before = orders()[kind]
    asked_before.rows(before, 5)
    rows = asked_before.rows(start, count)
    assert len(rows) == count
    assert torch.equal(rows, orders()[kind].rows(0, start + count)[start:])


def test_rows_do_not_share_memory_with_the_order() -> None:
    order = EpochOrder(6, 0)
    before = order.rows(0, 3).clone()
    order.rows(0, 3).fill_(99)
    assert torch.equal(order.rows(0, 3), before)


def test_balanced_classes_come_equally_often_and_each_image_once_a_round() -> None:
    rows = BalancedOrder(UNEQUAL, 3, seed=0).rows(0, 3 * 17 * 10)
    for turn in UNEQUAL[rows].split(3):
        assert sorted(turn.tolist()) == [0, 1, 2]
    for k, size in enumerate((17, 5, 2)):
        shown = rows[UNEQUAL[rows] == k]
        for round_ in shown[: len(shown) // size * size].split(size):
            assert sorted(round_.tolist()) == torch.nonzero(k == UNEQUAL).flatten().tolist()


def test_the_order_of_balanced_classes_changes() -> None:
    turns = UNEQUAL[BalancedOrder(UNEQUAL, 3, seed=0).rows(0, 300)].view(100, 3)
    assert len({tuple(turn) for turn in turns.tolist()}) == 6


@pytest.mark.parametrize(("n", "seed", "message"), [(0, 0, "holds 0 images"), (4, -1, "seed -1")])
def test_settings_that_cannot_work(n: int, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EpochOrder(n, seed)


def test_a_class_without_images_cannot_be_balanced() -> None:
    with pytest.raises(UserError, match="class 1 has no images"):
        BalancedOrder(torch.zeros(3, dtype=torch.int64), 2, seed=0)
