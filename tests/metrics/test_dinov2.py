"""DINOv2 and RAD-DINO: small networks of their kind, in the form in which theirs are published."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import safetensors.torch
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.extractor import extract_features
from cxrgan_fast.metrics.registry import load_extractor, load_extractors
from evaluations import fid, read, write_images

CPU = torch.device("cpu")
SIDES = {"dinov2": 224, "rad-dino": 518}
MEANS = {"dinov2": [0.485, 0.456, 0.406], "rad-dino": [0.53, 0.53, 0.53]}
STDS = {"dinov2": [0.229, 0.224, 0.225], "rad-dino": [0.26, 0.26, 0.26]}
WIDTH = 16


def describe(folder: Path, name: str) -> Path:
    """Write what says which network a folder holds, and an empty file of weights."""
    folder.mkdir(exist_ok=True)
    side = {"height": SIDES[name], "width": SIDES[name]}
    preparation = {"crop_size": side, "image_mean": MEANS[name], "image_std": STDS[name]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    safetensors.torch.save_file({}, folder / "model.safetensors")
    return folder


def load(name: str, folder: Path | str | None):
    return load_extractor(name, CPU, features_weights=None if folder is None else str(folder))


# ------------------------------------------------------------------------------ with transformers


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("transformers", reason="needs transformers: extra backbones")


@pytest.fixture
def made(library, tmp_path):
    """A small network of weights of chance, saved by the library, and its folder."""

    def make(name: str = "dinov2", patch: int = 14):
        config = library.Dinov2Config(
            hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=4 * patch,
            patch_size=patch, initializer_range=0.5,
        )  # fmt: skip
        torch.manual_seed(0)
        network = library.Dinov2Model(config).eval()
        folder = describe(tmp_path / name, name)
        network.save_pretrained(folder)
        return network, folder

    return make


@pytest.mark.parametrize("name", ["dinov2", "rad-dino"])
def test_the_features_are_the_class_token_of_normalized_images(made, name):
    side = SIDES[name]
    # Larger patches: 518 pixels have 1,369 of the usual ones.
    network, folder = made(name, patch=14 if name == "dinov2" else 74)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 1, side, side), dtype=np.uint8)
    extractor = load(name, folder)
    found = extract_features(extractor, torch.from_numpy(pixels), CPU)
    mean, std = (np.array(each[name]).reshape(3, 1, 1) for each in (MEANS, STDS))
    ready = (np.repeat(pixels, 3, axis=1) / 255 - mean) / std
    with torch.no_grad():
        layers = network(torch.from_numpy(ready).float()).last_hidden_state
    torch.testing.assert_close(found.vectors, layers[:, 0], rtol=1e-4, atol=1e-4)
    assert found.probabilities is None
    assert (extractor.name, extractor.family, extractor.dimension) == (name, "dinov2", WIDTH)
    assert extractor.license
    assert found.vectors.std(0).min() > 1e-3  # it says something of the images


def test_the_librarys_own_preparation_gives_the_same(made, library):
    network, folder = made()
    try:
        processor = library.BitImageProcessor(
            size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224},
            image_mean=MEANS["dinov2"], image_std=STDS["dinov2"],
        )  # fmt: skip
    except ImportError as error:
        pytest.skip(f"needs torchvision beside transformers: {error}")
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    ready = processor(list(pixels.permute(0, 2, 3, 1).numpy()), return_tensors="pt")
    with torch.no_grad():
        theirs = network(**ready).pooler_output
    ours = extract_features(load("dinov2", folder), pixels, CPU).vectors
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_version_is_the_hash_of_the_weights_and_their_description(made):
    _, folder = made()
    files = ("model.safetensors", "config.json", "preprocessor_config.json")
    content = b"".join((folder / name).read_bytes() for name in files)
    version = load("dinov2", folder).version
    assert version == hashlib.sha256(content).hexdigest()[:8]
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["layernorm.bias"] += 1
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load("dinov2", folder).version != version


def test_half_precision_is_computed_in_float32(made, monkeypatch):
    network, folder = made()
    network.half().save_pretrained(folder)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = set()
    with torch.nn.modules.module.register_module_forward_hook(
        lambda *_: seen.add(torch.backends.cudnn.allow_tf32)
    ):
        found = load("dinov2", folder).extract(torch.rand(1, 3, 224, 224))
    assert found.vectors.dtype == torch.float32
    assert seen == {False}


def test_a_network_without_some_of_its_weights_is_refused(made, monkeypatch):
    _, folder = made()
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.norm1.weight"]
    said = create_autospec(logging.Handler, instance=True, level=logging.NOTSET)
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [said])
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"lacks 1 of the network's tensors, such as encoder\.layer"
    ):
        load("dinov2", folder)
    said.handle.assert_not_called()  # one line is enough, and that is ours


def test_weights_of_another_shape_are_refused(made):
    _, folder = made()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 2 * WIDTH}))
    with pytest.raises(UserError, match=r"^--features-weights .*dinov2: cannot be loaded \("):
        load("dinov2", folder)


def test_a_download_asks_the_hub_for_these_files_only(made, monkeypatch):
    import huggingface_hub

    _, folder = made("rad-dino", patch=74)
    fetch = create_autospec(huggingface_hub.snapshot_download, return_value=str(folder))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert load("rad-dino", "download").version == load("rad-dino", folder).version
    files = ["model.safetensors", "config.json", "preprocessor_config.json"]
    fetch.assert_called_once_with("microsoft/rad-dino", allow_patterns=files)
    fetch.side_effect = OSError("no\nnetwork")
    told = r"facebook/dinov2-base cannot be downloaded \(no network\): name a folder"
    with pytest.raises(UserError, match=told):
        load("dinov2", "download")


def test_evaluate_labels_its_numbers_with_them(made, tmp_path, evaluate, capsys):
    _, folder = made()
    capsys.readouterr()  # what the library says while it saves
    real = write_images(tmp_path / "real", "train", 24)
    images = write_images(tmp_path / "fake", "test", 24)
    words = ["--features", "dinov2", "--features-weights", folder, "--metrics", "fid"]
    code, _, err = evaluate(images, "--data", real, *words, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    record = read(tmp_path / "out")
    assert record["features"] == {
        "name": "dinov2", "version": load("dinov2", folder).version, "license": "Apache-2.0",
        "input_size": 224, "dimension": WIDTH,
    }  # fmt: skip
    assert fid(record)["value"] > 0


# --------------------------------------------------------------------------- without transformers


@pytest.mark.parametrize("name", ["dinov2", "rad-dino"])
def test_nothing_is_downloaded_unasked(name):
    with pytest.raises(UserError, match=f"--features {name} needs weights: name them with "):
        load(name, None)


@pytest.mark.parametrize(
    ("module", "weights"), [("transformers", "FOLDER"), ("huggingface_hub", "download")]
)
def test_a_missing_library_is_told(monkeypatch, tmp_path, module, weights):
    monkeypatch.setitem(sys.modules, module, None)
    folder = describe(tmp_path / "w", "dinov2")
    told = rf"--features dinov2 needs {module} \(.*\): pip install 'cxrgan_fast\[backbones\]'"
    with pytest.raises(UserError, match=told):
        load("dinov2", folder if weights == "FOLDER" else weights)


def damage(folder: Path, how: str) -> None:
    if how == "no folder":
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "damaged weights":
        (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    elif how == "pipe of weights":
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to("/dev/zero")
    elif how == "truncated weights":
        safetensors.torch.save_file({"x": torch.ones(100)}, folder / "model.safetensors")
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[:-1])
    elif how == "damaged description":
        (folder / "config.json").write_text("[" * 10_000)
    elif how == "another kind":
        (folder / "config.json").write_text('{"model_type": "vit"}')
    elif how == "no preparation":
        (folder / "preprocessor_config.json").unlink()
    elif how == "the other network":
        describe(folder, "rad-dino")
    elif how == "no normalization":
        (folder / "preprocessor_config.json").write_text('{"crop_size": 224}')
    else:
        raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no folder", r"config\.json: No such file"),
        ("no weights", r"model\.safetensors: No such file"),
        ("damaged weights", r"model\.safetensors: .*header"),
        ("pipe of weights", "it is not a file"),
        ("truncated weights", r"model\.safetensors: "),
        ("damaged description", r"config\.json is damaged"),
        ("another kind", r"config\.json is that of model type 'vit'"),
        ("no preparation", r"preprocessor_config\.json: No such file"),
        ("the other network", "has a crop_size of 518, not 224"),
        ("no normalization", "has no image_mean and image_std of three channels"),
    ],
)
def test_other_folders_are_refused_in_one_line(tmp_path, how, reason):
    folder = describe(tmp_path / "w", "dinov2")
    damage(folder, how)
    with pytest.raises(UserError, match=rf"^--features-weights .*/w: .*{reason}") as caught:
        load("dinov2", folder)
    assert "\n" not in str(caught.value)


def test_several_extractors_take_their_weights_in_order(tmp_path):
    folders = [str(describe(tmp_path / name, name)) for name in ("dinov2", "rad-dino")]
    names = ["rad-dino", "pixels", "dinov2"]
    # The wrong way round: the first is refused for what the second is.
    with pytest.raises(UserError, match="has a crop_size of 224, not 518"):
        load_extractors(names, CPU, features_weights=folders)
    with pytest.raises(UserError, match="expected one for each of --features rad-dino, dinov2, in"):
        load_extractors(names, CPU, features_weights=folders[:1])
    with pytest.raises(
        UserError, match="w: expected one for each of --features that is one of rad"
    ):
        load_extractors(["pixels"], CPU, features_weights=["w"])
    with pytest.raises(
        UserError, match=r"--features-weights is for --features rad-dino, .*got cxr"
    ):
        load_extractor("cxr", CPU, features_weights="w")


@pytest.mark.long
def test_the_libraries_are_imported_late():
    code = (
        "import sys, cxrgan_fast.evaluate; late = {'transformers', 'huggingface_hub', "
        "'torchxrayvision', 'torchvision'}; sys.exit(' '.join(late & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
