"""``python -m cxrgan_fast.data``: look at a set of X-rays, and prepare it for training."""

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.classes_option import ClassesOption, given
from cxrgan_fast.command import run_command
from cxrgan_fast.data.depth import shown_notes
from cxrgan_fast.data.download import download
from cxrgan_fast.data.inspection import as_json, as_table, inspect_source
from cxrgan_fast.data.inspection_sheet import write_sheet
from cxrgan_fast.data.packed import PackedSet
from cxrgan_fast.data.patients import patient_warnings
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, UnusableFilesError, prepare_set
from cxrgan_fast.data.reading import check_workers
from cxrgan_fast.data.sources import SPLITS, Columns, open_source
from cxrgan_fast.data.splits import split_warnings
from cxrgan_fast.data.subset import make_subset
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import write_named
from cxrgan_fast.flags import SOME_FLAGS

_SHOWN = 20  # problems that are listed

OutputOption = Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: none)")]
WorkersOption = Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: one per core)")]


@dataclass(frozen=True)
class Prepare:
    """Bring the images of a source to one size and pack them into one file, with their splits."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of class folders, CSV file, or zip archive of either."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write the packed set to."""
    preparation: Annotated[Preparation, tyro.conf.arg(name="")] = field(default_factory=Preparation)
    """How each image is prepared."""
    classes: ClassesOption = ()
    """Classes in the order of their labels, separated by spaces or commas; NAME=A+B joins the
    classes A and B. If none is given, normal and bacterial of the published set, or all of other
    data."""
    columns: Annotated[Columns, tyro.conf.arg(name="")] = field(default_factory=Columns)
    """What the columns of a table hold."""
    division: Annotated[Division, tyro.conf.arg(name="")] = field(default_factory=Division)
    """How the images are divided into splits."""
    skip_bad: bool = False
    """Leave out files that cannot be used and list them in the set, instead of stopping."""
    workers: WorkersOption = None
    """Number of worker threads."""


def prepare(options: Prepare) -> None:
    """Run ``prepare``."""
    start = time.perf_counter()
    source = open_source(options.source, options.columns)
    try:
        made = prepare_set(
            source,
            options.out,
            options.preparation,
            division=options.division,
            classes=given(options.classes) or None,
            skip_bad=options.skip_bad,
            workers=options.workers,
        )
    except UnusableFilesError as error:
        _say_problems(error.problems)
        raise
    _say(made, time.perf_counter() - start)


def _say(made: PackedSet, seconds: float) -> None:
    print(f"{made.path}: {len(made.labels)} images of {'x'.join(map(str, made.images.shape[1:]))}")
    for name in made.class_names:
        of_class = [row for row in made.rows if row.class_name == name]
        counts = Counter(row.split for row in of_class)
        shown = ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split])
        patients = len({row.patient for row in of_class})
        print(f"  {printable(name)}: {len(of_class)} images of {patients} patients ({shown})")
    splits = [row.split for row in made.rows]
    for note in made.unused:
        print(printable(note))
    whose = [row.patient for row in made.rows]
    for warning in (*patient_warnings(whose), *split_warnings(whose, splits)):
        print(f"warning: {printable(warning)}")
    for line in shown_notes(made.notes):
        print(line)
    if made.left_out:
        print(f"left out: {len(made.left_out)} files")
        _say_problems(made.left_out)
    command = f"python -m cxrgan_fast.train --data {shlex.quote(str(made.path))}"
    print(f"in {seconds:.1f} s; train on it: {command}")


def _say_problems(problems: list[tuple[str, str]]) -> None:
    for name, reason in problems[:_SHOWN]:
        print(f"  {printable(name)}: {printable(reason)}", file=sys.stderr)
    if len(problems) > _SHOWN:
        print(f"  and {len(problems) - _SHOWN} more", file=sys.stderr)


