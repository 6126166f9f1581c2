"""``python -m cxrgan_fast.generate`` as a user meets it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from cxrgan_fast import generate as command
from cxrgan_fast.command import run_command
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_to_folder
from cxrgan_fast.sampling.interpolation import interpolation_sheets


@pytest.fixture
def generate(monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["generate", *map(str, arguments), "--device", "cpu"])
        code = run_command(command.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fails(generate):
    """Run the command, hold that it ends as bad input should, and give its one line."""

    def run(*arguments: str | Path) -> str:
        code, out, err = generate(*arguments)
        assert code == 2
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_set_and_its_sheets(make_run, tmp_path, generate, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # elsewhere there is no bar
    code, said, progress = generate(
        make_run(), "--n-per-class", 2, "--out", out, "--seed", 4, "--interpolate"
    )
    assert code == 0
    assert names(out) == [
        "bacterial/bacterial_seed4_00000.png",
        "bacterial/bacterial_seed4_00001.png",
        "class_interpolation_normal_to_bacterial.png",
        "latent_interpolation.png",
        "manifest.csv",
        "normal/normal_seed4_00000.png",
        "normal/normal_seed4_00001.png",
    ]
    assert said.splitlines() == [
        f"2 images of each of normal, bacterial: {out}",
        f"interpolation: {out}/latent_interpolation.png",
        f"interpolation: {out}/class_interpolation_normal_to_bacterial.png",
    ]
    assert "4/4" in progress


def test_a_truncated_set_differs_and_says_so(make_run, tmp_path, generate, fails):
    run, table = make_run(), {}
    for name, more in (("whole", []), ("some", ["--truncation", 0.5]), ("one", ["--truncation", 0.5,
                       "--batch-size", 1])):  # fmt: skip
        out = tmp_path / name
        assert generate(run, "--n-per-class", 18, "--out", out, "--interpolate", *more)[0] == 0
        table[name] = {path.name: path.read_bytes() for path in out.rglob("*.*")}
    assert table["some"] == table["one"]
    same = {name for name in table["some"] if table["some"][name] == table["whole"][name]}
    assert not same
    header, first, *_ = table["some"]["manifest.csv"].decode().splitlines()
    assert header == "file,class,seed,checkpoint,truncation"
    assert first.endswith(",0.5")
    assert fails(run, "--out", tmp_path / "out", "--truncation", "nan").startswith("--truncation: ")
    assert b"truncation" not in table["whole"]["manifest.csv"]
    for value in (0, -1, 0.001):
        line = fails(run, "--out", tmp_path / "out", f"--truncation={value}")
        assert line.startswith(
            f"generate --truncation {value}: expected standard deviations from 0.01"
        )


def test_a_folder_that_is_taken_is_refused_before_anything_is_loaded(
    make_run, tmp_path, fails, monkeypatch
):
    run, double = make_run(), create_autospec(command.load_sources)
    monkeypatch.setattr(command, "load_sources", double)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    line = fails(run, "--out", tmp_path / "taken", "--truncation", 0.5)
    assert line.startswith(f"{tmp_path / 'taken'} is not empty: name a new folder")
    double.assert_not_called()
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_sources_that_are_used_twice_give_the_same_images(make_run, tmp_path):
    sources = load_sources(make_run(), truncation=0.5)
    sets = []
    for name in ("first", "second"):
        out = tmp_path / name
        sheets = interpolation_sheets(sources)
        generate_to_folder(sources, out, n_per_class=3, sheets=sheets, progress=False)
        sets.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*.*")})
    assert sets[0] == sets[1]


def test_a_hundred_images_of_each_class_are_the_default(make_run, tmp_path, generate):
    assert generate(make_run(), "--out", tmp_path / "out")[0] == 0
    assert len(names(tmp_path / "out")) == 201


def test_sheets_alone(make_run, tmp_path, generate):
    out = tmp_path / "out"
    assert generate(make_run(), "--out", out, "--n-per-class", 0, "--interpolate")[0] == 0
    assert names(out) == [
        "class_interpolation_normal_to_bacterial.png", "latent_interpolation.png",
    ]  # fmt: skip


def test_one_class_of_an_earlier_checkpoint(make_run, tmp_path, generate):
    out = tmp_path / "out"
    arguments = ("--out", out, "--n-per-class", 1, "--classes", "bacterial", "--checkpoint", 10)
    assert generate(make_run(), *arguments)[0] == 0
    assert names(out) == ["bacterial/bacterial_seed0_00000.png", "manifest.csv"]
    assert "generator-00000010.safetensors@10" in (out / "manifest.csv").read_text()


def test_a_per_class_run(make_run, tmp_path, generate):
    make_run("run/normal", ["normal"])
    make_run("run/bacterial", ["bacterial"])
    out = tmp_path / "out"
    code, said, _ = generate(tmp_path / "run", "--out", out, "--n-per-class", 1, "--interpolate")
    assert code == 0
    assert "1 images of each of bacterial, normal" in said
    assert "normal/normal_seed0_00000.png" in names(out)


def test_a_set_can_be_read_as_a_data_set(make_run, tmp_path, generate):
    from cxrgan_fast.data import load_dataset

    out = tmp_path / "out"
    assert generate(make_run(), "--out", out, "--n-per-class", 3, "--interpolate")[0] == 0
    dataset = load_dataset(str(out), resolution=32, progress=False)
    assert dataset.class_counts() == {"bacterial": 3, "normal": 3}


STOPPED = """
import os, signal, sys
from pathlib import Path
from cxrgan_fast import generate
from cxrgan_fast.sampling import interpolation
write = interpolation.write_grid
def stop(path, *rest):
    if path.name == sheet:
        os.kill(os.getpid(), getattr(signal, number))
        signal.pause()
    write(path, *rest)
