"""augmented_batch against the package's own pixels and augmentations, to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from augmented_batch_cases import OPTIONS, InputCase, input_case
from op_cases import DTYPES, FUSED, LAYOUTS, NATIVE_CPU, REFERENCE, Target
from properties import on_examples, on_few_examples

IMAGES = [(1, 16, 16), (3, 13, 9), (1, 64, 64), (2, 1, 1), (4, 5, 12)]
ALMOST_ONE = 1 - 2**-24  # the greatest number that torch.rand draws


def channels_last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last)  # also in the strides of one channel


ARRANGEMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": channels_last,
    "cut": lambda x: torch.nn.functional.pad(x, (1, 2, 3, 0))[:, :, 3:, 1:-2],
    "rows last": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    # Not where a whole vector may be read.
    "shifted": lambda x: torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape),
}


def assert_same(target: Target, got: Tensor, truth: Tensor) -> None:
    """To the bit; but on a GPU Triton may round a product and a sum once together."""
    assert got.dtype == truth.dtype
    assert got.shape == truth.shape
    if target.backend == "triton" and target.device == "cuda":
        eps = torch.finfo(got.dtype).eps
        torch.testing.assert_close(got.cpu(), truth, rtol=eps, atol=2e-7)
    else:
        assert torch.equal(got.cpu(), truth)


def assert_channels_last(image: Tensor) -> None:
    expected = torch.empty(image.shape, memory_format=torch.channels_last)
    assert image.stride() == expected.stride()


def derivatives(function: Callable[[Tensor], Tensor], fake: Tensor) -> list[Tensor]:
    """The gradient of Σ y³, the penalty on it that R1 is, and the penalty's gradient."""
    fake = fake.detach().requires_grad_()
    (first,) = torch.autograd.grad(function(fake).pow(3).sum(), fake, create_graph=True)
    penalty = first.float().square().sum()
    (second,) = torch.autograd.grad(penalty, fake)
    return [first.detach(), penalty.detach(), second]


@pytest.mark.parametrize("options", [(), *itertools.combinations(OPTIONS, 1), OPTIONS], ids=str)
@pytest.mark.parametrize("images", IMAGES, ids=str)
def test_values(target: Target, images: tuple[int, int, int], options: tuple[str, ...]) -> None:
    case = input_case(images, options=options)
    got = case.on(target.device).call()
    assert_same(target, got, case.composed())
    assert_channels_last(got)


@pytest.mark.parametrize(("fake_dtype", "dtype"), [*itertools.product(DTYPES, (None, *DTYPES))])
@pytest.mark.parametrize("images", [(1, 16, 16), (3, 13, 9)], ids=str)
def test_dtypes_are_rounded_to_once(
    target: Target,
    images: tuple[int, int, int],
    fake_dtype: torch.dtype,
    dtype: torch.dtype | None,
) -> None:
    case = input_case(images, fake_dtype=fake_dtype, dtype=dtype)
    got = case.on(target.device).call()
    assert got.dtype == (fake_dtype if dtype is None else dtype)
    assert_same(target, got, case.composed())


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-0.3, 0.9)], ids=str)
def test_the_center_of_the_range_fills(target: Target, value_range: tuple[float, float]) -> None:
    case = input_case((3, 12, 20), value_range=value_range)
    assert_same(target, case.on(target.device).call(), case.composed())


@pytest.mark.parametrize("images", IMAGES, ids=str)
@pytest.mark.parametrize("extreme", [0.0, ALMOST_ONE])
def test_the_largest_shifts_and_holes(
    target: Target, extreme: float, images: tuple[int, int, int]
) -> None:
    case = input_case(images)
    assert case.translation is not None
    assert case.cutout is not None
    case.translation[::2] = case.cutout[::2] = extreme
    case.cutout[1::2] = 1 - extreme
    assert_same(target, case.on(target.device).call(), case.composed())


@pytest.mark.parametrize("size", range(1, 41))
def test_any_size_rounds_shifts_and_holes_alike(target: Target, size: int) -> None:
    if target.backend == "triton" and target.device == "cuda" and size % 4:
        pytest.skip("each size would be compiled for")
    case = input_case((1, size, 41 - size), stored=0)
    assert_same(target, case.on(target.device).call(), case.composed())


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("images", [(1, 8, 12), (3, 6, 5)], ids=str)
def test_layouts_of_images_and_noise(
    target: Target, images: tuple[int, int, int], arrangement: str
) -> None:
    case = input_case(images, arrange=ARRANGEMENTS[arrangement])
    got = case.on(target.device).call()
    assert_same(target, got, case.composed())
    assert_channels_last(got)


