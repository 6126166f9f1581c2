"""The discriminator's images: one op where it can be, the same images however they come about."""

from __future__ import annotations

import itertools

import pytest
import torch

from cxrgan_fast.data import EpochOrder, ImageDataset, step_images, to_float
from cxrgan_fast.data.diffaugment import POLICIES, augment_as_drawn
from cxrgan_fast.training.inputs import AugmentedBatchs

N, F, SIZE = 5, 3, 16
POLICY_ORDERS = [
    (),
    *((name,) for name in POLICIES),
    *itertools.permutations(("translation", "cutout")),
    ("brightness", "translation"),
    ("contrast", "cutout", "translation"),
    ("translation", "brightness", "cutout"),
    POLICIES,
]


@pytest.fixture
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (9, 1, SIZE, SIZE), dtype=torch.uint8)
    names = [str(i) for i in range(9)]
    return ImageDataset(images, torch.zeros(9, dtype=torch.int64), ("a",), names, names, "made")


def inputs(
    dataset: ImageDataset, policy: tuple[str, ...], value_range: tuple[float, float]
) -> AugmentedBatchs:
    batches = step_images(dataset, EpochOrder(9, 0), N, 1, torch.device("cpu"), 0.5)
    return AugmentedBatchs(batches, policy, value_range, torch.float32)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("policy", POLICY_ORDERS, ids="-".join)
def test_any_policy_in_its_order(dataset, policy, value_range):
    made = inputs(dataset, policy, value_range)
    rows, mirror = torch.tensor([8, 0, 3, 3, 1]), torch.tensor([True, False, True, False, False])
    fake = torch.rand(F, 1, SIZE, SIZE, requires_grad=True)
    uniform, noise = torch.rand(N + F, len(policy), 2), torch.randn(N + F, 1, SIZE, SIZE)
    std = torch.tensor(0.3)

    real = to_float(dataset.images[rows], value_range)
    real = torch.where(mirror.view(-1, 1, 1, 1), real.flip(3), real)
    expected = augment_as_drawn(torch.cat((real, fake)), policy, uniform, value_range) + std * noise

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
    ],
)
def test_what_the_fused_op_takes(dataset, policy, before):
    assert inputs(dataset, policy, (-1.0, 1.0)).before == before
