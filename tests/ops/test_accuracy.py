"""Output and gradients of every fused image op, on every backend, against the definition."""

from __future__ import annotations

import pytest
import torch

from op_cases import CASES, DTYPES, HARDWARE, LAYOUTS, Shape, relative_error

SHAPES = [
    (8, 48, 16, 16),
    (6, 2, 65, 67),  # planes larger than a task
    (5, 100, 1, 1),  # one pixel: both layouts are the same
    (3, 17, 7, 5),  # tails of every vector width
    (16, 64, 4, 4),
    (2, 130, 40, 30),  # strips of every width, several tasks
]


@pytest.mark.first_tier(2)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_eager(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    got, eager, truth = case.results(), case.results(function=case.eager), case.truth()
    assert got["output"].dtype == got["grad_input"].dtype == dtype
    assert got["output"].is_contiguous(memory_format=LAYOUTS[layout])
    for name, value in got.items():
        allowed = 1e-6
        if dtype != torch.float32:
            allowed = max(allowed, 1.1 * relative_error(eager[name], truth[name]))
        assert relative_error(value, truth[name]) < allowed, name


# From 16 MiB on the native kernels of the CPU write past the caches.
@pytest.mark.first_tier(1)
@pytest.mark.parametrize("target", HARDWARE, ids=str, indirect=True)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((64, 64, 32, 32), torch.float32),
        ((16, 16, 128, 128), torch.float32),
        ((64, 32, 64, 64), torch.bfloat16),
    ],
    ids=str,
)
def test_large_images(device: str, shape: Shape, dtype: torch.dtype, layout: str, op: str) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    truth = case.truth()
    for name, value in case.results().items():
        allowed = 1e-6 + (0 if value.dtype == torch.float32 else torch.finfo(dtype).eps / 2)
        assert relative_error(value, truth[name]) < allowed, name


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [0.0, 1.0, 1.5])
def test_relu_no_activation_and_steeper_below(
    device: str, slope: float, layout: str, op: str
) -> None:
    case = CASES[op]((4, 20, 9, 9), layout=layout, device=device, slope=slope)
    truth = case.truth()
    for name, value in case.results().items():
        assert relative_error(value, truth[name]) < 1e-6, name


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_may_have_another_layout_than_the_input(
    device: str, layout: str, op: str
) -> None:
    case = CASES[op]((4, 20, 9, 9), layout=layout, device=device)
    expected = case.results()
    (other,) = set(LAYOUTS) - {layout}
    case.grad = case.grad.contiguous(memory_format=LAYOUTS[other])
    for name, value in case.results().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("op", [op for op in CASES if "no_bias" not in op])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(16, 64, 16, 16), (64, 3, 64, 64), (2, 2, 200, 200)], ids=str)
def test_equal_gradients_sum_as_exactly_as_others(
    device: str, shape: Shape, layout: str, op: str
) -> None:
    """Those of a sum or a mean: in one long chain of additions all roundings go the same way."""
    case = CASES[op](shape, layout=layout, device=device, slope=1.0)
    case.grad = torch.full((1, 1, 1, 1), 0.3, device=device).expand(shape)
    assert relative_error(case.results()["grad_bias"], case.truth()["grad_bias"]) < 2e-6
