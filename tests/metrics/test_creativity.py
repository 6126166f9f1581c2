"""Creativity, inheritance and diversity: what each sees, and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch

from cxrgan_fast.data import load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.creativity import (
    creativity_inheritance_diversity,
    gray_level_contrast,
)


def noise(n: int, seed: int, low: int = 0, high: int = 256) -> torch.Tensor:
    """No two of these images are alike."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, 1, 16, 16), generator=generator).to(torch.uint8)


def cooccurrence_contrast(image: np.ndarray) -> float:
    """With the matrix itself: the mean of four directions."""
    levels = np.arange(256.0)
    squares = (levels[:, None] - levels[None]) ** 2
    total = 0.0
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        matrix = np.zeros((256, 256))
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                if row + down < image.shape[0] and 0 <= column + right < image.shape[1]:
                    i, j = image[row, column], image[row + down, column + right]
                    matrix[i, j] += 1
                    matrix[j, i] += 1
        total += float((matrix / matrix.sum() * squares).sum())
    return total / 4


def test_contrast_is_that_of_the_cooccurrence_matrix() -> None:
    images = torch.cat([noise(3, 0), noise(2, 1, 100, 110), torch.full((1, 1, 16, 16), 9).byte()])
    expected = [cooccurrence_contrast(image) for image in images[:, 0].numpy()]
    torch.testing.assert_close(gray_level_contrast(images), torch.tensor(expected).double())
    assert gray_level_contrast(images)[5] == 0


def test_new_images_of_the_same_kind_are_best_in_all_three() -> None:
    cid = creativity_inheritance_diversity(noise(50, 0), noise(40, 1))
    assert cid.creativity.value == 1
    assert cid.inheritance.value > 0.98
    assert cid.diversity.value == pytest.approx(1)
    assert cid.index == pytest.approx(cid.inheritance.value)
    assert (cid.creativity.n_real, cid.creativity.n_fake) == (50, 40)
    assert cid.creativity.details["duplicates"] == 0


def test_copies_are_not_creative_and_the_rest_is_of_the_others() -> None:
    real = noise(50, 0)
    fake = noise(40, 1, 0, 64)
    fake[3:13] = real[20:30]
    cid = creativity_inheritance_diversity(real, fake)
    assert cid.creativity.value == 0.75
    assert cid.creativity.details["duplicates"] == 10
    assert cid.creativity.details["largest_ssim"] == pytest.approx(1)
    new = torch.cat([fake[:3], fake[13:]])
    contrasts = [float(gray_level_contrast(images).mean()) for images in (real, new)]
    expected = 1 - (contrasts[0] - contrasts[1]) / contrasts[0]
    assert cid.inheritance.value == pytest.approx(expected)
    assert cid.inheritance.n_fake == cid.diversity.n_fake == 30


def test_nothing_but_copies_is_worth_nothing() -> None:
    real = noise(20, 0)
    cid = creativity_inheritance_diversity(
        real, real[:10], resamples=Resamples.draw(20, 10, count=20)
    )
    assert cid.creativity.value == cid.inheritance.value == cid.diversity.value == cid.index == 0
    assert cid.creativity.standard_error == 0


def test_diversity_is_the_entropy_of_the_groups() -> None:
    different = noise(3, 1)
    fake = different[[0, 0, 1, 2, 1, 0]]  # groups of 3, 2 and 1
    cid = creativity_inheritance_diversity(noise(4, 0), fake)
    shares = [3 / 6, 2 / 6, 1 / 6]
    expected = -sum(p * math.log(p) for p in shares) / math.log(6)
    assert cid.diversity.value == pytest.approx(expected)
    assert cid.diversity.details["groups"] == 3
    assert cid.diversity.details["largest_group"] == 3
    same = creativity_inheritance_diversity(noise(4, 0), different[[0] * 6])
    assert same.diversity.value == 0


