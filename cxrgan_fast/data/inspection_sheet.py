"""One picture of an inspection: histograms and examples."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from cxrgan_fast.data.inspection import Inspection
from cxrgan_fast.data.readers import Decoded, look_at
from cxrgan_fast.data.sources import Source
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import write_named

_COLUMNS = 8
_OF_A_CLASS = 4
_SIDE = 192


def write_sheet(found: Inspection, source: Source, path: Path) -> None:
    """Plot sizes, aspect ratios and brightness by class, and examples.

    Examples are the first of each class, the darkest and brightest, the widest and narrowest, and
    pairs of copies.

    Args:
        found: what the inspection of this source found.
        source: from which the examples are read again.
        path: path of the PNG file; its folder must exist.

    Raises:
        UserError: Matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--sheet needs Matplotlib: pip install 'cxrgan_fast[data]'") from None
    examples = _examples(found)
    rows = -(-len(examples) // _COLUMNS)
    figure = Figure(figsize=(2 * _COLUMNS, 4 + 2.3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows + 1, 1, height_ratios=[1.7] + [1] * rows)
    _histograms(found, grid[0].subgridspec(1, 5), figure)
    for row in range(rows):
        cells = grid[row + 1].subgridspec(1, _COLUMNS)
        for column, (title, place) in enumerate(examples[row * _COLUMNS : (row + 1) * _COLUMNS]):
            axes = figure.add_subplot(cells[column])
            axes.set_axis_off()
            with source.held(found.images[place].file) as content:
                small = look_at(content, _SIDE, found.whites, _small)
            axes.imshow(small, cmap="gray", vmin=0, vmax=255)
            name = printable(found.images[place].file.name.rpartition("/")[2])
            axes.set_title(f"{title}\n{name[-28:]}", fontsize=7)
    figure.suptitle(f"{printable(found.name)}: {len(found.images)} images", fontsize=12)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80)
    write_named(path, png.getvalue())


def _small(found: Decoded) -> Image.Image:
    """A copy that is no larger than what is shown: the image itself is gone outside its budget."""
    found.image.thumbnail((2 * _SIDE, 2 * _SIDE))
    return found.image


def _histograms(found: Inspection, grid: Any, figure: Any) -> None:
    of_class: dict[str, list[Any]] = {}
    for seen in found.images:
        of_class.setdefault(seen.file.class_name, []).append(seen)
    shown = (
        ("width", "pixels", lambda seen: seen.width),
        ("height", "pixels", lambda seen: seen.height),
        ("width / height", "", lambda seen: seen.width / seen.height),
        ("mean brightness", "of 255", lambda seen: seen.mean),
        ("file size", "kB", lambda seen: seen.size / 1000),
    )
    for column, (title, unit, value) in enumerate(shown):
        axes = figure.add_subplot(grid[column])
        values = [[value(seen) for seen in images] for images in of_class.values()]
        names = [printable(name) for name in of_class]
        axes.hist(values, bins=24, label=names, histtype="step", density=True)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(unit, fontsize=8)
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
    axes.legend(fontsize=7)


def _examples(found: Inspection) -> list[tuple[str, int]]:
    """(title, place) of the images to show."""
    images = found.images
    places = list(range(len(images)))
    examples: list[tuple[str, int]] = []
    for name in dict.fromkeys(seen.file.class_name for seen in images):
        of_class = [place for place in places if images[place].file.class_name == name]
        step = max(1, len(of_class) // _OF_A_CLASS)
        chosen = of_class[::step][:_OF_A_CLASS]
        examples += [(printable(name), place) for place in chosen]
    by_brightness = sorted(places, key=lambda place: images[place].mean)
    by_aspect = sorted(places, key=lambda place: images[place].width / images[place].height)
    examples += [("darkest", by_brightness[0]), ("brightest", by_brightness[-1])]
    examples += [("narrowest", by_aspect[0]), ("widest", by_aspect[-1])]
    for title, groups in (
        ("conflict of classes", found.conflicts()),
        ("copies of several patients", found.of_other_patients()),
        ("the same bytes", found.exact),
        ("look the same", found.near),
    ):
        for group in groups[:1]:
            examples += [(title, place) for place in group[:2]]
    return examples
