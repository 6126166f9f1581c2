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
    f"{', '.join(all_metrics()[name].title for name in quick_metrics())} of every generator that "
    "the run has kept."
)


@dataclass(frozen=True)
class Arguments:
    """Compare generated X-rays with real ones: metrics, floors, memorisation, pictures."""

    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FOLDER")]
    """Run folder (one that --per-class made as well), generator file, or folder of class folders
    (or table, or zip archive) of generated images."""
    data: str | None = None
    """Folder of the real images, or phantom; not given: what the run was trained on."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = metric_names()
    """Metrics to compute."""
    features: str = DEFAULT
    """What the metrics compare: cxr, inception, pixels, or FILE.py:NAME, an extractor of yours."""
    inception_weights: Path | None = None
    """Weights for the features inception, as torch-fidelity has them; downloaded if not given."""
    samples: int = 1000
    """Images of each kind to compare; fewer where the data have fewer."""
    seed: int = 0
    """Seed of latents, choices and resamples: the same seed gives the same numbers."""
    checkpoint: str | None = None
    """A step that the run has kept, best, or a .safetensors file; the newest if not given."""
    all_checkpoints: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=_ALL_CHECKPOINTS)
    ] = False
    classes: ClassesOption = ()
    """Classes to compare, with spaces or commas between; none means all."""
    resolution: int | None = None
    """Pixels to which a folder of larger or mixed images is made smaller, and compared at."""
    skip_bad: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on without unreadable images, counting them, instead of stopping."""
    columns: Annotated[Columns, tyro.conf.arg(name="")] = field(default_factory=Columns)
    """Which columns of --data, a table, say what."""
    out: Path | None = None
    """Folder for the results; RUN/evaluation or FOLDER-evaluation if not given."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU if there is one."""


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
