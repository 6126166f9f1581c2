"""TorchXRayVision's network: its own features on weights of chance, and files that are not its."""

from __future__ import annotations

import sys
from unittest.mock import create_autospec

import numpy as np
import pytest
import safetensors.torch
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.extractor import extract_features
from cxrgan_fast.metrics.registry import load_extractor

CPU = torch.device("cpu")


def load(weights):
    text = None if weights is None else str(weights)
    return load_extractor("xrv", CPU, features_weights=text)


@pytest.fixture(scope="module")
def library():
    try:
        import torchxrayvision
    except Exception as error:  # a torchvision of another build of torch raises RuntimeError
        pytest.skip(f"needs torchxrayvision and a torchvision of the build of torch: {error}")
    return torchxrayvision


@pytest.fixture
def network(library):
    torch.manual_seed(0)
    network = library.models.DenseNet().eval()
    # As the published one is after loading.
    network.op_threshs = torch.full((18,), 0.5)
    return network


@pytest.mark.long
@pytest.mark.parametrize("file", ["w.pt", "w.safetensors"])
def test_the_features_are_the_librarys(library, network, tmp_path, file):
    path = tmp_path / file
    if path.suffix == ".pt":
        torch.save(network.state_dict(), path)
    else:
        safetensors.torch.save_file(network.state_dict(), path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 224, 224), dtype=np.uint8)
    extractor = load(path)
    found = extract_features(extractor, torch.from_numpy(pixels), CPU)
    theirs = np.stack([library.utils.normalize(image, 255) for image in pixels])
    assert theirs.min() >= -1024
    with torch.no_grad():
        wanted = network.features2(torch.from_numpy(theirs))
    assert wanted.std(0).max() > 1e-3
    torch.testing.assert_close(found.vectors, wanted, rtol=1e-4, atol=1e-4)
    assert found.vectors.shape == (2, extractor.dimension)
    assert found.probabilities is None


@pytest.mark.long
def test_the_version_is_that_of_the_weights_however_they_came(
    library, network, tmp_path, monkeypatch
):
    torch.save(network.state_dict(), tmp_path / "w.pt")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    version = load(tmp_path / "w.pt").version
    assert load(tmp_path / "w.safetensors").version == version
    # The published file is a whole network, which the library itself loads.
    network.op_threshs = None
    torch.save(network, tmp_path / "published.pt")
    fetch = create_autospec(library.models.get_weights, return_value=str(tmp_path / "published.pt"))
    monkeypatch.setattr(library.models, "get_weights", fetch)
    assert load("download").version == version
    fetch.assert_called_once_with("densenet121-res224-all", None)
    with torch.no_grad():
        network.features.norm5.bias.add_(1)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert load(tmp_path / "w.pt").version != version
    fetch.side_effect = OSError("no\nnetwork")
    with pytest.raises(UserError, match=r"res224-all cannot be downloaded \(no network\): give "):
        load("download")


@pytest.mark.parametrize("state", [{"weight": torch.ones(2)}, {1: 2}])
def test_weights_of_another_network_are_refused(library, tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"^--features-weights .*w\.pt: of another network \("):
        load(tmp_path / "w.pt")


# ------------------------------------------------------------------------ without torchxrayvision


def test_nothing_is_downloaded_unasked():
    with pytest.raises(UserError, match=r"--features xrv needs weights: .*--features-weights FILE"):
        load(None)


def test_a_missing_library_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchxrayvision", None)
    monkeypatch.delitem(sys.modules, "torchxrayvision.models", raising=False)
    torch.save({}, tmp_path / "w.pt")
    for weights in (tmp_path / "w.pt", "download"):
        with pytest.raises(
            UserError, match=r"needs torchxrayvision \(.*'cxrgan_fast\[backbones\]'"
        ):
            load(weights)


def test_a_torchvision_that_does_not_import_is_told(monkeypatch, tmp_path):
    (tmp_path / "torchxrayvision").mkdir()
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchxrayvision" / "__init__.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("torchxrayvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="a torchvision of the same build as torch"):
        load(tmp_path / "w.pt")


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran code')",)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "No such file"),
        ("folder", "it is not a file"),
        ("damaged", "damaged, or no tensors by name"),
        ("harmful", "damaged, or no tensors by name"),
        ("list", "damaged, or no tensors by name"),
        ("endless", "it is not a file"),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_files_are_refused(tmp_path, kind, reason, suffix):
    file = tmp_path / f"w.{suffix}"
    if kind == "folder":
        file.mkdir()
    elif kind == "damaged":
        file.write_bytes(b"\xff" * 100)
    elif kind == "harmful":
        torch.save({"weight": Harmful()}, file)
    elif kind == "list":
        torch.save([1, 2], file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=rf"^--features-weights .*w\.{suffix}: .*{reason}"):
        load(file)
