"""DiffAugment: each change by itself, its distribution, its derivatives and its randomness."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast.augment.diffaugment import POLICIES, augment_as_drawn, diff_augment, in_one_go


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


def turned(x: Tensor, radians: Tensor, factor: Tensor, fill: float) -> Tensor:
    """Each image rotated and enlarged, by PyTorch's grid_sample; square images, factors from 1."""
    cosine, sine = radians.cos() / factor, radians.sin() / factor
    zero = torch.zeros_like(cosine)
    # Its coordinates are (x, y); the rotation is clockwise, as y points down.
    matrix = torch.stack((cosine, sine, zero, -sine, cosine, zero), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, x.shape, align_corners=False)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill


@pytest.mark.parametrize(("value_range", "fill"), [((-1.0, 1.0), 0.0), ((0.0, 1.0), 0.5)])
def test_rotation_turns_by_up_to_ten_degrees_either_way(value_range, fill) -> None:
    x, numbers = images(64).double() + 3, torch.rand(64, 1, 2, dtype=torch.float64)
    numbers[:3, 0, 0] = torch.tensor([0.0, 0.5, 1.0])  # the ends, and none at all
    y = augment_as_drawn(x, ["rotation"], numbers, value_range)
    angles = (numbers[:, 0, 0] * 20 - 10) * math.pi / 180
    torch.testing.assert_close(y, turned(x, angles, torch.ones_like(angles), fill))
    assert torch.equal(y[1], x[1])


def test_scale_is_log_normal() -> None:
    """Measured by how far apart two bright columns come to lie."""
    x = torch.zeros(4000, 1, 3, 32)
    x[..., 8], x[..., 23] = 1.0, 1.0  # 7.5 from the center, either way
    y = diff_augment(x, ["scale"], seeded())[:, 0, 1]  # (N, 32)
    distance = (y * (torch.arange(32.0) - 15.5).abs()).sum(1) / y.sum(1)
    powers = (distance / 7.5).log2()
    assert powers.mean().abs() < 0.01
    assert abs(powers.std() - 0.1) < 0.01
    expected = torch.distributions.Normal(0.0, 0.1).cdf(powers.sort().values)
    assert (expected - (torch.arange(4000.0) + 0.5) / 4000).abs().max() < 0.035  # Kolmogorov's


def test_scale_enlarges_as_another_program_does() -> None:
    x, numbers = images(64).double(), torch.rand(64, 1, 2, dtype=torch.float64)
    a, b = numbers[:, 0].numpy().T
    factor = torch.from_numpy(2 ** (0.1 * np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b)))
    larger = factor >= 1
    assert 20 < larger.sum() < 44
    y = augment_as_drawn(x, ["scale"], numbers)
    expected = turned(x, torch.zeros_like(factor), factor, 0.0)
    torch.testing.assert_close(y[larger], expected[larger])


def test_neighbors_that_resample_are_one_resampling() -> None:
    """A shift after a rotation brings back what two resamplings would have cut off."""
    x, numbers = images(64).double(), torch.rand(64, 3, 2, dtype=torch.float64)
    numbers[:, 1] = torch.tensor([0.0, 0.5])  # no scale: the shift is by whole pixels
    y = augment_as_drawn(x, ["rotation", "scale", "translation"], numbers)
    wide = F.pad(x, (16,) * 4)  # nothing is cut off in here
    step = augment_as_drawn(wide, ["rotation"], numbers[:, :1])
    shift = (numbers[:, 2] * 9).long() - 4  # what an eighth of 32 is
    for image, expected, (down, right) in zip(y, step, shift.tolist(), strict=True):
        top, left = 16 + down, 16 + right
        torch.testing.assert_close(image, expected[:, top : top + 32, left : left + 32])


@pytest.mark.parametrize(
    ("policy", "groups"),
    [
        ([], []),
        (["cutout", "translation"], [("cutout",), ("translation",)]),
        (["scale"], [("scale",)]),
        (["translation", "rotation", "cutout"], [("translation", "rotation"), ("cutout",)]),
        (["rotation", "cutout", "scale"], [("rotation",), ("cutout",), ("scale",)]),
    ],
)
def test_what_is_done_in_one_go(policy, groups) -> None:
    assert in_one_go(policy) == groups


# ------------------------------------------------------------------------- with a probability


