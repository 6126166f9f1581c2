"""The same call gives the same bits, whatever memory the results land in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from op_cases import CASES, DTYPES, LAYOUTS, NATIVE_CPU, Shape, Tensors

SHAPES = [(16, 40, 12, 12), (5, 3, 100, 70)]


def assert_same_bits(got: Tensors, expected: Tensors) -> None:
    for name, value in got.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.first_tier(2)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_on_every_run(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    expected = case.results()
    for _ in range(3):
        assert_same_bits(case.results(), expected)


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("target")
def test_same_bits_for_every_number_of_threads(
    shape: Shape, layout: str, op: str, set_threads: Callable[[int], None]
) -> None:
    case = CASES[op](shape, layout=layout)
    set_threads(1)
    expected = case.results()
    for threads in (2, 3, 2):
        set_threads(threads)
        assert_same_bits(case.results(), expected)


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 21, 5, 7), (2, 64, 8, 8), (5, 100, 1, 1)], ids=str)
def test_every_element_is_written_and_none_is_read_before(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, op: str
) -> None:
    case = CASES[op](shape, dtype=dtype, layout=layout, device=device)
    expected = case.results()
    # Fills every torch.empty with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        poisoned = case.results()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in poisoned.values())
    assert_same_bits(poisoned, expected)