@dataclass(frozen=True)
class Subset:
    """Copy a few images of the most common size into a small folder with a manifest."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of class folders, CSV file, or zip archive of either."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to copy the images to."""
    per_class: int = 100
    """Number of images of each class."""
    max_bytes: int = 10_000_000
    """Largest size of the whole folder, in bytes."""
    image_bytes: int = 50_000
    """Preferred size of an image file, in bytes."""
    classes: ClassesOption = ()
    """Classes to copy, separated by spaces or commas; NAME=A+B joins the classes A and B. If none
    is given, normal and bacterial of the published set, or all of other data."""
    columns: Annotated[Columns, tyro.conf.arg(name="")] = field(default_factory=Columns)
    """What the columns of a table hold."""
    split: Annotated[
        Literal["train", "test", "val"] | None,
        tyro.conf.arg(help_behavior_hint="(default: all)"),
    ] = None
    """Split to copy images from."""
    seed: int = 0
    """Random seed of the choice of images."""


def subset(options: Subset) -> None:
    """Run ``subset``."""
    source = open_source(options.source, options.columns)
    made = make_subset(
        source,
        options.out,
        per_class=options.per_class,
        max_bytes=options.max_bytes,
        image_bytes=options.image_bytes,
        classes=given(options.classes) or None,
        split=options.split,
        seed=options.seed,
    )
    counts = ", ".join(f"{n} {printable(name)}" for name, n in made.counts.items())
    print(f"{made.path}: {counts}; {made.total / 1e6:.2f} MB with manifest.csv")
    for note in source.notes(given(options.classes) or None, options.split):
        print(printable(note))
    if made.unusable:
        print(f"could not be looked at: {len(made.unusable)} files")
        _say_problems(made.unusable)


@dataclass(frozen=True)
class Inspect:
    """Report counts, sizes, brightness, copies, conflicts and damage of a source's images."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder of class folders, CSV file, or zip archive of either."""
    json: OutputOption = None
    """JSON file to write all findings to, with the names of all files concerned."""
    sheet: OutputOption = None
    """PNG file to write histograms and examples to."""
    columns: Annotated[Columns, tyro.conf.arg(name="")] = field(default_factory=Columns)
    """What the columns of a table hold."""
    workers: WorkersOption = None
    """Number of worker threads."""


def inspect(options: Inspect) -> None:
    """Run ``inspect``."""
    for path in (options.json, options.sheet):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.absolute().parent}; make it first")
        if path is not None and path.is_dir():
            raise UserError(f"{path}: is a folder; name a file to write to")
    check_workers(options.workers)
    source = open_source(options.source, options.columns)
    found = inspect_source(source, workers=options.workers)
    print(as_table(found))  # first: it took long, and a file may fail
    if options.json is not None:
        text = json.dumps(as_json(found), indent=1) + "\n"
        write_named(options.json, text.encode("utf-8", "surrogateescape"))
    if options.sheet is not None:
        write_sheet(found, source, options.sheet)


@dataclass(frozen=True)
class Download:
    """Download the public pediatric set from Kaggle and report what it contains."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to download the set to."""


def fetch(options: Download) -> None:
    """Run ``download``."""
    got = download(options.out)
    counts = ", ".join(f"{got.counts[split]} {split}" for split in SPLITS if split in got.counts)
    print(f"{got.path}: {counts} images, {got.size / 1e6:.0f} MB, sha256 {got.sha256}")
    for warning in got.warnings():
        print(f"warning: {warning}")
    for note in got.notes:
        print(printable(note))
    print(f"look at it: python -m cxrgan_fast.data inspect {got.path}")


_COMMANDS: dict[type, Callable[[Any], None]] = {
    Prepare: prepare,
    Inspect: inspect,
    Subset: subset,
    Download: fetch,
}


def main() -> None:
    """Parse and run."""
    with SOME_FLAGS:
        options = parse_arguments(
            Annotated[Prepare, tyro.conf.subcommand("prepare")]
            | Annotated[Inspect, tyro.conf.subcommand("inspect")]
            | Annotated[Subset, tyro.conf.subcommand("subset")]
            | Annotated[Download, tyro.conf.subcommand("download")],
            prog="python -m cxrgan_fast.data",
            description="Inspect a set of X-rays and prepare it for training.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    _COMMANDS[type(options)](options)


if __name__ == "__main__":
    sys.exit(run_command(main))
