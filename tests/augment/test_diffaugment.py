"""DiffAugment: each change by itself, its distribution, its derivatives and its randomness."""

import pytest
import torch
from torch import Tensor

from cxrgan_fast.augment.diffaugment import POLICIES, augment_as_drawn, diff_augment


def images(n: int = 64, channels: int = 1, size: int = 32) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(n, channels, size, size) * 2 - 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_brightness_adds_up_to_a_quarter_of_the_range(value_range) -> None:
    x = images(512)
    added = diff_augment(x, ["brightness"], seeded(), value_range) - x
    assert added.std(dim=(1, 2, 3)).max() < 1e-6  # one number an image
    shift = added.mean(dim=(1, 2, 3)) / (value_range[1] - value_range[0])
    assert -0.25 <= shift.min() < -0.24
    assert 0.24 < shift.max() <= 0.25


def test_contrast_scales_around_the_mean_of_the_image() -> None:
    x = images(512, channels=3)
    y = diff_augment(x, ["contrast"], seeded())
    mean = x.mean(dim=(1, 2, 3))
    torch.testing.assert_close(y.mean(dim=(1, 2, 3)), mean, rtol=0, atol=1e-6)
    factor = y.std(dim=(1, 2, 3)) / x.std(dim=(1, 2, 3))
    assert 0.5 <= factor.min() < 0.51
    assert 1.49 < factor.max() <= 1.5


@pytest.mark.parametrize(("value_range", "fill"), [((-1.0, 1.0), 0.0), ((0.0, 1.0), 0.5)])
def test_translation_shifts_by_whole_pixels_and_fills_the_center(value_range, fill) -> None:
    x = images(512, channels=3, size=16) + 3  # no pixel equals the fill
    y = diff_augment(x, ["translation"], seeded(), value_range)
    shifts = set()
    for before, after in zip(x, y, strict=True):
        kept = after[0] != fill
        rows, columns = kept.any(1).nonzero().flatten(), kept.any(0).nonzero().flatten()
        # Where the kept block lies says whence it came, but not by how much if nothing was cut.
        dy = -rows[0].item() if rows[0] > 0 else 15 - rows[-1].item()
        dx = -columns[0].item() if columns[0] > 0 else 15 - columns[-1].item()
        expected = torch.full_like(before, fill)
        for row in range(max(0, -dy), min(16, 16 - dy)):
            source = before[:, row + dy]
            low, high = max(0, -dx), min(16, 16 - dx)
            expected[:, row, low:high] = source[:, low + dx : high + dx]
        assert torch.equal(after, expected)
        shifts.add((dy, dx))
    assert shifts == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


@pytest.mark.parametrize(("value_range", "fill"), [((-1.0, 1.0), 0.0), ((0.0, 1.0), 0.5)])
def test_cutout_covers_a_square_of_half_the_size(value_range, fill) -> None:
    x = images(512, channels=3, size=16) + 3
    y = diff_augment(x, ["cutout"], seeded(), value_range)
    hole = y[:, 0] == fill
    assert torch.equal(torch.where(hole[:, None], fill, x), y)
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)  # it is a rectangle
    assert (heights.min(), widths.min()) == (4, 4)  # it sticks out by at most half
    assert (heights.max(), widths.max()) == (8, 8)
    assert hole.any(0).all()  # every pixel is covered by some hole


def test_order_is_the_policys() -> None:
    x = images()
    uniform = torch.rand(64, 2, 2)
    forth = augment_as_drawn(x, ["brightness", "cutout"], uniform)
    step = augment_as_drawn(x, ["brightness"], uniform[:, :1])
    torch.testing.assert_close(forth, augment_as_drawn(step, ["cutout"], uniform[:, 1:]))


def test_randomness_comes_from_the_generator_alone() -> None:
    x = images()
    state = torch.get_rng_state()
    first = diff_augment(x, POLICIES, seeded(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, diff_augment(x, POLICIES, seeded(0)))
    assert not torch.equal(first, diff_augment(x, POLICIES, seeded(1)))
    torch.manual_seed(0)
    default = diff_augment(x, POLICIES)
    torch.manual_seed(0)
    assert torch.equal(default, diff_augment(x, POLICIES))


def test_the_largest_number_below_one_stays_inside() -> None:
    x = images(1, size=16)
    almost_one = torch.full((1, 4, 2), 1 - 2**-24)
    assert augment_as_drawn(x, POLICIES, almost_one).isfinite().all()
    moved = augment_as_drawn(x, ["translation"], almost_one[:, :1])
    assert torch.equal(moved[..., :14, :14], x[..., 2:, 2:])


def test_first_and_second_derivatives() -> None:
    x = images(2, channels=2, size=8).double().requires_grad_()
    uniform = torch.rand(2, 4, 2, dtype=torch.float64, generator=seeded())

    def augment(x: Tensor) -> Tensor:
        return augment_as_drawn(x, POLICIES, uniform).square()

    assert torch.autograd.gradcheck(augment, (x,))
    assert torch.autograd.gradgradcheck(augment, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_keeps_dtype_and_takes_odd_and_empty_batches(dtype: torch.dtype) -> None:
    for shape in ((3, 1, 7, 13), (0, 1, 8, 8), (2, 3, 1, 1)):
        y = diff_augment(torch.zeros(shape, dtype=dtype), POLICIES, seeded())
        assert y.shape == shape
        assert y.dtype == dtype


def test_no_policy_leaves_the_images_alone() -> None:
    x = images()
    assert torch.equal(diff_augment(x, []), x)


def test_compiles_whole() -> None:
    x, uniform = images(), torch.rand(64, 4, 2)
    compiled = torch.compile(augment_as_drawn, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(x, POLICIES, uniform), augment_as_drawn(x, POLICIES, uniform)
    )


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"policy must name brightness.*'saturation'"):
        diff_augment(images(), ["saturation"])
    with pytest.raises(ValueError, match=r"images must have shape \(N, C, H, W\), got \(1, 8, 8\)"):
        diff_augment(torch.zeros(1, 8, 8), POLICIES)
    with pytest.raises(ValueError, match=r"uniform must have shape \(64, 1, 2\), got \(64, 2\)"):
        augment_as_drawn(images(), ["cutout"], torch.rand(64, 2))
