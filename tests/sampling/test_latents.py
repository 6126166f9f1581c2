"""Latents: the same for a seed, a class and an index, whole or truncated."""

import pytest
import scipy.stats
import torch

from cxrgan_fast.sampling.latents import latents_for


def test_latents_depend_on_seed_class_and_index_alone():
    latents = latents_for(0, "normal", range(100), 128)
    assert latents.shape == (100, 128)
    assert latents.dtype == torch.float32
    assert torch.equal(latents_for(0, "normal", range(40, 60), 128), latents[40:60])
    assert not torch.equal(latents_for(1, "normal", range(100), 128), latents)
    assert not torch.equal(latents_for(0, "viral", range(100), 128), latents)
    assert not torch.equal(latents[0], latents[1])
    assert latents_for(-1, "ж/☃", range(2), 3).isfinite().all()
    # Standard normal, over 12,800 of them: four standard errors.
    assert abs(latents.mean()) < 4 / 12_800**0.5
    assert abs(latents.var() - 1) < 4 * (2 / 12_800) ** 0.5


@pytest.mark.parametrize("truncation", [0.05, 0.7, 2.0])
def test_truncated_latents_are_of_a_truncated_normal(truncation):
    whole = latents_for(0, "normal", range(60), 64)
    latents = latents_for(0, "normal", range(60), 64, truncation)
    assert latents.abs().max() <= truncation
    kept = whole.abs() <= truncation
    assert torch.equal(latents[kept], whole[kept])  # only what lies beyond is drawn again
    spread = scipy.stats.truncnorm(-truncation, truncation)
    assert scipy.stats.kstest(latents.flatten().double().numpy(), spread.cdf).pvalue > 1e-3
    assert torch.equal(latents_for(0, "normal", range(20, 40), 64, truncation), latents[20:40])
    beyond_all = latents_for(0, "normal", range(60), 64, 100.0)
    assert torch.equal(beyond_all, whole)


def test_the_latents_of_a_seed_are_what_they_have_always_been():
    # Sets that were published by their seed must come out again.
    first = latents_for(0, "normal", range(1), 4)[0]
    expected = [-1.018164, -1.574192, 1.402980, -1.022495]
    assert first.tolist() == pytest.approx(expected, abs=1e-6)
