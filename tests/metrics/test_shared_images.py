"""What is computed of images and of their pairs is computed once, and nothing else changes."""

from unittest.mock import create_autospec

import pytest
import torch
from torch import Tensor

from cxrgan_fast.metrics import Features, Images, ssim
from cxrgan_fast.metrics import shared_images as module
from cxrgan_fast.metrics.comparison import compare
from cxrgan_fast.metrics.creativity import gray_level_contrast
from cxrgan_fast.metrics.power_spectrum import radial_spectra
from cxrgan_fast.metrics.shared_images import of_each, of_pairs, shared_images
from cxrgan_fast.metrics.ssim import largest_ssim, pairwise_ssim

OF_IMAGES = ("creativity", "inheritance", "diversity", "power_spectrum")


def _sets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randint(256, (n, 1, 16, 16), dtype=torch.uint8, generator=generator) for n in (30, 20)
    )


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch):
    """The real computation of a block of pairs, counted."""
    double = create_autospec(ssim._block, side_effect=ssim._block)
    monkeypatch.setattr(ssim, "_block", double)
    return double


def test_any_parts_in_any_order_are_looked_up(blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)  # several blocks, the last of them smaller
    train, fake = _sets()
    rows = torch.randperm(30)[:11]
    cases = [(train[rows], train), (fake[3:9], train[rows]), (train, fake.flip(0)), (fake, fake)]
    expected = [(pairwise_ssim(*case), largest_ssim(*case)) for case in cases]
    blocks.reset_mock()
    with shared_images(train, fake):
        found = [(pairwise_ssim(*case), largest_ssim(*case)) for case in cases * 2]
    for one, other in zip(found, expected * 2, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    # Of each two sets once: in five blocks and three the two with themselves, in one the other.
    assert blocks.call_count == 5 + 3 + 1


def test_images_that_are_not_named_are_computed(blocks) -> None:
    train, fake = _sets()
    with shared_images(train):
        assert of_pairs(pairwise_ssim, train, fake) is None
        pairwise_ssim(train, fake)
        assert of_pairs(pairwise_ssim, fake, fake[:2]) is None
        assert of_pairs(pairwise_ssim, train[:, :, :8], train) is None  # of another size
    assert of_pairs(pairwise_ssim, train, train) is None  # afterwards
    assert blocks.call_count == 1


def test_of_large_sets_no_pairs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    train, fake = _sets()
    monkeypatch.setattr(module, "MOST_IMAGES", 20)
    with shared_images(train, fake):
        assert of_pairs(pairwise_ssim, train[:2], train[:2]) is None
        assert of_pairs(pairwise_ssim, fake[:2], fake[:2]) is not None


@pytest.mark.parametrize("function", [radial_spectra, gray_level_contrast])
def test_of_each_image_once(function) -> None:
    train, fake = _sets()
    double = create_autospec(function, side_effect=function)
    with shared_images(train):
        for images in (train[:5], train[3:8].flip(0), train):
            torch.testing.assert_close(of_each(double, images), function(images))
        asked = [len(call.args[0]) for call in double.call_args_list]
        assert asked == [5, 3, 22]  # those that are new
        of_each(double, fake)
        of_each(double, fake)
    assert double.call_count == 5  # those that nobody named are computed each time


def test_metrics_are_the_same() -> None:
    train, fake = _sets()
    features = [Features(each.flatten(1).float()) for each in (train[:20], fake)]
    images = Images(train[:20], fake, train)
    alone = compare(*features, images=images, metrics=OF_IMAGES).estimates
    with shared_images(train, fake):
        shared = compare(*features, images=images, metrics=OF_IMAGES).estimates
    assert [e.value for e in shared.values()] == pytest.approx([e.value for e in alone.values()])


def test_images_may_be_laid_out_in_any_way() -> None:
    train, _ = _sets()
    colored = train.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    with shared_images(train.expand(-1, 3, -1, -1)):
        assert of_pairs(pairwise_ssim, colored[:4], colored[4:6]).shape == (4, 2)
