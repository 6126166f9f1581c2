"""What a run was trained on: the record of it in the run's folder, and where the data are now."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.data.load import data_place
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, write_atomic

_MOST_BYTES = 256 << 20  # a set may have many files that were skipped
_PARENTS = 4  # folders above the run, and above the current one, in which moved data are looked for


class DataRecord(BaseModel):
    """What dataset.json holds."""

    model_config = ConfigDict(strict=True, extra="ignore")

    name: str
    fingerprint: str
    images: dict[str, NonNegativeInt]
    skipped: list[list[str]] = []
    held_out: list[str] = []  # patients, of --hold-out-patients


def record_path(run: Path) -> Path:
    """Return the path of a run's record of its data."""
    return run / "dataset.json"


def read_record(run: Path) -> DataRecord | None:
    """Read the record of a run; None if it has none.

    Raises:
        UserError: It cannot be read, or holds something else.
    """
    path = record_path(run)
    if not os.path.lexists(path):
        return None
    try:
        return DataRecord.model_validate(json.loads(read_small(path, _MOST_BYTES)))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise UserError(
        f"{path} is damaged ({printable(reason)}); put a copy of it in its place, or delete it if "
        "the data are the same as before"
    )


def write_record(run: Path, dataset: ImageDataset, held_out: Iterable[str] = ()) -> None:
    """Note what a run is trained on, and which patients were left out of it.

    Raises:
        UserError: The file cannot be written.
    """
    record = DataRecord(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        images=dataset.class_counts(),
        skipped=[list(item) for item in dataset.skipped],
        held_out=sorted(held_out),
    )
    write_atomic(record_path(run), json.dumps(record.model_dump(), indent=1).encode())


def find_dataset(
    run: Path, data: str, load: Callable[[str], ImageDataset]
) -> tuple[str, ImageDataset]:
    """Load the images that a run was trained on, also where they or the run have moved.

    They are looked for under the path given and, if they are not there, under the ends of it (its
    name, its name with that of its parent, ...) in the current folder, in the run's, and in those
    above either. What is found is taken if its images have the run's fingerprint.

    Args:
        run: the run's folder.
        data: where the data were, or are said to be; or "phantom".
        load: loads a set.

    Returns:
        The path under which the data were found, and the set.

    Raises:
        UserError: They are nowhere (what `load` says of the path given), or other images are.
    """
    record = read_record(run)
    if record is None or data_place(data) is None:
        return data, load(data)
    error, other = None, None
    for place in _places(run, data):
        try:
            dataset = load(place)
        except UserError as failure:
            error = error or failure
            continue
        if dataset.fingerprint == record.fingerprint:
            if place != data:
                print(f"data: {printable(data)} is not it any more; found in {printable(place)}")
            return place, dataset
        other = other or dataset
    if other is None:
        assert error is not None
        raise UserError(f"{error}; --data may say where the run's images are now") from error
    raise UserError(
        f"the images of {printable(other.name)} are not those that {run} began with "
        f"({sum(record.images.values())} then, {len(other.labels)} now); "
        "restore them, name their folder with --data, or start a new run"
    )


def _places(run: Path, data: str) -> Iterator[str]:
    """The path given, and others that are there."""
    yield data
    here, of_run = Path.cwd(), run.absolute()
    bases = dict.fromkeys(
        [here, *here.parents[:_PARENTS], of_run.parent, *of_run.parent.parents[:_PARENTS]]
    )
    parts = [part for part in Path(data).parts if part not in ("..", os.sep)]
    seen = {os.path.abspath(data)}
    for start in range(len(parts)):
        for base in bases:
            place = str(base.joinpath(*parts[start:]))
            if place not in seen and os.path.exists(place):
                seen.add(place)
                yield place
