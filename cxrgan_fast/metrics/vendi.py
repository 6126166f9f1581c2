"""Vendi Score: how many different images there are, in effect.

D. Friedman and A. B. Dieng, "The Vendi Score: a diversity evaluation metric for machine learning",
TMLR 2023, definition 3.1. With the similarities K of n images, ones on its diagonal,

    VS = exp(−Σ λᵢ log λᵢ)        λᵢ: eigenvalues of K/n

It is 1 where all images are the same and n where none resembles another. The similarity is the
cosine of two feature vectors, as in the paper's section on images. The eigenvalues of K/n that are
not 0 are those of XᵀX/n, X the vectors at unit length, whichever matrix is smaller.

It knows no real images: a generator of noise may score high. The score of the real ones is in the
details, and has a row of its own in the tables. It grows with the number of images, and is
comparable at equal numbers only. Features whose cosines are all large (those of `cxr`, which are
never negative) give small scores; what differs between the two sets is what counts.
"""

import torch
from torch import Tensor

from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.fid import require_vectors
from cxrgan_fast.metrics.metric import Detail, Metric, register

# Resamples are cut to what this many floating-point operations pay for, half a second on two cores,
# but not below ten: 33 of 1,000 images in 256 dimensions, 10 in 2,048.
_BOOTSTRAP_BUDGET = 1e10
_FEWEST_RESAMPLES = 10


def vendi_score(real: Tensor, fake: Tensor, *, resamples: Resamples | None = None) -> Estimate:
    """Compute the Vendi Score of generated images (Friedman and Dieng 2023, definition 3.1).

    A vector of zeros, which has no direction, is similar to nothing but itself.

    Args:
        real: (N, D) features of real images, float32.
        fake: (M, D) features of generated images, float32.
        resamples: for the standard error. A resample holds images twice and scores less, so that
            its mean is below the value; its spread is that of fresh images.

    Returns:
        The score, 1 to M. `details`: `of_real`, that of the real images, and `dimension`; with
        resamples, `resamples`, how many were used.

    Raises:
        UserError: a set is empty, or has features that are not finite.
        ValueError: the shapes do not go together.
    """
    require_vectors("Vendi Score", real, fake, least=1)
    ones = torch.ones(1, 1, dtype=torch.float64, device=fake.device)
    value = float(_scores(fake, ones.expand(1, len(fake)))[0])
    of_real = float(_scores(real, ones.expand(1, len(real)))[0])
    details: dict[str, float | int] = {"of_real": of_real, "dimension": fake.shape[1]}
    error = None
    if resamples is not None:
        n, dimension = len(fake), fake.shape[1]
        side = min(n, dimension)
        cost = 2 * n * dimension * side + 10 * side**3
        used = max(_FEWEST_RESAMPLES, int(_BOOTSTRAP_BUDGET // cost))
        scores = _scores(fake, resamples.fake[:used])
        error = standard_error(scores)
        details["resamples"] = len(scores)
    return Estimate(value, len(real), len(fake), error, details)


def _scores(vectors: Tensor, counts: Tensor) -> Tensor:
    """The score for each row of counts, (B,)."""
    rows = vectors.double()
    lengths = rows.norm(dim=1)
    units = rows / torch.where(lengths > 0, lengths, 1.0)[:, None]
    alone = lengths == 0
    scores = []
    for weights in counts:
        share = weights / weights.sum()
        weighted = units * share.sqrt()[:, None]
        small = weighted.shape[0] <= weighted.shape[1]
        gram = weighted @ weighted.T if small else weighted.T @ weighted
        # Vectors of zeros are eigenvectors of their own, each with its share as eigenvalue.
        eigenvalues = torch.cat([torch.linalg.eigvalsh(gram).clamp(min=0), share[alone]])
        scores.append(torch.exp(-torch.xlogy(eigenvalues, eigenvalues).sum()))
    return torch.stack(scores)


register(
    Metric(
        name="vendi",
        title="Vendi Score",
        better="higher",
        takes="features",
        function=lambda sets: vendi_score(*sets.vectors, resamples=sets.resamples),
        needs_equal_sizes=True,
        details=(Detail("of_real", "of the real images"),),
        place=85,
    )
)
