"""The discriminator's images: one op where it can be, the same images however they come about."""

from __future__ import annotations

import itertools

import pytest
import torch

from cxrgan_fast.augment.diffaugment import POLICIES, augment_as_drawn
from cxrgan_fast.augment.inputs import DiscriminatorInputs
from cxrgan_fast.data import EpochOrder, ImageDataset, step_images, to_float

N, F, SIZE = 5, 3, 16
POLICY_ORDERS = [
    (),
    *((name,) for name in POLICIES),
    *itertools.permutations(("translation", "cutout")),
    ("brightness", "translation"),
    ("contrast", "cutout", "translation"),
    ("translation", "brightness", "cutout"),
    ("rotation", "translation", "cutout"),
    POLICIES,
]


@pytest.fixture
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (9, 1, SIZE, SIZE), dtype=torch.uint8)
    names = [str(i) for i in range(9)]
    return ImageDataset(images, torch.zeros(9, dtype=torch.int64), ("a",), names, names, "made")


def inputs(
    dataset: ImageDataset,
    policy: tuple[str, ...],
    value_range: tuple[float, float],
    probability: torch.Tensor | None = None,
) -> DiscriminatorInputs:
    batches = step_images(dataset, EpochOrder(9, 0), N, 1, torch.device("cpu"), 0.5)
    return DiscriminatorInputs(batches, policy, value_range, torch.float32, probability)


@pytest.mark.parametrize("chance", [None, 0.5])
@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("policy", POLICY_ORDERS, ids="-".join)
def test_any_policy_in_its_order(dataset, policy, value_range, chance):
    probability = None if chance is None else torch.tensor(chance)
    made = inputs(dataset, policy, value_range, probability)
    rows, mirror = torch.tensor([8, 0, 3, 3, 1]), torch.tensor([True, False, True, False, False])
    fake = torch.rand(F, 1, SIZE, SIZE, requires_grad=True)
    uniform = torch.rand(N + F, len(policy), 2 if chance is None else 3)
    noise = torch.randn(N + F, 1, SIZE, SIZE)
    std = torch.tensor(0.3)

    real = to_float(dataset.images[rows], value_range)
    real = torch.where(mirror.view(-1, 1, 1, 1), real.flip(3), real)
    both = torch.cat((real, fake))
    expected = augment_as_drawn(both, policy, uniform, value_range, probability) + std * noise

    torch.testing.assert_close(made.real(rows, mirror), real)
    seen = made.both(rows, mirror, fake, uniform, noise, std)
    torch.testing.assert_close(seen, expected)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad((seen * weights).sum(), fake)
    (truth,) = torch.autograd.grad((expected * weights).sum(), fake)
    torch.testing.assert_close(gradient, truth)
    alone = made.generated(fake, uniform[N:], noise[N:], std)
    torch.testing.assert_close(alone, expected[N:])


@pytest.mark.parametrize(
    ("policy", "before"),
    [
        ((), ()),
        (("translation", "cutout"), ()),
        (("cutout",), ()),
        (("cutout", "translation"), ("cutout",)),
        (("brightness", "contrast", "translation", "cutout"), ("brightness", "contrast")),
        (("translation", "contrast"), ("translation", "contrast")),
        (("rotation", "cutout"), ("rotation",)),
        (("scale", "translation", "cutout"), ("scale", "translation")),
        (("scale", "brightness", "translation"), ("scale", "brightness")),
    ],
)
def test_what_the_fused_op_takes(dataset, policy, before):
    assert inputs(dataset, policy, (-1.0, 1.0)).before == before


def test_a_probability_is_read_at_every_call(dataset):
    probability = torch.tensor(0.0)
    made = inputs(dataset, ("translation", "cutout"), (-1.0, 1.0), probability)
    images, uniform = torch.rand(64, 1, SIZE, SIZE), torch.rand(64, 2, 3)
    assert made.before == ("translation", "cutout")  # the fused op makes every change
    assert torch.equal(made.generated(images, uniform, None, None), images)
    probability.fill_(1.0)
    seen = made.generated(images, uniform, None, None)
    assert (seen != images).flatten(1).any(1).all()
