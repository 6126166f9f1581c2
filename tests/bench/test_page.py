"""The tables in the docs are those of the result files beside them."""

import json
import re
from pathlib import Path

import pytest

from bench import page as page_module
from bench.kernels_report import report
from bench.page import with_tables
from bench.record import RESULTS, ROOT
from cxrgan_fast.errors import UserError

EMPTY = '{"command": "python -m bench.kernels", "cases": [], "summary": []}'


@pytest.mark.parametrize("page", ["benchmarks.md", "metrics.md"])
def test_every_table_of_the_docs_is_its_files(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    names = re.findall(r"<!-- (\S+\.json) -->", text)
    assert names
    for name in names:
        assert with_tables(text, RESULTS / name) == text


def test_a_block_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    source = json.loads((ROOT / "bench" / "results" / "kernels_cpu.json").read_text())
    result = tmp_path / "some.json"
    result.write_text(json.dumps(source))
    page = "above\n<!-- some.json -->\n```text\nold\n```\nbelow\n<!-- other.json -->\n"
    expected = f"above\n<!-- some.json -->\n```text\n{report(source)}\n```\nbelow\n"
    assert with_tables(page, result) == expected + "<!-- other.json -->\n"


def test_a_file_in_a_folder_of_the_results_is_named_with_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(page_module, "RESULTS", tmp_path)
    (tmp_path / "some_gpu").mkdir()
    result = tmp_path / "some_gpu" / "kernels.json"
    result.write_text(EMPTY)
    page = "<!-- some_gpu/kernels.json -->\n```text\nold\n```\n"
    assert "old" not in with_tables(page, result)


def test_a_result_without_tables_is_refused(tmp_path: Path) -> None:
    result = tmp_path / "some.json"
    result.write_text('{"command": "python -m bench.data"}')
    with pytest.raises(UserError, match=r"results of bench\.data have no report"):
        with_tables("", result)


def test_a_page_without_the_mark_is_refused(tmp_path: Path) -> None:
    result = tmp_path / "some.json"
    result.write_text(EMPTY)
    with pytest.raises(UserError, match=r"0 marks <!-- some.json -->"):
        with_tables("nothing here\n", result)
