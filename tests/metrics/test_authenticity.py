"""Authenticity: the definition, its limits, and errors that fresh draws confirm."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Resamples
from cxrgan_fast.metrics.authenticity import authenticity
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.metric import Sets, all_metrics
from cxrgan_fast.metrics.strata import Grouping, Strata


def _by_definition(real: Tensor, fake: Tensor) -> float:
    """Section 4.3 with scikit-learn's neighbors."""
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(real.double().numpy())
    own = search.kneighbors()[0][:, 0]  # without arguments it leaves one out
    distances, rows = search.kneighbors(fake.double().numpy())
    return float((distances[:, 0] > own[rows[:, 0]]).mean())


@pytest.mark.parametrize("dimension", [1, 6, 40])
def test_the_definition(dimension: int) -> None:
    real, fake = torch.randn(130, dimension), torch.randn(90, dimension) * 0.9 + 0.1
    assert authenticity(real, fake).value == _by_definition(real, fake)


def test_a_case_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0]])  # nearest other: 1, 1, 2
    fake = torch.tensor([[-1.5], [-1.0], [0.4], [4.0], [6.0]])
    found = authenticity(real, fake)  # only −1.5 and 6 are farther than that; −1 is as far
    assert (found.value, found.n_real, found.n_fake) == (2 / 5, 3, 5)
    assert found.standard_error is None


def test_copies_are_never_authentic_and_noise_always() -> None:
    real = torch.randn(50, 8)
    assert authenticity(real, real.flip(0)).value == 0
    assert authenticity(real, real + 100).value == 1
    half = torch.cat([real[:25], torch.randn(25, 8) + 100])
    assert authenticity(real, half).value == 0.5
    # An image that the real ones have twice: its copy is as near as their own neighbor.
    assert authenticity(torch.zeros(4, 3), torch.zeros(4, 3)).value == 0


def test_the_own_patient_is_no_neighbor() -> None:
    """Two images of each patient: a quarter apart from each other, 4 apart from the others."""
    real = torch.tensor([[0.0], [0.25], [4.0], [4.25], [8.0], [8.25]])
    fake = torch.tensor([[-1.0], [-5.0], [4.1], [20.0]])
    patients = torch.tensor([0, 0, 7, 7, 3, 3])
    resamples = Resamples.draw(6, 4, count=30)
    assert authenticity(real, fake).value == 3 / 4
    found = authenticity(real, fake, patients=patients, resamples=resamples)
    assert found.value == 2 / 4
    assert found.standard_error > 0
    strata = Strata(Grouping.of(6, patients=patients), Grouping.of(4))
    sets = Sets(Features(real, None), Features(fake, None), strata=strata)
    assert all_metrics()["authenticity"].compute(sets).value == 2 / 4
    with pytest.raises(UserError, match="all 6 real images are of one patient"):
        authenticity(real, fake, patients=torch.zeros(6, dtype=torch.int64))


def test_standard_errors_are_those_of_fresh_draws() -> None:
    values, errors = [], []
    for draw in range(120):
        real, fake = torch.randn(150, 6), torch.randn(150, 6) * 0.9
        resamples = Resamples.draw(150, 150, seed=draw) if draw < 10 else None
        found = authenticity(real, fake, resamples=resamples)
        values.append(found.value)
        if resamples is not None:
            errors.append(found.standard_error)
    ratio = np.mean(errors) / np.std(values, ddof=1)
    assert 0.7 < ratio < 1.6, ratio


def test_too_few_images() -> None:
    with pytest.raises(UserError, match="authenticity: expected 2 images or more"):
        authenticity(torch.randn(1, 2), torch.randn(4, 2))
