"""What an evaluation comes to, in three sentences: how varied, copied or not, how far away.

Each sentence goes by the difference from the floor and its 95 % interval, not by a number alone:
what lies within chance of new real images is said to be so.
"""

import math
from collections.abc import Sequence

from cxrgan_fast.evaluation.findings import Evaluation, Part
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, Difference

_BY_CHANCE = 0.05  # a number of copies that is more probable than this is no finding


def verdict(evaluation: Evaluation, others: Sequence[Evaluation] = ()) -> list[str]:
    """Return three sentences on the images of an evaluation.

    Args:
        evaluation: what was found by the features that decide.
        others: what was found of the same images by other features, which say whether they agree.
    """
    return [_variety(evaluation), _copies(evaluation), _distance(evaluation, others)]


def feature_label(evaluation: Evaluation) -> str:
    """Return what numbers of an evaluation's features are labelled with: name and dimension."""
    return f"{evaluation.extractor['name']}, {evaluation.extractor['dimension']}-d"


def _variety(evaluation: Evaluation) -> str:
    found = {name: _difference(evaluation.pooled, name) for name in ("recall", "precision")}
    missing = [name for name, difference in found.items() if difference is None]
    if missing:
        return f"Variety: not judged, since there is no {' and no '.join(missing)} with a floor."
    below = [name for name, each in found.items() if each is not None and _side(each) < 0]
    words = {
        (): "as varied and as lifelike as new X-rays, within chance",
        ("recall",): "too alike",
        ("precision",): "varied, but some show what no X-ray does",
        ("recall", "precision"): "too alike, and some show what no X-ray does",
    }[tuple(below)]
    numbers = ", ".join(_of_floor(name, each) for name, each in found.items() if each is not None)
    return f"Variety: {words}: {numbers} ({feature_label(evaluation)})."


def _copies(evaluation: Evaluation) -> str:
    n, exact = evaluation.n_given, len(evaluation.copies)
    if exact:
        return f"Copies: {exact} of {n} images are training images byte for byte."
    copies = evaluation.near_copies
    if copies is None:
        return f"Copies: none of {n} images byte for byte; near copies were not looked for."
    found, compared = len(copies.found), len(evaluation.fake)
    if not found:
        return f"Copies: none found among {compared} images."
    rate = copies.threshold.false_rate
    by_chance = f"{rate:.1%} of new patients' images do"
    if _chance_of(found, compared, rate) > _BY_CHANCE:
        return (
            f"Copies: {found} of {compared} images look like a training image, no more than by "
            f"chance ({by_chance}); look at nearest.png."
        )
    return (
        f"Copies: {found} of {compared} images look like copies of training images ({by_chance}); "
        "look at nearest.png."
    )


def _chance_of(found: int, compared: int, rate: float) -> float:
    """Return the probability of so many or more of the images, each at a rate."""
    fewer = (math.comb(compared, k) * rate**k * (1 - rate) ** (compared - k) for k in range(found))
    return 1 - math.fsum(fewer)


def _distance(evaluation: Evaluation, others: Sequence[Evaluation]) -> str:
    difference = _difference(evaluation.pooled, "fid")
    if difference is None:
        return "Distance: not judged, since there is no FID with a floor."
    said = f"Distance: {_apart(evaluation, difference)}"
    for other in others:
        second = _difference(other.pooled, "fid")
        if second is not None:
            agrees = "; likewise" if _side(second) == _side(difference) else "; otherwise"
            said += f"{agrees} {_apart(other, second)}"
    return f"{said}."


def _apart(evaluation: Evaluation, difference: Difference) -> str:
    shown = f"FID ({feature_label(evaluation)}) {difference.value:.3g}"
    floor = f"the floor of {difference.floor:.3g}"
    if difference.interval is None:
        return f"{shown}, {difference.difference:.3g} above {floor}"
    low, high = difference.interval
    interval = f"95 % {low:.3g} to {high:.3g}"
    if _side(difference) <= 0:
        return f"{shown} is not told from {floor} ({difference.difference:+.2g}, {interval})"
    spread = ""
    if difference.deviation:
        spread = f", {difference.difference / difference.deviation:.3g} times the floor's spread"
    return f"{shown} is {difference.difference:.3g} ({interval}) above {floor}{spread}"


def _difference(part: Part, metric: str) -> Difference | None:
    return part.differences.get(OTHER_PATIENTS, {}).get(metric)


def _side(difference: Difference) -> int:
    """Return 1 above the floor, -1 below it, 0 within chance of it or where that is unknown."""
    if difference.interval is None:
        return 0
    low, high = difference.interval
    return int(low > 0) - int(high < 0)


def _of_floor(name: str, difference: Difference) -> str:
    return f"{name} {difference.value:.2f} of {difference.floor:.2f}"
