"""What ``python -m cxrgan_fast.evaluate`` refuses in one line, or does without and says so."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cxrgan_fast.runs.checkpoint import generator_path
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import write_config
from evaluations import (
    NETWORK,
    PIXELS,
    QUICK,
    read,
    write_broken,
    write_images,
    write_noise,
)


@pytest.fixture
def fails(evaluate) -> Callable[..., str]:
    """Run the command, hold that it ends as bad input should, and give its one line."""

    def run(*arguments: str | Path) -> str:
        code, out, err = evaluate(*arguments)
        assert code == 2, err
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


def rows(out: str, start: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(start)]


# --------------------------------------------------------------------------- smaller and stated


def test_more_samples_than_there_are_is_a_smaller_comparison_that_says_so(images, data, evaluate):
    code, out, _ = evaluate(images, "--data", data, *PIXELS, "--metrics", "fid")
    assert code == 0
    assert "24 images of each kind are compared, not 1000" in out
    assert "the floor by test split is of 20 images of each kind, not 24" in out


def test_what_so_few_images_do_not_give_is_left_out_with_its_reason(
    images, data, evaluate, tmp_path
):
    for path in sorted(images.rglob("*.png")):
        if path.stem not in ("val000", "val023"):
            path.unlink()
    code, out, _ = evaluate(images, "--data", data, *PIXELS)
    assert code == 0
    assert not re.search(r"\bnan\b|\binf\b", out)
    record = read(tmp_path / "drawn-evaluation")
    assert record["images"] == {"bacterial": 1, "normal": 1}
    omitted = record["all classes"]["generated"]["omitted"]
    assert re.search(r"needs? .*, got 2|2 ", omitted["fid_infinity"])
    assert f": {omitted['fid_infinity']}" in out
    assert "fid" in record["classes"]["normal"]["generated"]["omitted"]  # of one image


def test_unreadable_images_end_it_or_are_counted(images, data, fails, evaluate, tmp_path):
    arguments = (images, "--data", data, *QUICK)
    (images / "normal" / "val000.png").write_bytes(b"not a picture")
    assert "normal/val000.png" in fails(*arguments)
    code, out, _ = evaluate(*arguments, "--skip-bad")
    assert code == 0
    assert "1 unreadable images of drawn are left out, such as normal/val000.png" in out
    for path in (images / "normal").iterdir():
        path.write_bytes(b"not a picture")
    assert "none of its images can be read" in fails(*arguments, "--skip-bad")
    for path in (images / "bacterial").iterdir():
        path.write_bytes(b"not a picture")
    assert "none of its 24 images can be read" in fails(*arguments, "--skip-bad")


def test_unreadable_real_images_end_it_or_are_counted(images, fails, evaluate, tmp_path):
    data = write_images(tmp_path / "few", "train", 40)
    (data / "normal" / "train000.png").write_bytes(b"not a picture")
    arguments = (images, "--data", data, *QUICK)
    assert "normal/train000.png" in fails(*arguments)
    code, out, _ = evaluate(*arguments, "--skip-bad")
    assert code == 0
    assert "1 unreadable images of few are left out, such as normal/train000.png" in out
    assert "there is no floor by test split" in out


def test_larger_images_are_made_smaller_when_asked(data, evaluate, fails, tmp_path):
    folder = write_images(tmp_path / "mixed", "val", 20, size=48)
    write_images(folder, "test", 6)
    arguments = (folder, "--data", data, *QUICK)
    said = fails(*arguments)
    assert "expected square images of one size, got 20 of 48 x 48, 6 of 32 x 32" in said
    assert evaluate(*arguments, "--resolution", 32)[0] == 0
    assert read(tmp_path / "mixed-evaluation")["data"]["resolution"] == 32
    assert "at most 32" in fails(*arguments, "--resolution", 40)


def test_a_checkpoint_that_came_to_nothing_does_not_hide_the_others(a_run, evaluate, fails):
    write_broken(generator_path(a_run, 10))
    code, out, _ = evaluate(a_run, *QUICK, "--all-checkpoints")
    assert code == 0
    first, second = read(a_run / "evaluation", "checkpoints.json")["checkpoints"]
    assert "produces values that are not numbers" in first["error"]
    assert second["metrics"]["fid"]["value"] > 0
    assert re.search(r"^step 10: .*generator-00000010.safetensors@\d+ produces values", out, re.M)
    write_broken(generator_path(a_run, 20))
    assert "produces values that are not numbers" in fails(a_run, *QUICK, "--all-checkpoints")


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metrics", "recal"], "--metrics recal: expected fid, .*; did you mean 'recall'?"),
        (["--features", "pixls"], "--features pixls: expected .*; did you mean 'pixels'?"),
        (["--features", "no.py:f"], "--features no.py:f: cannot read no.py: No such file"),
        (["--inception-weights", "w.pth"], "--inception-weights is for --features inception"),
        (["--samples", 1], "--samples 1: expected 2 or more"),
        (["--seed", -1], "--seed -1: expected 0 or more"),
        (["--resolution", 0], "--resolution 0: expected a number of pixels"),
        (["--checkpoint", 30], "--checkpoint 30: .*10"),
        (["--checkpoint", "nan"], "--checkpoint nan: expected a step"),
        (["--checkpoint", 10, "--all-checkpoints"], "give one of the two"),
        (["--metrics", "diversity", "--all-checkpoints"], "expected some of fid, kid"),
        (["--classes", "viral"], "--classes viral: .* generates normal, bacterial"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--device", "tpu"], "--device tpu cannot be used here"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(a_run, fails, options, said):
    features = [] if "--features" in options else PIXELS
    line = fails(a_run, *features, *options)
    assert all(part in line for part in said.split(".*")), line
    assert not list(a_run.glob("evaluation*"))


def test_another_resolution_than_the_generators(a_run, fails):
    said = fails(a_run, *PIXELS, "--resolution", 64)
    assert said.startswith("--resolution 64: the generated images have 32 pixels")


def test_no_metrics_at_all(a_run, fails):
    assert "--metrics: none named" in fails(a_run, *PIXELS, "--metrics")


def test_generators_of_several_sizes_are_evaluated_apart(make_run, data, fails):
    run = make_run("runs/several/normal", ("normal",)).parent
    larger = replace(NETWORK, resolution=64)
    make_run("runs/several/bacterial", ("bacterial",), network=larger)
    line = fails(run, "--data", data, *QUICK)
    assert "normal 32 pixels, 1 channels" in line
    assert "bacterial 64 pixels, 1 channels" in line


def test_a_run_that_is_not_there_is_not_made(make_run, data, fails):
    run = make_run()
    gone = run.with_name(run.name + "t")
    for option in ([], ["--all-checkpoints"]):
        said = fails(gone, "--data", data, *PIXELS, *option)
        assert said == f"{gone}: there is no such run; did you mean {run.name!r}?"
    assert "--data is missing" in fails(gone, *PIXELS)
    assert not gone.exists()


def test_data_that_nobody_names(make_run, images, fails, tmp_path):
    run = make_run()
    assert fails(run, *PIXELS).startswith(f"--data is missing, and {run} does not tell")
    assert fails(images, *PIXELS).startswith(f"--data is missing, and {images} does not tell")
    settings = {"data": str(tmp_path / "moved"), "resolution": 32}
    (run / "config.yaml").write_text(write_config(override(TrainConfig(), settings)))
    assert "is not there any more: name the folder" in fails(run, *PIXELS)


def test_a_run_that_has_kept_nothing(a_run, images, data, fails):
    for path in (a_run / "checkpoints").iterdir():
        path.unlink()
    assert "has kept no generators" in fails(a_run, *PIXELS, "--all-checkpoints")
    (a_run / "generator.safetensors").unlink()
    assert "has no generator yet" in fails(a_run, *PIXELS)
    with_data = ("--data", data, *PIXELS)
    assert "is not a run folder" in fails(images, *with_data, "--all-checkpoints")
    assert fails(images, *with_data, "--checkpoint", 10).startswith("--checkpoint 10: ")


def test_classes_that_do_not_fit_are_named(images, data, fails, evaluate, tmp_path):
    arguments = (images, "--data", data, *QUICK)
    alien = images / "bactrial"
    alien.mkdir()
    write_noise(alien / "1.png", 1)
    said = fails(*arguments)
    assert "class 'bactrial' is not among the data's classes bacterial, normal" in said
    assert said.endswith("did you mean 'bacterial'?")
    (alien / "1.png").unlink()
    assert "bactrial" in fails(*arguments)
    alien.rmdir()
    for path in (images / "bacterial").iterdir():
        path.unlink()
    empty = fails(*arguments)
    (images / "bacterial").rmdir()
    missing = fails(*arguments)
    assert "bacterial" in empty
    assert "there are no images of bacterial, which the data have" in missing
    assert evaluate(*arguments, "--classes", "normal")[0] == 0  # as the complaint proposes
    assert read(tmp_path / "drawn-evaluation")["images"] == {"normal": 12}


def test_data_without_the_runs_classes(make_run, data, fails):
    run = make_run(class_names=("normal", "viral"))
    assert "no class 'viral' in" in fails(run, "--data", data, *QUICK)


def test_a_generator_that_produces_no_numbers(a_run, fails):
    write_broken(a_run / "generator.safetensors")
    assert "generator.safetensors@30 produces values that are not numbers" in fails(a_run, *QUICK)
    assert not (a_run / "evaluation" / "evaluation.json").exists()


def test_features_of_a_users_own(images, data, evaluate, fails, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def rows(images):\n    return images.mean(3).flatten(1)\n"
        "def broken(images):\n    return images.mean(3).flatten(1) / 0\n"
    )
    arguments = (images, "--data", data, "--metrics", "fid", "--features")
    code, out, _ = evaluate(*arguments, f"{file}:rows")
    assert code == 0
    assert "FID (mine.py:rows, 32-d)" in out
    said = fails(*arguments, f"{file}:broken")
    assert said == (
        "the features of 60 of 60 images are not numbers: check --features mine.py:broken"
    )
    assert "did you mean 'rows'" in fails(*arguments, f"{file}:row")


def test_what_cannot_be_written(a_run, fails, tmp_path):
    (tmp_path / "file").touch()
    there = tmp_path / "file" / "there"
    assert fails(a_run, *QUICK, "--out", there).startswith(f"cannot write {there}: a part of that")
    (a_run / "evaluation" / "evaluation.json").mkdir(parents=True)
    assert fails(a_run, *QUICK).startswith(f"cannot write {a_run}/evaluation/evaluation.json: ")
