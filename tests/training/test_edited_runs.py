"""Run folders that somebody has edited, damaged or crafted: each goes on, or is refused in a line.

Whatever ends in another exception than `UserError` or `OSError` fails the test by itself.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from cxrgan_fast.runs.checkpoint import checkpoint_path, save_checkpoint
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.loop import train as train_in_process

SETTINGS = {"steps": 2, "resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
            "phantom_images": 12, "precision": "fp32", "preset": "small", "device": "cpu",
            "eval_every": 1, "log_every": 1, "eval_samples": 8, "features": "pixels"}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    run, _ = train_in_process(
        override(TrainConfig(), {**SETTINGS, "out": root}), torch.device("cpu")
    )
    return run


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs" / made.name))


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    content = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return lambda run: (run / name).write_bytes(content)


def setting(name: str, value: object) -> Callable[[Path], object]:
    """Edit a setting, in whichever group it is."""

    def change(run: Path) -> None:
        settings = yaml.safe_load((run / "config.yaml").read_text())
        group = next((g for g in settings.values() if isinstance(g, dict) and name in g), settings)
        group[name] = value
        (run / "config.yaml").write_text(yaml.safe_dump(settings))

    return change


def row(**changes: object) -> Callable[[Path], object]:
    """Edit the first evaluation."""

    def change(run: Path) -> None:
        path = run / "evaluations.jsonl"
        first, *others = path.read_text().splitlines()
        edited = {**json.loads(first), **changes}
        path.write_text("\n".join([json.dumps(edited), *others]) + "\n")

    return change


def folder(name: str) -> Callable[[Path], object]:
    """Put a folder in the place of a file."""

    def change(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


def pipe(name: str) -> Callable[[Path], object]:
    """Put a pipe in the place of a file: whoever opens it waits for ever."""

    def change(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


def huge(name: str) -> Callable[[Path], object]:
    """Make a file larger than any memory; on the disk it takes nothing."""
    return lambda run: os.truncate(run / name, 64 << 30)


def file(name: str) -> Callable[[Path], object]:
    """Put a file in the place of a folder."""

    def change(run: Path) -> None:
        shutil.rmtree(run / name)
        (run / name).write_text("not a folder")

    return change


ALIASES = "a: &a [1, 1]\n" + "\n".join(
    f"{x}: &{x} [{', '.join([f'*{y}'] * 9)}]"
    for y, x in zip("abcdefghi", "bcdefghij", strict=True)
)  # fmt: skip

EDITS: dict[str, Callable[[Path], object]] = {
    **{f"config {value[:20]!r}": text("config.yaml", value) for value in (
        "5", "[]", "", "{", "\0", "a: *b", "steps", "steps: x", "steps: null", "? [a]\n: 5",
        "steps: 2000-13-45", "steps: 2000-99-99T1:1:1Z", "steps: " + "9" * 5000, "{a: " * 5000,
        "[" * 5000, "!!python/object/apply:os.system [ls]", "dataset: 5", "dataset: [1]",
        "network: {steps: {a: 1}}", "data: 5", "data: ''", 'data: "a\\0b"', "classes: normal",
        "augment: [x]", "\x1b[31m: 5", "out: ''", "g_lr: .nan", "g_lr: .inf", "g_lr: -.inf",
        "steps: -1", "steps: 1.5", "steps: true", "features: nothing", "features: ''",
        "!!binary 5", "steps: !!timestamp x", "steps: !!float x", "&a [*a]",
    )},
    "config not text": text("config.yaml", b"\xff\xfe\x00steps"),
    "config of aliases": text("config.yaml", ALIASES),
    "config large": text("config.yaml", "#" * (2 << 20)),
    **{f"{name} {value!r:.12}": setting(name, value) for name, value in (
        ("steps", 10**30), ("steps", 2**63), ("batch_size", 10**12), ("batch_size", 10**30),
        ("extra_layers", 100_000), ("extra_layers", 10**30), ("base_channels", 10**9),
        ("latent_size", 10**30), ("latent_size", 2**62), ("resolution", 10**9), ("seed", 10**30),
        ("discriminator_steps", 10**30), ("r1_interval", 10**30), ("r1_gamma", float("inf")),
        ("noise_std", float("inf")), ("ema_half_life", float("inf")), ("phantom_images", 10**9),
        ("eval_samples", 10**30), ("eval_samples", 10**12), ("eval_every", 10**30),
        ("log_every", 10**30), ("keep_checkpoints", 10**30), ("mark_every", 10**30),
        ("max_minutes", float("inf")), ("max_minutes", 1e308), ("device", "x"),
        ("device", "cuda:99999999999"), ("device", "\x1b[31m"), ("device", ""), ("data", "\udcff"),
        ("device", "meta"), ("device", "cpu:5"), ("classes", ["\x1b[31m"]), ("executor", "graph"),
        ("inception_weights", "/dev/zero"), ("features_weights", "/dev/zero"),
        ("data", "/dev/zero"), ("data", "/dev/null"),
        ("data", "x" * 5000), ("resident_share", float("nan")), ("per_class", True),
    )},
    **{f"dataset {value[:20]!r}": text("dataset.json", value) for value in (
        "null", '{"name": "\\ud800", "fingerprint": "", "images": {}}', "1e999", "9" * 5000,
        '{"name": "x", "fingerprint": "y", "images": {"a": -1}}',
    )},
    **{f"evaluations {value[:20]!r}": text("evaluations.jsonl", value) for value in (
        "", "[]\n", "{}\n", '{"step": 1}\n', '{"step": "1"}\n', '{"step": 1, "metrics": 5}\n',
        "[" * 10**5, '{"step": ' + "9" * 5000 + "}\n", '{"step": 1e400}\n', "\0\n", "\udcff\n",
    )},
    "evaluation without FID": row(metrics={}),
    "evaluation with another FID": row(metrics={"fid": 5}),
    "evaluation with a FID of text": row(metrics={"fid": {"value": "x", "n_real": 1, "n_fake": 1}}),
    "evaluation of features 5": row(features=5),
    "evaluation with escapes": row(features="\x1b[31m"),
    "evaluation of step 2**70": row(step=2**70),
    **{f"metrics {value[:20]!r}": text("metrics.jsonl", value) for value in (
        "[]\n", "{}\n", "[" * 10**5, "\udcff\n", "",
    )},
    **{f"calls {value[:20]!r}": text("calls.jsonl", value) for value in (
        "[]\n", "{}\n", "[" * 10**5, "\udcff\n", "", '{"step": ' + "9" * 5000 + "}\n",
    )},
    **{f"a folder as {name}": folder(name) for name in (
        "config.yaml", "dataset.json", "metrics.jsonl", "evaluations.jsonl", "calls.jsonl",
        "generator.safetensors", "best_generator.safetensors", "progress.gif",
        "checkpoints/step-00000002.pt", "checkpoints/generator-00000002.safetensors",
        "grids/grid-000002.png",
    )},
    **{f"a pipe as {name}": pipe(name) for name in (
        "config.yaml", "dataset.json", "metrics.jsonl", "evaluations.jsonl", "calls.jsonl",
        "generator.safetensors", "best_generator.safetensors",
        "checkpoints/step-00000002.pt", "checkpoints/generator-00000002.safetensors",
        "grids/grid-000002.png",
    )},
    **{f"64 GB of {name}": huge(name) for name in (
        "config.yaml", "dataset.json", "metrics.jsonl", "evaluations.jsonl", "calls.jsonl",
        "checkpoints/step-00000002.pt",
    )},
    **{f"a file as {name}": file(name) for name in ("checkpoints", "grids")},
    "no checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "no grids": lambda run: shutil.rmtree(run / "grids"),
    "a checkpoint of other digits": lambda run: (run / "checkpoints/step-٣.pt").touch(),
    "a checkpoint of a huge step": text(f"checkpoints/step-{'9' * 200}.pt", ""),
    "a checkpoint of a short name": lambda run: (run / "checkpoints/step-7.pt").touch(),
}  # fmt: skip


def contents(run: Path) -> dict[str, object]:
    """What somebody would miss: each file's content, or what else it is."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        if path.is_file() and path.stat().st_size < 1 << 30
        else path.lstat().st_mode
        for path in run.rglob("*")
    }


