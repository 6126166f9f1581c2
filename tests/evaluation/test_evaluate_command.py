"""``python -m cxrgan_fast.evaluate`` as a user meets it: what it gives."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from PIL import Image

from cxrgan_fast import generate as generate_command
from cxrgan_fast.command import run_command
from cxrgan_fast.data import load_dataset
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, prepare_set
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.evaluation import sides
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, TEST_SPLIT
from cxrgan_fast.metrics.metric import metric_names
from cxrgan_fast.nn import build_generator
from cxrgan_fast.runs.checkpoint import generator_path
from cxrgan_fast.runs.generator_file import save_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import write_config
from evaluations import CLASSES, NETWORK, PIXELS, QUICK, fid, read, write_images, write_noise


def numbers(record: dict) -> dict:
    """What does not depend on where the images come from and how long it took."""
    kept = {key: record[key] for key in ("all classes", "classes", "features", "seed")}
    return {**kept, "images": list(record["images"].items())}


def rows(out: str, start: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(start)]


# ------------------------------------------------------------------------------ what it gives


def test_a_run_against_its_own_data(a_run, data, evaluate):
    code, out, err = evaluate(a_run, *PIXELS, "--samples", 20)
    assert (code, err) == (0, "")
    folder = a_run / "evaluation"
    names = ("evaluation.json", "evaluation.csv", "samples.png", "nearest.png")
    assert out.splitlines()[-4:] == [f"written: {folder / name}" for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names[2:]:
        with Image.open(folder / name) as image:
            assert len(image.getcolors(1 << 16)) > 20  # pictures are in it
    record = read(folder)
    assert record["data"]["name"] == data.name
    assert record["data"]["train"] == {"bacterial": 30, "normal": 30}
    assert record["data"]["test"] == {"bacterial": 10, "normal": 10}
    assert record["images"] == {"bacterial": 10, "normal": 10}
    assert record["features"] == {
        "name": "pixels", "version": "1", "input_size": 32, "dimension": 1024,
    }  # fmt: skip
    assert record["generated_by"]["generators"]["normal"].endswith("generator.safetensors@20")
    whole = record["all classes"]
    found = {*whole["generated"]["metrics"], *whole["generated"]["omitted"], "memorisation"}
    assert found == set(metric_names())
    assert set(whole["floors"]) == {OTHER_PATIENTS, TEST_SPLIT}
    assert set(record["classes"]) == {"normal", "bacterial"}
    value = fid(record)
    assert (value["n_real"], value["n_fake"]) == (20, 20)
    floors = [floor["metrics"]["fid"] for floor in whole["floors"].values()]
    assert [(floor["n_real"], floor["n_fake"]) for floor in floors] == [(20, 20)] * 2
    # The table says the same, with what it is of.
    pooled, *classes = rows(out, "FID (")
    assert len(classes) == 2
    assert pooled.startswith("FID (pixels, 1024-d)")
    cells = re.findall(r"([\d.]+) ± ([\d.]+) \((\d+)/(\d+)\)", pooled)
    assert [cell[2:] for cell in cells] == [("20", "20")] * 3
    for (shown, half, *_), estimate in zip(cells, [value, *floors], strict=True):
        low, high = estimate["interval"]
        assert float(shown) == pytest.approx(estimate["value"], rel=1e-3)
        assert float(half) == pytest.approx((high - low) / 2, rel=0.05)


def test_real_images_are_at_the_floor_and_noise_is_not(images, data, evaluate, tmp_path):
    arguments = (images, "--data", data, *PIXELS, "--samples", 24)
    code, _, _ = evaluate(*arguments, "--metrics", "fid", "kid", "precision")
    assert code == 0
    record = read(tmp_path / "drawn-evaluation")
    assert record["generated_by"] == {"folder": str(images)}
    floor = record["all classes"]["floors"][OTHER_PATIENTS]["metrics"]
    good = record["all classes"]["generated"]["metrics"]
    assert 0.5 < good["fid"]["value"] / floor["fid"]["value"] < 2
    for seed, path in enumerate(images.rglob("*.png")):
        write_noise(path, seed)
    assert evaluate(*arguments, "--metrics", "fid", "kid", "precision")[0] == 0
    record = read(tmp_path / "drawn-evaluation")  # replaced
    noise = record["all classes"]["generated"]["metrics"]
    assert noise["fid"]["value"] > 5 * floor["fid"]["value"]
    assert noise["kid"]["value"] > 5 * abs(good["kid"]["value"])
    assert noise["precision"]["value"] == 0 < good["precision"]["value"]


def test_what_generate_wrote_scores_as_its_run(a_run, evaluate, tmp_path, monkeypatch):
    # The run draws normal, bacterial; the data's folders come in the order bacterial, normal.
    data = ["--data", read_data(a_run), *PIXELS, "--samples", 16, "--seed", 3]
    assert evaluate(a_run, *data, "--out", tmp_path / "of run")[0] == 0
    out = tmp_path / "written"
    argv = ["generate", str(a_run), "--n-per-class", "8", "--seed", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*argv, "--device", "cpu"])
    assert run_command(generate_command.main) == 0
    assert evaluate(out, *data, "--out", tmp_path / "of folder")[0] == 0
    of_run, of_folder = (read(tmp_path / name) for name in ("of run", "of folder"))
    assert numbers(of_run) == numbers(of_folder)


def read_data(run: Path) -> str:
    (line,) = [line for line in (run / "config.yaml").read_text().splitlines() if " data:" in line]
    return line.partition("data: ")[2]


def test_the_seed_decides(a_run, evaluate):
    records = []
    for seed in (1, 1, 2):
        options = ["--metrics", "fid", "kid", "nearest_neighbour", "--samples", 16]
        assert evaluate(a_run, *PIXELS, *options, "--seed", seed)[0] == 0
        records.append(numbers(read(a_run / "evaluation")))
    assert records[0] == records[1]
    values = [record["all classes"]["generated"]["metrics"] for record in records]
    for name in values[0]:
        assert values[0][name] != values[2][name]


def test_a_checkpoint_and_a_file(a_run, data, evaluate):
    file = generator_path(a_run, 10)
    assert evaluate(a_run, *QUICK, "--checkpoint", 10)[0] == 0
    assert evaluate(file, *QUICK)[0] == 0  # knows the data from the run around it
    of_step = read(a_run / "evaluation-10")
    of_file = read(file.with_name(f"{file.stem}-evaluation"))
    assert numbers(of_step) == numbers(of_file)
    assert evaluate(a_run, *QUICK)[0] == 0
    assert fid(read(a_run / "evaluation")) != fid(of_step)


def test_one_class_and_some_metrics(a_run, evaluate):
    options = [*PIXELS, "--metrics", "kid", "recall", "--samples", 20, "--class", "bacterial"]
    code, out, _ = evaluate(a_run, *options)
    assert code == 0
    record = read(a_run / "evaluation")
    assert record["images"] == {"bacterial": 20}
    assert set(record["all classes"]["generated"]["metrics"]) == {"kid", "recall"}
    assert record["classes"] == {}
    assert not (a_run / "evaluation" / "nearest.png").exists()  # memorisation was not asked for
    assert not rows(out, "FID")


def test_gans_of_one_class_each(make_run, data, evaluate):
    run = make_run("runs/per-class/normal", ("normal",)).parent
    make_run("runs/per-class/bacterial", ("bacterial",))
    code, out, _ = evaluate(run, "--data", data, *QUICK)
    assert code == 0
    record = read(run / "evaluation")
    assert record["images"] == {"bacterial": 10, "normal": 10}
    origin = "per-class/{0}/generator.safetensors@20"
    assert record["generated_by"]["generators"] == {
        name: origin.format(name) for name in ("bacterial", "normal")
    }
    assert all(origin.format(name) in out.splitlines()[0] for name in CLASSES)


def test_phantoms_as_data(make_run, evaluate):
    run = make_run()
    settings = {"data": "phantom", "phantom_images": 16, "resolution": 32}
    (run / "config.yaml").write_text(write_config(override(TrainConfig(), settings)))
    for options in ([], ["--data", "phantom"]):  # the run knows how many
        assert evaluate(run, *QUICK, *options)[0] == 0
        record = read(run / "evaluation")
        assert record["data"]["train"] == record["data"]["test"] == {"normal": 8, "bacterial": 8}
        assert set(record["all classes"]["floors"]) == {OTHER_PATIENTS, TEST_SPLIT}


def test_a_packed_set_takes_the_place_of_its_source(images, data, evaluate, tmp_path):
    division = Division("source")
    packed = tmp_path / "packed"
    prepare_set(open_source(data), packed, Preparation(32), division=division, progress=False)
    options = ["--metrics", "fid", "--samples", 24]
    records = []
    for source in (data, packed):
        code, _, _ = evaluate(images, "--data", source, *PIXELS, *options)
        assert code == 0
        records.append(numbers(read(tmp_path / "drawn-evaluation")))
        shutil.rmtree(tmp_path / "drawn-evaluation")
    assert records[0] == records[1]


def test_copies_and_repetitions_are_listed(images, data, evaluate, tmp_path):
    copied = sorted((data / "train" / "normal").iterdir())[:3]
    for n, path in enumerate(copied):
        (images / "normal" / f"copy{n}.png").write_bytes(path.read_bytes())
    (images / "normal" / "again.png").write_bytes(copied[0].read_bytes())
    for n in range(4):  # as many of the other class
        write_noise(images / "bacterial" / f"new{n}.png", n)
    options = ["--metrics", "memorisation", "--samples", 32]
    code, out, _ = evaluate(images, "--data", data, *PIXELS, *options)
    assert code == 0
    record = read(tmp_path / "drawn-evaluation")
    pairs = {
        tuple(Path(each).name for each in p) for p in record["duplicates"]["of_training_images"]
    }
    expected = {(f"copy{n}.png", path.name) for n, path in enumerate(copied)}
    assert pairs == {*expected, ("again.png", copied[0].name)}
    (group,) = record["duplicates"]["among_generated"]
    assert {Path(each).name for each in group} == {"copy0.png", "again.png"}
    near = [each for each in record["near_copies"] if each["likeness"] > 0.999]
    assert {(Path(e["generated"]).name, Path(e["training"]).name) for e in near} == pairs
    assert "1 of 32 generated images repeat another one byte for byte" in out
    assert "4 of 32 generated images are training images byte for byte" in out
    assert "  normal/copy1.png is train/normal/train001.png, as it is (1.000)" in out


def test_data_that_the_run_was_not_trained_on_are_told(a_run, data, evaluate, tmp_path):
    note = "not the images that the generator was trained on"
    trained_on = load_dataset(data, resolution=32, classes=CLASSES, progress=False)
    save_generator(
        a_run / "generator.safetensors", build_generator(NETWORK, 2).state_dict(), NETWORK, CLASSES,
        step=1, images_seen=1, extra={"data_fingerprint": trained_on.fingerprint},
    )  # fmt: skip
    assert note not in evaluate(a_run, *QUICK)[1]
    other = write_images(tmp_path / "other", "val", 20)
    code, out, _ = evaluate(a_run, "--data", other, *QUICK)
    assert code == 0
    assert note in out
    (said,) = [n for n in read(a_run / "evaluation")["notes"] if note in n]
    assert "memorisation of them would not be seen" in said


# ----------------------------------------------------------------------------- all checkpoints


def test_all_checkpoints(a_run, evaluate):
    code, out, _ = evaluate(a_run, *PIXELS, "--samples", 20, "--all-checkpoints")
    assert code == 0
    folder = a_run / "evaluation"
    names = ["checkpoints-samples.png", "checkpoints.json", "checkpoints.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    record = read(folder, "checkpoints.json")
    assert [row["step"] for row in record["checkpoints"]] == [10, 20]
    assert set(record["floors"]) == {OTHER_PATIENTS, TEST_SPLIT}
    assert record["features"]["dimension"] == 1024
    assert evaluate(a_run, *QUICK, "--checkpoint", 10)[0] == 0
    assert record["checkpoints"][0]["metrics"]["fid"] == fid(read(a_run / "evaluation-10"))
    assert "features: pixels, 1024-d" in out
    (header,) = rows(out, "step")
    assert header.split()[:5] == ["step", "FID", "KID", "precision", "recall"]
    (better,) = rows(out, "better")
    assert better.split()[1:] == ["lower", "lower", "higher", "higher"]
    lines = rows(out, "10 ") + rows(out, "20 ") + rows(out, "floor: ")
    assert [line.split()[-1] for line in lines] == ["20/20"] * 4


def test_a_second_opinion_of_every_checkpoint(a_run, evaluate):
    options = ["--features", "pixels", "cxr", "--metrics", "fid", "likeness", "--samples", 20]
    code, out, _ = evaluate(a_run, *options, "--all-checkpoints")
    assert code == 0
    record = read(a_run / "evaluation", "checkpoints.json")
    assert record["features"]["name"] == "pixels"
    (second,) = record["second_opinions"]
    assert second["features"]["name"] == "cxr"
    assert [row["step"] for row in second["checkpoints"]] == [10, 20]
    assert set(second["floors"]) == set(record["floors"])
    assert re.search("features: pixels, 1024-d.*features: cxr, 256-d", out, re.DOTALL)
    assert evaluate(a_run, "--features", "cxr", *options[3:], "--checkpoint", 10)[0] == 0
    assert second["checkpoints"][0]["metrics"]["fid"] == fid(read(a_run / "evaluation-10"))


def test_ctrl_c_keeps_the_checkpoints_that_are_done(a_run, evaluate, monkeypatch):
    generate, calls = sides.generate_set, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(*arguments)

    double = create_autospec(generate, side_effect=interrupted)
    monkeypatch.setattr(sides, "generate_set", double)
    assert evaluate(a_run, *QUICK, "--all-checkpoints")[0] == 130
    (row,) = read(a_run / "evaluation", "checkpoints.json")["checkpoints"]
    assert row["step"] == 10
    assert row["metrics"]["fid"]["value"] > 0


def test_without_matplotlib_the_plot_alone_is_missing(a_run, evaluate, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, _ = evaluate(a_run, *QUICK, "--all-checkpoints")
    assert code == 0
    assert not (a_run / "evaluation" / "checkpoints.png").exists()
    assert (a_run / "evaluation" / "checkpoints.json").exists()
    assert "no plot: Matplotlib is not installed (pip install matplotlib)" in out


def test_what_lies_there_of_another_evaluation_is_not_taken_for_this_ones(a_run, evaluate):
    assert evaluate(a_run, *PIXELS, "--metrics", "memorisation", "--samples", 20)[0] == 0
    assert (a_run / "evaluation" / "nearest.png").exists()
    assert evaluate(a_run, *QUICK)[0] == 0
    assert not (a_run / "evaluation" / "nearest.png").exists()


def test_a_damaged_checkpoint_and_a_users_own_hide_no_other(a_run, evaluate):
    kept = a_run / "checkpoints"
    (kept / "generator-best.safetensors").write_bytes(b"mine")
    (kept / "generator-00000010.safetensors").write_bytes(b"cut off")
    code, out, _ = evaluate(a_run, *QUICK, "--all-checkpoints")
    assert code == 0
    first, second = read(a_run / "evaluation", "checkpoints.json")["checkpoints"]
    assert "generator-00000010.safetensors" in first["error"]
    assert second["metrics"]["fid"]["value"] > 0
    assert re.search(r"^step 10: .*generator-00000010.safetensors", out, re.MULTILINE)


def test_a_generator_of_colors_is_compared_in_colors(make_run, data, evaluate):
    run = make_run(network=replace(NETWORK, image_channels=3))
    assert evaluate(run, "--data", data, *QUICK)[0] == 0
    record = read(run / "evaluation")
    assert record["data"]["image_channels"] == 3
    assert fid(record)["value"] > 0


def test_metrics_that_checkpoints_do_not_get_are_named(a_run, evaluate):
    options = [*PIXELS, "--samples", 20, "--all-checkpoints"]
    code, out, _ = evaluate(a_run, *options, "--metrics", "fid", "diversity")
    assert code == 0
    assert "not computed of every checkpoint: diversity" in out
    assert "not computed" not in evaluate(a_run, *options)[1]
