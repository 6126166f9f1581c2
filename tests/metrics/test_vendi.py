"""Vendi Score: the definition, the authors' numbers, and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.vendi import vendi_score


def _by_definition(vectors: Tensor) -> float:
    """Definition 3.1 with scikit-learn's similarities and SciPy's eigenvalues."""
    similar = cosine_similarity(vectors.double().numpy())
    np.fill_diagonal(similar, 1)
    eigenvalues = scipy.linalg.eigvalsh(similar / len(vectors))
    eigenvalues = eigenvalues[eigenvalues > 1e-14]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


@pytest.mark.parametrize(("count", "dimension"), [(40, 7), (20, 90)])
def test_the_definition(count: int, dimension: int) -> None:
    real, fake = torch.randn(count + 5, dimension), torch.randn(count, dimension) + 0.5
    found = vendi_score(real, fake)
    assert found.value == pytest.approx(_by_definition(fake), rel=1e-9)
    assert found.details["of_real"] == pytest.approx(_by_definition(real), rel=1e-9)
    assert (found.n_real, found.n_fake) == (count + 5, count)
    assert found.details["dimension"] == dimension


def test_the_authors_numbers() -> None:
    # vendi_score 0.0.3: vendi.score_dual(X) and vendi.score_X(X) of this X.
    x = torch.arange(24, dtype=torch.float64).reshape(6, 4).remainder(7) + 0.25
    assert vendi_score(x, x).value == pytest.approx(2.267386700480895, rel=1e-9)


def test_limits() -> None:
    copies = torch.randn(1, 5).expand(9, -1).contiguous()
    assert vendi_score(copies, copies).value == pytest.approx(1)
    assert vendi_score(copies, torch.eye(7, 9)[:, :5]).value == pytest.approx(7)  # two are zeros
    assert vendi_score(copies, torch.eye(5).repeat(3, 1)).value == pytest.approx(5)


def test_standard_errors_are_those_of_fresh_draws() -> None:
    values, errors = [], []
    for draw in range(60):
        fake = torch.randn(80, 6) * torch.tensor([3.0, 1, 1, 1, 1, 1])
        resamples = Resamples.draw(80, 80, seed=draw) if draw < 10 else None
        found = vendi_score(fake, fake, resamples=resamples)
        values.append(found.value)
        if resamples is not None:
            errors.append(found.standard_error)
            assert found.details["resamples"] == 100
    ratio = np.mean(errors) / np.std(values, ddof=1)
    assert 0.7 < ratio < 1.5, ratio


def test_resamples_are_cut_where_they_are_dear() -> None:
    fake = torch.randn(600, 700)
    found = vendi_score(fake[:4], fake, resamples=Resamples.draw(4, 600, count=60))
    assert found.details["resamples"] == 10


def test_no_images() -> None:
    with pytest.raises(UserError, match="Vendi Score: expected 1 images or more"):
        vendi_score(torch.randn(4, 2), torch.randn(0, 2))