@pytest.mark.parametrize("name", POLICIES)
def test_each_change_is_made_with_its_probability(name) -> None:
    """And where it is made it is the change that is always made."""
    x, n = images(4000, size=8) + 3, 4000
    numbers = torch.rand(n, 1, 3, generator=seeded())
    always = augment_as_drawn(x, [name], numbers[..., :2])
    for probability in (0.0, 0.3, 1.0):
        y = augment_as_drawn(x, [name], numbers, probability=torch.tensor(probability))
        made = (y == always).flatten(1).all(1)
        left = (y == x).flatten(1).all(1)
        assert (made | left).all()
        moved = ~(always == x).flatten(1).all(1)  # a shift may be by nothing
        assert moved.float().mean() > 0.8
        share = (made & ~left)[moved].float().mean()
        deviation = (probability * (1 - probability) / n) ** 0.5
        assert abs(share - probability) <= 4 * deviation


def test_no_probability_leaves_the_bits_and_one_changes_every_image() -> None:
    x = torch.cat((images(63), torch.full((1, 1, 32, 32), -0.0)))
    for value_range in ((-1.0, 1.0), (0.0, 1.0)):
        never = diff_augment(x, POLICIES, seeded(), value_range, torch.tensor(0.0))
        assert torch.equal(never.view(torch.int32), x.view(torch.int32))
    always = diff_augment(x, POLICIES, seeded(), probability=torch.tensor(1.0))
    assert (always != x).flatten(1).any(1).all()


def test_the_changes_of_an_image_are_chosen_apart_from_each_other() -> None:
    x = torch.ones(4000, 1, 8, 8)
    x[..., ::2] = -1.0  # of mean 0: contrast keeps it, brightness keeps the deviation
    y = diff_augment(x, ["brightness", "contrast"], seeded(), probability=torch.tensor(0.5))
    brighter, sharper = (
        y.mean((1, 2, 3)).abs() > 1e-6,
        (y.std((1, 2, 3)) / x[0].std() - 1).abs() > 1e-4,
    )
    for one, other in itertools.product((True, False), repeat=2):
        share = ((brighter == one) & (sharper == other)).float().mean()
        assert abs(share - 0.25) < 0.03


def test_changes_within_one_resampling_are_chosen_apart_too() -> None:
    x, numbers = images(256).double(), torch.rand(256, 3, 3, dtype=torch.float64)
    names = ["rotation", "scale", "translation"]
    y = augment_as_drawn(x, names, numbers, probability=torch.tensor(0.5))
    made = numbers[..., 2] < 0.5
    for choice in itertools.product((True, False), repeat=3):
        there = (made == torch.tensor(choice)).all(1)
        assert there.sum() > 10
        some = [name for name, chosen in zip(names, choice, strict=True) if chosen]
        pairs = numbers[there][:, torch.tensor(choice)][..., :2]
        torch.testing.assert_close(y[there], augment_as_drawn(x[there], some, pairs))


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
    almost_one = torch.full((1, len(POLICIES), 2), 1 - 2**-24)
    for numbers in (almost_one, torch.zeros_like(almost_one)):
        assert augment_as_drawn(x, POLICIES, numbers).isfinite().all()
    moved = augment_as_drawn(x, ["translation"], almost_one[:, :1])
    assert torch.equal(moved[..., :14, :14], x[..., 2:, 2:])


@pytest.mark.parametrize("chance", [None, 0.5])
def test_first_and_second_derivatives(chance: float | None) -> None:
    x = images(2, channels=2, size=4).double().requires_grad_()
    probability = None if chance is None else torch.tensor(chance)
    drawn = torch.rand(
        2, len(POLICIES), 2 if chance is None else 3, dtype=torch.float64, generator=seeded()
    )

    def augment(x: Tensor) -> Tensor:
        return augment_as_drawn(x, POLICIES, drawn, probability=probability).square()

    assert torch.autograd.gradcheck(augment, (x,))
    assert torch.autograd.gradgradcheck(augment, (x,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_keeps_dtype_and_takes_odd_and_empty_batches(dtype: torch.dtype) -> None:
    for shape, probability in itertools.product(
        ((3, 1, 7, 13), (0, 1, 8, 8), (2, 3, 1, 1)), (None, torch.tensor(0.5))
    ):
        zeros = torch.zeros(shape, dtype=dtype)
        y = diff_augment(zeros, POLICIES, seeded(), probability=probability)
        assert y.shape == shape
        assert y.dtype == dtype
        assert y.isfinite().all()


def test_no_policy_leaves_the_images_alone() -> None:
    x = images()
    assert torch.equal(diff_augment(x, []), x)


def test_compiles_whole() -> None:
    x, uniform = images(), torch.rand(64, len(POLICIES), 2)
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
    with pytest.raises(ValueError, match=r"uniform must have shape \(64, 1, 3\), got \(64, 1, 2\)"):
        augment_as_drawn(images(), ["cutout"], torch.rand(64, 1, 2), probability=torch.tensor(0.5))
