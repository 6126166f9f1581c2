"""Authenticity: is a generated image farther from its nearest real one than real images are?

A. M. Alaa, B. van Breugel, E. Saveliev and M. van der Schaar, "How faithful is your synthetic data?
Sample-level metrics for evaluating and auditing generative models", ICML 2022, section 4.3. Of each
generated image Y_j let X be the nearest real image. Y_j counts as authentic if

    d(Y_j, X) > the distance of X to the nearest other real image

and authenticity is the share of authentic images. Copies are never authentic: of a generator that
gives nothing else it is 0. Two sets of one distribution are well below 1, half at most in few
dimensions, and images that resemble nothing have 1: it is no measure of quality, and is held
against the floor. The nearest other real image is sought among those of other patients: two images
of one patient are near each other, and the closest look at one patient would be no bar at all.

The program that the authors publish takes the nearest generated image of each real one instead.
Here it is as the paper defines it, image by generated image, as in dgm-eval's AuthPct (Stein et al.
2023).
"""

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Metric, register
from cxrgan_fast.metrics.neighbors import nearest_drawn, nearest_neighbors

MIN_IMAGES = 2  # for a nearest other real image
_LISTED = 12  # of the nearest real images, how many a resample is tried with: 0.37¹² is 7e-6


def authenticity(
    real: Tensor,
    fake: Tensor,
    *,
    resamples: Resamples | None = None,
    patients: Tensor | None = None,
) -> Estimate:
    """Compute the share of authentic images, 0 to 1 (Alaa et al. 2022, section 4.3).

    In a resample the nearest real image is that of the images drawn, and so is its own neighbor,
    copies counting once.

    Args:
        real: (N, D) features of real images, float32.
        fake: (M, D) features of generated images, float32.
        resamples: for the standard error.
        patients: (N,) int64, patient of each real image; None where each is of its own.

    Raises:
        UserError: a set has fewer than 2 images, or features that are not finite; or all real
            images are of one patient.
        ValueError: the shapes do not go together.
    """
    require_vectors("authenticity", real, fake, least=MIN_IMAGES)
    if patients is None:
        patients = torch.arange(len(real), device=real.device)
    others = len(real) - int(torch.unique(patients, return_counts=True)[1].max())
    if others == 0:
        raise UserError(
            f"authenticity: all {len(real)} real images are of one patient, so that none has a "
            "neighbor of another patient; give images of others"
        )
    listed = 1 if resamples is None else _LISTED
    to_real = nearest_neighbors(fake, real, min(listed, len(real)))
    within = nearest_neighbors(
        real, real, min(listed, others), query_groups=patients, candidate_groups=patients
    )
    authentic = to_real.distances[:, 0] > within.distances[to_real.rows[:, 0], 0]
    value = float(authentic.double().mean())
    if resamples is None:
        return Estimate(value, len(real), len(fake))
    shares = []
    for real_counts, fake_counts in zip(resamples.real, resamples.fake, strict=True):
        drawn = real_counts > 0
        place = drawn[to_real.rows].to(torch.uint8).argmax(1, keepdim=True)  # the nearest drawn
        nearest = to_real.rows.gather(1, place)[:, 0]
        own = nearest_drawn(within, 1, drawn)[nearest]
        authentic = to_real.distances.gather(1, place)[:, 0] > own
        shares.append((authentic * fake_counts).sum() / fake_counts.sum())
    return Estimate(value, len(real), len(fake), standard_error(torch.stack(shares)))


register(
    Metric(
        name="authenticity",
        title="authenticity",
        better="higher",
        takes="features",
        function=lambda sets: authenticity(
            *sets.vectors,
            resamples=sets.resamples,
            patients=None if sets.strata is None else sets.strata.real.patients,
        ),
        fewest=(MIN_IMAGES, MIN_IMAGES),
        needs_equal_sizes=True,
        place=66,
    )
)
