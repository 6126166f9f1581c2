"""An evaluation as rows for a spreadsheet: ``evaluation.csv``."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cxrgan_fast.evaluation.evaluator import ALL_CLASSES, GENERATED
from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.files import write_atomic
from cxrgan_fast.metrics.metric import all_metrics, direction

COLUMNS = (
    "class",
    "metric",
    "features",
    "dimension",
    "better",
    "images",  # generated, or a floor
    "value",
    "low",  # of the 95 % interval, as is high
    "high",
    "n_real",
    "n_fake",
    "above_floor",  # of the generated images, by this floor
    "above_floor_low",
    "above_floor_high",
)


def rows(evaluations: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """Yield a row for every estimate: of the generated images and of each floor.

    A floor's row holds how far the generated images are above it. Numbers are not rounded; what
    is not known is None.

    Args:
        evaluations: what was found of the same images by one extractor each.
    """
    for evaluation in evaluations:
        for name, part in {ALL_CLASSES: evaluation.pooled, **evaluation.classes}.items():
            for row in _of_part(part):
                yield {
                    "class": name,
                    "features": evaluation.extractor["name"],
                    "dimension": evaluation.extractor["dimension"],
                    **row,
                }


def write_csv(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write the rows of an evaluation, with a header.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(evaluations))
    write_atomic(path, text.getvalue().encode())


def _of_part(part: Part) -> Iterator[dict[str, Any]]:
    known = all_metrics()
    for images, comparison in {GENERATED: part.comparison, **part.floors}.items():
        above = part.differences.get(images, {})
        for name, estimate in comparison.estimates.items():
            low, high = estimate.interval or (None, None)
            row = {
                "metric": name,
                "better": direction(known[name].better),
                "images": images if images == GENERATED else f"floor: {images}",
                "value": estimate.value,
                "low": low,
                "high": high,
                "n_real": estimate.n_real,
                "n_fake": estimate.n_fake,
            }
            if name in above:
                low, high = above[name].interval or (None, None)
                difference = above[name].difference
                row |= {"above_floor": difference, "above_floor_low": low, "above_floor_high": high}
            yield row
