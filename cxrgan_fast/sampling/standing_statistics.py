"""Batch norm's statistics for other latents or other weights than those of the training.

A generator's running statistics are those of standard normal latents and of its own last steps.
Truncated latents vary less, and normalized by the old statistics their images are gray. The weights
of a long average are of none of those steps: its images are spoiled. So the statistics are measured
anew, of batches of the latents at hand: Brock et al. 2019, "BigGAN", appendix C, "standing
statistics".
"""

import torch
from torch import Tensor

from cxrgan_fast.nn import ConditionalBatchNorm2d
from cxrgan_fast.runs.generator_file import GeneratorSnapshot

BATCHES = 32
"""Batches that the statistics are the mean of."""


@torch.no_grad()
def measure_statistics(snapshot: GeneratorSnapshot, latents: Tensor) -> None:
    """Replace the running statistics of a generator by those of these latents, in place.

    Every class counts as often as the others. A generator without batch norm stays as it is.

    Args:
        snapshot: the generator.
        latents: (N, latent_size) float32, N at least `BATCHES` times the number of classes.
    """
    generator = snapshot.generator
    norms = [each for each in generator.modules() if isinstance(each, ConditionalBatchNorm2d)]
    if not norms:
        return
    device = next(generator.parameters()).device
    labels = torch.arange(len(latents)) % len(snapshot.class_names)
    before = [norm.momentum for norm in norms]
    generator.train()
    for number, (part, classes) in enumerate(
        zip(latents.tensor_split(BATCHES), labels.tensor_split(BATCHES), strict=True)
    ):
        for norm in norms:
            norm.momentum = 1 / (number + 1)  # the mean of all batches so far
        generator(part.to(device), classes.to(device))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    generator.eval()
