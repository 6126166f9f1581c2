"""``python -m bench.plot``: which files it draws, and what it says of the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import plot
from bench.record import RESULTS
from commands import call, size_of_picture

PICTURES = {
    "kernels_cpu": (1620, 30_000),
    "throughput_cpu": (1170, 15_000),
    "throughput_sweep_cpu": (1980, 15_000),
    "parity_32_cpu": (1980, 30_000),
    "disturbances_64_cxr": (1800, 30_000),
}
"""Of the results in the docs, the pixels across and the least bytes of their pictures."""


@pytest.mark.long
@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_of_the_docs_can_be_plotted_again(name: str, tmp_path: Path, capsys) -> None:
    """Among them results that name commands as they were called then."""
    pytest.importorskip("matplotlib")
    png = tmp_path / "new" / "result.png"
    assert call(plot.main, RESULTS / f"{name}.json", png) == 0
    assert capsys.readouterr().out == f"{png}\n"
    width, least = PICTURES[name]
    across, _, size = size_of_picture(png)
    assert across == width
    assert size > least


OF_KERNELS = {"command": "python -m bench.kernels --threads 1", "device": "cpu", "environment": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory"),
        ("{", "is not JSON"),
        ("[]", "holds no result"),
        ("{}", "results of no command have no plot"),
        ('{"command": "python -m bench.data"}', "results of bench.data have no plot"),
        ('{"command": "python -m bench.nothing"}', "results of bench.nothing have no plot"),
        ('{"command": "python -m os.path"}', "results of no command have no plot"),
        (json.dumps(OF_KERNELS), "lacks 'cases', which python -m bench.kernels writes"),
        (json.dumps({**OF_KERNELS, "cases": []}), "the file has no case with a ratio to plot"),
        (
            '{"command": "python -m bench.throughput", "points": []}',
            "the file has no point with a variant to plot",
        ),
    ],
)
def test_files_that_cannot_be_plotted_are_refused(tmp_path: Path, capsys, text, message) -> None:
    file = tmp_path / "result.json"
    if text is not None:
        file.write_text(text)
    assert call(plot.main, file, tmp_path / "result.png") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "result.png").exists()


def test_without_matplotlib_the_plot_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert call(plot.main, RESULTS / "throughput_cpu.json", tmp_path / "result.png") == 2
    assert capsys.readouterr().err == (
        "error: drawing needs matplotlib: pip install -e '.[bench]'\n"
    )