@pytest.mark.parametrize(("stored", "fakes"), [(None, 4), (3, None), (0, 4), (3, 0), (0, 0)])
def test_only_one_kind_of_images(target: Target, stored: int | None, fakes: int | None) -> None:
    case = input_case(stored=stored, fakes=fakes)
    got = case.on(target.device).call()
    assert_same(target, got, case.composed())
    assert_channels_last(got)


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_stored_images_in_a_dtype(target: Target, dtype: torch.dtype | None) -> None:
    case = input_case(fakes=None, dtype=dtype)
    got = case.on(target.device).call()
    assert got.dtype == (dtype or torch.float32)
    assert_same(target, got, case.composed())


@pytest.mark.parametrize("shape", [(0, 8), (8, 0)])
def test_no_pixels(device: str, shape: tuple[int, int]) -> None:
    got = input_case((2, *shape)).on(device).call()
    assert got.shape == (7, 2, *shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [(), ("translation",), ("cutout",), OPTIONS], ids=str)
@pytest.mark.parametrize("images", IMAGES, ids=str)
def test_first_and_second_derivatives(
    target: Target, images: tuple[int, int, int], options: tuple[str, ...], layout: str
) -> None:
    arrange = channels_last if layout == "channels_last" else torch.Tensor.contiguous
    case = input_case(images, options=options, arrange=arrange)
    assert case.fake is not None
    there = case.on(target.device)
    assert there.fake is not None
    got = derivatives(there.call, there.fake)
    for value, truth in zip(got, derivatives(case.composed, case.fake), strict=True):
        torch.testing.assert_close(value.cpu(), truth, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("images", [(1, 16, 16), (3, 13, 9)], ids=str)
@pytest.mark.parametrize(("fake_dtype", "dtype"), [*itertools.product(DTYPES, DTYPES)])
def test_a_gradient_is_moved_as_it_is(
    target: Target, images: tuple[int, int, int], fake_dtype: torch.dtype, dtype: torch.dtype
) -> None:
    """Nothing is added up, so that nothing is rounded but to the dtype of the images."""
    case = input_case(images, fake_dtype=fake_dtype, dtype=dtype)
    assert case.fake is not None
    fake = case.fake.requires_grad_()
    composed = case.composed(fake)
    grad = torch.randn(composed.shape).to(dtype)
    (truth,) = torch.autograd.grad(composed, fake, grad)
    there = case.on(target.device)
    (got,) = torch.autograd.grad(there.call(), [there.fake], grad.to(target.device))
    assert got.dtype == fake_dtype
    assert torch.equal(got.cpu(), truth)


@pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gradient_has_the_layout_of_the_images(device: str, channels: int, layout: str) -> None:
    arrange = channels_last if layout == "channels_last" else torch.Tensor.contiguous
    case = input_case((channels, 6, 7), arrange=arrange).on(device)
    assert case.fake is not None
    fake = case.fake.requires_grad_()
    (gradient,) = torch.autograd.grad(case.call(fake).sum(), fake)
    assert gradient.stride() == fake.stride()


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("target", REFERENCE, indirect=True, ids=str)
@pytest.mark.parametrize("options", [("translation",), OPTIONS], ids=str)
def test_derivatives_of_the_definition(device: str, options: tuple[str, ...]) -> None:
    case = input_case((2, 5, 9), options=options, fake_dtype=torch.float64).on(device)
    assert case.fake is not None
    fake = case.fake.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.call(x).square(), fake)
    assert torch.autograd.gradgradcheck(lambda x: case.call(x).square(), fake)


@pytest.mark.parametrize("row", [-1, 5, 2**62, -(2**62)])
def test_a_row_that_is_not_there(target: Target, device: str, row: int) -> None:
    case = input_case((3, 8, 8)).on(device)
    assert case.stored is not None
    assert case.rows is not None
    # The set lies in the middle of other images.
    others = torch.full((9, 3, 8, 8), 255, dtype=torch.uint8, device=device)
    others[2:7] = case.stored
    case = InputCase(**{**vars(case), "stored": others[2:7]})
    expected = case.call()
    case.rows[1] = row  # type: ignore[index]
    if target.checks_labels:
        with pytest.raises(IndexError, match=rf"rows\[1\] is {row}, expected 0 <= row < 5"):
            case.call()
        return
    got = case.call()
    assert got[1].isnan().all()
    kept = [0, 2, 3, 4, 5, 6]
    assert torch.equal(got[kept], expected[kept])


