"""``python -m research.parity``, from flags to files and to the plot."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import safetensors.torch
import torch

from bench import plot
from bench.page import with_tables
from commands import call, size_of_picture
from cxrgan_fast.data import load_dataset
from research import parity, parity_training, plot_parity
from research.parity_evaluation import Judge
from research.parity_report import report

IMAGES = 40
QUICK = ["--seeds", 2, "--steps", 3, "--snapshots", 2]
VARIANTS = ["reference", "bf16", "fp32"]


@pytest.fixture(scope="module")
def phantoms():
    """A few phantoms."""
    return load_dataset("phantom", resolution=32, phantom_images=IMAGES, progress=False)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantoms):
    """Run ``research.parity`` here on tiny networks, with the allocator left alone."""
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path / "cache"))
    forget = create_autospec(parity_training.forget)  # the real one is as slow as all tests' heap
    monkeypatch.setattr(parity_training, "forget", forget)
    real = load_dataset

    def load(source: str, **options: Any) -> Any:
        return phantoms if source == "phantom" else real(source, **options)

    monkeypatch.setattr(parity, "load_dataset", load)
    tiny = ["--base-channels", 8, "--batch-size", 4, "--device", "cpu", "--features", "pixels"]
    places = ["--work", tmp_path / "work", "--out", tmp_path / "result.json"]

    def run(*flags: object) -> int:
        usual = () if "--precisions" in flags else ("--precisions", *VARIANTS[1:])
        return call(parity.main, *tiny, *places, *QUICK, *usual, *flags)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Seed and variant of every training that is begun."""
    begun: list[tuple[int, str]] = []
    train = parity.train

    def noted(variant: str, config: Any, *arguments: Any, **options: Any) -> Any:
        begun.append((config.seed, variant))
        return train(variant, config, *arguments, **options)

    monkeypatch.setattr(parity, "train", noted)
    return begun


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The metrics of every set of images that is measured."""
    sets: list[tuple[str, ...]] = []
    measure = Judge.measure

    def noted(judge: Judge, images: torch.Tensor, metrics: Any) -> Any:
        sets.append(tuple(metrics))
        return measure(judge, images, metrics)

    monkeypatch.setattr(Judge, "measure", noted)
    return sets


def test_from_the_command_to_the_plot(
    command, trained, measured, tmp_path: Path, monkeypatch, capsys
) -> None:
    assert command() == 0
    # Which is first moves on, so that what changes over a night is no variant's alone.
    assert trained == [(0, name) for name in VARIANTS] + [
        (1, name) for name in ("bf16", "fp32", "reference")
    ]
    of_a_training = [("fid",), ("fid", "kid", "nearest_neighbour")]
    assert measured == of_a_training * 6
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / "result.json").read_text())
    assert report(record) in printed
    assert "2 of 2 seeds: written to" in printed
    assert record["complete"] is True
    assert str(tmp_path) not in json.dumps(record)
    assert list(record["runs"]) == VARIANTS
    images = sum(record["evaluation"]["images"].values())
    assert images == record["floor"]["images"]
    assert 0.3 * IMAGES < images <= IMAGES / 2
    for name, runs in record["runs"].items():
        assert [run["seed"] for run in runs] == [0, 1]
        for run in runs:
            first, last = run["snapshots"]
            assert (first["step"], last["step"], last["images"]) == (2, 3, 12)
            assert 0 < first["seconds"] < last["seconds"]
            assert min(first["fid"], last["fid"]) > record["floor"]["fid"]["mean"] > 0
            assert 0.5 < last["nearest_neighbour"] <= 1
        finals = [run["snapshots"][-1]["fid"] for run in runs]
        assert record["variants"][name]["fid"]["values"] == finals
    # Hardly trained from the same weights, all draw about the same.
    fids = [
        [row["fid"] for run in runs for row in run["snapshots"]] for runs in record["runs"].values()
    ]
    assert fids[1] == pytest.approx(fids[0], rel=0.2)
    assert fids[1] != fids[2]
    assert set(record["comparisons"]) == {"bf16", "fp32"}

    page = "<!-- result.json -->\n```text\nold\n```\n"
    assert report(record) in with_tables(page, tmp_path / "result.json")
    pytest.importorskip("matplotlib")
    assert call(plot.main, tmp_path / "result.json", tmp_path / "new" / "result.png") == 0
    assert size_of_picture(tmp_path / "new" / "result.png")[2] > 30_000


def test_what_is_complete_is_never_done_again(
    command, trained, measured, tmp_path: Path, monkeypatch, capsys
) -> None:
    # Killed in the second training: what is written of it is no result.
    train = parity.train

    def killed(variant: str, *arguments: Any, **options: Any) -> Any:
        run = train(variant, *arguments, **options)
        if variant == "bf16":
            raise KeyboardInterrupt
        return run

    with monkeypatch.context() as patch:
        patch.setattr(parity, "train", killed)
        assert command() == 130
    assert "the same command goes on with what" in capsys.readouterr().err
    assert trained == [(0, "reference"), (0, "bf16")]
    assert not (tmp_path / "result.json").exists()
    # Killed in an evaluation, of the second variant.
    trained.clear()
    measure = Judge.measure

    def killed_too(judge: Judge, images: torch.Tensor, metrics: Any) -> Any:
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(judge, images, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "measure", killed_too)
        assert command() == 130
    assert trained == [(0, "bf16"), (0, "fp32")]
    # And to the end: of the first seed nothing is trained, two evaluations are left.
    trained.clear()
    measured.clear()
    assert command() == 0
    assert trained == [(1, "bf16"), (1, "fp32"), (1, "reference")]
    assert len(measured) == 2 * (2 + 3)
    first = json.loads((tmp_path / "result.json").read_text())
    # A third time nothing is done, and the result is the same.
    trained.clear()
    measured.clear()
    assert command() == 0
    assert (trained, measured) == ([], [])
    second = json.loads((tmp_path / "result.json").read_text())
    assert second["runs"] == first["runs"]
    assert second["comparisons"] == first["comparisons"]
    # Other samples: evaluated again. One seed more, one precision less: what is there is taken.
    assert command("--samples", 12) == 0
    assert trained == []
    assert len(measured) == 12
    assert command("--samples", 12, "--seeds", 3, "--precisions", "bf16") == 0
    assert trained == [(2, "reference"), (2, "bf16")]
    assert len(measured) == 12 + 4
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["variants"]["bf16"]["seeds"] == [0, 1, 2]
    assert sum(record["evaluation"]["images"].values()) == 12
    # Other settings of the training are refused.
    capsys.readouterr()
    assert command("--steps", 4) == 2
    assert "was trained with steps 3, not 4: name a new folder" in capsys.readouterr().err


@pytest.mark.long
def test_a_generator_that_produces_no_numbers_is_no_match(command, tmp_path: Path, capsys) -> None:
    assert command("--precisions", "bf16") == 0
    folder = tmp_path / "work" / "seed-1" / "bf16"
    path = folder / "generator-000003.safetensors"
    weights = safetensors.torch.load_file(path)
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
    safetensors.torch.save_file(broken, path)
    (folder / "evaluation.json").unlink()
    assert command("--precisions", "bf16") == 0
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["runs"]["bf16"][1]["snapshots"][1]["fid"] is None
    assert record["runs"]["bf16"][1]["snapshots"][0]["fid"] > 0
    assert (
        "equivalence" not in record["comparisons"]["bf16"]["Welch"]
    )  # of one seed nothing can be said
    pytest.importorskip("matplotlib")
    plot_parity.plot(record, tmp_path / "result.png")
    # A file that is gone is another thing.
    capsys.readouterr()
    (folder / "evaluation.json").unlink()
    path.unlink()
    assert command("--precisions", "bf16") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} is missing or damaged: remove {folder} to train it again" in error


@pytest.mark.long
def test_no_seed_is_begun_that_would_not_end_in_time(
    command, trained, tmp_path: Path, monkeypatch, capsys
) -> None:
    assert command("--minutes", 1e-6, "--precisions", "bf16") == 2
    assert "--minutes 1e-06: one seed is too few to compare" in capsys.readouterr().err
    assert {seed for seed, _ in trained} == {0}
    assert not (tmp_path / "result.json").exists()
    now = [0.0]
    train = parity.train

    def slow(*arguments: Any, **options: Any) -> Any:
        now[0] += 10
        return train(*arguments, **options)

    monkeypatch.setattr(parity, "train", slow)
    monkeypatch.setattr(parity, "time", SimpleNamespace(monotonic=lambda: now[0]))
    trained.clear()
    # The first seed is there and takes no time; of the others, 20 s each, two fit into 45 s.
    assert command("--minutes", 0.75, "--seeds", 9, "--precisions", "bf16") == 0
    assert {seed for seed, _ in trained} == {1, 2}
    assert "3 of 9 seeds: written to" in capsys.readouterr().out
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["complete"] is False
    assert "(NOT complete: 9 wanted)" in report(record)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", 41], "--data: its 40 images are fewer than a batch of 41"),
        (["--samples", 41], "--samples: got 41, expected 2 to the 40 images"),
        (["--features", "pixel"], "did you mean 'pixels'"),
        (["--work", "/dev/null"], "--work: /dev/null cannot be made: File exists"),
    ],
)
def test_bad_flags_are_refused_in_one_line(command, trained, tmp_path, capsys, flags, message):
    assert command(*flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert trained == []
    assert not (tmp_path / "result.json").exists()
