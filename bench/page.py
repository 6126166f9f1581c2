"""``python -m bench.page FILE PAGE``: put the tables of a result into a page.

The result is one of ``bench.kernels`` or of ``bench.throughput``. The page has a line
``<!-- NAME -->`` for the file of that name, in bench/results its path there, and a block of code
after it, which is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from bench import report as kernels_report
from bench import throughput_report
from bench.record import ROOT
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError

RESULTS = ROOT / "bench" / "results"


def with_tables(page: str, result: Path) -> str:
    """The page with the block after the result's mark replaced by the result's tables.

    Raises:
        UserError: the page has no such mark with a block after it.
    """
    record, path = json.loads(result.read_text()), result.resolve()
    name = path.relative_to(RESULTS) if path.is_relative_to(RESULTS) else path.name
    tables = throughput_report if "points" in record else kernels_report
    block = f"<!-- {name} -->\n```text\n{tables.report(record)}\n```\n"
    pattern = rf"<!-- {re.escape(str(name))} -->\n```text\n.*?```\n"
    replaced, count = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise UserError(f"the page has {count} marks <!-- {name} --> with a block, wants 1")
    return replaced


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("file", type=Path, help="the JSON of bench.kernels or bench.throughput")
    parser.add_argument("page", type=Path, help="the page, such as docs/benchmarks.md")
    arguments = parser.parse_args()
    for each in (arguments.file, arguments.page):
        if not each.is_file():
            raise UserError(f"{each}: no such file")
    arguments.page.write_text(with_tables(arguments.page.read_text(), arguments.file))


if __name__ == "__main__":
    sys.exit(run_command(main))
