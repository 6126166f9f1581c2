"""Several runs or folders of images, evaluated one after another and shown in one table."""

from collections.abc import Sequence
from pathlib import Path

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.evaluate import Outcome, evaluate
from cxrgan_fast.evaluation.findings import Evaluation
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS
from cxrgan_fast.evaluation.request import Request
from cxrgan_fast.evaluation.table import aligned, number
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.metric import all_metrics, direction


def evaluate_several(
    work: Sequence[tuple[Request, Path]],
    extractors: Sequence[FeatureExtractor],
    device: torch.device,
) -> tuple[str, list[Path], dict[str, str]]:
    """Evaluate each subject into its own folder, and put their numbers side by side.

    What cannot be evaluated costs the others nothing.

    Args:
        work: what is evaluated and how, and the folder for its files.
        extractors: on `device`; the first decides, the others give second opinions.
        device: where images are drawn and metrics computed.

    Returns:
        The tables, one of each extractor, a row a subject; all files; by subject why it could not
        be evaluated.

    Raises:
        UserError: none of them could be evaluated.
    """
    outcomes: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    for request, out in work:
        try:
            outcomes[str(request.subject)] = evaluate(request, extractors, device, out)
        except UserError as error:  # noqa: PERF203 - an evaluation takes seconds
            failed[str(request.subject)] = str(error)
    if not outcomes:
        raise UserError("; ".join(failed.values()))
    files = [file for outcome in outcomes.values() for file in outcome.files]
    return "\n".join(summary(outcomes)), files, failed


def summary(outcomes: dict[str, Outcome]) -> list[str]:
    """Return the lines of a table of each extractor: a row a subject and, below it, its floor."""
    found = {subject: [o.evaluation, *o.others] for subject, o in outcomes.items()}
    tables = zip(*found.values(), strict=True)  # all are judged by the same extractors
    return [line for table in tables for line in _table(dict(zip(found, table, strict=True)))]


def _table(evaluations: dict[str, Evaluation]) -> list[str]:
    computed = {n for each in evaluations.values() for n in each.pooled.comparison.estimates}
    metrics = [metric for name, metric in all_metrics().items() if name in computed]
    rows = [
        ["", *(metric.title for metric in metrics), "real/generated images"],
        ["better", *(direction(metric.better) for metric in metrics), ""],
    ]
    for subject, evaluation in evaluations.items():
        pooled = evaluation.pooled
        lines = {subject: pooled.comparison}
        if OTHER_PATIENTS in pooled.floors:
            lines[f"  floor: {OTHER_PATIENTS}"] = pooled.floors[OTHER_PATIENTS]
        for title, comparison in lines.items():
            found = [comparison.estimates.get(metric.name) for metric in metrics]
            rows.append([title, *map(_cell, found), _counts(found)])
    labels = dict.fromkeys(
        f"features: {e['name']}, {e['dimension']}-d, version {e['version']}"
        for e in (evaluation.extractor for evaluation in evaluations.values())
    )
    return [*labels, *aligned(rows)]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    if estimate.interval is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ± {estimate.interval[1] - estimate.value:.2g}"


def _counts(found: Sequence[Estimate | None]) -> str:
    counts = [(each.n_real, each.n_fake) for each in found if each is not None]
    return "{}/{}".format(*max(counts)) if counts else "-"
