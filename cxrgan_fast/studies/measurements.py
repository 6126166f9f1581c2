"""How a trial is measured: FID at a rung, and everything that a study keeps at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.evaluation.judge import Judge
from cxrgan_fast.evaluation.matching import Described

METRICS = ("fid", "kid", "recall", "nearest_neighbour")
"""Metrics of a trial's end, by each kind of features."""
WITH_FLOORS = ("fid",)
"""Metrics whose floors are computed, by which trials are told."""
CLASSIFIED = "inception_score"
"""A metric more of features that have a classifier; it is shown, and never optimized: of real
X-rays it is about as high as of poor ones."""
SEED = 0
"""Of the latents, which are the same for all trials."""


def fid_of(judge: Judge, run: Path) -> float:
    """Compute FID of a run's averaged generator, by the features that decide.

    Raises:
        UserError: the generator cannot be read, or gives no numbers.
    """
    evaluator = judge.evaluators[0]
    generated = evaluator.describe(judge.generate(run, SEED), judge.counts)
    return judge.at_size_of_floor(evaluator, generated, ("fid",))["fid"]


def measure(judge: Judge, run: Path, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Measure a run's averaged generator.

    All numbers are at the size of the floor, with which they can be compared; the first of the
    features decide.

    Args:
        judge: its floors are known.
        run: folder of the run.
        say: called with words for the progress bar.

    Returns:
        By the features' name `METRICS`, ``floor`` (FID of real images of other patients),
        ``classes`` (FID of each that has enough images) and, where the features have a classifier,
        `CLASSIFIED`.

    Raises:
        UserError: the generator cannot be read, or gives no numbers.
    """
    say("generating")
    fake = judge.generate(run, SEED)
    found: dict[str, dict[str, Any]] = {}
    for evaluator in judge.evaluators:
        name = evaluator.extractor.name
        say(name)
        generated = evaluator.describe(fake, judge.counts)
        found[name] = {
            **judge.at_size_of_floor(evaluator, generated, METRICS),
            "floor": judge.floors[name]["fid"],
            "classes": _of_classes(judge, evaluator, generated),
        }
        if evaluator.extractor.class_names:
            score = _unless_too_few(judge, evaluator, generated, CLASSIFIED)
            if score is not None:
                found[name][CLASSIFIED] = score
    return found


def _of_classes(
    judge: Judge, evaluator: Evaluator, generated: Described
) -> dict[str, dict[str, float]]:
    names = judge.dataset.class_names
    fids = {name: _unless_too_few(judge, evaluator, generated, "fid", name) for name in names}
    return {name: {"fid": fid} for name, fid in fids.items() if fid is not None}


def _unless_too_few(
    judge: Judge,
    evaluator: Evaluator,
    generated: Described,
    metric: str,
    class_name: str | None = None,
) -> float | None:
    try:
        return judge.at_size_of_floor(evaluator, generated, (metric,), class_name)[metric]
    except UserError:  # too few images of the class, say, which is no reason against the trial
        return None
