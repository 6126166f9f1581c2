"""Images of more than 2^31 elements: offsets and counts are 64-bit.

Their own size is all that is tested, with bfloat16 images that a formula gives, and compared to
formulas on slices: the first sample, the last, others, and two pixels of every one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import (
    augmented_batch,
    bias_leaky_relu,
    conditional_batch_norm_act,
    use_backend,
)
from op_cases import FUSED, LAYOUTS, Shape, Target

# The reference would need ten times the memory.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("target", FUSED, indirect=True, ids=str),
]

SLOPE, EPS = 0.2, 1e-5
SHAPES = [
    pytest.param((2**9 + 1, 1, 2048, 2048), "contiguous", id="one channel of 2^31"),
    pytest.param((2**15 + 1, 64, 32, 32), "contiguous", id="many planes"),
    pytest.param((2**15 + 1, 64, 32, 32), "channels_last", id="many rows"),
]


@pytest.fixture(autouse=True)
def _room(device: str) -> None:
    wanted = 15e9
    if device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(each.split()[1]) for each in lines if "MemAvailable" in each)
    if free < wanted:
        pytest.skip(f"{wanted / 1e9:.0f} GB of memory are needed, {free / 1e9:.0f} are free")


def large_image(shape: Shape, layout: str, device: str) -> Tensor:
    """Every sample has the same noise, at a scale of its own about a mean of its own."""
    image = torch.empty(shape, dtype=torch.bfloat16, device=device, memory_format=LAYOUTS[layout])
    assert image.numel() > 2**31
    noise = torch.randn(shape[1:]).to(device)
    n = torch.arange(shape[0], device=device)[:, None, None, None]
    scales, means = 1 + n % 5 / 4, n % 3 / 8  # (N, 1, 1, 1)
    for part in chunks(shape):
        torch.add(noise * scales[part], means[part], out=image[part])
    return image


def chunks(shape: Shape) -> list[slice]:
    """All samples, so many at a time that float64 copies are small."""
    step = max(1, 2**24 // (shape[1] * shape[2] * shape[3]))
    return [slice(first, first + step) for first in range(0, shape[0], step)]


def looked_at(image: Tensor) -> Tensor:
    """Three whole samples, and the first and last pixel of every one, in float64."""
    samples = image.shape[0]
    whole = image[[0, samples // 2, samples - 1]].flatten(2)  # (3, C, H·W)
    pixels = torch.stack([image[:, :, 0, 0], image[:, :, -1, -1]], dim=2)  # (N, C, 2)
    return torch.cat([each.transpose(0, 1).flatten(1) for each in (whole, pixels)], 1).double()


def looked_at_rows(rows: Tensor, shape: Shape) -> Tensor:
    """The same of a value for every sample and channel, (N, C)."""
    return looked_at(rows[:, :, None, None].expand(shape))


def assert_close(value: Tensor, expected: Tensor) -> None:
    # A unit in bfloat16's last place, or two for what was computed from rounded values.
    torch.testing.assert_close(value, expected, rtol=2**-7, atol=2**-9)


def activated(z: Tensor) -> Tensor:
    return torch.where(z > 0, z, SLOPE * z)


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_bias_leaky_relu(device: str, shape: Shape, layout: str) -> None:
    x = large_image(shape, layout, device).requires_grad_()
    bias = torch.linspace(-0.5, 0.5, shape[1] + 1)[1:].to(device).requires_grad_()
    y = bias_leaky_relu(x, bias, negative_slope=SLOPE)
    z = looked_at(x.detach()) + bias.detach().double()[:, None]
    seen = looked_at(y.detach())
    assert_close(seen, activated(z))

    dx, dbias = torch.autograd.grad(y, (x, bias), y.detach())  # dy = y, to save memory
    assert_close(looked_at(dx), activated(seen))
    total = torch.stack([dx[part].double().sum((0, 2, 3)) for part in chunks(shape)]).sum(0)
    torch.testing.assert_close(dbias.double(), total, rtol=1e-3, atol=0)  # dx has been rounded


@pytest.mark.parametrize(("shape", "layout"), SHAPES)
def test_conditional_batch_norm_act(device: str, shape: Shape, layout: str) -> None:
    samples, channels, height, width = shape
    count = samples * height * width
    x = large_image(shape, layout, device).requires_grad_()
    labels = (torch.arange(samples) % 3).to(device)
    weight, bias = torch.randn(2, 3, channels).to(device)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    running_mean, running_var = (torch.zeros(channels, device=device) for _ in range(2))

    def op(training: bool) -> Tensor:
        return conditional_batch_norm_act(
            x, labels, weight, bias, running_mean, running_var,
            training=training, momentum=1.0, eps=EPS, negative_slope=SLOPE,
        )  # fmt: skip

    y = op(training=True)
    image = x.detach()
    sums = [image[part].double().sum((0, 2, 3)) for part in chunks(shape)]
    mean = torch.stack(sums).sum(0) / count
    centered = mean[:, None, None]
    sums = [(image[part].double() - centered).square().sum((0, 2, 3)) for part in chunks(shape)]
    var = torch.stack(sums).sum(0) / count
    torch.testing.assert_close(running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(running_var.double(), var * count / (count - 1), rtol=1e-5, atol=0)

    rstd = (var + EPS).rsqrt()
    gamma, beta = weight.detach().double(), bias.detach().double()
    x_hat = (looked_at(image) - mean[:, None]) * rstd[:, None]
    gammas, betas = (looked_at_rows(each[labels], shape) for each in (gamma, beta))
    seen = looked_at(y.detach())
    assert_close(seen, activated(gammas * x_hat + betas))

    dx, dweight, dbias = torch.autograd.grad(y, (x, weight, bias), y.detach())  # dy = y
    of_weight, of_bias = torch.zeros(2, 3, channels, dtype=torch.float64, device=device)
    for part in chunks(shape):
        d = activated(y.detach()[part].double())
        of_bias.index_add_(0, labels[part], d.sum((2, 3)))
        d *= (image[part].double() - centered) * rstd[:, None, None]
        of_weight.index_add_(0, labels[part], d.sum((2, 3)))
    torch.testing.assert_close(dbias.double(), of_bias, rtol=1e-4, atol=1e-4 * count**0.5)
    torch.testing.assert_close(dweight.double(), of_weight, rtol=1e-4, atol=1e-4 * count**0.5)
    a, b = ((gamma * each).sum(0)[:, None] / count for each in (of_bias, of_weight))
    expected = rstd[:, None] * (gammas * activated(seen) - a - x_hat * b)
    assert_close(looked_at(dx), expected)
    del y, dx

    with torch.no_grad():
        assert_close(looked_at(op(training=False)), seen)


def test_augmented_batch(target: Target, device: str) -> None:
    if target.emulated:
        pytest.skip("a launch takes an hour")
    count = 2**17 + 1
    fake = large_image((count, 1, 128, 128), "contiguous", device).requires_grad_()
    pairs = torch.rand(count, 2).to(device)

    def see(part: slice) -> tuple[Tensor, Tensor]:
        seen, of = pairs[part], fake if part == slice(count) else fake.detach()[part]
        of.requires_grad_()
        output = augmented_batch(None, None, of, value_range=(-1, 1), translation=seen, cutout=seen)
        return output.detach(), torch.autograd.grad(output, of, output.detach())[0]

    results = see(slice(count))
    for first in (0, count // 2, count - 3):
        part = slice(first, first + 3)
        with use_backend("reference"):
            expected = see(part)
        for value, same in zip(results, expected, strict=True):
            assert torch.equal(value[part], same)
