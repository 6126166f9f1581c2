"""Patients who are left out of a training: whole, in the run's record, and found by `evaluate`."""

import json
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.data.__main__ import main as data_command
from cxrgan_fast.data.splits import held_out_patients, hold_out
from evaluations import read

TINY = ["--device", "cpu", "--precision", "fp32", "--base-channels", 8, "--latent-size", 8,
        "--batch-size", 4, "--resolution", 32]  # fmt: skip


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A table of 30 normal and 30 bacterial phantoms, two of each patient."""
    data = load_dataset("phantom", resolution=32, phantom_images=60, progress=False)
    lines = ["path,label,patient"]
    for row in range(60):
        Image.fromarray(data.images[row, 0].numpy()).save(tmp_path / f"{row:02d}.png")
        lines.append(f"{row:02d}.png,{data.class_names[data.labels[row]]},p{row // 2:02d}")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def divided(table: Path, amount: float, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
    data = load_dataset(table, resolution=32, progress=False)
    return hold_out(data, held_out_patients(data.patients, data.labels.tolist(), amount, seed))


def test_a_run_is_trained_without_them_and_judged_by_them(train, evaluate, several, tmp_path):
    options = [*TINY, "--data", several, "--hold-out-patients", 0.4, "--out", tmp_path / "runs"]
    code, out, err = train(*options, "--steps", 1)
    assert code == 0, err
    assert "held out: 12 patients, who are not among these" in out
    kept, left_out = divided(several, 0.4)
    run = only_run(tmp_path / "runs")
    record = json.loads((run / "dataset.json").read_text())
    assert record["held_out"] == sorted(set(left_out.patients))
    assert record["images"] == kept.class_counts()
    assert record["fingerprint"] == kept.fingerprint
    assert not set(kept.patients) & set(left_out.patients)

    code, out, err = train("--resume", run, "--steps", 2)
    assert code == 0, err
    assert json.loads((run / "dataset.json").read_text()) == record
    code, out, err = evaluate(
        run, "--features", "pixels", "--metrics", "memorisation", "--samples", 30
    )
    assert code == 0, err
    assert "24 held-out patients" in out
    assert "memorisation of them would not be seen" not in out
    found = read(run / "evaluation")
    assert found["data"]["train"] == kept.class_counts()
    assert found["data"]["held_out"] == left_out.class_counts()
    assert found["all classes"]["memorisation"]["reference"] == "held-out patients"
    assert found["copies"]["n_held_out"] == 24

    # One class alone: who was left out stands in the record, and is not drawn anew.
    code, _, err = evaluate(
        run, "--features", "pixels", "--metrics", "memorisation", "--samples", 20, "--classes",
        "bacterial",
    )  # fmt: skip
    assert code == 0, err
    found = read(run / "evaluation")
    assert found["data"]["held_out"] == {"bacterial": left_out.class_counts()["bacterial"]}


def test_the_choice_goes_by_its_own_seed_and_stays(train, fails, several, tmp_path):
    left_out = []
    for place, more in (("a", []), ("b", ["--seed", 7]), ("c", ["--hold-out-seed", 7])):
        options = [*TINY, "--data", several, "--hold-out-patients", 3, "--out", tmp_path / place]
        code, _, err = train(*options, "--steps", 1, *more)
        assert code == 0, err
        record = json.loads((only_run(tmp_path / place) / "dataset.json").read_text())
        left_out.append(record["held_out"])
    assert len(left_out[0]) == 6
    assert left_out[0] == left_out[1] != left_out[2]
    run = only_run(tmp_path / "a")
    line = fails("--resume", run, "--steps", 2, "--hold-out-patients", 4)
    assert "a resumed run keeps its settings, got --hold-out-patients 4" in line


@pytest.mark.long
@pytest.mark.parametrize("kind", ["archive", "packed set"])
def test_of_an_archive_and_of_a_packed_set(kind, train, evaluate, several, tmp_path, monkeypatch):
    """The archive leaves out whom the table leaves out; the packed set has a split of its own."""
    if kind == "archive":
        data = tmp_path / "images.zip"
        with zipfile.ZipFile(data, "w") as archive:
            for path in [several, *several.parent.glob("*.png")]:
                archive.write(path, path.name)
        expected = divided(several, 0.4)
    else:
        data = tmp_path / "packed"
        words = ["data", "prepare", str(several), str(data), "--resolution", "32"]
        monkeypatch.setattr(sys, "argv", words)
        data_command()
        expected = divided(data, 0.4)
    options = [*TINY, "--data", data, "--hold-out-patients", 0.4, "--out", tmp_path / "runs"]
    code, _, err = train(*options, "--steps", 1)
    assert code == 0, err
    run = only_run(tmp_path / "runs")
    record = json.loads((run / "dataset.json").read_text())
    kept, left_out = expected
    assert record["held_out"] == sorted(set(left_out.patients))
    assert record["images"] == kept.class_counts()
    code, _, err = train("--resume", run, "--steps", 2)
    assert code == 0, err
    code, _, err = evaluate(run, "--features", "pixels", "--metrics", "fid", "--samples", 20)
    assert code == 0, err
    assert read(run / "evaluation")["data"]["held_out"] == left_out.class_counts()


@pytest.mark.long
def test_a_gan_of_each_class_is_trained_without_them(train, evaluate, several, tmp_path):
    options = [*TINY, "--data", several, "--hold-out-patients", 0.4, "--out", tmp_path / "runs"]
    code, _, err = train(*options, "--steps", 1, "--per-class")
    assert code == 0, err
    run = only_run(tmp_path / "runs")
    code, out, err = evaluate(
        run, "--features", "pixels", "--metrics", "memorisation", "--samples", 30
    )
    assert code == 0, err
    assert "24 held-out patients" in out
    assert "memorisation of them would not be seen" not in out


def test_what_cannot_be_held_out(fails, several, tmp_path):
    out = ["--data", several, "--out", tmp_path / "runs", "--steps", 1, *TINY]
    assert "class 0 has 15 patients, and none is left" in fails(*out, "--hold-out-patients", 15)
    assert "expected a share of the patients below 1" in fails(*out, "--hold-out-patients", 1.5)
    assert "--hold-out-seed does nothing without --hold-out-patients" in fails(
        *out, "--hold-out-seed", 3
    )
    assert not (tmp_path / "runs").exists()
