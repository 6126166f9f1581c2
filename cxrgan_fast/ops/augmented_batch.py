"""What a discriminator sees, in one op: stored and generated images, moved, covered, with noise.

The op is affine in the generated images, so three registered ops are each other's derivatives, to
any order:

    augmented_batch            stored and generated images -> what the discriminator sees
    augmented_batch_linear     a change of the generated images -> that of what is seen
    augmented_batch_backward   the transpose of that: what is seen -> the generated images

The transpose is a gather by the inverse shift: nothing is added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import reference
from .augmented_batch_checks import check_arguments, check_backward, check_forward, check_linear
from .backend import NATIVE_DTYPES, choose_backend, native, place
from .registration import Op, contiguous_inputs, dense, register

if TYPE_CHECKING:
    from cxrgan_fast._C import AugmentedBatch

_NAME = "augmented_batch"


def augmented_batch(
    stored: Tensor | None,
    rows: Tensor | None,
    fake: Tensor | None,
    *,
    value_range: tuple[float, float],
    mirror: Tensor | None = None,
    translation: Tensor | None = None,
    cutout: Tensor | None = None,
    noise: Tensor | None = None,
    noise_std: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Make the batch that a discriminator sees: N stored images, then F generated ones, augmented.

    In this order: stored bytes become ``low + byte·(high−low)/255`` and are mirrored; all images
    are shifted by up to an eighth of their size, and a square of half of it is cut out of them,
    which uncovers the range's centre (Zhao et al. 2020, DiffAugment); ``noise_std·noise`` is added.
    All of it is float32, and rounded once at the end.

    Differentiable with respect to ``fake`` any number of times, and to nothing else.

    Args:
        stored: (M, C, H, W) uint8, contiguous: a data set, of which ``rows`` are taken; or None.
        rows: (N,) int64, each in [0, M); given with ``stored``. Out of range is an IndexError on
            the CPU; on a GPU, where looking would wait for the device, that sample is NaN.
        fake: (F, C, H, W), any floating dtype and layout, or None.
        value_range: ``(low, high)``, what 0 and 255 stand for.
        mirror: (N,) bool, which stored images are flipped left-right; or None.
        translation: (N + F, 2) float32, uniform in [0, 1): where each image is moved, vertically
            and horizontally; or None.
        cutout: (N + F, 2) float32, uniform in [0, 1): where each image's hole is; or None.
        noise: (N + F, C, H, W) float32, standard normal; or None.
        noise_std: float32, one number; given with ``noise``.
        dtype: dtype of the output (default: that of ``fake``, or float32 without it).

    Returns:
        (N + F, C, H, W), channels_last also in its strides if C is 1: convolutions choose their
        layout by these.

    Raises:
        TypeError: wrong type or dtype.
        ValueError: wrong shape, device or range.
        IndexError: a row is out of range (CPU).
    """
    check_arguments(
        stored, rows, fake, value_range, mirror, translation, cutout, noise, noise_std, dtype
    )
    if fake is None:
        assert stored is not None
        kind = torch.float32 if dtype is None else dtype
        fake = torch.empty((0, *stored.shape[1:]), dtype=kind, device=stored.device)
    if dtype is None:
        dtype = fake.dtype
    elif dtype == torch.float64:
        fake = fake.to(dtype)  # which the definition alone computes in
    backend = choose_backend(fake, _NAME)
    low, high = value_range
    if backend == "reference":
        if stored is not None and rows is not None:
            _check_rows(stored, rows)
        return reference.augmented_batch(
            fake, stored, rows, mirror, translation, cutout, noise, noise_std, (low, high), dtype
        )
    return _forward[backend](
        fake, stored, rows, mirror, translation, cutout, noise, noise_std,
        float(low), float(high), _NAMES[dtype],
    )  # fmt: skip


_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def _check_rows(stored: Tensor, rows: Tensor) -> None:
    """Look at the rows where that does not wait for a device, as the native kernels do."""
    if rows.device.type != "cpu" or torch.compiler.is_compiling():
        return
    valid = (rows >= 0) & (rows < len(stored))
    if not valid.all():
        sample = int((~valid).nonzero()[0])
        raise IndexError(
            f"rows[{sample}] is {int(rows[sample])}, expected 0 <= row < {len(stored)}"
        )


