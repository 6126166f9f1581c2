"""An evaluation as the table that a user reads on the terminal."""

from collections.abc import Iterable, Sequence

from cxrgan_fast.evaluation.evaluator import ALL_CLASSES, GENERATED
from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, Difference
from cxrgan_fast.evaluation.verdict import feature_label, verdict
from cxrgan_fast.metrics.estimate import Estimate
from cxrgan_fast.metrics.metric import Metric, all_metrics, direction


def to_table(evaluation: Evaluation, others: Sequence[Evaluation] = ()) -> str:
    """Return the lines that a user reads.

    A block of rows for all classes and one for each: a row a metric and extractor, with the
    difference from the floor first. The verdict stands at the end, where a terminal shows it.

    Args:
        evaluation: what was found by the features that decide.
        others: what was found of the same images by other features.
    """
    every = [evaluation, *others]
    lines = [
        f"features: {feature_label(e)}, version {e.extractor['version']}"
        f"{'' if e is evaluation else ' (second opinion)'}"
        for e in every
    ]
    lines += evaluation.notes
    for name in (ALL_CLASSES, *evaluation.classes):
        parts = {feature_label(e): _part_of(e, name) for e in every}
        lines += ["", *_block(name, parts)]
    copied = [*_memorized(evaluation), *_copied(evaluation), *_repeated(evaluation)]
    if copied:
        lines += ["", *copied]
    lines += [
        "",
        "± half a 95 % interval; in brackets how many real and generated images",
        *_divisions([part for e in every for part in (e.pooled, *e.classes.values())]),
        "",
        *verdict(evaluation, others),
    ]
    return "\n".join(lines)


def _part_of(evaluation: Evaluation, name: str) -> Part:
    return evaluation.pooled if name == ALL_CLASSES else evaluation.classes[name]


def _block(name: str, parts: dict[str, Part]) -> list[str]:
    """Return the table of all classes or of one, from its part by the label of the features."""
    floors = list(dict.fromkeys(floor for part in parts.values() for floor in part.floors))
    rows = [[name, "better", "above the floor", "generated images"]]
    rows[0] += [f"floor: {floor}" for floor in floors]
    for metric in all_metrics().values():
        for label, part in parts.items():
            rows += _rows(metric, label, part, floors)
    return [*aligned(rows), *_left_out(parts)]


def _rows(metric: Metric, label: str, part: Part, floors: Sequence[str]) -> list[list[str]]:
    columns = [part.comparison, *(part.floors.get(floor) for floor in floors)]
    estimates = [
        None if column is None else column.estimates.get(metric.name) for column in columns
    ]
    if not any(estimates):
        return []
    shown = metric.title if metric.takes == "images" else f"{metric.title} ({label})"
    difference = part.differences.get(OTHER_PATIENTS, {}).get(metric.name)
    rows = [[shown, direction(metric.better), _above(difference), *map(_cell, estimates)]]
    for detail in metric.details:
        better = "" if detail.better is None else direction(detail.better)
        cells = ["-" if e is None else number(e.details[detail.key]) for e in estimates]
        rows.append([f"  {detail.title}", better, "", *cells])
    return rows


def _left_out(parts: dict[str, Part]) -> Iterable[str]:
    """Name the metrics that were not computed; what holds for all columns is said once."""
    said: set[tuple[str, ...]] = set()
    for label, part in parts.items():
        of_features = f" ({label})" if said else ""
        for column, comparison in {GENERATED: part.comparison, **part.floors}.items():
            names: dict[str, list[str]] = {}
            for known in all_metrics():
                if known in comparison.omitted:
                    names.setdefault(comparison.omitted[known], []).append(known)
            where = "" if column == GENERATED else f" of the floor by {column}"
            for reason, left_out in names.items():
                if (reason, *left_out) not in said:
                    said.add((reason, *left_out))
                    yield f"not computed{where}{of_features}: {', '.join(left_out)}: {reason}"


def _divisions(parts: Sequence[Part]) -> Iterable[str]:
    """Say of how many divisions the floor of each metric is the mean."""
    by_number: dict[int, list[str]] = {}
    for name, metric in all_metrics().items():
        of_parts = [part.differences.get(OTHER_PATIENTS, {}).get(name) for part in parts]
        for number in {found.divisions for found in of_parts if found is not None}:
            by_number.setdefault(number, []).append(metric.title)
    if not by_number:
        return
    usual = max(by_number, key=lambda number: len(by_number[number]))
    fewer = [
        f", of {', '.join(titles)} over {number}"
        for number, titles in sorted(by_number.items())
        if number != usual
    ]
    yield (
        f"floor by {OTHER_PATIENTS}: mean over {usual} "
        f"{'division' if usual == 1 else 'divisions'} of the training images{''.join(fewer)}"
    )


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    counts = f"({estimate.n_real}/{estimate.n_fake})"
    if estimate.interval is None:
        return f"{number(estimate.value)} {counts}"
    half = (estimate.interval[1] - estimate.interval[0]) / 2
    return f"{number(estimate.value)} ± {half:.2g} {counts}"


def _above(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    if difference.interval is None:
        return f"{difference.difference:+.3g}"
    low, high = difference.interval
    return f"{difference.difference:+.3g} ({low:.3g} to {high:.3g})"


def number(value: float) -> str:
    """Return a number in four digits."""
    return f"{value:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of a table with their columns below each other, the first of them underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _memorized(evaluation: Evaluation) -> Iterable[str]:
    label = feature_label(evaluation)
    for name, part in {ALL_CLASSES: evaluation.pooled, **evaluation.classes}.items():
        if part.memorization is None:
            continue
        found, share = part.memorization, part.memorization.share
        yield (
            f"memorisation ({label}), {name}: {share.value:.1%} of {share.n_fake} generated images "
            f"are as near to one of {share.n_real} training images as the nearest "
            f"{found.yardstick_share:.1%} of {len(found.yardstick_distances)} {found.yardstick} "
            f"(p = {found.p_value:.2g})"
        )
        if part.second_opinion is not None:
            second = part.second_opinion
            yield (
                f"  by {second.yardstick}: {second.share.value:.1%} beside "
                f"{second.yardstick_share:.1%} (p = {second.p_value:.2g})"
            )


def _copied(evaluation: Evaluation) -> Iterable[str]:
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
