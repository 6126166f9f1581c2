"""What only the native backend of conditional_batch_norm_act has to show."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import conditional_batch_norm as op
from cxrgan_fast.ops.backend import native
from op_cases import LAYOUTS, NATIVE_CPU

pytestmark = [
    pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str),
    pytest.mark.usefixtures("target"),
]


def images(shape: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 24, 9, 9), (3, 2, 90, 80), (5, 33, 1, 1)], ids=str)
def test_reduce_then_apply_equals_both_at_once(shape: tuple[int, ...], layout: str) -> None:
    samples, channels = shape[:2]
    count = samples * shape[2] * shape[3]
    x, dy = images(shape, layout), images(shape, layout)
    labels = torch.randint(2, (samples,))
    weight, bias = torch.randn(2, channels), torch.randn(2, channels)
    problem = op._problem(x, labels, weight, bias, 0.2)

    y, statistics = op._act_cpu(x, labels, weight, bias, None, None, 1e-5, 0.2)
    mean, _, rstd = statistics
    alone = torch.empty_like(statistics)
    problem.statistics(1e-5, x.data_ptr(), *(each.data_ptr() for each in alone))
    assert torch.equal(alone, statistics)
    applied = torch.empty_like(y)
    problem.apply(x.data_ptr(), mean.data_ptr(), rstd.data_ptr(), applied.data_ptr())
    assert torch.equal(applied, y)

    dx, dweight, dbias = op._backward_cpu(
        dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
    )
    sums = [torch.empty_like(weight) for _ in range(2)]
    addresses = [each.data_ptr() for each in (dy, x, mean, rstd, *sums)]
    problem.backward_reduce(*addresses)
    assert torch.equal(sums[0], dweight)
    assert torch.equal(sums[1], dbias)
    split = torch.empty_like(dx)
    problem.backward_apply(*addresses, count, split.data_ptr())
    assert torch.equal(split, dx)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_could_share_a_batch(layout: str) -> None:
    x, dy = images((8, 20, 6, 6), layout), images((8, 20, 6, 6), layout)
    labels, weight, bias = torch.arange(8) % 3, torch.randn(3, 20), torch.randn(3, 20)
    _, statistics = op._act_cpu(x, labels, weight, bias, None, None, 1e-5, 0.2)
    mean, _, rstd = statistics
    expected, *_ = op._backward_cpu(
        dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
    )

    halves = [slice(0, 4), slice(4, 8)]
    problems = [op._problem(x[half], labels[half], weight, bias, 0.2) for half in halves]
    total = torch.zeros(2, 3, 20)
    for half, problem in zip(halves, problems, strict=True):
        sums = torch.empty(2, 3, 20)
        tensors = (dy[half], x[half], mean, rstd, sums[0], sums[1])
        problem.backward_reduce(*(each.data_ptr() for each in tensors))
        total += sums
    for half, problem in zip(halves, problems, strict=True):
        dx = torch.empty_like(x[half])
        tensors = (dy[half], x[half], mean, rstd, total[0], total[1])
        problem.backward_apply(*(each.data_ptr() for each in tensors), 8 * 36, dx.data_ptr())
        torch.testing.assert_close(dx, expected[half], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounds_as_torch_does(dtype: torch.dtype, layout: str) -> None:
    """Every bit pattern, times a factor that makes subnormals, overflow and ties."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    input = patterns.view(1, 256, 16, 16).to(memory_format=LAYOUTS[layout])
    label, zero = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 256)
    # Their r is 1.
    mean, var = torch.zeros(256), torch.ones(256)
    for factor in (1.0, 0.5, 3.0, 1 / 256, 1 + 2**-9, 1e4):
        weight = torch.full((1, 256), factor)
        output, _ = op._act_cpu(input, label, weight, zero, mean, var, 0.0, 1.0)
        exact = input.float() * factor
        if dtype == torch.bfloat16 and native().simd_level() == "avx512_bf16":
            exact[exact.abs() < torch.finfo(dtype).tiny] = 0  # as the processor's conversion does
        expected = exact.to(dtype)
        assert torch.equal(output.isnan(), expected.isnan())
        numbers = ~expected.isnan()
        assert torch.equal(output[numbers], expected[numbers])
