"""What a study's trainings show, as plain values for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.arms import ARMS
from cxrgan_fast.studies.augmentation.comparisons import (
    CHOSEN,
    SECONDARY,
    Cells,
    Pair,
    Reader,
    chosen_by_validation,
    described,
    effect_of,
    fold_scores,
    mistakes_of,
    training_rate,
)
from cxrgan_fast.studies.augmentation.effects import Effect, auc_effect, holm
from cxrgan_fast.studies.augmentation.finding import state_finding
from cxrgan_fast.studies.augmentation.learning_curve import (
    find_break_even,
    fit_curve,
    worth_in_images,
)
from cxrgan_fast.studies.augmentation.outcomes import OUTCOMES
from cxrgan_fast.studies.augmentation.subsets import ALL, Size
from cxrgan_fast.studies.augmentation.trainings import Training

PRIMARY, BASELINE = "RAS", "RA"
OTHERS = ((BASELINE, "R"), ("RR", "R"), ("RS", "R"), ("S", "R"))
"""Other comparisons; of an arm with ratios that which validation has chosen."""

REFERENCE = {
    "source": "Kermany et al. 2018, Cell 172, pneumonia against normal",
    "accuracy": 0.928,
    "sensitivity": 0.932,
    "specificity": 0.901,
    "auc": 0.968,
    "difference": "a network pretrained on ImageNet, trained on all 5,232 training images with "
    "viral pneumonia among them, and tested on the 624 images of the published test folder; here "
    "the networks begin with random weights, see the images of their fold and size, and are tested "
    "on other patients of the training folder",
}
"""What the authors of the set report, and how that differs."""


def analyze(
    trainings: Sequence[Training],
    folder: Path,
    *,
    negative: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Estimate all that a study asks, from what is there of it.

    The primary outcome is the difference of AUC between RAS, of the ratio that validation patients
    have chosen in each fold and seed, and RA, at each size; its p-values are corrected over sizes
    by Holm's procedure. All else is secondary and is not corrected.

    Args:
        trainings: rows of the table.
        folder: its folder, from which the predictions are read.
        negative: name of the class without disease; None for the one called normal.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Plain values for JSON; ``finding`` is the sentence.

    Raises:
        UserError: no size has the primary comparison, with two seeds of both arms in a fold; a
            file of predictions is missing, damaged, or of other test images.
    """
    cells = _cells(trainings)
    sizes = _sizes(trainings)
    read = Reader(folder, negative)
    notes: list[str] = []
    pairs: dict[Size, Pair] = {}
    for size in sizes:
        pair = Pair.of(cells.get((size, f"{PRIMARY}_{CHOSEN}"), {}),
                       cells.get((size, BASELINE), {}))  # fmt: skip
        if pair.left_out:
            folds = ", ".join(map(str, pair.left_out))
            notes.append(f"size {size}: fewer than two seeds of {PRIMARY} and {BASELINE} in the "
                         f"folds {folds}, which are left out")  # fmt: skip
        if pair.folds:
            pairs[size] = pair
    if not pairs:
        raise UserError(
            f"no size has two seeds of {PRIMARY} and {BASELINE} in a fold: there are "
            f"{len(trainings)} trainings of {', '.join(sorted({each.arm for each in trainings}))}; "
            "train these arms first"
        )
    images = {size: _mean_images(trainings, size) for size in sizes}
    with tqdm(total=len(pairs) + 1, unit="size", desc="analysis", leave=False,
              disable=None if progress else True) as bar:  # fmt: skip
        gains = {size: effect_of("auc", pair, read) for size, pair in pairs.items()}
        real = {size: _alone(cells[size, BASELINE], read) for size in pairs}
        corrected = holm([gain.p_value() for gain in gains.values()])
        bar.update()
        of_sizes = []
        for size, p_holm in zip(pairs, corrected, strict=True):
            of_sizes.append(
                {
                    "size": size,
                    "images": images[size],
                    "folds": len(pairs[size].folds),
                    **described(gains[size], len(pairs)),
                    "p_holm": p_holm,
                    "ratios_chosen": _ratios(pairs[size]),
                    "auc_of_baseline": described_alone(real[size]),
                    "worth_in_images": _worth(pairs, images, real, gains, size),
                    "secondary": _secondary(pairs[size], read),
                    "mistakes": mistakes_of(pairs[size], read),
                    "training_rate": training_rate(pairs[size]),
                }
            )
            bar.update()
    curve = _same_folds(pairs, lambda: fit_curve(
        [images[size] for size in pairs], [each.value for each in real.values()]))  # fmt: skip
    broken = _same_folds(pairs, lambda: find_break_even(
        [images[size] for size in pairs], list(gains.values())))  # fmt: skip
    record: dict[str, Any] = {
        "finding": "",
        "primary": {"outcome": "auc", "arm": f"{PRIMARY}_{CHOSEN}", "against": BASELINE},
        "trainings": len(trainings),
        "seeds": len({each.seed for each in trainings}),
        "sizes": of_sizes,
        "break_even": None if broken is None else broken.to_plain(),
        "learning_curve": None if curve is None else asdict(curve),
        "others": _others(cells, sizes, read),
        "means": _means(cells, images),
        "reference": REFERENCE,
        "notes": notes,
    }
    control = [row for row in record["others"] if row["arm"] == "RR" and row["p_value"] < 0.05]
    notes += [
        f"size {each['size']}: the control RR differs from R (p {each['p_value']:.3f}), though "
        "both see the same images as often: chance alone does this at one size in twenty"
        for each in control
    ]
    record["finding"] = state_finding(record)
    return record


