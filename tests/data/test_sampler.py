"""The data order: complete epochs, exact resumption."""

import pytest
import torch

from cxrgan_fast.data import EpochSampler
from cxrgan_fast.errors import UserError


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 1)])
def test_every_epoch_holds_every_image_once(n: int, batch_size: int) -> None:
    sampler = EpochSampler(n, batch_size, seed=0)
    drawn = torch.cat([sampler.next() for _ in range(4 * n)])  # batch_size epochs, four times
    assert drawn.dtype == torch.int64
    assert len(drawn) == 4 * n * batch_size
    for epoch in drawn.split(n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_epochs_and_seeds_differ() -> None:
    sampler = EpochSampler(50, 50, seed=0)
    first, second = sampler.next(), sampler.next()
    assert not torch.equal(first, second)
    assert not torch.equal(first, EpochSampler(50, 50, seed=1).next())
    assert torch.equal(first, EpochSampler(50, 50, seed=0).next())


def test_the_order_is_a_known_one() -> None:
    # Philox and SeedSequence promise their streams: a resumed run elsewhere sees this too.
    assert EpochSampler(8, 8, seed=0).next().tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


def test_batches_do_not_share_memory_with_the_sampler() -> None:
    sampler = EpochSampler(6, 3, seed=0)
    untouched = EpochSampler(6, 3, seed=0)
    untouched.next()
    sampler.next().fill_(99)
    assert torch.equal(sampler.next(), untouched.next())
    assert sampler.state_dict() == untouched.state_dict()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 7])
def test_resumes_with_exactly_the_next_batch(steps: int) -> None:
    straight = EpochSampler(10, 4, seed=5)
    for _ in range(steps):
        straight.next()
    resumed = EpochSampler(10, 4, seed=5)
    resumed.load_state_dict(straight.state_dict())
    for _ in range(8):
        assert torch.equal(resumed.next(), straight.next())


def test_another_set_or_seed_is_refused() -> None:
    state = EpochSampler(10, 4, seed=5).state_dict()
    with pytest.raises(UserError, match="number of images 10 but this run has 11"):
        EpochSampler(11, 4, seed=5).load_state_dict(state)
    with pytest.raises(UserError, match="seed 5 but this run has 6"):
        EpochSampler(10, 4, seed=6).load_state_dict(state)


@pytest.mark.parametrize(
    ("n", "batch_size", "seed", "message"),
    [(0, 4, 0, "holds 0 images"), (4, 0, 0, "batch size 0"), (4, 4, -1, "seed -1")],
)
def test_settings_that_cannot_work(n: int, batch_size: int, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EpochSampler(n, batch_size, seed)
