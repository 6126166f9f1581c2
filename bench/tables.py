"""Results as tables of text: for a terminal, and for a page."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Columns = Sequence[tuple[str, str]]
"""Of each column its heading and the form of its cells, such as ``{median_ms[fused]:.3f}``."""

CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "x": lambda extents: "x".join(map(str, extents)),
    "p": lambda parts: "+".join(map(str, parts)),
    "u": lambda parts: "+".join(dict.fromkeys(parts)),  # each once
    "c": lambda share: 100 * share,  # per cent
    "k": lambda count: count / 1e3,
    "m": lambda count: count / 1e6,
}
"""What may stand after ``!`` in the form of a column, beside a letter of Python's own."""


class _Cells(string.Formatter):
    """Formats like ``str.format``; what a row lacks, or has as None, is a dash."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            return super().get_field(field_name, args, kwargs)
        except (KeyError, TypeError):  # TypeError: a part of None is wanted
            return None, field_name

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if value is None:
            return None
        convert = CONVERSIONS.get(conversion)
        return convert(value) if convert else super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        text: str = "-" if value is None else super().format_field(value, format_spec)
        return text


def table_of(title: str, columns: Columns, rows: Iterable[Mapping[str, Any]], *, left: int) -> str:
    """Lay out some rows of a result.

    Args:
        title: the line above.
        columns: their forms are filled from a row as ``str.format`` does; see `CONVERSIONS`. What
            a row lacks is a dash.
        rows: of the result.
        left: how many columns are aligned to the left.

    Returns:
        The table; "" without rows.
    """
    cells = [[_Cells().vformat(form, (), row) for _, form in columns] for row in rows]
    return table(title, [heading for heading, _ in columns], cells, left=left)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Aligned columns, the first ``left`` of them to the left; nothing without rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, ["-" * width for width in widths], *rows)
    ]
    return "\n".join([title, *lines])