interpolation.write_grid = stop
sheet, number = sys.argv[1:3]
sys.argv[1:3] = []
generate.main()
"""
SHEETS = ("latent_interpolation.png", "class_interpolation_normal_to_bacterial.png")


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("number", [2, 0])
@pytest.mark.parametrize("sheet", SHEETS)
def test_a_set_killed_at_its_sheets_is_not_taken_for_whole(
    make_run, tmp_path, generate, sheet, number
):
    arguments = [make_run(), "--out", tmp_path / "out", "--n-per-class", number, "--interpolate"]
    words = [sheet, "SIGKILL", *map(str, arguments), "--device", "cpu"]
    killed = subprocess.run([sys.executable, "-c", STOPPED, *words], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    code, _, err = generate(*arguments)
    assert code == 0, err
    assert set(SHEETS) <= set(names(tmp_path / "out"))
    assert len(names(tmp_path / "out")) == 2 + (2 * number + 1 if number else 0)


def test_a_set_that_another_program_is_writing_is_left_alone(make_run, tmp_path, fails):
    arguments = [make_run(), "--out", tmp_path / "out", "--n-per-class", 2, "--interpolate"]
    words = [SHEETS[0], "SIGSTOP", *map(str, arguments), "--device", "cpu"]
    other = subprocess.Popen([sys.executable, "-c", STOPPED, *words], stdout=subprocess.PIPE)
    try:
        os.waitpid(other.pid, os.WUNTRACED)  # until it has stopped
        before = names(tmp_path / "out")
        assert len(before) == 6  # four images, their manifest, and the mark of what is unfinished
        assert "another program is writing to" in fails(*arguments)
        assert names(tmp_path / "out") == before
    finally:
        other.kill()
        other.communicate()


# -------------------------------------------------------------------------------- bad input


def test_each_bad_input_is_one_line_and_exit_code_2(make_run, tmp_path, fails):
    run, out = make_run(), tmp_path / "out"
    empty_run = make_run("runs/00001-phantom-32-resnet", steps=())
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((run / "generator.safetensors").read_bytes()[:1000])
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()

    gone = tmp_path / "runs" / "00000-phantom-32-resnett"
    assert fails(gone, "--out", out) == (
        f"{gone}: there is no such run; did you mean {run.name!r}?"
    )
    assert fails(empty_run, "--out", out).startswith(f"{empty_run} has no generator yet")
    assert fails(damaged, "--out", out).startswith(f"{damaged} is damaged")
    assert fails(run, "--out", out, "--classes", "norml") == (
        f"--classes norml: {run} generates normal, bacterial; did you mean 'normal'?"
    )
    assert fails(run, "--out", out, "--checkpoint", 11).startswith("--checkpoint 11: ")
    assert fails(run, "--out", full).startswith(f"{full} is not empty")
    assert fails(run, "--out", damaged).startswith(f"cannot write {damaged}: a file of that")
    assert fails(run, "--out", damaged / "x").startswith(f"cannot write {damaged / 'x'}: a part")
    assert fails(run, "--out", out, "--n-per-class", -1).startswith("--n-per-class -1: expected")
    assert fails(run, "--out", out, "--n-per-class", 0).startswith("--n-per-class 0: expected")
    assert fails(run, "--out", out, "--batch-size", 0).startswith("--batch-size 0: expected")
    assert not out.exists()


def test_a_device_that_is_not_there_is_one_line(make_run, tmp_path, monkeypatch, capsys):
    run = str(make_run())
    monkeypatch.setattr(
        sys, "argv", ["generate", run, "--out", str(tmp_path / "out"), "--device", "gpu"]
    )
    assert run_command(command.main) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --device gpu cannot be used here")


# ---------------------------------------------------------------------------- interruption


@pytest.mark.long
def test_ctrl_c_exits_130_and_leaves_nothing(make_run, tmp_path):
    out = tmp_path / "out"
    arguments = [str(make_run()), "--out", str(out), "--n-per-class", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cxrgan_fast.generate", *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A suite that runs in the background has SIGINT ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("*/*.png")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == ""
    assert complained.splitlines()[-1] == "interrupted"
    assert "Traceback" not in complained
    assert not out.exists()


def test_class_folders_by_hand_and_like_the_data(make_run, tmp_path, generate, fails):
    run, data = make_run(), tmp_path / "real"
    for name in ("NORMAL/IM-0001-0001.png", "PNEUMONIA/person1_bacteria_1.png"):
        path = data / name
        path.parent.mkdir(parents=True)
        path.touch()
    one = ("--n-per-class", 1)
    code, said, _ = generate(run, "--out", tmp_path / "a", *one, "--like", data)
    assert code == 0
    assert names(tmp_path / "a") == [
        "NORMAL/normal_seed0_00000.png", "PNEUMONIA/bacterial_seed0_00000.png", "manifest.csv",
    ]  # fmt: skip
    assert "bacterial is in PNEUMONIA" in said.splitlines()
    code, said, _ = generate(
        run, "--out", tmp_path / "b", *one, "--classes", "bacterial", "--like", data
    )
    assert code == 0
    assert "warning: nothing goes into NORMAL" in said
    code, _, _ = generate(
        run, "--out", tmp_path / "c", *one, "--class-folders", "normal=0", "bacterial=1"
    )
    assert code == 0
    assert names(tmp_path / "c")[:2] == ["0/normal_seed0_00000.png", "1/bacterial_seed0_00000.png"]
    out = tmp_path / "d"
    assert fails(run, "--out", out, "--class-folders", "norml=0").startswith(
        "--class-folders norml=0"
    )
    assert "expected the name of one folder" in fails(
        run, "--out", out, "--class-folders", "normal=.."
    )
    assert "no such folder" in fails(run, "--out", out, "--like", tmp_path / "gone")
    sheets = ("--n-per-class", 0, "--interpolate", "--like", data)
    assert "do nothing for --n-per-class 0" in fails(run, "--out", out, *sheets)
    assert not out.exists()
