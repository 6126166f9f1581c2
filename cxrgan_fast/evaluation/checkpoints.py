"""Every generator that a run has kept, evaluated: FID and others over the steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS
from cxrgan_fast.evaluation.image_sets import image_size, is_run
from cxrgan_fast.evaluation.opponents import find_opponent
from cxrgan_fast.evaluation.pictures import (
    plot_checkpoints,
    some_of_each_class,
    write_steps,
)
from cxrgan_fast.evaluation.report import comparison_record
from cxrgan_fast.evaluation.request import Request, make_output
from cxrgan_fast.evaluation.sides import (
    counts_of,
    evaluator_of,
    generate_compared,
    header,
    make_evaluator,
    sources_of,
    write_json,
)
from cxrgan_fast.evaluation.table import aligned, number
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.metric import all_metrics, direction, metric_names, quick_metrics
from cxrgan_fast.runs.generators import find_generators


def evaluate_checkpoints(
    request: Request, extractors: Sequence[FeatureExtractor], device: torch.device, out: Path
) -> tuple[str, list[Path]]:
    """Evaluate every generator that a run has kept: `checkpoints.json`, a plot, rows of samples.

    The JSON file is written after each checkpoint, so that Ctrl-C loses one at most. A generator
    that is damaged or produces no numbers has its reason there and in the table, and the others are
    evaluated.

    Args:
        request: what, and how; of its metrics those that are quick.
        extractors: on `device`; the first decides, the others give second opinions.
        device: where images are generated and metrics computed.
        out: folder for the files.

    Returns:
        The table for the terminal, and the files; without the plot if there is no Matplotlib.

    Raises:
        UserError: anything that cannot work, in one line.
    """
    request.check()
    if not is_run(request.subject) or request.subject.is_file():
        raise UserError(f"--all-checkpoints: {request.subject} is not a run folder")
    if request.checkpoint is not None:
        raise UserError("--all-checkpoints and --checkpoint: give one of the two")
    metrics = [name for name in quick_metrics() if name in request.metrics]
    if not metrics:
        raise UserError(
            f"--all-checkpoints: expected some of {', '.join(quick_metrics())} in --metrics, got "
            f"{', '.join(request.metrics)}"
        )
    steps = kept_steps(request.subject)
    opponent = find_opponent(request, device)
    sources = sources_of(request, None, opponent, device)  # those of a step may be damaged
    image_size(sources, request.resolution)
    make_output(out)
    real, evaluator = evaluator_of(request, opponent, sources, extractors[0], device)
    counts = counts_of(request, sources, evaluator)
    of_features = [name for name in metrics if all_metrics()[name].takes != "images"]
    judges = [_Judge(evaluator, counts, metrics)]
    for extractor in extractors[1:] if of_features else ():
        second = make_evaluator(request, real, extractor, device)
        judges.append(_Judge(second, counts, of_features))
    record = {
        **header(request, real, {"run": request.subject.name}, device),
        "images": dict(zip(real.train.class_names, counts, strict=True)),
        **judges[0].record(),
    }
    if judges[1:]:
        record["second_opinions"] = [judge.record() for judge in judges[1:]]
    failed: dict[int, str] = {}
    samples: dict[int, Tensor] = {}
    hidden = None if request.progress else True  # None: shown on a terminal only
    for step in tqdm(steps, desc="checkpoints", disable=hidden, leave=False):
        try:
            sources = sources_of(request, str(step), opponent, device)
            generated = generate_compared(request, sources, evaluator)
            compared = [judge.compare(generated) for judge in judges]
        except UserError as error:
            failed[step] = str(error)
            judges[0].rows.append({"step": step, "error": failed[step]})
        else:
            samples[step] = some_of_each_class(generated)
            for judge, comparison in zip(judges, compared, strict=True):
                judge.add(step, comparison)
        write_json(out / "checkpoints.json", record)
    if not samples:
        raise UserError(failed[steps[-1]])
    files = [out / "checkpoints.json", out / "checkpoints-samples.png"]
    write_steps(files[1], samples, judges[0].found, judges[0].shown)
    plot = plot_checkpoints(
        out / "checkpoints.png",
        {judge.shown: (judge.found, judge.floors.get(OTHER_PATIENTS)) for judge in judges},
    )
    lines = [line for judge in judges for line in judge.table()]
    lines += [f"step {step}: {reason}" for step, reason in failed.items()]
    left_out = [name for name in request.metrics if name not in metrics]
    if left_out and request.metrics != metric_names():  # named by hand
        lines.append(f"not computed of every checkpoint: {', '.join(left_out)}")
    if plot is None:
        (out / "checkpoints.png").unlink(missing_ok=True)
        lines.append("no plot: Matplotlib is not installed (pip install matplotlib)")
    else:
        files.append(plot)
    return "\n".join(lines), files


class _Judge:
    """The metrics of every checkpoint by one extractor's features.

    Attributes:
        found: the metrics of each step.
        rows: the same for JSON.
        floors: metrics of real images.
        shown: what tables and pictures call the features.
    """

    def __init__(self, evaluator: Evaluator, counts: list[int], metrics: Sequence[str]) -> None:
        self.evaluator, self.counts, self.metrics = evaluator, counts, metrics
        self.floors = evaluator.floors(counts, metrics)
        self.found: dict[int, Comparison] = {}
        self.rows: list[dict[str, Any]] = []
        self.label = evaluator.label()
        self.shown = f"{self.label['name']}, {self.label['dimension']}-d"

    def compare(self, generated: ImageDataset) -> Comparison:
        """Compute the metrics of a checkpoint's images."""
        pair = self.evaluator.pair(self.evaluator.describe(generated, self.counts), self.counts)
        return self.evaluator.compare(pair, self.metrics)

    def add(self, step: int, comparison: Comparison) -> None:
        """Keep what was found of a step."""
        self.found[step] = comparison
        self.rows.append({"step": step, **comparison_record(comparison)})

    def record(self) -> dict[str, Any]:
        """Return the features and what is found by them, to which `add` adds, for JSON."""
        floors = {name: comparison_record(floor) for name, floor in self.floors.items()}
        return {"features": self.label, "floors": floors, "checkpoints": self.rows}

    def table(self) -> list[str]:
        """Return the table's lines, the features named above."""
        title = f"features: {self.shown}, version {self.label['version']}"
        return [title, *_checkpoint_table(self.found, self.floors)]


