"""Inputs that break careless arithmetic: large means, constants, NaN and infinity."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch.nn import functional as F

from op_cases import CASES, DTYPES, LAYOUTS, Target, batch_norm_case, relative_error

REFERENCE_CUDA = Target("reference", "cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 64, 12, 12), (64, 6, 32, 32), (40, 33, 1, 1)], ids=str)
def test_mean_ten_thousand_times_the_deviation(
    target: Target, device: str, shape: tuple[int, int, int, int], layout: str
) -> None:
    case = batch_norm_case(shape, layout=layout, device=device, mean=1.5e4, kink_margin=1e-2)
    truth = case.truth()
    # μ itself is a float32 with 2^-14 of a deviation between neighbours; E[x²]−E[x]² would be off
    # by whole deviations.
    exact = ["running_mean", "running_var", "grad_bias"]
    if target == REFERENCE_CUDA:
        # PyTorch updates a float32 mean value by value there (Welford), and each time rounds it.
        exact.remove("running_var")
    for name, value in case.results().items():
        assert relative_error(value, truth[name]) < (1e-6 if name in exact else 1e-3), name


@pytest.mark.first_tier(2)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 16, 8, 8), (4, 3, 32, 32), (16, 8, 1, 1)], ids=str)
def test_large_means_are_no_worse_than_batch_norms(
    device: str, shape: tuple[int, int, int, int], layout: str, training: bool
) -> None:
    """Of several draws, that of the median: how a mean falls between float32s is luck in each.

    PyTorch's own is compared where it is at its best, on contiguous images.
    """
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for seed in range(9):
        torch.manual_seed(seed)
        case = batch_norm_case(
            shape, device=device, mean=1e4, training=training, slope=1.0, kink_margin=0
        )
        truth, eager = case.truth(), case.results(function=case.eager)
        case.variables["input"] = case.variables["input"].contiguous(memory_format=LAYOUTS[layout])
        got = case.results()
        for name in ("output", "grad_input", "grad_weight", "grad_bias"):
            ours.setdefault(name, []).append(relative_error(got[name], truth[name]))
            theirs.setdefault(name, []).append(relative_error(eager[name], truth[name]))
    for name in ours:
        allowed = 1.05 * statistics.median(theirs[name]) + 1e-7
        if name != "output":
            allowed += 2e-5  # deviations from a mean that both round alike
        assert statistics.median(ours[name]) <= allowed, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("far", ["first sample", "last sample", "first row", "every other row"])
def test_parts_whose_means_are_far_apart(device: str, far: str, layout: str) -> None:
    """Sums over parts of a channel, each about its own mean, have to be merged with care."""
    case = batch_norm_case((9, 20, 20, 20), layout=layout, device=device)
    where = {
        "first sample": (slice(0, 1),),
        "last sample": (slice(-1, None),),
        "first row": (slice(None), slice(None), slice(0, 1)),
        "every other row": (slice(None), slice(None), slice(None, None, 2)),
    }
    case.variables["input"][where[far]] += 1e4
    case = case.without_kink(1e-4)
    truth = case.truth()
    for name, value in case.results().items():
        assert relative_error(value, truth[name]) < 1e-6, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(64, 16, 8, 8), (4, 3, 64, 64)], ids=str)
def test_first_values_unlike_the_others(
    device: str, shape: tuple[int, int, int, int], layout: str
) -> None:
    """Sums about the first values must not lose what the others differ by."""
    case = batch_norm_case(shape, layout=layout, device=device, mean=0.0)
    case.variables["input"] *= 1e-3
    case.variables["input"][:4, :, :1] += 1
    case.state["running_var"].zero_()  # so that what comes out is the batch's alone
    got, truth = case.results()["running_var"], case.truth()["running_var"]
    assert relative_error(got, truth) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_constant_channels(device: str, constant: float, layout: str) -> None:
    """With σ² = 0 the output is the activated β, and gradients are those of eps alone."""
    case = batch_norm_case((6, 10, 7, 5), layout=layout, device=device)
    case.variables["input"][:, ::2] = constant
    got, truth = case.results(), case.truth()
    # x−μ is the rounding of μ, which 1/√eps enlarges.
    rounding = abs(constant) * torch.finfo(torch.float32).eps / 1e-5**0.5
    beta = case.variables["bias"][case.labels][:, ::2, None, None]
    gamma = case.variables["weight"].abs().max()
    expected = F.leaky_relu(beta, 0.2).expand(6, 5, 7, 5)
    torch.testing.assert_close(
        got["output"][:, ::2], expected, rtol=1e-6, atol=float(gamma) * rounding
    )
    for name, value in got.items():
        assert value.isfinite().all(), name
        assert relative_error(value, truth[name]) < 1e-6 + 2 * rounding, name
    torch.testing.assert_close(
        got["running_var"][::2], 0.9 * case.state["running_var"][::2], rtol=1e-6, atol=1e-6
    )


NUMBERS = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_not_a_number_and_infinity_stay_in_their_channel(
    device: str, slope: float, dtype: torch.dtype, layout: str, number: str, op: str
) -> None:
    case = CASES[op]((4, 6, 9, 11), dtype=dtype, layout=layout, device=device, slope=slope)
    before = case.results()
    case.variables["input"][0, 1, 2, 3] = NUMBERS[number]
    case.variables["input"][-1, 4, 0, 0] = NUMBERS[number]
    got, eager = case.results(), case.results(function=case.eager)
    for name, value in got.items():
        axis = 1 if value.dim() > 1 else 0
        spoiled, as_before, by_formula = (
            each.transpose(0, axis) for each in (value, before[name], eager[name])
        )
        others = [0, 2, 3, 5]
        assert torch.equal(spoiled[others], as_before[others]), name
        if name in case.state:  # the mean of infinity and numbers is one of two non-numbers
            assert torch.equal(spoiled.isfinite(), by_formula.isfinite()), name
            continue
        assert torch.equal(spoiled.isnan(), by_formula.isnan()), name
        infinite = by_formula.isinf()
        assert torch.equal(spoiled.isinf(), infinite), name
        assert torch.equal(spoiled[infinite], by_formula[infinite]), name


def test_nan_weights_spoil_their_class_alone(device: str) -> None:
    case = batch_norm_case((6, 4, 5, 5), device=device)
    case.labels = torch.tensor([0, 1, 2, 0, 1, 2], device=device)
    before = case.results()
    case.variables["weight"][1] = float("nan")
    output = case.results()
    ours = case.labels == 1
    assert output["output"][ours].isnan().all()
    assert torch.equal(output["output"][~ours], before["output"][~ours])
    assert torch.equal(output["running_var"], before["running_var"])
