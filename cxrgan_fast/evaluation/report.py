"""An evaluation as a record for JSON and as a table for the terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import Difference
from cxrgan_fast.evaluation.reference import ALL_CLASSES, GENERATED
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.memorization import Memorization
from cxrgan_fast.metrics.metric import all_metrics, direction


def to_record(evaluation: Evaluation) -> dict[str, Any]:
    """All of an evaluation, ready for JSON.

    Every estimate has `value`, `interval` (95 %, None where there is none), `standard_error`,
    `n_real`, `n_fake` and `details`.
    """
    return {
        "features": evaluation.extractor,
        "images": evaluation.fake.class_counts(),
        "notes": evaluation.notes,
        ALL_CLASSES: _part(evaluation.pooled),
        "classes": {name: _part(part) for name, part in evaluation.classes.items()},
        "duplicates": {
            "images": evaluation.n_given,
            "among_generated": evaluation.duplicates,
            "of_training_images": evaluation.copies,
        },
        "near_copies": _near_copies(evaluation),
        "seconds": evaluation.seconds,
    }


def to_table(evaluation: Evaluation) -> str:
    """The lines that a user reads: a row a metric, the floors beside it, a block a class."""
    extractor = evaluation.extractor
    label = f"{extractor['name']}, {extractor['dimension']}-d"
    lines = [f"features: {label}, version {extractor['version']}", *evaluation.notes]
    for name, part in {ALL_CLASSES: evaluation.pooled, **evaluation.classes}.items():
        lines += ["", *_block(name, part, label)]
    copied = [*_memorized(evaluation, label), *_repeated(evaluation)]
    if copied:
        lines += ["", *copied]
    lines += ["", "± half a 95 % interval; in brackets how many real and generated images"]
    return "\n".join(lines)


def _part(part: Part) -> dict[str, Any]:
    return {
        "generated": comparison_record(part.comparison),
        "floors": {name: comparison_record(floor) for name, floor in part.floors.items()},
        "differences": {
            name: {metric: _difference(each) for metric, each in of_metrics.items()}
            for name, of_metrics in part.differences.items()
        },
        "memorisation": _memorization(part.memorization),
    }


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Estimates and reasons for those left out, ready for JSON."""
    estimates = {name: _estimate(estimate) for name, estimate in comparison.estimates.items()}
    return {"metrics": estimates, "omitted": comparison.omitted}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "interval": estimate.interval,
        "standard_error": estimate.standard_error,
        "n_real": estimate.n_real,
        "n_fake": estimate.n_fake,
        "details": estimate.details,
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "value": found.value,
        "floor": found.floor,
        "difference": found.difference,
        "interval": found.interval,
        "floor_deviation": found.deviation,
        "divisions": found.divisions,
    }


def _memorization(found: Memorization | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "share": _estimate(found.share),
        "reference": found.reference,
        "n_reference": len(found.reference_distances),
        "reference_share": found.reference_share,
        "quantile_distance": found.quantile_distance,
        "median_distance": found.fake_median,
        "reference_median_distance": found.reference_median,
        "median_ratio": found.median_ratio,
        "p_value": found.p_value,
        "near_copy_distance": found.near_copy_distance,
        "near_copies": found.n_near_copies,
    }


def _near_copies(evaluation: Evaluation) -> list[dict[str, Any]]:
    found = evaluation.pooled.memorization
    return [
        {
            "generated": evaluation.fake.files[copy.fake],
            "training": evaluation.train_files[copy.train],
            "distance": copy.distance,
        }
        for copy in (found.near_copies if found else [])
    ]


def _block(name: str, part: Part, label: str) -> list[str]:
    """The table of all classes or of one."""
    columns = {GENERATED: part.comparison, **part.floors}
    header = [name, "better", "generated images"]
    header += [f"floor: {floor}" for floor in part.floors]
    rows = [header]
    for metric in all_metrics().values():
        estimates = [column.estimates.get(metric.name) for column in columns.values()]
        if not any(estimates):
            continue
        shown = metric.title if metric.takes == "images" else f"{metric.title} ({label})"
        rows.append([shown, direction(metric.better), *(_cell(each) for each in estimates)])
        for detail in metric.details:
            better = "" if detail.better is None else direction(detail.better)
            cells = ["-" if e is None else number(e.details[detail.key]) for e in estimates]
            rows.append([f"  {detail.title}", better, *cells])
    lines = aligned(rows)
    reasons: dict[tuple[str, str], list[str]] = {}
    for known in all_metrics():
        for column, comparison in columns.items():
            if known in comparison.omitted:
                where = "" if column == GENERATED else f" of the floor by {column}"
                reasons.setdefault((where, comparison.omitted[known]), []).append(known)
    of_all = {why: names for (where, why), names in reasons.items() if not where}
    lines += [
        f"not computed{where}: {', '.join(names)}: {why}"
        for (where, why), names in reasons.items()
        if not (where and of_all.get(why) == names)  # what holds for all is said once
    ]
    return lines


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    counts = f"({estimate.n_real}/{estimate.n_fake})"
    if estimate.interval is None:
        return f"{number(estimate.value)} {counts}"
    half = (estimate.interval[1] - estimate.interval[0]) / 2
    return f"{number(estimate.value)} ± {half:.2g} {counts}"


def number(value: float) -> str:
    """A number in four digits."""
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table with their columns below each other, the first of them underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _memorized(evaluation: Evaluation, label: str) -> Iterable[str]:
    for name, part in {ALL_CLASSES: evaluation.pooled, **evaluation.classes}.items():
        if part.memorization is None:
            continue
        found, share = part.memorization, part.memorization.share
        yield (
            f"memorisation ({label}), {name}: {share.value:.1%} of {share.n_fake} generated images "
            f"are as near to one of {share.n_real} training images as the nearest "
            f"{found.reference_share:.1%} of {len(found.reference_distances)} {found.reference} "
            f"(p = {found.p_value:.2g}); {found.n_near_copies} near copies"
        )
    if evaluation.pooled.memorization is None:
        return
    files = evaluation.fake.files
    for copy in evaluation.pooled.memorization.near_copies[:5]:
        yield f"  {files[copy.fake]} is near {evaluation.train_files[copy.train]}"


def _repeated(evaluation: Evaluation) -> Iterable[str]:
    extra = sum(len(group) - 1 for group in evaluation.duplicates)
    if extra:
        yield f"{extra} of {evaluation.n_given} generated images repeat another one byte for byte"
    if evaluation.copies:
        yield (
            f"{len(evaluation.copies)} of {evaluation.n_given} generated images are training "
            "images byte for byte"
        )
