"""An evaluation as a record for JSON and as a table for the terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from cxrgan_fast.evaluation.reference import ALL_CLASSES, GENERATED, Evaluation, Part
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.memorization import MOST_LISTED, Memorization
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
        "copies": _copies(evaluation),
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
        "memorisation": _memorization(part.memorization),
        "memorisation_by_test_split": _memorization(part.second_opinion),
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
    }


def _copies(evaluation: Evaluation) -> dict[str, Any] | None:
    """How many near copies there are by pixels, and how often the search is wrong."""
    copies = evaluation.near_copies
    if copies is None:
        return None
    labels = evaluation.fake.labels[copies.found.cpu()]
    names = evaluation.fake.class_names
    counts = labels.bincount(minlength=len(names)).tolist()
    return {
        "near_copies": len(copies.found),
        "of_generated": len(evaluation.fake),
        "classes": dict(zip(names, counts, strict=True)),
        "threshold": copies.threshold.likeness,
        "false_rate": copies.threshold.false_rate,
        "calibrated_by_patients": copies.threshold.n,
        "held_out_share": copies.held_out_share,
        "n_held_out": copies.n_held_out,
        "median_likeness": float(copies.nearest.likeness.quantile(0.5)),
        "largest_likeness": float(copies.nearest.likeness.max()),
    }


def _near_copies(evaluation: Evaluation) -> list[dict[str, Any]]:
    copies = evaluation.near_copies
    if copies is None:
        return []
    nearest = copies.nearest
    return [
        {
            "generated": evaluation.fake.files[row],
            "training": evaluation.train_files[int(nearest.rows[row])],
            "likeness": float(nearest.likeness[row]),
            "transform": nearest.transforms[row]._asdict(),
        }
        for row in copies.found[:MOST_LISTED].tolist()
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
    half = estimate.interval[1] - estimate.value
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
            f"(p = {found.p_value:.2g})"
        )
        if part.second_opinion is not None:
            second = part.second_opinion
            yield (
                f"  by {second.reference}: {second.share.value:.1%} beside "
                f"{second.reference_share:.1%} (p = {second.p_value:.2g})"
            )
    copies = evaluation.near_copies
    if copies is None:
        return
    limit, nearest = copies.threshold, copies.nearest
    yield (
        f"near copies by pixels: {len(copies.found)} of {len(evaluation.fake)} generated images "
        f"are more like a training image than {limit.likeness:.3f}, which {limit.false_rate:.1%} "
        f"of real images of other patients pass ({limit.n} compared)"
    )
    if copies.held_out_share is not None:
        yield (
            f"  of {copies.n_held_out} images of held-out patients, {copies.held_out_share:.1%} do"
        )
    for row in copies.found[:5].tolist():
        original = evaluation.train_files[int(nearest.rows[row])]
        yield (
            f"  {evaluation.fake.files[row]} is {original}, {nearest.transforms[row]} "
            f"({nearest.likeness[row]:.3f})"
        )


def _repeated(evaluation: Evaluation) -> Iterable[str]:
    extra = sum(len(group) - 1 for group in evaluation.duplicates)
    if extra:
        yield f"{extra} of {evaluation.n_given} generated images repeat another one byte for byte"
    if evaluation.copies:
        yield (
            f"{len(evaluation.copies)} of {evaluation.n_given} generated images are training "
            "images byte for byte"
        )
