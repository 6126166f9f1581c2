"""``python -m bench.reference_gan``: its own steps, its flags, and what it says."""

import re

import pytest
import torch

from bench import reference_gan
from bench.reference_gan import ReferenceTraining
from bench.reference_settings import Settings
from commands import call
from cxrgan_fast.data import ImageDataset, load_dataset
from programs import run_module

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset("phantom", resolution=32, phantom_images=12)


def test_a_step_as_it_comes_trains_both_networks(dataset):
    settings = Settings(resolution=32, base_channels=8, batch_size=4, mirror=True, noise_std=0.1)
    training = ReferenceTraining(settings, dataset, CPU, num_workers=0)
    networks = (training.generator, training.discriminator, training.ema)
    before = [[p.clone() for p in network.parameters()] for network in networks]
    for _ in range(4):  # beyond the 3 batches of an epoch
        losses = training()
    assert training.step == 4
    assert set(losses) == {"d_loss", "g_loss"}
    for network, old in zip(networks, before, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(network.parameters(), old, strict=True))


@pytest.mark.slow
def test_compiled_it_trains_the_same(dataset):
    """With R1, which is not compiled, and a spectral norm that both change."""
    settings = Settings(
        resolution=32, base_channels=8, batch_size=4, spectral_norm=True, r1_interval=2,
        g_lr=1e-6, d_lr=1e-6,
    )  # fmt: skip

    def losses(compile: bool) -> list[float]:
        torch.manual_seed(0)
        training = ReferenceTraining(settings, dataset, CPU, compile=compile, num_workers=0)
        return [loss for _ in range(3) for loss in training().values()]

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)


def test_more_than_there_is_in_a_batch_is_refused(dataset):
    with pytest.raises(ValueError, match="a batch of 13 images is more than the 12 there are"):
        ReferenceTraining(Settings(resolution=32, batch_size=13), dataset, CPU)


@pytest.fixture
def program(monkeypatch, capsys, dataset):
    """Run the program in this process, on few images: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        # The set for a source that there is; the reader's own errors for others.
        monkeypatch.setattr(
            "cxrgan_fast.data.load_dataset",
            lambda source, **given: (
                dataset if source == "phantom" else load_dataset(source, **given)
            ),
        )
        small = ["--resolution", "32", "--base-channels", "8", "--batch-size", "4"]
        code = call(reference_gan.main, *small, *arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "flags", [(), ("--amp", "--channels-last"), ("--family", "dcgan", "--channels-last")]
)
def test_the_program_trains_and_prints(program, flags):
    code, out, _ = program("--steps", "2", "--workers", "0", "--seed", "1", *flags)
    assert code == 0
    assert re.search(
        r"d_loss \d+\.\d+, g_loss -?\d+\.\d+\nfirst step: .* s\nthen: .* images/s", out
    )


@pytest.mark.long
def test_the_program_runs_on_its_own_with_workers():
    words = "--resolution 32 --base-channels 8 --batch-size 4 --steps 2"
    assert "images/s" in run_module("bench.reference_gan", *words.split())


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--steps", "0"), "--steps: got 0, expected 1 or more"),
        (("--resolution", "48"), "argument --resolution: invalid choice: 48"),
        (("--data", "/nowhere"), "/nowhere: no such folder"),
        (("--device", "toaster"), "toaster"),
        (("--batch-size", "13"), "a batch of 13 images is more than the 12 there are"),
    ],
)
def test_what_cannot_be_is_one_line(program, flags, line):
    code, _, err = program(*flags)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert line in last
    assert "Traceback" not in err