def described_alone(effect: Effect) -> dict[str, Any]:
    """Return the value of one arm as plain values for JSON."""
    low, high = effect.interval()
    return {"value": effect.value, "interval_95": [low, high]}


def _cells(trainings: Sequence[Training]) -> dict[tuple[Size, str], Cells]:
    """Trainings by size and arm with its ratio, and by what validation has chosen."""
    found: dict[tuple[Size, str], dict[tuple[int, int], Training]] = {}
    several: dict[tuple[Size, str], list[Training]] = {}
    for each in trainings:
        found.setdefault((each.size, each.label), {})[each.fold, each.seed] = each
        if ARMS[each.arm].synthetic:
            several.setdefault((each.size, each.arm), []).append(each)
    for (size, arm), of_arm in several.items():
        found[size, f"{arm}_{CHOSEN}"] = chosen_by_validation(of_arm)
    return dict(found)


def _sizes(trainings: Sequence[Training]) -> list[Size]:
    there = {each.size for each in trainings}
    return sorted(there, key=lambda size: (size == ALL, 0 if size == ALL else size))


def _mean_images(trainings: Sequence[Training], size: Size) -> int:
    return round(float(np.mean([each.images for each in trainings if each.size == size])))


def _alone(cells: Cells, read: Reader) -> Effect:
    return auc_effect(fold_scores(Pair.of(cells, cells), read, alone=True))


def _ratios(pair: Pair) -> dict[str, int]:
    """How often validation has chosen each ratio."""
    counts = Counter(ours.ratio or 0.0 for pairs in pair.folds for ours, _ in pairs)
    return {f"{ratio:g}": counts[ratio] for ratio in sorted(counts)}


def _same_folds(pairs: Mapping[Size, Pair], compute: Callable[[], Any]) -> Any:
    """Compute what needs the same patients at all sizes, if they are; else nothing."""
    folds = [[each[0][0].fold for each in pair.folds] for pair in pairs.values()]
    return compute() if all(each == folds[0] for each in folds) else None


def _worth(
    pairs: Mapping[Size, Pair],
    images: Mapping[Size, int],
    real: Mapping[Size, Effect],
    gains: Mapping[Size, Effect],
    size: Size,
) -> dict[str, Any] | None:
    counts = [images[each] for each in pairs]
    found = _same_folds(
        pairs, lambda: worth_in_images(counts, list(real.values()), images[size], gains[size])
    )
    return None if found is None else found.to_plain()


def _secondary(pair: Pair, read: Reader) -> dict[str, Any]:
    return {outcome: _effect_or_reason(outcome, pair, read) for outcome in SECONDARY}


def _effect_or_reason(outcome: str, pair: Pair, read: Reader) -> dict[str, Any]:
    try:
        return described(effect_of(outcome, pair, read))
    except UserError as error:  # a slope that a training has not
        return {"not_estimated": str(error)}


def _others(
    cells: Mapping[tuple[Size, str], Cells], sizes: Sequence[Size], read: Reader
) -> list[dict[str, Any]]:
    """Effects on the AUC of other arms, as far as there are two seeds of them."""
    found = []
    for size in sizes:
        labels = [label for of, label in cells if of == size]
        asked = [
            (f"{arm}_{CHOSEN}" if ARMS[arm].synthetic else arm, against) for arm, against in OTHERS
        ]
        asked += [(each, BASELINE) for each in labels
                  if each.startswith(f"{PRIMARY}_") and not each.endswith(CHOSEN)]  # fmt: skip
        # What a synthetic image is worth beside a real one.
        asked += [(each, each.replace(PRIMARY, "N")) for each in labels
                  if each.startswith(f"{PRIMARY}_")]  # fmt: skip
        for arm, against in asked:
            pair = Pair.of(cells.get((size, arm), {}), cells.get((size, against), {}))
            if pair.folds:
                effect = effect_of("auc", pair, read)
                found.append({"size": size, "arm": arm, "against": against,
                              "folds": len(pair.folds), **described(effect)})  # fmt: skip
    return found


def _means(
    cells: Mapping[tuple[Size, str], Cells], images: Mapping[Size, int]
) -> list[dict[str, Any]]:
    """The mean of each outcome by size and arm."""
    found = []
    for (size, label), of_arm in cells.items():
        row: dict[str, Any] = {"size": size, "images": images[size], "arm": label,
                               "trainings": len(of_arm)}  # fmt: skip
        for outcome in OUTCOMES:
            values = [each.outcomes[outcome] for each in of_arm.values()]
            numbers = [value for value in values if value is not None]
            row[outcome] = float(np.mean(numbers)) if numbers else None
        found.append(row)
    return found
