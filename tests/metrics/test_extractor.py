"""Feature extractors: what reaches them, what they give, and what a user may do wrong."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.extractor import Features, extract_features, extractor_input
from cxrgan_fast.metrics.registry import extractor_names, load_extractor

CPU = torch.device("cpu")


def images(n: int = 5, channels: int = 1, size: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


# ---------------------------------------------------------------------------------- preparation


@pytest.mark.parametrize("size", [16, 32, 128])
def test_resizing_is_pillows_antialiased_bicubic(size):
    (image,) = images(1)
    ours = extractor_input(image[None], size, 1)[0, 0].numpy()
    theirs = Image.fromarray(image[0].numpy().astype(np.float32), "F")
    theirs = np.asarray(theirs.resize((size, size), Image.Resampling.BICUBIC)) / 255
    np.testing.assert_allclose(ours, theirs.clip(0, 1), atol=2e-6)


def test_a_fine_pattern_becomes_gray_rather_than_moire():
    stripes = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    # Away from the borders, where the filter is cut off.
    assert (extractor_input(stripes, 16, 1)[..., 2:-2] - 0.5).abs().max() < 0.02


def test_channels():
    rgb = images(2, 3)
    gray = extractor_input(rgb, None, 1)
    torch.testing.assert_close(gray, rgb.float().mean(1, keepdim=True) / 255)
    torch.testing.assert_close(extractor_input(rgb, None, 3), rgb / 255)
    assert extractor_input(images(2), None, 3).shape == (2, 3, 64, 64)


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match=r"expected torch.uint8, got torch.float32"):
        extractor_input(torch.rand(1, 1, 8, 8), 8, 1)
    with pytest.raises(ValueError, match=r"got \(1, 2, 8, 8\)"):
        extractor_input(torch.zeros(1, 2, 8, 8, dtype=torch.uint8), 8, 1)


# --------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("name", ["cxr", "cxr_ssl", "pixels", "random"])
def test_features_are_as_stated(name):
    extractor = load_extractor(name, CPU)
    found = extract_features(extractor, images(7), CPU, batch_size=3)
    assert found.vectors.shape == (7, extractor.dimension)
    assert found.vectors.dtype == torch.float32
    if extractor.class_names:
        assert found.probabilities.shape == (7, len(extractor.class_names))
        torch.testing.assert_close(found.probabilities.sum(1), torch.ones(7))
    else:
        assert found.probabilities is None
    again = extract_features(extractor, images(7)[[4, 2]], CPU)
    torch.testing.assert_close(again.vectors, found.vectors[[4, 2]], rtol=1e-5, atol=1e-5)
    found.vectors.add_(1)  # no inference tensor, which nothing may write to


@pytest.mark.parametrize("name", ["cxr", "cxr_ssl", "random"])
def test_a_network_computes_in_float32_proper(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = set()

    def note(*_):
        seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))

    with nn.modules.module.register_module_forward_hook(note):
        extract_features(load_extractor(name, CPU), images(1), CPU)
    assert seen == {(False, True)}
    assert torch.backends.cudnn.allow_tf32  # as it was


def test_some_of_the_features():
    vectors, probabilities = torch.rand(4, 3), torch.rand(4, 2)
    some = Features(vectors, probabilities)[torch.tensor([2, 0])]
    assert len(some) == 2
    assert torch.equal(some.vectors, vectors[[2, 0]])
    assert torch.equal(some.probabilities, probabilities[[2, 0]])
    assert Features(vectors)[1:].probabilities is None


def test_no_images():
    with pytest.raises(UserError, match="there are no images"):
        extract_features(load_extractor("pixels", CPU), images(0), CPU)


def test_features_that_are_not_numbers_are_counted(tmp_path):
    file = tmp_path / "f.py"
    file.write_text("def f(x):\n    y = x.flatten(1)\n    y[1:3] /= 0 * y[1:3]\n    return y\n")
    with pytest.raises(UserError, match=r"features of 2 of 5 images are not numbers"):
        extract_features(load_extractor(f"{file}:f", CPU), images(5, size=8), CPU)


# ---------------------------------------------------------------------------------------- inception


@pytest.fixture
def fidelity(monkeypatch):
    """A torch-fidelity whose network is small; it loads weights as the real one does."""

    class Network(nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path=None):
            super().__init__()
            assert features_list == ["2048", "logits_unbiased"]
            self.scale = nn.Parameter(torch.ones(2048))
            if feature_extractor_weights_path is None:
                raise OSError("no network")
            self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))
            self.requires_grad_(False)

        def forward(self, x):
            assert x.dtype == torch.uint8
            assert x.shape[1:] == (3, 299, 299)
            mean = x.float().mean((1, 2, 3))[:, None]
            return mean * self.scale, torch.zeros(len(x), 1008)

    package = types.ModuleType("torch_fidelity")
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Network
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_inception_reads_weights_from_a_file(fidelity, tmp_path):
    import hashlib

    file = tmp_path / "w.pth"
    torch.save({"scale": torch.full((2048,), 2.0)}, file)
    extractor = load_extractor("inception", CPU, inception_weights=file)
    assert extractor.version == hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    white = torch.full((2, 1, 16, 16), 255, dtype=torch.uint8)
    found = extract_features(extractor, white, CPU)
    torch.testing.assert_close(found.vectors, torch.full((2, 2048), 510.0))
    torch.testing.assert_close(found.probabilities, torch.full((2, 1008), 1 / 1008))


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran code')",)


@pytest.mark.parametrize("kind", ["missing", "damaged", "harmful", "other"])
def test_inception_refuses_other_files(fidelity, tmp_path, kind):
    file = tmp_path / "w.pth"
    if kind == "damaged":
        file.write_bytes(b"not weights")
    elif kind == "harmful":
        torch.save({"scale": Harmful()}, file)
    elif kind == "other":
        torch.save({"weight": torch.ones(2)}, file)
    with pytest.raises(UserError, match=r"w\.pth: (No such file|damaged|not the weights)"):
        load_extractor("inception", CPU, inception_weights=file)


def test_inception_without_a_network_to_download_from(fidelity):
    with pytest.raises(UserError, match="--inception-weights FILE"):
        load_extractor("inception", CPU)


def test_inception_without_torch_fidelity(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install 'cxrgan_fast\[inception\]'"):
        load_extractor("inception", CPU)


def test_inception_with_a_torchvision_that_does_not_import(monkeypatch, tmp_path):
    (tmp_path / "torch_fidelity").mkdir()
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torch_fidelity" / "__init__.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("torch_fidelity")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="a torchvision of the same build as torch"):
        load_extractor("inception", CPU)


# ------------------------------------------------------------------------------------- a user's own

OWN = """
import torch
from cxrgan_fast.metrics import FeatureExtractor, Features