# --- The native backend -------------------------------------------------------------------------


def _images(image: Tensor) -> tuple[int, int, int]:
    """The C++ side's view of dense images: dtype, layout, address."""
    core = native()
    layout = core.CHANNELS_LAST if _is_channels_last(image) else core.CONTIGUOUS
    return getattr(core, NATIVE_DTYPES[image.dtype]), layout, image.data_ptr()


def _is_channels_last(image: Tensor) -> bool:
    """Which of the two layouts dense images have; with one channel, by the strides."""
    return image.stride(1) == 1


def _pairs(uniform: Tensor | None) -> Tensor | None:
    """The same with each sample's two numbers side by side."""
    return uniform if uniform is None or uniform.stride(1) == 1 else uniform.contiguous()


def _batch(
    image: Tensor, stored: int, fakes: int, translation: Tensor | None, cutout: Tensor | None
) -> AugmentedBatch:
    """What every native call needs; it does not keep the tensors."""
    _, channels, height, width = image.shape
    return native().AugmentedBatch(
        stored,
        fakes,
        channels,
        height,
        width,
        *_address_and_stride(translation),
        *_address_and_stride(cutout),
        *place(image),
    )


def _address_and_stride(uniform: Tensor | None) -> tuple[int, int]:
    """Of the pairs of uniform numbers, the second from a sample's to the next's."""
    return (0, 0) if uniform is None else (uniform.data_ptr(), uniform.stride(0))


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _forward_native(
    fake: Tensor,
    stored: Tensor | None,
    rows: Tensor | None,
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    low: float,
    high: float,
    dtype: str,
) -> Tensor:
    output = _empty(fake, _count(rows) + fake.shape[0], dtype)
    fake, translation, cutout = dense(fake), _pairs(translation), _pairs(cutout)
    rows = None if rows is None else rows.contiguous()
    mirror = None if mirror is None else mirror.contiguous()
    noise = None if noise is None else dense(noise)
    _batch(fake, _count(rows), fake.shape[0], translation, cutout).forward(
        _address(stored),
        0 if stored is None else stored.shape[0],
        _address(rows),
        _address(mirror),
        low,
        high,
        *_images(fake),
        *_images(output if noise is None else noise)[1:2],
        _address(noise),
        _address(noise_std),
        *_images(output),
    )
    return output


def _linear_native(
    tangent: Tensor, translation: Tensor | None, cutout: Tensor | None, stored: int, dtype: str
) -> Tensor:
    output = _empty(tangent, stored + tangent.shape[0], dtype)
    tangent, translation, cutout = dense(tangent), _pairs(translation), _pairs(cutout)
    batch = _batch(tangent, stored, tangent.shape[0], translation, cutout)
    batch.linear(*_images(tangent), *_images(output))
    return output


def _backward_native(
    grad: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored: int,
    dtype: str,
    channels_last: bool,
) -> Tensor:
    output = _empty(grad, grad.shape[0] - stored, dtype, channels_last)
    grad, translation, cutout = dense(grad), _pairs(translation), _pairs(cutout)
    batch = _batch(grad, stored, output.shape[0], translation, cutout)
    batch.backward(*_images(grad), *_images(output))
    return output


# --- The Triton backend: its kernels write to an output that they are given -----------------------


def _forward_inputs(
    fake: Tensor,
    stored: Tensor | None,
    rows: Tensor | None,
    mirror: Tensor | None,
    translation: Tensor | None,
    cutout: Tensor | None,
    noise: Tensor | None,
    noise_std: Tensor | None,
    low: float,
    high: float,
    dtype: str,
) -> tuple[Any, ...]:
    output = _empty(fake, _count(rows) + fake.shape[0], dtype)
    return (
        dense(fake), stored, *contiguous_inputs(rows, mirror), _pairs(translation), _pairs(cutout),
        None if noise is None else dense(noise), noise_std, (low, high), output,
    )  # fmt: skip


def _linear_inputs(
    tangent: Tensor, translation: Tensor | None, cutout: Tensor | None, stored: int, dtype: str
) -> tuple[Any, ...]:
    output = _empty(tangent, stored + tangent.shape[0], dtype)
    return dense(tangent), _pairs(translation), _pairs(cutout), stored, output


