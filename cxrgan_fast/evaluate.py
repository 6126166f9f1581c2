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
from cxrgan_fast.evaluation.checkpoints import evaluate_checkpoints
from cxrgan_fast.evaluation.evaluate import evaluate
from cxrgan_fast.evaluation.request import Request, default_output
from cxrgan_fast.metrics.metric import all_metrics, metric_names, quick_metrics
from cxrgan_fast.metrics.registry import DEFAULT, load_extractor

_ALL_CHECKPOINTS = (
    f"Compute {', '.join(all_metrics()[name].title for name in quick_metrics())} of every "
    "generator that the run has kept."
)


@dataclass(frozen=True)
class Arguments:
    """Compare generated X-rays with real ones: metrics, their floors, memorization, pictures."""

    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FOLDER")]
    """Folder of a run (also of one with --per-class), generator file, or generated images: a folder
    of class folders, a table or a zip archive."""
    data: Annotated[
        str | None, tyro.conf.arg(help_behavior_hint="(default: the training data of the run)")
    ] = None
    """Real images to compare with: folder, table, zip archive or packed set, or phantom."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = metric_names()
    """Metrics to compute."""
    features: str = DEFAULT
    """Features that the metrics compare: cxr, cxr_ssl, inception, pixels, or FILE.py:NAME for an
    extractor of your own."""
    inception_weights: Path | None = None
    """File with the weights of torch-fidelity's Inception network, for --features inception;
    downloaded if not given."""
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
    arguments = parse_arguments(Arguments, prog="python -m cxrgan_fast.evaluate")
    device = resolve_device(arguments.device)
    extractor = load_extractor(
        arguments.features, device, inception_weights=arguments.inception_weights
    )
    request = Request(
        subject=arguments.subject,
        data=arguments.data,
        metrics=arguments.metrics,
        samples=arguments.samples,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        classes=given(arguments.classes),
        resolution=arguments.resolution,
        skip_bad=arguments.skip_bad,
        columns=arguments.columns,
    )
    out = arguments.out or default_output(arguments.subject, arguments.checkpoint)
    work = evaluate_checkpoints if arguments.all_checkpoints else evaluate
    table, files = work(request, extractor, device, out)
    print(table)
    for file in files:
        print(f"written: {file}")


if __name__ == "__main__":
    sys.exit(run_command(main))
