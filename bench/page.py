"""``python -m bench.page FILE PAGE``: put the tables of a result into a page.

The result is of ``bench.kernels``, ``bench.predict``, ``bench.throughput``,
``bench.profile_step``, ``research.disturbances`` or ``research.parity``. The page has a line
``<!-- NAME -->`` for the file of that name, in bench/results its path there, and a block of code
after it, which is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from bench import predict_report, profile_step, throughput_report
from bench import report as kernels_report
from bench.record import ROOT
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from research import disturbances_report, parity_report

RESULTS = ROOT / "bench" / "results"
REPORTS = {
    "cases": kernels_report.report,
    "predictions": predict_report.report,
    "points": throughput_report.report,
    "groups": profile_step.report,
    "disturbances": disturbances_report.report,
    "comparisons": parity_report.report,
}
"""The tables of a result, by what only that kind of result holds."""


def with_tables(page: str, result: Path) -> str:
    """The page with the block after the result's mark replaced by the result's tables.

    Raises:
        UserError: the page has no such mark with a block after it; the result is of another kind.
    """
    record, path = json.loads(result.read_text()), result.resolve()
    name = path.relative_to(RESULTS) if path.is_relative_to(RESULTS) else path.name
    report = next((tables for key, tables in REPORTS.items() if key in record), None)
    if report is None:
        raise UserError(f"{result} is of no command whose tables are known")
    block = f"<!-- {name} -->\n```text\n{report(record)}\n```\n"
    pattern = rf"<!-- {re.escape(str(name))} -->\n```text\n.*?```\n"
    replaced, count = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise UserError(f"the page has {count} marks <!-- {name} --> with a block, wants 1")
    return replaced


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("file", type=Path, help="the JSON of one of those commands")
    parser.add_argument("page", type=Path, help="the page, such as docs/benchmarks.md")
    arguments = parser.parse_args()
    for each in (arguments.file, arguments.page):
        if not each.is_file():
            raise UserError(f"{each}: no such file")
    arguments.page.write_text(with_tables(arguments.page.read_text(), arguments.file))


if __name__ == "__main__":
    sys.exit(run_command(main))