def test_a_group_is_of_those_like_its_first_not_of_chains() -> None:
    # A slides into C in two steps: each step is alike, the ends are not.
    near, far = noise(2, 3)[:, 0].float()
    middle = (near + far) / 2
    chain = torch.stack([0.8 * near + 0.2 * far, middle, 0.2 * near + 0.8 * far])[:, None]
    chain = chain.round().to(torch.uint8)
    real = noise(4, 0)
    by_end = creativity_inheritance_diversity(real, chain)
    by_middle = creativity_inheritance_diversity(real, chain[[1, 0, 2]])
    assert by_end.diversity.details["groups"] == 2
    assert by_middle.diversity.details["groups"] == 1


def test_flat_images_have_the_style_of_flat_images() -> None:
    black, white = torch.zeros(5, 1, 16, 16).byte(), torch.full((4, 1, 16, 16), 255).byte()
    cid = creativity_inheritance_diversity(black, white)
    assert cid.creativity.value == 1
    assert cid.inheritance.value == 1
    assert cid.diversity.value == 0
    assert creativity_inheritance_diversity(noise(5, 0), white).inheritance.value == 0


def test_standard_errors_are_those_of_fresh_draws() -> None:
    base = noise(30, 0)
    generator = torch.Generator().manual_seed(1)

    def draw(seed: int) -> torch.Tensor:
        """Four of ten are copies; of different contrast otherwise."""
        images = noise(60, seed, 0, 128)
        scale = torch.rand(60, 1, 1, 1, generator=generator)
        images = (images * (0.5 + scale)).to(torch.uint8)
        copied = torch.rand(60, generator=generator) < 0.4
        images[copied] = base[torch.randint(30, (60,), generator=generator)][copied]
        return images

    values = []
    for seed in range(150):
        cid = creativity_inheritance_diversity(base, draw(100 + seed))
        values.append([cid.creativity.value, cid.inheritance.value])
    spread = np.std(values, axis=0, ddof=1)
    cid = creativity_inheritance_diversity(
        base, draw(99), resamples=Resamples.draw(30, 60, count=400)
    )
    # 150 draws give the spread within 6 %, its estimate from one draw is as uncertain again.
    assert cid.creativity.standard_error == pytest.approx(spread[0], rel=0.25)
    real = gray_level_contrast(base)
    # The fresh draws were compared with the same real images, the resamples also vary these.
    of_real = float(real.std() / real.mean() / math.sqrt(30)) * cid.inheritance.value
    assert cid.inheritance.standard_error == pytest.approx(math.hypot(spread[1], of_real), rel=0.35)
    assert cid.diversity.standard_error is not None
    assert 0 <= cid.diversity.standard_error < 0.1


def test_phantoms_of_other_patients_are_new_and_alike_in_style() -> None:
    train = load_dataset("phantom", resolution=64, phantom_images=40, progress=False)
    other = load_dataset("phantom", resolution=64, phantom_images=30, split="test", progress=False)
    cid = creativity_inheritance_diversity(train.images, other.images)
    assert cid.creativity.value > 0.9
    assert cid.inheritance.value > 0.9
    assert cid.diversity.value > 0.9


def test_too_few_images() -> None:
    with pytest.raises(UserError, match="0 real and 3 generated images came, at least 1 and 2"):
        creativity_inheritance_diversity(noise(1, 0)[:0], noise(3, 1))
    with pytest.raises(UserError, match="2 real and 1 generated"):
        creativity_inheritance_diversity(noise(2, 0), noise(1, 1))
    with pytest.raises(UserError, match="got 8x8 and 16x16 pixels"):
        creativity_inheritance_diversity(noise(2, 0), noise(2, 1)[:, :, :8, :8])


def test_copies_are_looked_for_among_all_originals() -> None:
    originals, fake = noise(30, 0), noise(10, 1)
    fake[:4] = originals[20:24]
    cid = creativity_inheritance_diversity(originals[:10], fake, originals=originals)
    assert cid.creativity.value == 0.6
    assert (cid.creativity.n_real, cid.inheritance.n_real) == (30, 10)
    assert creativity_inheritance_diversity(originals[:10], fake).creativity.value == 1
    with pytest.raises(UserError, match="no training images that might be copied"):
        creativity_inheritance_diversity(originals[:10], fake, originals=originals[:0])
