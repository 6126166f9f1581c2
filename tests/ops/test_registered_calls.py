"""Registered ops called past the public functions: whatever does not fit is refused by name.

Kernels get addresses, and read as many bytes as the shapes say. Every argument of a right call of
every registered op is spoilt in every way that a caller may have it wrong.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import bias_leaky_relu, conditional_batch_norm_act, generator_loss
from op_cases import FUSED, NATIVE_CPU, Target
from registered_ops import Arguments, C, H, K, N, W, calls, spoilt

KERNEL_DTYPES = {"float32", "bfloat16", "float16"}

# What fits after all: other batches, sizes and dtypes that the kernels take.
FITS = {
    "training": {("input", each) for each in KERNEL_DTYPES | {"dim 2", "dim 3"}},
    "evaluation": {("input", each) for each in KERNEL_DTYPES | {"dim 2", "dim 3"}},
    "statistics": {
        ("input", each) for each in KERNEL_DTYPES | {"dim 0", "dim 1", "dim 2", "dim 3"}
    },
    "apply": {("input", each) for each in KERNEL_DTYPES | {"dim 2", "dim 3"}},
    "backward_apply": {("count", "less"), ("count", "more")},
    "act": {("input", each) for each in KERNEL_DTYPES | {"dim 0", "dim 2", "dim 3"}},
    "discriminator_loss": {
        (name, each)
        for name in ("real_logits", "fake_logits")
        for each in KERNEL_DTYPES | {"dim 0", "more dims", "fewer dims", "one value"}
    },
    "generator_loss": {
        ("fake_logits", each)
        for each in KERNEL_DTYPES | {"dim 0", "more dims", "fewer dims", "one value"}
    },
    "input": {("stored", "dim 0"), *(("fake", each) for each in KERNEL_DTYPES)},
    "input_without_stored": {("fake", each) for each in KERNEL_DTYPES},
    "linear": {("tangent", each) for each in KERNEL_DTYPES | {"dim 1", "dim 2", "dim 3"}},
    "input_backward": {
        *(("grad", each) for each in KERNEL_DTYPES | {"dim 1", "dim 2", "dim 3"}),
        ("stored", "less"),
        ("stored", "more"),
    },
}


def overload(target: Target, op: str) -> Any:
    suffix = "_triton" if target.backend == "triton" else ""
    return getattr(torch.ops.cxrgan_fast, op + suffix).default


def on(device: str, arguments: Arguments) -> Arguments:
    return {
        name: each.to(device) if isinstance(each, Tensor) else each
        for name, each in arguments.items()
    }


def test_every_registered_op_is_called() -> None:
    names = {
        name.removeprefix("cxrgan_fast::").removesuffix("_triton")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("cxrgan_fast::")
    }
    assert {op for op, _ in calls().values()} == names


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", calls())
def test_what_does_not_fit_is_refused_by_name(target: Target, device: str, call: str) -> None:
    op, right = calls()[call]
    right = on(device, right)
    function = overload(target, op)
    function(*right.values())
    alone = sum(isinstance(each, Tensor) for each in right.values()) == 1
    for name, value in right.items():
        for how, wrong in spoilt(value, device):
            if alone and how in ("meta", "cpu"):
                continue  # another device, not two of them
            arguments = {**right, name: wrong}
            if (name, how) in FITS.get(call, ()):
                function(*arguments.values())
                continue
            with pytest.raises((ValueError, TypeError)) as refused:
                function(*arguments.values())
            # The one that was spoilt, or another that no longer fits it.
            named = str(refused.value).split()[0].split("[")[0]
            assert named in right, (name, how, str(refused.value))


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize(
    ("call", "pair"),
    [
        ("evaluation", ("running_mean", "running_var")),
        ("input", ("stored", "rows")),
        ("input", ("noise", "noise_std")),
    ],
)
def test_half_a_pair_is_refused(
    target: Target, device: str, call: str, pair: tuple[str, str]
) -> None:
    op, right = calls()[call]
    for absent in pair:
        arguments = on(device, {**right, absent: None})
        with pytest.raises(ValueError, match=f"{pair[0]} and {pair[1]} go together.* {absent}"):
            overload(target, op)(*arguments.values())


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("training", "labels"),
        ("norm_backward", "labels"),
        ("apply", "labels"),
        ("backward_reduce", "labels"),
        ("backward_apply", "labels"),
        ("input", "rows"),
    ],
)
@pytest.mark.parametrize("value", [-1, K, 2**62, -(2**63)])
def test_what_is_out_of_range_is_refused(target: Target, call: str, name: str, value: int) -> None:
    op, arguments = calls()[call]
    arguments[name][1] = value
    with pytest.raises(IndexError, match=rf"{name}\[1\] is {value}, expected 0 <= "):
        overload(target, op)(*arguments.values())


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # of the definition: NaN
@pytest.mark.parametrize("name", ["translation", "cutout"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30, 1e30, -1.0, 1.0])
def test_numbers_that_are_not_uniform_stay_inside(
    target: Target, device: str, name: str, value: float
) -> None:
    """Where a pixel comes from is clamped: what is shown is the image moved, or the fill."""
    for call in ("input", "linear", "input_backward"):
        op, arguments = calls()[call]
        arguments[name].fill_(value)
        if call == "input":
            arguments |= {"noise": None, "noise_std": None}
        result = overload(target, op)(*on(device, arguments).values())
        image = arguments["fake" if call == "input" else "tangent" if call == "linear" else "grad"]
        assert result.abs().max() <= max(image.abs().max().item(), 1)


def strided(tensor: Tensor) -> Tensor:
    """The same values, one apart from the next."""
    return torch.stack((tensor, tensor), -1)[..., 0]


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", calls())
def test_other_strides_are_other_layouts_alone(target: Target, device: str, call: str) -> None:
    op, right = calls()[call]
    right = on(device, right)
    expected = overload(target, op)(*right.values())
    for name, value in right.items():
        if not isinstance(value, Tensor) or name == "stored":  # which is refused: a whole data set
            continue
        found = overload(target, op)(*{**right, name: strided(value)}.values())
        for each, other in zip(tuples(found), tuples(expected), strict=True):
            assert torch.equal(each, other), name


def tuples(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


# --- Public functions: tensors that are no memory -------------------------------------------------


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
def test_zeros_without_memory(device: str) -> None:
    """Autograd makes such tensors; their address is null."""
    image = torch._efficientzerotensor((N, C, H, W), device=device)
    logits = torch._efficientzerotensor((7,), device=device)
    weight, bias = torch.ones(K, C, device=device), torch.ones(K, C, device=device)
    labels = torch.tensor([0, 1, 1], device=device)
    results = [
        (
            bias_leaky_relu(image, bias[0]),
            conditional_batch_norm_act(image, labels, weight, bias),
            generator_loss(logits),
        )
        for image, logits in ((image, logits), (image.clone(), torch.zeros(7, device=device)))
    ]
    for without, with_memory in zip(*results, strict=True):
        assert torch.equal(without, with_memory)


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
@pytest.mark.parametrize("make", [Tensor.to_sparse, Tensor.to_mkldnn], ids=["sparse", "mkldnn"])
def test_other_kinds_of_tensors_are_refused(device: str, make: Any) -> None:
    labels, parameters = torch.tensor([0, 1, 1]), torch.ones(K, C)
    image, logits = make(torch.randn(N, C, H, W)), make(torch.randn(7))
    for call in (
        lambda: bias_leaky_relu(image),
        lambda: conditional_batch_norm_act(image, labels, parameters, parameters),
        lambda: generator_loss(logits),
    ):
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            call()
