"""MMD with a Gaussian kernel: sums over pairs as the papers write them, and closed forms."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.mmd import median_distance, mmd


def _by_definition(real: np.ndarray, fake: np.ndarray, bandwidth: float) -> float:
    """Lemma 6 of Gretton et al. 2012, with scikit-learn's kernel."""
    gamma = 1 / (2 * bandwidth**2)
    n, m = len(real), len(fake)
    within = [rbf_kernel(side, gamma=gamma) for side in (real, fake)]
    terms = [
        (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
        for kernel, size in zip(within, (n, m), strict=True)
    ]
    return sum(terms) - 2 * rbf_kernel(real, fake, gamma=gamma).mean()


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_definition(offset: float) -> None:
    real = torch.randn(70, 9).double() + offset
    fake = torch.randn(50, 9).double() * 1.3 + 0.4 + offset
    found = mmd(real, fake)
    bandwidth = float(np.median(pdist(real.numpy())))
    assert found.details["bandwidth"] == pytest.approx(bandwidth, rel=1e-2)
    expected = _by_definition(real.numpy(), fake.numpy(), found.details["bandwidth"])
    assert found.value == pytest.approx(expected, rel=1e-8)
    assert found.details["dimension"] == 9


def test_the_number_of_the_paper() -> None:
    real, fake = torch.randn(40, 6).double(), torch.randn(60, 6).double() + 0.5
    units = [
        side.numpy() / np.linalg.norm(side.numpy(), axis=1, keepdims=True) for side in (real, fake)
    ]
    expected = 1000 * _by_definition(units[0], units[1], 10.0)
    assert mmd(real, fake).details["cmmd"] == pytest.approx(expected, rel=1e-8)


def test_gaussians_of_known_discrepancy() -> None:
    # Of N(a, s²I) and N(b, s²I): E k = (σ²/(σ² + 2s²))^(D/2) exp(−|a − b|²/2(σ² + 2s²)).
    dimension, shift = 3, 1.0
    real, fake = torch.randn(3000, dimension), torch.randn(3000, dimension)
    fake[:, 0] += shift
    found = mmd(real, fake)
    spread = found.details["bandwidth"] ** 2 + 2
    top = (found.details["bandwidth"] ** 2 / spread) ** (dimension / 2)
    expected = 2 * top * (1 - np.exp(-(shift**2) / (2 * spread)))
    assert found.value == pytest.approx(expected, rel=0.15)


def test_it_is_unbiased_and_its_error_that_of_fresh_draws() -> None:
    values, errors = [], []
    same = []
    for draw in range(80):
        real, fake = torch.randn(80, 5), torch.randn(80, 5) + 0.4
        resamples = Resamples.draw(80, 80, seed=draw) if draw < 10 else None
        found = mmd(real, fake, resamples=resamples)
        values.append(found.value)
        same.append(mmd(real, torch.randn(80, 5)).value)
        if resamples is not None:
            errors.append(found.standard_error)
    assert 0.7 < np.mean(errors) / np.std(values, ddof=1) < 1.5
    assert min(same) < 0 < max(same)
    assert abs(np.mean(same)) < 4 * np.std(same, ddof=1) / np.sqrt(80)


def test_the_median_distance_is_scipys() -> None:
    vectors = torch.randn(31, 4).double()  # 465 pairs: an odd number has one median
    assert median_distance(vectors) == pytest.approx(np.median(pdist(vectors.numpy())))
    more = torch.randn(900, 700)  # several blocks
    theirs = cdist(more.double().numpy(), more.double().numpy())
    theirs = np.median(theirs[np.triu_indices(900, 1)])
    assert median_distance(more) == pytest.approx(theirs, rel=1e-4)


def test_what_it_cannot_be_computed_of() -> None:
    with pytest.raises(UserError, match="MMD: expected 2 images or more"):
        mmd(torch.randn(1, 2), torch.randn(4, 2))
    copies: Tensor = torch.randn(1, 300).expand(6, -1).contiguous() * 100
    with pytest.raises(UserError, match="leave repeated images out"):
        mmd(copies, torch.randn(4, 300))