def test_an_empty_set_has_no_rows(target: Target, device: str) -> None:
    case = input_case((1, 8, 8), fakes=None).on(device)
    assert case.stored is not None
    case = InputCase(**{**vars(case), "stored": case.stored[:0]})
    if target.checks_labels:
        with pytest.raises(IndexError, match=r"rows\[0\] is \d, expected 0 <= row < 0"):
            case.call()
    else:
        assert case.call().isnan().all()


def test_stored_images_beyond_2_gigabytes(target: Target, device: str) -> None:
    """On the CPU only the pages that are looked at take memory."""
    stored = torch.empty((2**31 // 2**14 + 3, 1, 128, 128), dtype=torch.uint8, device=device)
    stored[-2:] = torch.randint(256, (2, 1, 128, 128), dtype=torch.uint8).to(device)
    rows = torch.tensor([len(stored) - 1, len(stored) - 2], device=device)
    case = InputCase(stored, rows, None)
    small = InputCase(stored[-2:].cpu(), torch.tensor([1, 0]), None)
    assert_same(target, case.call(), small.composed())


def test_every_element_is_written_and_none_is_read_before(target: Target) -> None:
    case = input_case((3, 13, 9)).on(target.device)
    assert case.fake is not None
    expected = [case.call(), *derivatives(case.call, case.fake)]
    torch.use_deterministic_algorithms(True)  # fills every torch.empty with NaN
    try:
        poisoned = [case.call(), *derivatives(case.call, case.fake)]
    finally:
        torch.use_deterministic_algorithms(False)
    for value, same in zip(poisoned, expected, strict=True):
        assert torch.equal(value, same)


@pytest.mark.parametrize("target", [NATIVE_CPU], indirect=True, ids=str)
@pytest.mark.parametrize("images", [(1, 64, 64), (3, 50, 70)], ids=str)
@pytest.mark.usefixtures("target")
def test_same_bits_for_every_number_of_threads(
    images: tuple[int, int, int], set_threads: Callable[[int], None]
) -> None:
    case = input_case(images, stored=17, fakes=18)
    assert case.fake is not None

    def results() -> list[Tensor]:
        fake = torch.nn.Parameter(case.fake)
        output = case.call(fake)
        return [output.detach(), *torch.autograd.grad(output, fake, output.detach())]

    set_threads(1)
    expected = results()
    for threads in (2, 3):
        set_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))


STRATEGIES = {
    "images": st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    "stored": st.none() | st.integers(0, 4),
    "fakes": st.integers(0, 4),
    "options": st.sets(st.sampled_from(OPTIONS)).map(lambda each: tuple(sorted(each))),
    "fake_dtype": st.sampled_from(DTYPES),
    "dtype": st.sampled_from((None, *DTYPES)),
    "arrangement": st.sampled_from(list(ARRANGEMENTS)),
    "low": st.sampled_from([-1.0, 0.0]),
    "seed": st.integers(0, 2**31),
}


def the_composition_to_the_bit(
    target: Target,
    images: tuple[int, int, int],
    stored: int | None,
    fakes: int,
    options: tuple[str, ...],
    fake_dtype: torch.dtype,
    dtype: torch.dtype | None,
    arrangement: str,
    low: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    case = input_case(
        images,
        stored=stored,
        fakes=fakes,
        options=options,
        fake_dtype=fake_dtype,
        dtype=dtype,
        arrange=ARRANGEMENTS[arrangement],
        value_range=(low, 1.0),
    )
    assert case.fake is not None
    fake = case.fake.requires_grad_()
    composed = case.composed(fake)
    there = case.on(target.device)
    got = there.call()
    assert_same(target, got.detach(), composed.detach())
    grad = torch.randn(composed.shape).to(composed.dtype)
    (truth,) = torch.autograd.grad(composed, fake, grad)
    (gradient,) = torch.autograd.grad(got, [there.fake], channels_last(grad).to(target.device))
    assert torch.equal(gradient.cpu(), truth)


test_any_call = on_examples(STRATEGIES, the_composition_to_the_bit)
test_any_call_on_few_examples = on_few_examples(STRATEGIES, the_composition_to_the_bit)
