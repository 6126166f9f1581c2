"""The plan of a study: written before its first training, kept with it, and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small, write_atomic
from cxrgan_fast.studies.augmentation.arms import ARMS, find_arm, round_half_up
from cxrgan_fast.studies.augmentation.folds import Fold
from cxrgan_fast.studies.augmentation.recipe import Recipe
from cxrgan_fast.studies.augmentation.subsets import ALL, Size

PLAN = "plan.json"
FORMAT = 1
PROTOCOL = {
    "question": "Do synthetic X-rays help a classifier of pneumonia, and with how many real ones?",
    "hypothesis": "With a given number of real images, a classifier that also sees synthetic ones "
    "(RAS) has another AUC on new patients than one that does not (RA).",
    "primary_outcome": "Difference of AUC between RAS and RA at each size, on the test patients of "
    "the folds. The ratio of synthetic images is chosen by the validation AUC of each fold and "
    "seed. Two-sided, 5 %, corrected over sizes by Holm's procedure.",
    "secondary_outcomes": "Accuracy, sensitivity, specificity, Brier score, calibration; errors of "
    "type I and II at 0.5, at 95 % validation sensitivity and at Youden's point; steps until RA's "
    "AUC; the other arms. These are not corrected.",
    "stopping_rule": "All trainings of the plan, and no more. A report that is made before is one "
    "of a study that is not whole, and says so.",
    "exclusions": "None. A training that fails is reported as missing.",
}
"""What is asked and how it will be answered."""

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Group:
    """Trainings that share a generator: those of a fold, a size and a seed."""

    fold: int
    size: Size
    seed: int

    @property
    def name(self) -> str:
        """Return a name for its folder."""
        return f"fold{self.fold}-size{self.size}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a study trains.

    Attributes:
        data: name of the set.
        fingerprint: fingerprint of the set at the study's resolution.
        class_names: the classes.
        negative: label of the class without disease.
        folds: the folds.
        sizes: numbers of real images.
        arms: names of arms.
        ratios: ratios of the arms that have one.
        seeds: number of seeds.
        recipe: how classifiers are trained.
        generator: settings of the GANs, by name, that are not the default.
    """

    data: str
    fingerprint: str
    class_names: tuple[str, ...]
    negative: int
    folds: tuple[Fold, ...]
    sizes: tuple[Size, ...]
    arms: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: int
    recipe: Recipe
    generator: Mapping[str, Any]

    def groups(self) -> Iterator[Group]:
        """Yield the groups, seed by seed, so that a study that is cut short has all sizes."""
        for seed in range(self.seeds):
            for size in self.sizes:
                for fold in self.folds:
                    yield Group(fold.number, size, seed)

    def images(self, group: Group) -> int:
        """Return the number of real images of a group."""
        return len(self.folds[group.fold].train) if group.size == ALL else group.size

    def trainings(self, group: Group) -> list[tuple[str, float | None]]:
        """Return the arms of a group with their ratios.

        The arm N is left out where its fold has too few further real images.
        """
        size, there = self.images(group), len(self.folds[group.fold].train)
        found: list[tuple[str, float | None]] = []
        for name in self.arms:
            arm = find_arm(name)
            if not arm.takes_ratio:
                found.append((name, None))
                continue
            found += [
                (name, ratio)
                for ratio in self.ratios
                if not arm.more_real or round_half_up((1 + ratio) * size) <= there
            ]
        return found

    def needs_generator(self) -> bool:
        """Tell whether any arm has synthetic images."""
        return any(ARMS[name].synthetic for name in self.arms)

    def counts(self) -> dict[str, int]:
        """Return the number of GANs and of classifiers that the plan trains."""
        groups = list(self.groups())
        return {
            "gans": len(groups) if self.needs_generator() else 0,
            "classifiers": sum(len(self.trainings(group)) for group in groups),
        }

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON: the protocol, and all that is trained."""
        return {
            "format": FORMAT,
            "protocol": PROTOCOL,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "class_names": list(self.class_names),
            "negative": self.negative,
            "sizes": list(self.sizes),
            "arms": list(self.arms),
            "ratios": list(self.ratios),
            "seeds": self.seeds,
            "recipe": self.recipe.to_plain(),
            "generator": dict(self.generator),
            **self.counts(),
            "folds": [fold.to_plain() for fold in self.folds],
        }


def keep_plan(folder: Path, plan: Plan) -> Plan:
    """Write a plan before the first training, or join the study that is there with the same one.

    Args:
        folder: folder of the study; it exists.
        plan: what is asked for.

    Returns:
        The plan, with the folds that are kept: another version of scikit-learn may divide the
        patients in another way, and a study goes on with its own.

    Raises:
        UserError: the study has another plan, whose first difference is named; the file is damaged
            or cannot be written.
    """
    path = folder / PLAN
    plain = json.loads(json.dumps(plan.to_plain()))
    if not path.exists():
        write_atomic(path, (json.dumps(plain, indent=1) + "\n").encode())
        return plan
    where = printable(str(path))
    try:
        kept = json.loads(read_small(path, _MOST_BYTES))
        folds = tuple(Fold.from_plain(each) for each in kept["folds"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({error}); put a copy in its place") from None
    for name, asked in plain.items():
        if name == "folds":
            continue
        if kept.get(name) != asked:
            raise UserError(
                f"{where}: the study was planned with {name} {_short(kept.get(name))}, got "
                f"{_short(asked)}; give the same, or begin another study"
            )
    numbers = [fold.number for fold in folds]
    if numbers != list(range(len(plan.folds))):
        raise UserError(f"{where} is damaged: its folds are {numbers}; put a copy in its place")
    return replace(plan, folds=folds)


def describe_plan(plan: Plan, seconds: Mapping[str, float] | None = None) -> str:
    """Say in words what a plan asks, what it trains, and about how long that takes.

    Args:
        plan: it.
        seconds: measured seconds of a GAN and of a classifier; None where they are not known.
    """
    counts = plan.counts()
    lines = [f"{name.replace('_', ' ')}: {words}" for name, words in PROTOCOL.items()]
    fold = plan.folds[0]
    lines += [
        f"data: {plan.data}; {len(plan.folds)} folds by patient, the first with {len(fold.train)} "
        f"training, {len(fold.validation)} validation and {len(fold.test)} test images",
        f"sizes: {', '.join(map(str, plan.sizes))}; ratios: "
        f"{', '.join(f'{ratio:g}' for ratio in plan.ratios)}; seeds: {plan.seeds}",
        f"arms: {', '.join(plan.arms)}",
        f"trainings: {counts['gans']} GANs and {counts['classifiers']} classifiers",
    ]
    if seconds is not None:
        whole = counts["gans"] * seconds["gan"] + counts["classifiers"] * seconds["classifier"]
        lines.append(
            f"time: about {_duration(whole)} for one worker on this machine "
            f"({_duration(seconds['gan'])} a GAN, {_duration(seconds['classifier'])} a classifier, "
            "by a few steps of each)"
        )
    return "\n".join(lines)


def check_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Return arms in the order of `ARMS`.

    Raises:
        UserError: one is unknown or named twice, or the primary comparison is not among them.
    """
    for name in names:
        find_arm(name)
        if list(names).count(name) > 1:
            raise UserError(f"arm {name}: named twice; name it once")
    for name in ("RA", "RAS"):
        if name not in names:
            raise UserError(
                f"arms {', '.join(names)}: {name} is missing, which the primary comparison needs"
            )
    return tuple(name for name in ARMS if name in names)


def _short(value: object) -> str:
    return printable(f"{value!r:.120}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"
