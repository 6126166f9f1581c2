"""A file of results that is kept while there is nothing better."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from unittest.mock import create_autospec

import pytest

from bench import kernels, throughput
from commands import call


@pytest.mark.parametrize(
    ("module", "measure"), [(kernels, "measure"), (throughput, "load_dataset")], ids=str
)
def test_ctrl_c_before_the_first_figure_leaves_an_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, module: ModuleType, measure: str
) -> None:
    (tmp_path / "result.json").write_text("older")
    interrupted = create_autospec(getattr(module, measure), side_effect=KeyboardInterrupt)
    monkeypatch.setattr(module, measure, interrupted)
    assert call(module.main, "--device", "cpu", "--out", tmp_path / "result.json") == 130
    assert (tmp_path / "result.json").read_text() == "older"
    assert "nothing is written" in capsys.readouterr().out
