"""What a call on a GPU costs beside its time: launches and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from op_cases import CASES, DTYPES, LAYOUTS, Shape, Tensors, batch_norm_case

MOST_LAUNCHES = 3


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(64, 512, 4, 4), (64, 256, 8, 8)], ids=str)
def test_launches_of_small_images(
    device: str,
    launches: Callable[[Callable[[], object]], list[str]],
    shape: Shape,
    dtype: torch.dtype,
    layout: str,
    op: str,
) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    variables = {name: each.requires_grad_() for name, each in case.variables.items()}
    outputs: list[torch.Tensor] = []

    def forward() -> None:
        outputs.append(case.call(variables, case.state))

    def backward() -> None:
        torch.autograd.grad(outputs.pop(), list(variables.values()), case.grad)

    for _ in range(2):  # compiled and autotuned
        forward()
        backward()
    for step in (forward, backward):
        names = launches(step)
        assert 1 <= len(names) <= MOST_LAUNCHES, names


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_half_of_eagers_peak(device: str, dtype: torch.dtype, layout: str, training: bool) -> None:
    case = batch_norm_case(
        (32, 64, 64, 64), dtype=dtype, layout=layout, device=device, training=training
    )

    def peak(results: Callable[[], Tensors]) -> int:
        results()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results()
        return torch.cuda.max_memory_allocated() - before

    fused, eager = peak(case.results), peak(partial(case.results, function=case.eager))
    image = case.variables["input"].nbytes
    assert 2 * image <= fused < 2.1 * image  # the output and the input's gradient: the least
    assert fused <= eager / 2
