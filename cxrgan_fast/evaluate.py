"""``python -m cxrgan_fast.evaluate``: how good the images of a run, or of a folder, are."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.classes_option import ClassesOption, given
from cxrgan_fast.command import run_command
from cxrgan_fast.data.sources import Columns
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.checkpoints import evaluate_checkpoints
from cxrgan_fast.evaluation.evaluate import evaluate
from cxrgan_fast.evaluation.reading import DEFAULT_IMAGES, default_reading, write_sheet
from cxrgan_fast.evaluation.reading_scores import score_reading
from cxrgan_fast.evaluation.request import Request, output_folders
from cxrgan_fast.evaluation.several import evaluate_several
from cxrgan_fast.flags import SOME_FLAGS
from cxrgan_fast.metrics.metric import all_metrics, metric_names, quick_metrics
from cxrgan_fast.metrics.registry import DEFAULTS, backbone_names, load_extractors
from cxrgan_fast.training import allocator

_ALL_CHECKPOINTS = (
    f"Compute {', '.join(all_metrics()[name].title for name in quick_metrics())} of every "
    "generator that the run has kept."
)


@dataclass(frozen=True)
class Arguments:
    """Compare generated X-rays with real ones: metrics, their floors, memorization, pictures."""

    subjects: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN|FOLDER ...", help_behavior_hint="(required)"),
    ]
    """Folder of a run (also of one with --per-class), generator file, or generated images: a folder
    of class folders, a table or a zip archive. Several are shown in one table."""
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: the training data of the run)")
    ] = None
    """Real images to compare with: folder, table, zip archive or packed set, or phantom."""
    against: Annotated[
        Path | None,
        tyro.conf.arg(metavar="RUN|FOLDER", help_behavior_hint="(default: compare with --data)"),
    ] = None
    """Run, generator file or folder of images to compare with instead of --data."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = metric_names()
    """Metrics to compute."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = DEFAULTS
    """Features that the metrics compare; the first decides, the others are second opinions. Each is
    cxr, cxr_ssl, inception, pixels, random (an untrained network, as a control), rad-dino, dinov2,
    xrv, or FILE.py:NAME for an extractor of your own."""
    inception_weights: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: downloaded)")
    ] = None
    """File with the weights of torch-fidelity's Inception network, for --features inception."""
    features_weights: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="FOLDER|FILE|download ...",
            help_behavior_hint=f"(required by {', '.join(backbone_names())})",
        ),
    ] = ()
    """Weights of --features rad-dino, dinov2 and xrv, one for each of these in the order of
    --features: a folder (a file for xrv), or download to fetch the published ones."""
    samples: int = 1000
    """Number of images of each kind (real and generated) to compare, or all where there are
    fewer."""
    seed: int = 0
    """Random seed of latents, choices and resamples; the same seed gives the same numbers."""
    checkpoint: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: the newest)")] = (
        None
    )
    """Generator to evaluate: a step that the run has kept, best (the lowest FID of --eval-every),
    or a .safetensors file."""
    all_checkpoints: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=_ALL_CHECKPOINTS)
    ] = False
    classes: ClassesOption = ()
    """Classes to compare, separated by spaces or commas; all if none is given."""
    resolution: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: the size of the images)")
    ] = None
    """Height and width, in pixels, to which the images of a folder are reduced for the
    comparison."""
    skip_bad: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out unreadable images and count them, instead of stopping."""
    columns: Annotated[Columns, tyro.conf.arg(name="")] = field(default_factory=Columns)
    """What the columns of --data hold, if it is a table."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(help_behavior_hint="(default: RUN/evaluation or FOLDER-evaluation)"),
    ] = None
    """Folder to write the results to."""
    reader_sheet: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead of metrics, write a sheet of real and generated images in mixed order for people to
    tell apart, a table for their answers, and a sealed key."""
    reader_images: int = DEFAULT_IMAGES
    """Number of different images on the sheet of --reader-sheet, real and generated together."""
    score_reading: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(metavar="FILE ...", help_behavior_hint="(default: metrics are computed)"),
    ] = ()
    """Filled-in tables of --reader-sheet, one per reader, to score instead of computing metrics."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""


def main() -> None:
    """Parse, evaluate, and print the table and where the files lie."""
    with SOME_FLAGS:
        arguments = parse_arguments(Arguments, prog="python -m cxrgan_fast.evaluate")
    allocator.keep_large_tensors_off_mmap()  # before the first large tensor
    outputs = output_folders(arguments.subjects, arguments.checkpoint, arguments.out)
    device = resolve_device(arguments.device)
    requests = [_request(arguments, subject) for subject in arguments.subjects]
    if arguments.reader_sheet or arguments.score_reading:
        _read(arguments, requests, device)
        return
    extractors = load_extractors(
        arguments.features,
        device,
        inception_weights=arguments.inception_weights,
        features_weights=arguments.features_weights,
    )
    failed: dict[str, str] = {}
    if arguments.all_checkpoints:
        _require_one(requests, "--all-checkpoints")
        _tell(*evaluate_checkpoints(requests[0], extractors, device, outputs[0]))
    elif len(requests) > 1:
        work = list(zip(requests, outputs, strict=True))
        table, files, failed = evaluate_several(work, extractors, device)
        _tell(table, files)
    else:
        outcome = evaluate(requests[0], extractors, device, outputs[0])
        _tell(outcome.table, outcome.files)
    if failed:
        raise UserError("; ".join(f"{subject}: {reason}" for subject, reason in failed.items()))


def _read(arguments: Arguments, requests: Sequence[Request], device: torch.device) -> None:
    """Write a sheet for readers, or score their answers."""
    if arguments.reader_sheet and arguments.score_reading:
        raise UserError("--reader-sheet and --score-reading: give one of the two")
    option = "--reader-sheet" if arguments.reader_sheet else "--score-reading"
    if arguments.all_checkpoints:
        raise UserError(f"{option} and --all-checkpoints: give one of the two")
    _require_one(requests, option)
    folder = arguments.out or default_reading(requests[0].subject)
    if arguments.score_reading:
        _tell(*score_reading(arguments.score_reading, folder))
    else:
        _tell(*write_sheet(requests[0], arguments.reader_images, device, folder))


def _require_one(requests: Sequence[Request], option: str) -> None:
    if len(requests) > 1:
        raise UserError(f"{option}: expected one run, got {len(requests)}")


def _request(arguments: Arguments, subject: Path) -> Request:
    return Request(
        subject=subject,
        data=arguments.data,
        against=arguments.against,
        metrics=arguments.metrics,
        samples=arguments.samples,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        classes=given(arguments.classes),
        resolution=arguments.resolution,
        skip_bad=arguments.skip_bad,
        columns=arguments.columns,
    )


def _tell(table: str, files: Sequence[Path]) -> None:
    print(table)
    for file in files:
        print(f"written: {file}")


if __name__ == "__main__":
    sys.exit(run_command(main))
