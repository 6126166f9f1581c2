"""Inception Score: whether a classifier is sure of each image, and unsure of them all together.

    IS = exp(mean of KL(p(y|x) ‖ p(y)))

p(y) is the mean of p(y|x) over the images. Salimans et al., Improved Techniques for Training GANs,
2016, section 4. It is 1 where the classifier says the same of every image and K where it is sure of
each and all K classes are equally frequent.

It knows no real images, and of a classifier of K classes it says little more than whether the
generated ones are told apart by it. It is biased upwards by about 1/n (Chong and Forsyth, 2020),
and is therefore labelled by the size of its splits.
"""

import numpy as np
import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.metric import Metric, Sets, register

SPLITS = 10
_SUM_TOLERANCE = 1e-3  # of a row of probabilities: softmax in half precision


def inception_score(
    probabilities: Tensor,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    resamples: Resamples | None = None,
) -> Estimate:
    """Compute the mean Inception Score over splits of the generated images.

    Args:
        probabilities: (M, K), p(y|x) of M generated images; M at least twice `splits`, since the
            score of one image is 1 whatever it shows.
        splits: equal parts of the images, up to one more in some, each scored on its own.
        seed: random seed of the order in which images are split: as generated they are ordered by
            class.
        resamples: resamples of the generated images, for the standard error.

    Returns:
        The score, from 1 to K, with `n_real` 0. `details` has the number of `classes` K, of
        `splits`, their `split_size` (the smallest), the standard `deviation` over them (divided by
        their number, as in the paper's code), and the score of `all_images` as one split.

    Raises:
        UserError: there are too few images.
        ValueError: these are not probabilities, or `splits` is less than 1.
    """
    if splits < 1:
        raise ValueError(f"splits: expected 1 or more, got {splits}")
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities: expected (M, K), got {tuple(probabilities.shape)}")
    n, classes = probabilities.shape
    if n < 2 * splits:
        raise UserError(
            f"Inception Score: expected {2 * splits} generated images or more for {splits} splits, "
            f"got {n}; generate more"
        )
    rows = probabilities.double()
    off = (rows.sum(1) - 1).abs().max()
    if not (rows.min() >= 0 and off <= _SUM_TOLERANCE):
        raise ValueError(
            "probabilities: expected rows of numbers from 0 that sum to 1, got numbers from "
            f"{float(rows.min()):g} and a sum {float(off):g} off"
        )
    rows = rows / rows.sum(1, keepdim=True)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(rows.device)
    parts = torch.tensor_split(order, splits)
    counts = torch.ones(1, n, dtype=torch.float64, device=rows.device)
    of_splits = _scores(rows, counts, parts)[0]
    error = None
    if resamples is not None:
        # A part of which a resample drew no image has no score in it.
        of_resamples = _scores(rows, resamples.fake.to(rows), parts)
        error = standard_error(of_resamples.nanmean(1))
    details = {
        "classes": classes,
        "splits": splits,
        "split_size": len(parts[-1]),
        "deviation": float(of_splits.std(correction=0)),
        "all_images": float(_scores(rows, counts, (order,))[0, 0]),
    }
    return Estimate(float(of_splits.mean()), 0, n, error, details)


def _scores(rows: Tensor, counts: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    """The score (B, S) of each part of the images, by row of counts (B, M); NaN if nobody is in."""
    entropies = -torch.xlogy(rows, rows).sum(1)  # (M,), with 0 log 0 = 0
    scores = []
    for part in parts:
        share = counts[:, part] / counts[:, part].sum(1, keepdim=True)  # (B, m)
        marginal = share @ rows[part]  # (B, K), p(y)
        # The mean divergence is the entropy of p(y) less the mean entropy of p(y|x): at least 0,
        # but for rounding.
        divergence = -torch.xlogy(marginal, marginal).sum(1) - share @ entropies[part]
        scores.append(divergence.clamp(min=0).exp())
    return torch.stack(scores, 1)


def _of_sets(sets: Sets) -> Estimate:
    assert sets.fake.probabilities is not None  # else the record's `takes` has refused
    return inception_score(sets.fake.probabilities, seed=sets.seed, resamples=sets.resamples)


register(
    Metric(
        name="inception_score",
        title="Inception Score",
        better="higher",
        takes="probabilities",
        function=_of_sets,
        fewest=(0, 2 * SPLITS),
        place=40,
    )
)
