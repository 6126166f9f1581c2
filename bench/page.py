"""``python -m bench.page FILE PAGE``: put the tables of a result into a page.

The result is of ``bench.kernels``, ``bench.predict``, ``bench.throughput``,
``bench.profile_step``, ``research.disturbances``, ``research.extractors``, ``research.certainty``,
``research.copies`` or ``research.parity``.
The page has a line ``<!-- NAME -->`` for the file of that name, in bench/results its path there,
and a block of code after it, which is replaced.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bench.command import parser_of
from bench.record import RESULTS, function_of, read_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_named


def with_tables(page: str, result: Path) -> str:
    """The page with the block after the result's mark replaced by the result's tables.

    Raises:
        UserError: the page has no such mark with a block after it; the result is of another kind.
    """
    record, path = read_result(result), result.resolve()
    name = path.relative_to(RESULTS) if path.is_relative_to(RESULTS) else path.name
    report = function_of(record, result, "report")
    block = f"<!-- {name} -->\n```text\n{report(record)}\n```\n"
    pattern = rf"<!-- {re.escape(str(name))} -->\n```text\n.*?```\n"
    replaced, count = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        raise UserError(f"the page has {count} marks <!-- {name} --> with a block, wants 1")
    return replaced


def main() -> None:
    """Rewrite the page."""
    parser = parser_of("bench.page", __doc__)
    parser.add_argument("file", type=Path, help="the JSON of one of those commands")
    parser.add_argument("page", type=Path, help="the page, such as docs/benchmarks.md")
    arguments = parser.parse_args()
    if not arguments.page.is_file():
        raise UserError(f"{arguments.page}: no such file")
    before = arguments.page.read_text()
    after = with_tables(before, arguments.file)
    if after != before:
        write_named(arguments.page, after.encode())


if __name__ == "__main__":
    sys.exit(run_command(main))
