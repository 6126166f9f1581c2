"""The untrained network: the same weights always, and features that tell images apart."""

import torch

from cxrgan_fast.metrics.cxr import Cxr
from cxrgan_fast.metrics.random_network import RandomNetwork


def test_the_weights_do_not_depend_on_what_was_drawn_before() -> None:
    images = torch.rand(3, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    first = RandomNetwork().extract(images).vectors
    torch.rand(7)
    assert torch.equal(RandomNetwork().extract(images).vectors, first)


def test_features_neither_vanish_nor_explode_and_are_not_those_of_the_trained() -> None:
    images = torch.rand(4, 1, 128, 128, generator=torch.Generator().manual_seed(1))
    images[2:] = images[2:].mean((2, 3), keepdim=True)  # without detail
    vectors = RandomNetwork().extract(images).vectors
    assert 1e-2 < vectors.abs().max() < 1e3
    assert (vectors[0] - vectors[2]).norm() > 0.1 * vectors[0].norm()
    trained = Cxr().extract(images)
    assert not torch.allclose(trained.vectors, vectors, rtol=0.1, atol=0.1)
    assert RandomNetwork().extract(images).probabilities is None
