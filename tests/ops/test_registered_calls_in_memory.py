"""Registered ops called past the public functions: in which memory, of which kind, the tensors lie.

Beside wrong values (test_registered_calls.py): any strides, no images at all, tensors that record
gradients or have no memory, and tensors behind which the process may not read a byte.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from op_cases import FUSED, NATIVE_CPU, Target
from programs import run_program
from registered_ops import calls

CALLS = calls()


def overload(target: Target, op: str) -> Any:
    suffix = "_triton" if target.backend == "triton" else ""
    return getattr(torch.ops.cxrgan_fast, op + suffix).default


def results_of(returned: Any) -> tuple[Tensor, ...]:
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def converted(arguments: dict[str, Any], change: Any) -> list[Any]:
    return [change(each) if isinstance(each, Tensor) else each for each in arguments.values()]


def strided(tensor: Tensor) -> Tensor:
    """The same values with others between them, which are poison where that is possible."""
    poison = float("nan") if tensor.is_floating_point() else 1
    wide = torch.full((*tensor.shape, 3), poison, dtype=tensor.dtype, device=tensor.device)
    wide[..., 1] = tensor
    return wide[..., 1]


def upside_down(tensor: Tensor) -> Tensor:
    """The same values, their dimensions laid out in reverse order."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lay_out", [strided, upside_down])
def test_strides_change_no_value(target: Target, device: str, call: str, lay_out: Any) -> None:
    op, arguments = CALLS[call]
    expected = overload(target, op)(*converted(arguments, lambda each: each.to(device)))
    laid_out = {
        name: lay_out(each.to(device)) if isinstance(each, Tensor) else each
        for name, each in arguments.items()
    }
    if isinstance(arguments.get("stored"), Tensor):  # a whole data set is not copied without a word
        with pytest.raises(ValueError, match="stored must be contiguous"):
            overload(target, op)(*laid_out.values())
        laid_out["stored"] = arguments["stored"].to(device)
    found = overload(target, op)(*laid_out.values())
    for one, other in zip(results_of(expected), results_of(found), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_no_images_are_taken_or_refused(target: Target, device: str, call: str) -> None:
    """Every size 0 in turn, of one tensor and of all that have it."""
    op, arguments = CALLS[call]
    tensors = {name: each for name, each in arguments.items() if isinstance(each, Tensor)}
    said = []
    sizes = {size for each in tensors.values() for size in each.shape} - {1}
    empty = [{name} for name in tensors]
    for size in sizes:
        for names in [set(tensors), *empty]:
            without = {
                name: each.new_empty([0 if n == size else n for n in each.shape])
                if isinstance(each, Tensor) and name in names
                else each
                for name, each in arguments.items()
            }
            try:
                found = overload(target, op)(*converted(without, lambda each: each.to(device)))
            except (ValueError, TypeError, IndexError) as refused:
                said.append(str(refused))
            else:
                assert all(each.device.type == device for each in results_of(found))
    for line in said:
        assert line.split()[0].split("[")[0] in arguments, line


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_without_memory_the_shapes_are_the_same(
    target: Target, device: str, call: str, kind: str
) -> None:
    op, arguments = CALLS[call]
    function = overload(target, op)
    real = results_of(function(*converted(arguments, lambda each: each.to(device))))
    if kind == "meta":
        found = results_of(function(*converted(arguments, lambda each: each.to("meta"))))
    else:
        with FakeTensorMode() as mode:
            fakes = converted(arguments, lambda each: mode.from_tensor(each.to(device)))
            found = results_of(function(*fakes))
    for one, other in zip(real, found, strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_tensors_that_record_gradients(target: Target, device: str, call: str) -> None:
    """The same values come, and a derivative is numbers or refused, never silently nothing."""
    op, arguments = CALLS[call]
    expected = results_of(overload(target, op)(*converted(arguments, lambda each: each.to(device))))
    leaves = {
        name: each.to(device).clone().requires_grad_(each.is_floating_point())
        if isinstance(each, Tensor)
        else each
        for name, each in arguments.items()
    }
    found = results_of(overload(target, op)(*leaves.values()))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other.detach())
    recorded = [each for each in found if each.requires_grad]
    if not recorded:
        return
    try:
        sum(each.float().sum() for each in recorded).backward()
    except RuntimeError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        # PyTorch's own words name the op; a step says that it has no derivative.
        assert "cxrgan_fast" in refusal or f"{op} is a step without a derivative" in refusal
        return
    grads = [each.grad for each in leaves.values() if isinstance(each, Tensor)]
    assert any(grad is not None for grad in grads)
    assert all(grad.isfinite().all() for grad in grads if grad is not None)


GUARDED = """
import ctypes, mmap, sys
import torch
from torch import Tensor
from registered_ops import calls, spoilt
import cxrgan_fast.ops

torch.set_num_threads(1)
libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept = []

def guarded(tensor, front):
    # Its bytes end where a page begins, or begin where one ends, that may not be read.
    if tensor.device.type != "cpu" or not tensor.numel():
        return tensor
    tensor = tensor.contiguous()
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // PAGE)
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    kept.append(area)
    offset = PAGE if front else (pages + 1) * PAGE - size
    copy = torch.frombuffer(area, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
    copy.copy_(tensor.flatten())
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for page in (0, pages + 1):
        assert libc.mprotect(ctypes.c_void_p(start + page * PAGE), PAGE, mmap.PROT_NONE if
                             hasattr(mmap, "PROT_NONE") else 0) == 0
    return copy.view(tensor.shape)

ended = refused = 0
for name, (op, right) in calls().items():
    function = getattr(torch.ops.cxrgan_fast, op).default
    tries = [right]
    for key, value in right.items():
        tries += [{**right, key: wrong} for _, wrong in spoilt(value, "cpu")]
        if isinstance(value, Tensor) and value.dtype == torch.int64:
            for label in (-1, 5, 2**62, -(2**63)):
                tries.append({**right, key: torch.full_like(value, label)})
        if isinstance(value, float):
            for number in (float("nan"), float("inf"), -1.0, 0.0, 1e300):
                tries.append({**right, key: number})
    for arguments in tries:
        for front in (False, True):
            words = [
                guarded(each, front) if isinstance(each, Tensor) else each
                for each in arguments.values()
            ]
            print(name, end=" ", flush=True)
            try:
                function(*words)
                ended += 1
            except (ValueError, TypeError, IndexError):
                refused += 1
print("", ended, refused)
"""


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
def test_no_call_ends_the_process_or_reads_outside(target: Target) -> None:
    *_, ended, refused = run_program(GUARDED).split()
    assert int(ended) > 2 * len(CALLS)
    assert int(refused) > 200


def test_a_byte_outside_would_be_seen() -> None:
    """The page behind a guarded tensor ends who reads it."""
    program = GUARDED.partition("ended = refused")[0] + (
        "tensor = guarded(torch.zeros(7), False)\n"
        "print(ctypes.c_float.from_address(tensor.data_ptr() + 24).value, flush=True)\n"
        "ctypes.c_float.from_address(tensor.data_ptr() + 28).value\n"
    )
    with pytest.raises(AssertionError, match=r"^0\.0\n"):
        run_program(program)
