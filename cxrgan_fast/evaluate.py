"""``python -m cxrgan_fast.evaluate``: how good the images of a run, or of a folder, are."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.classes_option import ClassesOption, given
from cxrgan_fast.command import run_command
from cxrgan_fast.data.sources import Columns
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.checkpoints import evaluate_checkpoints
from cxrgan_fast.evaluation.evaluate import evaluate
from cxrgan_fast.evaluation.request import Request, output_folders
from cxrgan_fast.evaluation.several import evaluate_several
from cxrgan_fast.flags import SOME_FLAGS
from cxrgan_fast.metrics.metric import all_metrics, metric_names, quick_metrics
from cxrgan_fast.metrics.registry import DEFAULTS, load_extractors

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
    cxr, inception, pixels, or FILE.py:NAME for an extractor of your own."""
    inception_weights: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: downloaded)")
    ] = None
    """File with the weights of torch-fidelity's Inception network, for --features inception."""
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
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""


def main() -> None:
    """Parse, evaluate, and print the table and where the files lie."""
    with SOME_FLAGS:
        arguments = parse_arguments(Arguments, prog="python -m cxrgan_fast.evaluate")
    device = resolve_device(arguments.device)
    extractors = load_extractors(
        arguments.features, device, inception_weights=arguments.inception_weights
    )
    outputs = output_folders(arguments.subjects, arguments.checkpoint, arguments.out)
    requests = [_request(arguments, subject) for subject in arguments.subjects]
    failed: dict[str, str] = {}
    if arguments.all_checkpoints:
        if len(requests) > 1:
            raise UserError(f"--all-checkpoints: expected one run, got {len(requests)}")
        table, files = evaluate_checkpoints(requests[0], extractors[0], device, outputs[0])
    elif len(requests) > 1:
        work = list(zip(requests, outputs, strict=True))
        table, files, failed = evaluate_several(work, extractors, device)
    else:
        outcome = evaluate(requests[0], extractors, device, outputs[0])
        table, files = outcome.table, outcome.files
    print(table)
    for file in files:
        print(f"written: {file}")
    if failed:
        raise UserError("; ".join(f"{subject}: {reason}" for subject, reason in failed.items()))


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


if __name__ == "__main__":
    sys.exit(run_command(main))
