"""Run folders edited at random, with seeds, through every command that reads them.

Each command goes on or says in a line why not; what it refuses it has not changed; and what a
link of the folder points to is never changed.
"""

import copy
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
import yaml
from safetensors.torch import load_file, save

from cxrgan_fast import evaluate, generate, train
from cxrgan_fast.command import run_command
from cxrgan_fast.data import __main__ as data
from cxrgan_fast.runs.checkpoint import checkpoint_path, save_checkpoint
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.loop import train as train_in_process

SETTINGS = {"steps": 2, "resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
            "phantom_images": 12, "precision": "fp32", "preset": "small", "device": "cpu",
            "eval_every": 1, "log_every": 1, "eval_samples": 8, "features": "pixels"}  # fmt: skip

WEIRD: list[Any] = [
    None, True, 0, -1, 10**30, 2**63, 2**53, -(2**63), 1.5, 1e308, float("nan"), float("inf"), "",
    "x", "\x1b[31m", "\udcff", "../../mine", "/dev/zero", "~", "1e400", "a" * 5000, "a\0b", "CON",
    [], ["x"], [[None]], {}, {"a": {"b": [1]}}, ["normal", "normal"], ["\x1b[31m", "b"], 10**400,
]  # fmt: skip
HEADER = "cxrgan_fast.generator"


def places(value: object, above: tuple = ()) -> Iterator[tuple]:
    """The way to each part of a nested value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        yield (*above, key)
        if isinstance(part, dict | list):
            yield from places(part, (*above, key))


def edit(draw: random.Random, value: Any) -> None:
    """Change, remove or double one part of a nested value."""
    *way, key = draw.choice(list(places(value)))
    for step in way:
        value = value[step]
    kind = draw.choice(["set"] * 4 + ["remove", "double"])
    if kind == "remove":
        del value[key]
    elif kind == "double" and isinstance(value, list):
        value.append(copy.deepcopy(value[key]))
    elif kind == "double":
        value[f"{key}2"] = copy.deepcopy(value[key])
    elif isinstance(value[key], torch.Tensor):
        old = value[key]
        value[key] = draw.choice([
            old.double(), old.flatten()[:0], torch.tensor(200, dtype=old.dtype),
            old[None].expand(3, *old.shape), old.to("meta"), copy.deepcopy(draw.choice(WEIRD)),
        ])  # fmt: skip
    else:
        value[key] = copy.deepcopy(draw.choice(WEIRD))


def edit_settings(draw: random.Random, run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    edit(draw, settings)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


def edit_text(draw: random.Random, run: Path) -> None:
    content = bytearray((run / "config.yaml").read_bytes())
    at = draw.randrange(len(content))
    content[at : at + draw.choice([0, 1, 20])] = draw.choice(
        [b"\x1b[31m", b"&a ", b"*a ", b"!!python/name:os.system ", b"{", b"\0", b"---\n", b"? ",
         b"<<: *a\n", b"\xff", b"9" * 5000, b"[" * 5000, b""]
    )  # fmt: skip
    (run / "config.yaml").write_bytes(content)


def edit_record(draw: random.Random, run: Path) -> None:
    record = json.loads((run / "dataset.json").read_text())
    edit(draw, record)
    (run / "dataset.json").write_text(json.dumps(record))


def edit_log(draw: random.Random, run: Path) -> None:
    path = run / draw.choice(["metrics.jsonl", "evaluations.jsonl", "calls.jsonl"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    edit(draw, rows[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def edit_checkpoint(draw: random.Random, run: Path) -> None:
    """Signed, as somebody would who crafts one."""
    state = torch.load(checkpoint_path(run, 2), weights_only=True)
    del state["format"]
    # Half of the time not one of the hundred tensors.
    edit(draw, state if draw.random() < 0.5 else {"top": {**state, "training": 5}})
    if draw.random() < 0.5:
        state[draw.choice(list(state))] = copy.deepcopy(draw.choice(WEIRD))
    save_checkpoint(run, 2, state)


def edit_generator(draw: random.Random, run: Path) -> None:
    path = run / "generator.safetensors"
    tensors = load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    del header["sha256"]
    header["version"] = 1  # which has no digest
    if draw.random() < 0.7:
        edit(draw, header)
    else:
        name = draw.choice(list(tensors))
        old = tensors[name]
        tensors[name] = draw.choice([old.double(), old * 0 + 200, old.flatten()[:1].clone()])
    path.write_bytes(save(tensors, {HEADER: json.dumps(header)}))


def edit_files(draw: random.Random, run: Path) -> None:
    """Put something else in the place of a file or folder."""
    path = draw.choice(sorted(run.rglob("*")))
    kind = draw.choice(["cut", "gone", "folder", "pipe", "loop", "link", "device", "64 GB"])
    if kind in ("cut", "64 GB") and path.is_file():
        os.truncate(path, 64 << 30 if kind == "64 GB" else draw.randrange(path.stat().st_size + 1))
        return
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("loop", "link", "device"):
        mine = run.parents[1] / "mine"
        path.symlink_to({"loop": path, "link": mine, "device": Path("/dev/zero")}[kind])


EDITS: list[Callable[[random.Random, Path], None]] = [
    edit_settings, edit_text, edit_record, edit_log, edit_checkpoint, edit_generator, edit_files,
]  # fmt: skip
FEW = ["--features", "pixels", "--samples", 8, "--metrics", "fid", "--device", "cpu"]
READERS: dict[str, Callable[[Path, Path], list[object]]] = {
    "train": lambda run, out: ["--resume", run, "--steps", 3],
    "generate": lambda run, out: [run, "--out", out, "--n-per-class", 1, "--device", "cpu"],
    "evaluate": lambda run, out: [run, *FEW, "--all-checkpoints", "--out", out],
    "data": lambda run, out: ["inspect", run],
}
MAIN = {"train": train.main, "generate": generate.main, "evaluate": evaluate.main,
        "data": data.main}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    config = override(TrainConfig(), {**SETTINGS, "out": root})
    return train_in_process(config, torch.device("cpu"))[0]


def contents(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file() and path.stat().st_size < 1 << 30
        else path.lstat().st_mode
        for path in folder.rglob("*")
    }


@pytest.mark.long
@pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("seed", range(6))
def test_every_reader_goes_on_or_says_why_not(made, tmp_path, monkeypatch, capsys, change, seed):
    draw = random.Random(f"{change.__name__} {seed}")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("mine")
    run = Path(shutil.copytree(made, tmp_path / "runs" / made.name))
    change(draw, run)
    for number, command in enumerate(draw.sample(sorted(READERS), len(READERS))):
        before = contents(run)
        words = READERS[command](run, tmp_path / f"out{number}")
        monkeypatch.setattr(sys, "argv", [command, *map(str, words)])
        code = run_command(MAIN[command])
        err = capsys.readouterr().err
        assert code in (0, 2), err
        if code == 2:
            line = err.strip().splitlines()[-1]
            assert line.startswith("error: ")
            assert "\x1b" not in line
            assert len(line) < 2000
            # A training that has begun may fail at what cannot be known before.
            assert contents(run) == before or "is not finite" in line
        assert {path.name for path in mine.iterdir()} == {"thesis"}
        assert (mine / "thesis").read_text() == "mine"