def _backward_inputs(
    grad: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored: int,
    dtype: str,
    channels_last: bool,
) -> tuple[Any, ...]:
    output = _empty(grad, grad.shape[0] - stored, dtype, channels_last)
    return dense(grad), _pairs(translation), _pairs(cutout), stored, output


# --- What comes out, without computing it -------------------------------------------------------


def _count(rows: Tensor | None) -> int:
    return 0 if rows is None else rows.shape[0]


def _empty(image: Tensor, samples: int, dtype: str, channels_last: bool = True) -> Tensor:
    """So many images like these."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(
        (samples, *image.shape[1:]),
        dtype=getattr(torch, dtype),
        device=image.device,
        memory_format=layout,
    )


def _forward_fake(fake: Tensor, stored: Tensor | None, rows: Tensor | None, *others: Any) -> Tensor:
    return _empty(fake, _count(rows) + fake.shape[0], others[-1])


def _linear_fake(
    tangent: Tensor, translation: Tensor | None, cutout: Tensor | None, stored: int, dtype: str
) -> Tensor:
    return _empty(tangent, stored + tangent.shape[0], dtype)


def _backward_fake(
    grad: Tensor,
    translation: Tensor | None,
    cutout: Tensor | None,
    stored: int,
    dtype: str,
    channels_last: bool,
) -> Tensor:
    return _empty(grad, grad.shape[0] - stored, dtype, channels_last)


# --- Autograd: only the uniform numbers are saved -----------------------------------------------


def _save_input(ctx: Any, image: Tensor, translation: Tensor | None, cutout: Tensor | None) -> None:
    """What takes a gradient back to images like this one."""
    ctx.dtype = _NAMES[image.dtype]
    ctx.channels_last = _is_channels_last(image) and image.is_contiguous(
        memory_format=torch.channels_last
    )
    ctx.save_for_backward(translation, cutout)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    fake, _, rows, _, translation, cutout, *_ = inputs
    ctx.stored = _count(rows)
    _save_input(ctx, fake, translation, cutout)


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tangent, translation, cutout, ctx.stored, _ = inputs
    _save_input(ctx, tangent, translation, cutout)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, translation, cutout, ctx.stored, *_ = inputs
    _save_input(ctx, grad, translation, cutout)


def _transposed(ctx: Any, grad: Tensor) -> Tensor:
    translation, cutout = ctx.saved_tensors
    result: Tensor = _backward[ctx.backend](
        grad, translation, cutout, ctx.stored, ctx.dtype, ctx.channels_last
    )
    return result


def _forward_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _transposed(ctx, grad), *(None,) * 10


def _linear_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _transposed(ctx, grad), *(None,) * 4


def _backward_derivative(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    translation, cutout = ctx.saved_tensors
    change = _linear[ctx.backend](tangent, translation, cutout, ctx.stored, ctx.dtype)
    return change, *(None,) * 5


# --- Registration --------------------------------------------------------------------------------

_forward = register(
    Op(
        _NAME,
        "(Tensor fake, Tensor? stored, Tensor? rows, Tensor? mirror, Tensor? translation, "
        "Tensor? cutout, Tensor? noise, Tensor? noise_std, float low, float high, str dtype)"
        " -> Tensor",
        _forward_native,
        "augmented_batch.forward",
        _forward_fake,
        check_forward,
        _save_forward,
        _forward_derivative,
        _forward_inputs,
    )
)
_linear = register(
    Op(
        f"{_NAME}_linear",
        "(Tensor tangent, Tensor? translation, Tensor? cutout, int stored, str dtype) -> Tensor",
        _linear_native,
        "augmented_batch.linear",
        _linear_fake,
        check_linear,
        _save_linear,
        _linear_derivative,
        _linear_inputs,
    )
)
_backward = register(
    Op(
        f"{_NAME}_backward",
        "(Tensor grad, Tensor? translation, Tensor? cutout, int stored, str dtype, "
        "bool channels_last) -> Tensor",
        _backward_native,
        "augmented_batch.backward",
        _backward_fake,
        check_backward,
        _save_backward,
        _backward_derivative,
        _backward_inputs,
    )
)
