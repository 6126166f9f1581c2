"""What the commands of bench and research cannot do is refused in a line that names the flag."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import busy, first_minute, kernels, predict, profile_step, throughput
from commands import call
from research import parity

FORM = "is not of the form NxCxHxW"
REFUSED = {
    busy: [
        ("--seconds 0", "--seconds: got 0.0, expected over 0"),
        ("--rounds 0", "--rounds: got 0, expected 1 or more"),
        ("--rounds 10001", "--rounds: got 10001, expected 10000 or less"),
    ],
    first_minute: [
        ("--standin", "--standin: it stands in for a GPU on --device cpu, got --device cuda"),
        ("--device cpu --limit 0", "--limit: got 0.0, expected over 0"),
        ("--device cpu --json .", "--json: . is a folder, expected a file"),
    ],
    kernels: [
        ("--seconds-per-case 0", "--seconds-per-case: got 0.0, expected over 0"),
        ("--seconds-per-case nan", "--seconds-per-case: expected a finite number"),
        ("--threads 0", "--threads: got 0, expected 1 or more"),
        *((f"--shapes {bad}", f"'{bad}' {FORM}") for bad in ("64x512x4", "64x0x4x4", "64,512,4,4")),
        ("--shapes 64x512x4xa", f"--shapes: '64x512x4xa' {FORM}, as 64x512x4x4 is"),
        ("--against eager eager", "--against: expected each once, got eager eager"),
        ("--ops bias_leaky_relu --ops generator_loss", "--ops is given twice"),
    ],
    predict: [
        ("--clock-ghz 0", "--clock-ghz: got 0.0, expected over 0"),
        ("--memory-gb-per-s nan", "--memory-gb-per-s: expected a finite number"),
        ("--against nowhere.json", "cannot read nowhere.json"),
        ("--before nowhere.json", "cannot read nowhere.json"),
    ],
    profile_step: [
        ("--device nonsense", "--device nonsense cannot be used here"),
        ("--threads 2", "unrecognized arguments: --threads 2"),
        ("--resolutoin 32", "did you mean '--resolution'?"),
    ],
    throughput: [
        ("--rounds 0", "--rounds: got 0, expected 1 or more"),
        ("--threads 0", "--threads: got 0, expected 1 or more"),
        ("--batch-size 0", "--batch-size: got 0, expected 1 or more"),
        ("--batch-sizes 8 0", "--batch-sizes: got 0, expected 1 or more"),
        ("--seconds nan", "--seconds: expected a finite number, such as 0.5 or 1e-3, got 'nan'"),
        ("--limit -1", "--limit: got -1.0, expected over 0"),
        ("--resolution 48", "resolution should be one of 32, 64, 128, 256, 512, got 48"),
        ("--data no/such/folder", "no/such/folder"),
    ],
    parity: [
        ("--seeds 1", "--seeds: got 1, expected 2 or more"),
        ("--steps 1 --snapshots 1", "--steps: got 1, expected 2 or more"),
        ("--steps 5 --snapshots 6", "--steps: got 5, expected 6 or more"),
        ("--snapshots 0", "--snapshots: got 0, expected 1 or more"),
        ("--threads 0", "--threads: got 0, expected 1 or more"),
        ("--minutes nan", "--minutes: expected a finite number"),
        ("--batch-size 0", "--batch-size: got 0, expected 1 or more"),
        ("--base-channels 12", "base_channels should be a multiple of 8 from 8 to 4096, got 12"),
        ("--resolution 48", "resolution should be one of 32, 64, 128, 256, 512, got 48"),
        ("--data no/such/folder", "no/such/folder"),
        ("--out .", "--out: . is a folder, expected a file"),
    ],
}
if not torch.cuda.is_available():
    REFUSED[kernels] += [("--device cuda", "--device cuda: PyTorch sees no GPU here")]


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [(module, *row) for module, rows in REFUSED.items() for row in rows],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch, capsys, module, words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out = "--json" if module is first_minute else "--out"
    given = [] if out in words.split() else [out, "result.json"]
    assert call(module.main, *given, *words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not Path("result.json").exists()
