"""What follows from real images is computed once, and never taken for other ones."""

from unittest.mock import create_autospec

import pytest
import safetensors.torch
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.files import cache_folder
from cxrgan_fast.metrics import FeatureExtractor, Features, extract_features
from cxrgan_fast.metrics import cache as module
from cxrgan_fast.metrics.cache import features_of, threshold_of
from cxrgan_fast.metrics.copies import calibrate
from cxrgan_fast.metrics.pixels import Pixels

CPU = torch.device("cpu")


class Counting(FeatureExtractor):
    """Mean and deviation of the pixels, and how often they were asked for."""

    name, version, input_size, input_channels, dimension = "counting", "1", 16, 1, 2
    class_names = ("dark", "light")

    def __init__(self) -> None:
        self.calls = 0

    def extract(self, images: torch.Tensor) -> Features:
        self.calls += 1
        flat = images.flatten(1)
        mean = flat.mean(1)
        return Features(torch.stack([mean, flat.std(1)], 1), torch.stack([1 - mean, mean], 1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dataset() -> ImageDataset:
    return load_dataset("phantom", resolution=16, phantom_images=12, progress=False)


def changed(dataset: ImageDataset, **fields: object) -> ImageDataset:
    names = ("images", "labels", "class_names", "patients", "files", "name")
    return ImageDataset(**{**{name: getattr(dataset, name) for name in names}, **fields})


def test_the_second_time_nothing_is_computed(folder, dataset):
    extractor = Counting()
    first = features_of(dataset, extractor, CPU)
    second = features_of(dataset, extractor, CPU)
    assert extractor.calls == 1
    fresh = extract_features(Counting(), dataset.images, CPU)
    for features in (first, second):
        assert torch.equal(features.vectors, fresh.vectors)
        assert torch.equal(features.probabilities, fresh.probabilities)
    (file,) = folder.iterdir()
    assert file.suffix == ".safetensors"


def test_an_extractor_without_classifier(folder, dataset):
    first = features_of(dataset, Pixels(), CPU)
    second = features_of(dataset, Pixels(), CPU)
    assert torch.equal(first.vectors, second.vectors)
    assert second.probabilities is None


def test_anything_that_changes_the_features_is_another_file(folder, dataset, monkeypatch):
    extractor = Counting()
    features_of(dataset, extractor, CPU)
    images = dataset.images.clone()
    images[3, 0, 5, 5] ^= 1
    others = (
        changed(dataset, images=images),
        changed(dataset, labels=dataset.labels.flip(0)),
        changed(dataset, class_names=("normal", "viral")),
    )
    for calls, other in enumerate(others, start=2):
        features_of(other, extractor, CPU)
        assert extractor.calls == calls
    for calls, field in enumerate(("version", "name"), start=5):
        monkeypatch.setattr(extractor, field, "2")
        features_of(dataset, extractor, CPU)
        assert extractor.calls == calls
    monkeypatch.setattr(extractor, "input_size", 8)
    features_of(dataset, extractor, CPU)
    assert extractor.calls == 7
    monkeypatch.setattr(module, "INPUT_VERSION", 10**6)
    features_of(dataset, extractor, CPU)
    assert extractor.calls == 8
    assert len(list(folder.iterdir())) == 8


def test_without_cache_no_file_is_read_or_written(folder, dataset):
    extractor = Counting()
    features_of(dataset, extractor, CPU, cache=False)
    assert not folder.exists()
    features_of(dataset, extractor, CPU)
    features_of(dataset, extractor, CPU, cache=False)
    assert extractor.calls == 3


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _a_bit_fell_over(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def _foreign(content: bytes) -> bytes:
    return safetensors.torch.save({"vectors": torch.zeros(12, 2)}, {"key": "another"})


@pytest.mark.parametrize(
    "damage", [_half, _a_bit_fell_over, _foreign, lambda _: b"", lambda _: b"not a tensor" * 9]
)
def test_a_damaged_or_foreign_file_is_computed_anew_and_mended(folder, dataset, damage):
    extractor = Counting()
    whole = features_of(dataset, extractor, CPU)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = features_of(dataset, extractor, CPU)
    assert extractor.calls == 2
    mended = features_of(dataset, extractor, CPU)
    assert extractor.calls == 2
    for features in (again, mended):
        assert torch.equal(features.vectors, whole.vectors)


def test_an_extractor_of_another_dimension_under_the_same_version(folder, dataset, monkeypatch):
    extractor = Counting()
    features_of(dataset, extractor, CPU)
    monkeypatch.setattr(extractor, "dimension", 3)
    features_of(dataset, extractor, CPU)
    assert extractor.calls == 2


def test_a_folder_that_cannot_be_written_is_a_line_and_no_failure(
    tmp_path, monkeypatch, dataset, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "file"))
    features = features_of(dataset, Counting(), CPU)
    assert len(features) == 12
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"features are not kept: cannot write {tmp_path / 'file'}/features-")


def test_a_folder_in_the_place_of_the_file_is_a_line_too(folder, dataset, capsys):
    features_of(dataset, Counting(), CPU)
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    assert len(features_of(dataset, Counting(), CPU)) == 12
    assert "features are not kept" in capsys.readouterr().err
    assert [entry.name for entry in folder.iterdir()] == [file.name]


def test_the_folder_by_the_environment(tmp_path, monkeypatch):
    for name in ("CXRGAN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "cxrgan_fast"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cxrgan_fast"
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_what_has_no_version_is_never_kept(folder, dataset):
    extractor = Counting()
    extractor.is_versioned = False
    features_of(dataset, extractor, CPU)
    features_of(dataset, extractor, CPU)
    assert extractor.calls == 2
    assert not folder.exists()


def test_another_pytorch_gives_other_files(folder, dataset, monkeypatch):
    extractor = Counting()
    features_of(dataset, extractor, CPU)
    monkeypatch.setattr(torch, "__version__", "99.0")
    features_of(dataset, extractor, CPU)
    assert extractor.calls == 2


PATIENTS = torch.arange(12) // 2


@pytest.fixture
def calibrated(monkeypatch):
    """The real calibration, counted."""
    double = create_autospec(calibrate, side_effect=calibrate)
    monkeypatch.setattr(module, "calibrate", double)
    return double


def test_a_threshold_is_computed_once(folder, dataset, calibrated):
    first = threshold_of(dataset, PATIENTS, CPU)
    assert first == calibrate(dataset.images, PATIENTS)
    assert threshold_of(dataset, PATIENTS, CPU) == first
    assert calibrated.call_count == 1
    (file,) = folder.iterdir()
    assert file.name.startswith("copy-thresholds-")
    assert threshold_of(dataset, PATIENTS, CPU, cache=False) == first
    assert calibrated.call_count == 2
    assert list(folder.iterdir()) == [file]


def test_a_threshold_of_others_is_not_taken(folder, dataset, calibrated, monkeypatch):
    threshold_of(dataset, PATIENTS, CPU)
    images = dataset.images.clone()
    images[3, 0, 5, 5] ^= 1
    threshold_of(changed(dataset, images=images), PATIENTS, CPU)
    threshold_of(dataset, torch.arange(12) // 3, CPU)
    threshold_of(dataset, PATIENTS, CPU, seed=1)
    assert calibrated.call_count == 4
    for calls, name in enumerate(("SEARCH_VERSION", "INPUT_VERSION"), start=5):
        monkeypatch.setattr(module, name, 10**6)
        threshold_of(dataset, PATIENTS, CPU)
        assert calibrated.call_count == calls
    for calls, (name, value) in enumerate((("FALSE_RATE", 0.4), ("MOST_CALIBRATED", 4)), start=7):
        monkeypatch.setattr(module.copies, name, value)
        threshold_of(dataset, PATIENTS, CPU)
        assert calibrated.call_count == calls
    monkeypatch.setattr(torch, "__version__", "99.0")
    threshold_of(dataset, PATIENTS, CPU)
    assert calibrated.call_count == 9


@pytest.mark.parametrize("damage", [_half, _a_bit_fell_over, _foreign, lambda _: b""])
def test_a_damaged_threshold_is_computed_anew_and_mended(folder, dataset, calibrated, damage):
    whole = threshold_of(dataset, PATIENTS, CPU)
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(2):
        assert threshold_of(dataset, PATIENTS, CPU) == whole
        assert calibrated.call_count == 2


def test_a_threshold_that_cannot_be_kept_is_a_line(tmp_path, monkeypatch, dataset, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "file"))
    assert threshold_of(dataset, PATIENTS, CPU) == calibrate(dataset.images, PATIENTS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("copy-thresholds are not kept: cannot write")
