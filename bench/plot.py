"""``python -m bench.plot FILE PNG``: plot a result.

The result is of ``bench.kernels``, ``bench.throughput``, ``research.disturbances`` or
``research.parity``; the module ``plot_kernels`` and so on, beside theirs, has for it a function
``plot(record, path)``: the record as the JSON has it, and where the PNG goes. It raises UserError
where there is nothing to plot, or matplotlib is not installed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command import check, parser_of
from bench.record import command_of, function_of, read_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_named

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def panels(
    path: Path, rows: int, columns: int, title: str, *, dpi: int = 180, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """Panels to plot into, written as a PNG at the end.

    Args:
        path: where the picture goes.
        rows: of panels.
        columns: likewise.
        title: over all of them.
        dpi: dots an inch.
        options: of ``pyplot.subplots``.

    Yields:
        The figure, and its panels in an array of that many rows and columns.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError("drawing needs matplotlib: pip install -e '.[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(rows, columns, squeeze=False, layout="constrained", **options)
    yield figure, grid
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    pyplot.close(figure)
    write_named(path, content.getvalue())


def tidy(axes: Axes, **grid: Any) -> None:
    """A panel with a faint grid behind what is drawn, and without the lines of a box."""
    axes.grid(linewidth=0.4, alpha=0.6, **grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_numbers(axes: Axes, *, minor: Any = None) -> None:
    """A logarithmic axis upward whose ticks say 60, not 6 × 10¹; ``minor`` as LogFormatter's."""
    from matplotlib.ticker import LogFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(**(minor or {})))
    axes.tick_params(axis="y", which="both", labelsize=8)


def place_of(record: dict[str, Any]) -> tuple[str, str]:
    """The processor of a result, and PyTorch's version with whether the result is incomplete."""
    environment, threads = record["environment"], record["environment"]["threads"]
    gpus = environment["gpus"]["torch"]
    cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    where = gpus[0]["name"] if record["device"] == "cuda" and gpus else cpu
    whole = "" if record["complete"] else " (incomplete)"
    return where, f"PyTorch {environment['packages']['torch']}{whole}"


def main() -> None:
    """Read, plot and say where."""
    parser = parser_of("bench.plot", __doc__)
    parser.add_argument("file", type=Path, help="the JSON of one of those commands")
    parser.add_argument("png", type=Path, help="where the picture goes")
    arguments = parser.parse_args()
    check(arguments, out="png")
    record = read_result(arguments.file)
    plot = function_of(record, arguments.file, "plot", beside="plot_")
    try:
        plot(record, arguments.png)
    except KeyError as error:
        raise UserError(
            f"{arguments.file} lacks {error}, which python -m {command_of(record)} writes"
        ) from None
    print(arguments.png)


if __name__ == "__main__":
    sys.exit(run_command(main))
