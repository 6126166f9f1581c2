"""The generator with the lowest FID of a run's evaluations.

What is best follows from the lines of evaluations.jsonl, read in order. The order of writing is:
the checkpoint of a step, its line, best_generator.safetensors, and only then the deletion of the
checkpoint that was best before. Whatever a kill leaves out is made up for when the run goes on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import PlaceError
from cxrgan_fast.runs.checkpoint import best_generator_path, generator_path
from cxrgan_fast.runs.generator_file import copy_generator

Row = dict[str, Any]  # a line of evaluations.jsonl


def is_better(row: Row, best: Row | None) -> bool:
    """Tell whether an evaluation becomes the best.

    It does if its FID is lower, or if the two cannot be compared: FIDs of other features or of
    other numbers of images are other quantities, so that the search begins anew.
    """
    if best is None or _quantity(row) != _quantity(best):
        return True
    return bool(row["metrics"]["fid"]["value"] < best["metrics"]["fid"]["value"])


def keep_best(run: Path, row: Row) -> None:
    """Write the generator of an evaluated step as the run's best, with its FID in the header.

    Raises:
        UserError: The step's generator cannot be read, or the file cannot be written.
    """
    fid = row["metrics"]["fid"]
    extra = {
        "fid": repr(fid["value"]),
        "fid_real_images": str(fid["n_real"]),
        "fid_generated_images": str(fid["n_fake"]),
        "features": row["features"],
        "features_version": row["features_version"],
        # Rows of earlier versions do not say: the name before the dimension.
        "features_family": row.get("features_family") or row["features"].rpartition("-")[0],
    }
    copy_generator(generator_path(run, row["step"]), best_generator_path(run), extra)


def restore_best(run: Path, rows: Iterable[Row]) -> Row | None:
    """Return the best of a run's evaluations, and write its file if a kill came before that.

    Evaluations whose generator is not kept any more do not count: they were not the best, or not
    of the history that goes on. One whose generator is damaged is named and passed over.

    Raises:
        UserError: The file cannot be written.
    """
    candidates = [row for row in rows if generator_path(run, row["step"]).is_file()]
    while candidates:
        best: Row | None = None
        for row in candidates:
            if is_better(row, best):
                best = row
        assert best is not None
        try:
            keep_best(run, best)
        except PlaceError:
            raise
        except UserError as error:
            print(f"passed over as the best: {error}")
            candidates.remove(best)
        else:
            return best
    return None


def _quantity(row: Row) -> tuple[str, str, int, int]:
    """What the FID of an evaluation is of."""
    fid = row["metrics"]["fid"]
    return row["features"], row["features_version"], fid["n_real"], fid["n_fake"]
