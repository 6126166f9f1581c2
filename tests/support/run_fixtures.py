"""Fixtures: the train command in this process, and run folders that nobody had to train."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from cxrgan_fast import evaluate as evaluate_command
from cxrgan_fast import train as command
from cxrgan_fast.command import run_command
from cxrgan_fast.nn import NetworkConfig, build_generator
from cxrgan_fast.runs.checkpoint import checkpoint_path, generator_path
from cxrgan_fast.runs.generator_file import save_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import write_config
from evaluations import write_images

NETWORK = NetworkConfig(resolution=32, base_channels=8, latent_size=8)

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run folder: its newest generator, and those that it has kept of some steps."""

    def make(
        name: str = "runs/00000-phantom-32-resnet",
        class_names: Sequence[str] = ("normal", "bacterial"),
        network: NetworkConfig = NETWORK,
        steps: Sequence[int] = (10, 20),
    ) -> Path:
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        for step in steps:
            generator = build_generator(network, len(class_names))
            with torch.no_grad():
                for tensor in generator.parameters():  # so that classes differ
                    tensor.add_(torch.randn_like(tensor), alpha=0.1)
            weights = generator.state_dict()
            for path in (generator_path(run, step), run / "generator.safetensors"):
                save_generator(path, weights, network, class_names, step=step, images_seen=step)
            checkpoint_path(run, step).touch()
        return run

    return make


@pytest.fixture
def train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        code = run_command(command.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fails(train: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run the command, hold that it ends as bad input should, and give its one line."""

    def run(*arguments: str | Path) -> str:
        code, _, err = train(*arguments)
        assert code == 2, err
        *before, line = err.strip().splitlines()
        assert line.startswith("error: ")
        assert all(other.startswith("step ") for other in before), err  # the log, nothing else
        return line

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images: 60 to train on, and a test split of 20."""
    folder = tmp_path_factory.mktemp("real")
    write_images(folder / "train", "train", 60)
    write_images(folder / "test", "test", 20)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 images that somebody's generator might have drawn."""
    return write_images(tmp_path / "drawn", "val", 24)


@pytest.fixture
def a_run(make_run: MakeRun, data: Path) -> Path:
    """A run on these data, whose generators nobody has trained."""
    run = make_run()
    settings = {"data": str(data), "resolution": 32}
    (run / "config.yaml").write_text(write_config(override(TrainConfig(), settings)))
    return run


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        words = [str(word) for word in arguments]
        device = [] if "--device" in words else ["--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["evaluate", *words, *device])
        code = run_command(evaluate_command.main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
