"""The classifiers' networks: shapes at each resolution, and torchvision's where it is installed."""

import sys

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.networks import SmallNetwork, build_classifier


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 3), (64, 1), (128, 1)])
def test_logits_come_of_images_of_any_size(resolution: int, channels: int) -> None:
    network = build_classifier("small", resolution, channels, 3, 0.3)
    logits = network(torch.rand(2, channels, resolution, resolution))
    assert logits.shape == (2, 3)
    assert logits.dtype == torch.float32


def test_small_images_are_halved_once_less() -> None:
    sizes = [SmallNetwork(size, 1, 2, 0.0).body(torch.rand(1, 1, size, size)).shape[2]
             for size in (32, 64, 128)]  # fmt: skip
    assert sizes == [4, 4, 8]


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_torchvision_s_networks_take_one_channel(name: str) -> None:
    try:
        network = build_classifier(name, 32, 1, 2, 0.5)
    except UserError as error:  # the next test says which error
        pytest.skip(str(error))
    logits = network(torch.rand(2, 1, 32, 32))
    assert logits.shape == (2, 2)
    assert len([each for each in network.modules() if isinstance(each, torch.nn.Dropout)]) == 1


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_without_torchvision_they_name_the_extra(monkeypatch, name: str) -> None:
    for module in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"needs torchvision .*cxrgan_fast\[torchvision\]"):
        build_classifier(name, 32, 1, 2, 0.5)
