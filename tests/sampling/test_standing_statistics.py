"""Statistics of batch norm measured anew: by hand, and what they are for."""

import torch

from cxrgan_fast.nn import ConditionalBatchNorm2d
from cxrgan_fast.nn.config import NetworkConfig
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.sampling.standing_statistics import BATCHES, measure_statistics


def test_they_are_the_means_over_the_batches_and_nothing_else_changes(make_run):
    snapshot = load_generator(make_run() / "generator.safetensors")
    norm = next(m for m in snapshot.generator.modules() if isinstance(m, ConditionalBatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    latents = latents_for(0, "x", range(4 * BATCHES), 8, 0.5)
    weights = {name: p.clone() for name, p in snapshot.generator.named_parameters()}
    measure_statistics(snapshot, latents)
    assert len(seen) == BATCHES
    means = torch.stack([images.mean((0, 2, 3)) for images in seen]).mean(0)
    variances = torch.stack([images.transpose(0, 1).flatten(1).var(1) for images in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variances, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(p, weights[n]) for n, p in snapshot.generator.named_parameters())
    assert norm.momentum == 0.1
    assert not snapshot.generator.training


def test_images_of_short_latents_keep_their_contrast(make_run):
    (source, _) = load_sources(make_run())
    labels = torch.zeros(32, dtype=torch.int64)

    def contrast(truncation: float | None) -> float:
        latents = latents_for(0, "normal", range(32), 8, truncation)
        return float(generate_images(source, latents, labels).float().std((0, 1)).mean())

    measure_statistics(source.snapshot, latents_for(0, "x", range(256), 8))
    whole = contrast(None)
    assert contrast(0.05) < 0.5 * whole
    measure_statistics(source.snapshot, latents_for(0, "x", range(256), 8, 0.05))
    assert 0.7 < contrast(0.05) / whole < 1.4


def test_a_generator_without_batch_norm_stays_as_it_is(make_run):
    network = NetworkConfig(family="r3", resolution=32, base_channels=8, latent_size=8)
    snapshot = load_generator(make_run(network=network) / "generator.safetensors")
    before = {name: t.clone() for name, t in snapshot.generator.state_dict().items()}
    measure_statistics(snapshot, latents_for(0, "x", range(4 * BATCHES), 8))
    assert all(torch.equal(t, before[n]) for n, t in snapshot.generator.state_dict().items())