def moments(images):
    return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], 1)

class Halves(FeatureExtractor):
    name, version, input_size, input_channels, dimension = "halves", "1", 8, 3, 2
    class_names = ("a", "b")
    def extract(self, images):
        return Features(images[:, 0, :2, 0], torch.full((len(images), 2), 0.5))

ready = Halves()
number = 3
def wrong_shape(images): return images
def wrong_count(images): return images.flatten(1)[:1]
def wrong_type(images): return [1]
def fails(images): raise KeyError("x")
class WrongWidth(Halves):
    dimension = 5
class WrongHeads(Halves):
    class_names = ("a",)
class Unfinished(FeatureExtractor):
    pass
class NoVersion(FeatureExtractor):
    name, input_size, input_channels, dimension = "n", 8, 1, 2
    def extract(self, images):
        return Features(images[:, 0, :2, 0])
class NoNumbers(Halves):
    def extract(self, images):
        return Features(images[:, 0, :2, 0], torch.full((len(images), 2), torch.nan))
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return lambda name: load_extractor(f"{file}:{name}", CPU)


def test_a_function_of_images(own):
    extractor = own("moments")
    batch = images(4, 3, 20)
    found = extract_features(extractor, batch, CPU)
    gray = batch.float().mean(1) / 255
    torch.testing.assert_close(found.vectors[:, 0], gray.mean((1, 2)))
    assert extractor.name == "own.py:moments"
    assert len(extractor.version) == 8
    assert not extractor.is_versioned


@pytest.mark.parametrize("name", ["Halves", "ready"])
def test_an_extractor(own, name):
    extractor = own(name)
    assert (extractor.input_size, extractor.dimension, extractor.class_names) == (8, 2, ("a", "b"))
    assert extractor.version.endswith("-1")  # its own, after the hash of the file
    assert extractor.is_versioned
    found = extract_features(extractor, images(3), CPU)
    assert found.vectors.shape == found.probabilities.shape == (3, 2)


def test_another_file_is_another_version(own, tmp_path):
    version = own("moments").version
    (tmp_path / "own.py").write_text(OWN + "\n")
    assert own("moments").version != version


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("moment", "defines no moment; did you mean 'moments'?"),
        ("number", "expected a FeatureExtractor or a function of images, got int"),
        ("Unfinished", "Can't instantiate abstract class"),
        ("wrong_shape", r"features: expected \(2, D\), got a tensor of shape \(2, 1, 64, 64\)"),
        ("wrong_count", r"expected \(2, D\), got a tensor of shape \(1, "),
        ("wrong_type", r"expected \(2, D\), got list"),
        ("WrongWidth", r"features: expected \(2, 5\), got a tensor of shape \(2, 2\)"),
        ("WrongHeads", r"probabilities: expected \(2, 1\), got a tensor of shape \(2, 2\)"),
        ("fails", "own.py:fails: KeyError: 'x'"),
        ("NoVersion", "NoVersion has no version: set one"),
        ("NoNumbers", "features of 2 of 2 images are not numbers"),
    ],
)
def test_faults_in_a_users_file_are_told(own, name, told):
    with pytest.raises(UserError, match=told):
        extract_features(own(name), images(2), CPU)


def test_files_that_cannot_be_run(tmp_path):
    with pytest.raises(UserError, match=r"no\.py: No such file"):
        load_extractor(f"{tmp_path}/no.py:f", CPU)
    file = tmp_path / "bad.py"
    file.write_text("def f(:")
    with pytest.raises(UserError, match="SyntaxError"):
        load_extractor(f"{file}:f", CPU)
    file.write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        load_extractor(f"{file}:f", CPU)
    file.write_text("None.x")  # an AttributeError that is not about the name
    with pytest.raises(UserError, match="has no attribute 'x'"):
        load_extractor(f"{file}:f", CPU)


# ---------------------------------------------------------------------------------------- the names


def test_an_unknown_name():
    with pytest.raises(UserError, match=r"--features pixel: expected .*; did you mean 'pixels'\?"):
        load_extractor("pixel", CPU)
    assert "cxr" in extractor_names()


def test_weights_for_another_extractor():
    with pytest.raises(UserError, match="--inception-weights is for --features inception, got cxr"):
        load_extractor("cxr", CPU, inception_weights=Path("w.pth"))
