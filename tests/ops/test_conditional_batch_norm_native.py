"""What only the native backend of conditional_batch_norm_act has to show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops.backend import native, workspace
from cxrgan_fast.ops.conditional_batch_norm_kernels import (
    _problem,
    act_native,
    backward_native,
    use_cuda_path,
)
from op_cases import LAYOUTS, NATIVE, NATIVE_CPU, Target

pytestmark = pytest.mark.parametrize("target", NATIVE, indirect=True, ids=str)


def images(
    shape: tuple[int, ...], layout: str, device: str, dtype: torch.dtype = torch.float32
) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=LAYOUTS[layout]).to(device)


def larger_workspace(problem: Any, dy: Tensor, x: Tensor) -> int:
    """Bytes for both directions."""
    forward = problem.forward_workspace(x.data_ptr())
    return max(forward, problem.backward_workspace(dy.data_ptr(), x.data_ptr()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 24, 9, 9), (3, 2, 90, 80), (5, 33, 1, 1)], ids=str)
def test_reduce_then_apply_equals_both_at_once(
    device: str, shape: tuple[int, ...], layout: str
) -> None:
    """To the bit, where neither keeps images on a GPU's chip."""
    samples, channels = shape[:2]
    count = samples * shape[2] * shape[3]
    x, dy = images(shape, layout, device), images(shape, layout, device)
    labels = torch.randint(2, (samples,)).to(device)
    weight, bias = torch.randn(2, 2, channels).to(device)
    with use_cuda_path("two_pass"):
        problem = _problem(x, labels, weight, bias, 0.2, eps=1e-5)
        scratch = workspace(larger_workspace(problem, dy, x), x)

        y, statistics = act_native(x, labels, weight, bias, None, None, 1e-5, 0.2)
        mean, _, rstd = statistics
        alone = torch.empty_like(statistics)
        addresses = [each.data_ptr() for each in alone]
        problem.statistics(x.data_ptr(), *addresses, scratch.memory)
        assert torch.equal(alone, statistics)
        applied = torch.empty_like(y)
        problem.apply(x.data_ptr(), mean.data_ptr(), rstd.data_ptr(), applied.data_ptr())
        assert torch.equal(applied, y)

        dx, dweight, dbias = backward_native(
            dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
        )
        sums = [torch.empty_like(weight) for _ in range(2)]
        addresses = [each.data_ptr() for each in (dy, x, mean, rstd, *sums)]
        problem.backward_reduce(*addresses, scratch.memory)
        assert torch.equal(sums[0], dweight)
        assert torch.equal(sums[1], dbias)
        split = torch.empty_like(dx)
        problem.backward_apply(*addresses, count, split.data_ptr(), scratch.memory)
        assert torch.equal(split, dx)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_could_share_a_batch(device: str, layout: str) -> None:
    x, dy = images((8, 20, 6, 6), layout, device), images((8, 20, 6, 6), layout, device)
    labels = (torch.arange(8) % 3).to(device)
    weight, bias = torch.randn(2, 3, 20).to(device)
    _, statistics = act_native(x, labels, weight, bias, None, None, 1e-5, 0.2)
    mean, _, rstd = statistics
    expected, *_ = backward_native(
        dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
    )

    halves = [slice(0, 4), slice(4, 8)]
    problems = [_problem(x[half], labels[half], weight, bias, 0.2) for half in halves]
    scratch = workspace(larger_workspace(problems[0], dy, x), x)
    total = torch.zeros(2, 3, 20, device=device)
    for half, problem in zip(halves, problems, strict=True):
        sums = torch.empty(2, 3, 20, device=device)
        tensors = (dy[half], x[half], mean, rstd, sums[0], sums[1])
        problem.backward_reduce(*(each.data_ptr() for each in tensors), scratch.memory)
        total += sums
    for half, problem in zip(halves, problems, strict=True):
        dx = torch.empty_like(x[half])
        tensors = (dy[half], x[half], mean, rstd, total[0], total[1])
        addresses = [each.data_ptr() for each in tensors]
        problem.backward_apply(*addresses, 8 * 36, dx.data_ptr(), scratch.memory)
        torch.testing.assert_close(dx, expected[half], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounds_as_torch_does(target: Target, device: str, dtype: torch.dtype, layout: str) -> None:
    """Every bit pattern, times a factor that makes subnormals, overflow and ties."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    input = patterns.view(1, 256, 16, 16).to(memory_format=LAYOUTS[layout]).to(device)
    label = torch.zeros(1, dtype=torch.int64, device=device)
    # Their r is 1.
    mean, var, zero = (
        each.to(device) for each in (torch.zeros(256), torch.ones(256), torch.zeros(1, 256))
    )
    for factor in (1.0, 0.5, 3.0, 1 / 256, 1 + 2**-9, 1e4):
        weight = torch.full((1, 256), factor, device=device)
        output, _ = act_native(input, label, weight, zero, mean, var, 0.0, 1.0)
        exact = input.float() * factor
        if (
            dtype == torch.bfloat16
            and target == NATIVE_CPU
            and native().simd_level() == "avx512_bf16"
        ):
            exact[exact.abs() < torch.finfo(dtype).tiny] = 0  # as the processor's conversion does
        expected = exact.to(dtype)
        assert torch.equal(output.isnan(), expected.isnan())
        numbers = ~expected.isnan()
        assert torch.equal(output[numbers], expected[numbers])
