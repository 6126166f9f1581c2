"""Classes of any name through training and generation, and folders that match the real set's."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrgan_fast.data import load_dataset, memory
from cxrgan_fast.data.sources import folder_names, open_source
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.image_folder import ImageFolder
from cxrgan_fast.evaluation.image_sets import (
    choose_data,
    classes_of,
    is_run,
    load_real,
)
from cxrgan_fast.evaluation.request import default_output
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_to_folder

TINY = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
        "--latent-size", "8", "--batch-size", "4"]  # fmt: skip
ODD = ["../../other-run", "N/A", "No Lung Opacity / Not Normal", "grids"]


def write_images(folder: Path, *names: str) -> None:
    rng = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)


def table(root: Path, classes: list[str], each: int = 4) -> Path:
    rows = ["path,label"]
    for label, name in enumerate(classes):
        names = [f"i/{label}-{number}.png" for number in range(each)]
        write_images(root, *names)
        rows += [f'{file},"{name}"' for file in names]
    (root / "t.csv").write_text("\n".join(rows))
    return root / "t.csv"


def published(root: Path, each: int = 4) -> Path:
    for split in ("train", "test"):
        for number in range(each):
            write_images(
                root / split,
                f"NORMAL/IM-000{number}-0001.png",
                f"PNEUMONIA/person{number}_bacteria_1.png",
                f"PNEUMONIA/person{number}_virus_2.png",
            )
    return root


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.long
@pytest.mark.parametrize("per_class", [False, True])
def test_names_that_are_no_folders_come_through_and_nothing_is_written_elsewhere(
    train, tmp_path, per_class
):
    data = table(tmp_path / "set", ODD)
    # What a class called ../../other-run would reach from a run's folder and from OUT.
    victim = tmp_path / "other-run/checkpoints/checkpoint-00000001.pt"
    victim.parent.mkdir(parents=True)
    victim.write_bytes(b"mine")
    out = tmp_path / "deep/runs"
    before = files(tmp_path)
    options = ["--data", data, "--out", out, *(["--per-class"] if per_class else [])]
    assert train(*TINY, *options, "--steps", 1)[0] == 0
    (run,) = out.iterdir()
    assert train("--resume", run, "--steps", 2)[0] == 0
    assert json.loads((run / "dataset.json").read_text())["images"] == dict.fromkeys(sorted(ODD), 4)
    sources = load_sources(run)
    assert {source.class_name for source in sources} == set(ODD)
    drawn = tmp_path / "drawn/out"
    generate_to_folder(sources, drawn, n_per_class=2, progress=False)
    after = {
        path: content
        for path, content in files(tmp_path).items()
        if run not in path.parents and drawn not in path.parents
    }
    assert after == before
    with (drawn / "manifest.csv").open(newline="") as manifest:
        rows = list(csv.DictReader(manifest))
    assert [row["class"] for row in rows] == [s.class_name for s in sources for _ in range(2)]
    again = load_dataset(drawn / "manifest.csv", resolution=32, progress=False)
    assert again.class_counts() == dict.fromkeys(sorted(ODD), 2)
    # The folder alone is known by the folders of the data's classes.
    look = ImageFolder.look(drawn, classes_of(choose_data(str(data), drawn, False)), (), None)
    assert set(look.classes) == set(ODD)
    assert look.classes["N/A"] == folder_names(["N/A"])["N/A"]


def test_a_name_that_cannot_be_kept_is_refused_before_anything_is_made(train, tmp_path):
    data = table(tmp_path / "set", ["a\x07b", "c"])
    code, _, err = train(*TINY, "--data", data, "--out", tmp_path / "runs", "--steps", 1)
    assert code == 2
    assert "a name that cannot be printed" in err
    assert not (tmp_path / "runs").exists()


def test_data_in_the_current_folder_is_trained_on_twice(train, tmp_path, monkeypatch):
    published(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        code, out, err = train(*TINY, "--data", ".", "--steps", 1)
        assert code == 0, err
        assert ", 8 images (4 normal, 4 bacterial)" in out
    assert "not used, a run's folder: " in out
    assert "not used, left out unless named: 8 viral images" in out
    assert "not used, of other splits than train: 12 test images" in out


def test_a_run_on_joined_classes_is_compared_with_joined_classes(train, tmp_path):
    data = published(tmp_path / "set")
    options = ["--data", data, "--classes", "normal,pneumonia=bacterial+virus"]
    code, out, err = train(*TINY, *options, "--steps", 1, "--out", tmp_path / "runs")
    assert code == 0, err
    assert "(4 normal, 8 pneumonia)" in out
    (run,) = (tmp_path / "runs").iterdir()
    (first, second) = load_sources(run)
    assert (first.class_name, second.class_name) == ("normal", "pneumonia")
    real = load_real(choose_data(None, run, False), ["normal", "pneumonia"], 32, 1, False)
    assert real.train.class_counts() == {"normal": 4, "pneumonia": 8}
    assert real.test is not None
    assert first.snapshot.extra["data_fingerprint"] == real.train.fingerprint
    code, out, err = train("--resume", run, "--steps", 2)
    assert code == 0, err


# -------------------------------------------------------------------------- generate's folders


def labels_by_folder(root: Path) -> list[str]:
    """The folders as torchvision's ImageFolder numbers them: sorted by name."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir())