@pytest.mark.parametrize("threads", [float("nan"), "", 0, 2**40, True, [1]])
def test_a_number_of_threads_that_is_none_is_refused(run, fails, threads):
    state = torch.load(checkpoint_path(run, 2), weights_only=True)
    del state["format"]
    save_checkpoint(run, 2, {**state, "threads": threads})
    assert "threads is not from 1 to 1024" in fails("--resume", run, "--steps", 3)


@pytest.mark.parametrize("name", ["checkpoints", "grids"])
def test_a_link_out_of_a_run_is_not_written_through(run, fails, tmp_path, name):
    """As in an archive from a stranger: another run's checkpoints would be removed."""
    theirs = (run / name).rename(tmp_path / "theirs")
    (run / name).symlink_to(theirs)
    before = contents(theirs), contents(run)
    assert f"{name} is a link to {theirs}" in fails("--resume", run, "--steps", 3)
    assert (contents(theirs), contents(run)) == before


@pytest.mark.first_tier(4)
@pytest.mark.parametrize(
    "edit",
    EDITS.values(),
    ids=[name.encode("ascii", "backslashreplace").decode() for name in EDITS],
)
def test_an_edited_run_goes_on_or_is_refused_in_a_line(run, train, edit):
    edit(run)
    before = contents(run)
    code, out, err = train("--resume", run, "--steps", 3)
    assert code in (0, 2), err
    assert "\x1b" not in out + err
    if code == 2:
        assert err.strip().splitlines()[-1].startswith("error: ")
        assert len(err) < 2000
        assert contents(run) == before
