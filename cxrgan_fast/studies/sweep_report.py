"""The report of a sweep: a page, its pictures, and JSON of everything that they show."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import make_folder, write_atomic, write_error
from cxrgan_fast.studies.confirmation_figure import draw_confirmation
from cxrgan_fast.studies.confirmation_runs import find_confirmation
from cxrgan_fast.studies.figures import write_figure
from cxrgan_fast.studies.library import INSTALL
from cxrgan_fast.studies.outcomes import outcomes_of
from cxrgan_fast.studies.parameter_figures import draw_parameters, draw_slices
from cxrgan_fast.studies.progress_figure import draw_progress
from cxrgan_fast.studies.storage import open_storage
from cxrgan_fast.studies.study import SETTINGS, SPACE
from cxrgan_fast.studies.sweep import find_named, place_of
from cxrgan_fast.studies.sweep_summary import summarize
from cxrgan_fast.studies.sweep_tables import best_rows, difference_rows, lines, note, setting_rows

if TYPE_CHECKING:
    import jinja2

PAGE, FIGURES = "report.html", "report.json"

_TEMPLATE = Path(__file__).with_name("sweep_report.html")
_MOST_PIXELS = 64_000_000  # of a grid, as those of a run have
_CAPTION = 30  # pixels above each grid


def report_of(
    name: str, against: str | None, storage: str | None, out: Path, to: Path | None
) -> str:
    """Write the report of a sweep, and say in short what is in it.

    Args:
        name: name of the sweep.
        against: name of another one, whose best-so-far is drawn as well; None for none.
        storage: address or file of both; None for the journals in their folders.
        out: folder in which their folders are.
        to: folder of the report; None for ``report`` in the sweep's own folder.

    Raises:
        UserError: there is no such sweep, or the report cannot be written.
    """
    study = find_named(name, storage, out)
    other = None if against is None else find_named(against, storage, out)
    if to is None and not (out / name).is_dir():
        raise UserError(
            f"{out / name}, the folder of the sweep, is not on this machine: name a folder for the "
            "report by --report-to, or the folder that has the sweep's by --out"
        )
    where = place_of(name, storage, out)
    record = summarize(
        name,
        outcomes_of(study),
        study.user_attrs[SETTINGS],
        study.user_attrs[SPACE],
        against=None if against is None or other is None else (against, outcomes_of(other)),
        confirmation=find_confirmation(open_storage(where, create=False), where, study),
    )
    files = write_report(record, to or out / name / "report", out / name)
    return "\n".join([*lines(record), f"report: {files[0]}"])


def write_report(record: Mapping[str, Any], out: Path, sweep: Path | None) -> list[Path]:
    """Write the report of a sweep. What an earlier report has left in the folder is replaced.

    Args:
        record: as `sweep_summary.summarize` gives it.
        out: folder for the report; it is made if it is missing.
        sweep: folder of the sweep, in which its runs are; None where it is elsewhere.

    Returns:
        The files, the page first.

    Raises:
        UserError: a package is missing, or a file cannot be written.
    """
    template = _template()  # before anything is written
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    make_folder(out)
    shown = dict(record)
    drawn = {"progress.png": draw_progress(shown), "parameters.png": draw_parameters(shown),
             "slices.png": draw_slices(shown)}  # fmt: skip
    if record["confirmation"]:
        drawn["confirmation.png"] = draw_confirmation(dict(record["confirmation"]))
    for name, figure in drawn.items():
        write_figure(figure, out / name)
    pictures = [*drawn]
    grids = None if sweep is None else _grids(record, sweep)
    if grids is not None:
        write_atomic(out / "images.png", grids)
        pictures.append("images.png")
    for name in {"confirmation.png", "images.png"} - {*pictures}:
        (out / name).unlink(missing_ok=True)  # of an earlier report
    content = json.dumps(record, indent=1, allow_nan=False)
    write_atomic(out / FIGURES, content.encode())
    header, best = best_rows(record)
    page = template.render(
        record=record,
        lines=lines(record),
        pictures=pictures,
        differences=difference_rows(record["confirmation"]) if record["confirmation"] else [],
        settings=setting_rows(record),
        note=note(record),
        best_header=header,
        best=best,
    )
    write_atomic(out / PAGE, page.encode())
    return [out / name for name in (PAGE, FIGURES, *pictures)]


def _template() -> jinja2.Template:
    try:
        import jinja2
    except ImportError as error:
        raise UserError(f"a report needs Jinja2 ({error}): {INSTALL}") from None
    # Names of trials, reasons and data are anybody's: nothing of them is markup.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _grids(record: Mapping[str, Any], sweep: Path) -> bytes | None:
    """The last sample grids of the best trial and of the default; None where neither is there."""
    trials = {trial["number"]: trial for trial in record["trials"]}
    captions = {record["best"]: f"best, trial {record['best']}",
                record["default"]: f"default, trial {record['default']}"}  # fmt: skip
    found = []
    for number, words in captions.items():
        if number in trials and (grid := _last_grid(sweep, trials[number])) is not None:
            found.append((f"{words}, FID / floor {trials[number]['ratio'] or 0:.3g}", grid))
    if not found:
        return None
    width = max(grid.width for _, grid in found)
    height = sum(grid.height + _CAPTION for _, grid in found)
    picture = Image.new("RGB", (width, height), "white")
    pen, font, top = ImageDraw.Draw(picture), ImageFont.load_default(18), 0
    for words, grid in found:
        pen.text((4, top + _CAPTION // 2), words, fill="black", font=font, anchor="lm")
        picture.paste(grid, (0, top + _CAPTION))
        top += _CAPTION + grid.height
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _last_grid(sweep: Path, trial: Mapping[str, Any]) -> Image.Image | None:
    folder = trial.get("folder")
    if not isinstance(folder, str) or ".." in Path(folder).parts or Path(folder).is_absolute():
        return None  # a study says where in the sweep's folder its runs are, and nowhere else
    grids = sorted((sweep / folder / "grids").glob("grid-*.png"))
    try:
        with Image.open(grids[-1], formats=["PNG"]) as file:
            return None if file.width * file.height > _MOST_PIXELS else file.convert("RGB")
    except (IndexError, OSError, ValueError, SyntaxError):  # gone, or damaged: a report without it
        return None