def test_folders_like_the_data_have_the_datas_labels(make_run, tmp_path):
    from cxrgan_fast.data.class_folders import choose_folders

    data = published(tmp_path / "set")
    sources = load_sources(make_run())
    names = [source.class_name for source in sources]
    folders, warnings = choose_folders(names, [], str(data))
    assert warnings == []
    out = tmp_path / "out"
    generate_to_folder(sources, out, n_per_class=2, folders=folders, progress=False)
    assert labels_by_folder(out) == labels_by_folder(data / "train") == ["NORMAL", "PNEUMONIA"]
    assert sorted(path.name for path in (out / "PNEUMONIA").iterdir()) == [
        "bacterial_seed0_00000.png", "bacterial_seed0_00001.png",
    ]  # fmt: skip
    source = open_source(out / "manifest.csv")
    assert [(file.name, file.class_name) for file in source.files] == [
        ("NORMAL/normal_seed0_00000.png", "normal"),
        ("NORMAL/normal_seed0_00001.png", "normal"),
        ("PNEUMONIA/bacterial_seed0_00000.png", "bacterial"),
        ("PNEUMONIA/bacterial_seed0_00001.png", "bacterial"),
    ]
    # Without, the labels are swapped, which is what the option is for.
    generate_to_folder(sources, tmp_path / "plain", n_per_class=1, progress=False)
    assert labels_by_folder(tmp_path / "plain") == ["bacterial", "normal"]


def test_classes_that_share_a_folder_lose_no_image(make_run, tmp_path):
    sources = load_sources(make_run(class_names=("a", "b", "c")))
    folders = {"a": "X", "c": "X"}
    generate_to_folder(sources, tmp_path / "out", n_per_class=3, folders=folders, progress=False)
    assert len(list((tmp_path / "out/X").iterdir())) == 6
    assert len(list((tmp_path / "out/b").iterdir())) == 3


def test_a_folder_for_a_class_never_takes_anothers_by_chance(make_run, tmp_path, monkeypatch):
    """A failure on the way removes a shared folder as well, and nothing else is left."""
    from cxrgan_fast.sampling import generation

    sources = load_sources(make_run(class_names=("a", "b")))
    real = generation.generate_images
    calls = []

    def fails_later(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise UserError("stopped")
        return real(*arguments)

    monkeypatch.setattr(generation, "generate_images", fails_later)
    with pytest.raises(UserError, match="stopped"):
        generate_to_folder(
            sources, tmp_path / "out", n_per_class=1, folders={"a": "X", "b": "X"}, progress=False
        )
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_a_folder_of_images_to_evaluate(tmp_path):
    (tmp_path / "manifest.csv").write_text("file,class,seed,checkpoint\n")
    assert not is_run(tmp_path / "manifest.csv")
    assert is_run(tmp_path / "gone.csv")
    assert default_output(tmp_path / "manifest.csv", None) == tmp_path / "manifest-evaluation"


def test_sizes_are_read_within_the_memory_for_files(images, data, monkeypatch):
    look = (images, classes_of(choose_data(str(data), images, False)), (), None)
    assert ImageFolder.look(*look).resolution == 32
    monkeypatch.setattr(memory.CONTENT, "limit", 10)  # bytes: no file may be held
    with pytest.raises(UserError, match="none of its 24 images can be read"):
        ImageFolder.look(*look)