def kept_steps(run: Path) -> list[int]:
    """Find the steps of which a run has kept the generators of all its classes, oldest first.

    Raises:
        UserError: as `find_generators`; none is kept.
    """
    names = "generator-*.safetensors"
    of_each = [
        {
            int(number)
            for path in (found.parent / "checkpoints").glob(names)
            if (number := path.stem.rpartition("-")[2]).isdecimal()  # a user may keep others there
        }
        for found in find_generators(run)
    ]
    steps = sorted(set.intersection(*of_each))
    if not steps:
        raise UserError(f"--all-checkpoints: {run} has kept no generators in its checkpoints")
    return steps


def _checkpoint_table(found: dict[int, Comparison], floors: dict[str, Comparison]) -> list[str]:
    computed = {name for comparison in found.values() for name in comparison.estimates}
    names = [name for name in all_metrics() if name in computed]
    if not names:
        reasons = next(iter(found.values())).omitted
        return [f"not computed: {name}: {reason}" for name, reason in reasons.items()]
    known = [all_metrics()[name] for name in names]
    rows = [
        ["step", *(metric.title for metric in known), "real/generated images"],
        ["better", *(direction(metric.better) for metric in known), ""],
    ]
    lines = [(str(step), comparison) for step, comparison in found.items()]
    lines += [(f"floor: {name}", floor) for name, floor in floors.items()]
    for title, comparison in lines:
        cells = [
            number(comparison.estimates[name].value) if name in comparison.estimates else "-"
            for name in names
        ]
        of = next(iter(comparison.estimates.values()), None)
        rows.append([title, *cells, f"{of.n_real}/{of.n_fake}" if of else "-"])
    return aligned(rows)
