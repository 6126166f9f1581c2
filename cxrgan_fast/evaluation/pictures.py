"""Pictures of an evaluation: samples, the nearest training images, metrics over checkpoints."""

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.findings import Evaluation
from cxrgan_fast.files import write_atomic
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.metric import Metric, all_metrics, direction
from cxrgan_fast.sampling.grid import evenly, image_grid, write_grid

COLUMNS = 10
MOST_STEPS = 12  # rows of a picture that is still looked at
_CAPTION = 16  # characters of a line above an image


def write_samples(path: Path, fake: ImageDataset) -> None:
    """Write the first generated images of each class, a row a class; as many of all of them.

    Raises:
        UserError: the file cannot be written.
    """
    counts = fake.class_counts()
    shown = {name: label for label, name in enumerate(fake.class_names) if counts[name]}
    columns = min(COLUMNS, *(counts[name] for name in shown), COLUMNS)
    rows = [(fake.labels == label).nonzero().flatten()[:columns] for label in shown.values()]
    write_grid(path, fake.images[torch.cat(rows)], list(shown))


def write_nearest(path: Path, evaluation: Evaluation, train: ImageDataset) -> None:
    """Write the generated images that are most like a training image, with it below them.

    Each class has its rows, the most copied first; above each pair stand its likeness and what was
    done to the training image.

    Args:
        path: file to write.
        evaluation: with near copies.
        train: the training images.

    Raises:
        UserError: the file cannot be written.
    """
    copies, fake = evaluation.near_copies, evaluation.fake
    assert copies is not None
    nearest, limit = copies.nearest, copies.threshold.likeness
    likeness = nearest.likeness.cpu()
    grids = []
    for label, name in enumerate(fake.class_names):
        of_class = (fake.labels == label).nonzero().flatten()
        rows = of_class[likeness[of_class].argsort(descending=True, stable=True)][:COLUMNS]
        if not len(rows):
            continue
        originals = nearest.rows.cpu()[rows]
        images = torch.cat([fake.images[rows], train.images[originals]])
        above = [
            "\n".join(
                [f"{likeness[row]:.3f}", *textwrap.wrap(str(nearest.transforms[row]), _CAPTION)]
            )
            for row in rows.tolist()
        ]
        below = f"nearest training image (a copy above {limit:.3f})"
        grids.append(image_grid(images, [f"{name}, generated", below], above))
    size = max(grid.width for grid in grids), sum(grid.height for grid in grids)
    whole = Image.new(grids[0].mode, size, "white")
    top = 0
    for grid in grids:
        whole.paste(grid, (0, top))
        top += grid.height
    png = io.BytesIO()
    whole.save(png, "PNG")
    write_atomic(path, png.getvalue())


def some_of_each_class(fake: ImageDataset) -> Tensor:
    """Return up to ten generated images, class by class, as many of each as there is room for.

    Returns:
        (at most 10, C, H, W) uint8; the same places of the set every time, so that of two sets
        drawn from the same latents they can be held against each other.
    """
    there = [label for label, count in enumerate(fake.class_counts().values()) if count]
    each = max(1, COLUMNS // len(there))
    rows = [(fake.labels == label).nonzero().flatten()[:each] for label in there]
    return fake.images[torch.cat(rows)[:COLUMNS]]


def write_steps(
    path: Path, samples: Mapping[int, Tensor], found: Mapping[int, Comparison], label: str
) -> None:
    """Write a row of images a checkpoint, with its step and its FID beside them.

    Args:
        path: file to write.
        samples: (n, C, H, W) uint8 of each step, as `some_of_each_class` gives them.
        found: the metrics of each of these steps.
        label: name of the features.

    Raises:
        UserError: the file cannot be written.
    """
    steps = evenly(list(samples), MOST_STEPS)
    names = []
    for step in steps:
        fid = found[step].estimates.get("fid")
        shown = f"step {step}" if fid is None else f"FID {fid.value:.3g} step {step}"
        names.append(f"{shown} ({label})")
    write_grid(path, torch.cat([samples[step] for step in steps]), names)


def plot_checkpoints(
    path: Path, opinions: Mapping[str, tuple[Mapping[int, Comparison], Comparison | None]]
) -> Path | None:
    """Plot each metric over the steps, its 95 % interval shaded, the floor dashed.

    Args:
        path: file to write.
        opinions: by the name of the features, a row of panels each: the metrics of each step, and
            those of real images where they are known.

    Returns:
        The file; None if Matplotlib is not installed.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # late: of the extras only, and slow to import
    except ImportError:
        return None
    computed = {
        name for found, _ in opinions.values() for each in found.values() for name in each.estimates
    }
    metrics = [metric for name, metric in all_metrics().items() if name in computed]
    if not metrics:
        return None
    figure = Figure(figsize=(4 * len(metrics), 3.2 * len(opinions)), layout="constrained")
    grid = figure.subplots(len(opinions), len(metrics), squeeze=False)
    for row, (label, (found, floor)) in zip(grid, opinions.items(), strict=True):
        for axis, metric in zip(row, metrics, strict=True):
            _plot_metric(axis, metric, found, floor, label)
    if any(floor is not None for _, floor in opinions.values()):
        grid[-1, 0].annotate(
            "dashed: real images of other patients",
            (0, 0),
            (0, -38),
            "axes fraction",
            "offset points",
            fontsize=8,
        )
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_atomic(path, png.getvalue())
    return path


def _plot_metric(
    axis: Any,
    metric: Metric,
    found: Mapping[int, Comparison],
    floor: Comparison | None,
    label: str,
) -> None:
    name = metric.name
    points = [(step, c.estimates[name]) for step, c in found.items() if name in c.estimates]
    if not points:  # of the images, not of these features
        axis.set_axis_off()
        return
    steps = [step for step, _ in points]
    axis.plot(steps, [estimate.value for _, estimate in points], marker="o", color="C0")
    intervals = [estimate.interval or (estimate.value,) * 2 for _, estimate in points]
    lows, highs = zip(*intervals, strict=True)
    axis.fill_between(steps, lows, highs, color="C0", alpha=0.2, linewidth=0)
    if floor is not None and name in floor.estimates:
        axis.axhline(floor.estimates[name].value, color="gray", linestyle="--")
    axis.set_title(metric.title if metric.takes == "images" else f"{metric.title} ({label})")
    axis.set_ylabel(f"{direction(metric.better)} is better")
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
