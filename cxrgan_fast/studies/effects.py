"""Does a setting matter? A test that a sampler's own drift does not deceive.

TPE goes where trials were good. Later trials are therefore better, and have other settings, also of
those that do nothing: it follows chance there. Over a whole sweep such a setting goes with the
objective, and a test that shuffles the objective over all trials calls it important in most sweeps
(`tests/studies/test_effects.py` counts). So values are ranked and shuffled only among trials that
are neighbors in time, in blocks of five, within which the sampler has hardly moved. What a setting
did to the trend over the whole sweep is then not seen: the test can miss what matters, which a
sweep with ``--sampler random``, where all trials are one block, sees better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.studies.differences import require_scipy

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BLOCK = 5
"""Trials that are shuffled among each other, where the sampler learns."""
FEWEST = 10
"""Trials with a value of the setting below which nothing is tested."""
LEVEL = 0.05
"""Probability that a sweep in which no setting matters is said to show one that does."""

_SHUFFLES = 9999
_PARTS = 3  # into which numbers are divided, at equal counts

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Trials that have one value of a setting, or values between two.

    Attributes:
        low: the value, or the lowest one.
        high: the value, or the highest one.
        count: how many trials.
        median: median of their log(FID / floor).
    """

    low: Any
    high: Any
    count: int
    median: float

    @property
    def text(self) -> str:
        """Word the values."""
        low, high = shown_value(self.low), shown_value(self.high)
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Effect:
    """What trials show of a setting.

    Attributes:
        groups: trials by their values.
        p: p-value of the hypothesis that the setting does nothing; None where none could be
            tested.
        adjusted: p for all settings of the sweep together (Holm 1979).
    """

    groups: tuple[Group, ...]
    p: float | None
    adjusted: float | None

    @property
    def is_shown(self) -> bool:
        """Tell whether the trials show that the setting matters."""
        return self.adjusted is not None and self.adjusted < LEVEL

    @property
    def best(self) -> Group | None:
        """Return the group of the lowest median; None without groups."""
        return min(self.groups, key=lambda group: group.median, default=None)


def effects(
    parameters: Mapping[str, Sequence[Any]],
    distributions: Mapping[str, BaseDistribution],
    values: Sequence[float],
    *,
    learns: bool,
    seed: int = 0,
) -> dict[str, Effect]:
    """Judge for each setting whether the objective depends on it.

    Trials are grouped by the setting's value: by choice, or by the three thirds of its numbers. The
    sum of squares between the groups of the values' ranks (Kruskal and Wallis 1952), ranks being
    those within a block, is compared with that of 9,999 shuffles within blocks.

    Args:
        parameters: for each setting its value in each trial, None where it was not drawn.
        distributions: for each setting what its values were drawn from.
        values: for each trial log(FID / floor), by the trials' numbers.
        learns: whether the sampler looks at earlier trials, so that only neighbors are compared.
        seed: random seed of the shuffles.
    """
    objective = np.asarray(values, np.float64)
    tested: dict[str, tuple[tuple[Group, ...], float | None]] = {}
    for name, given in parameters.items():
        drawn = [place for place, value in enumerate(given) if value is not None]
        chosen = [given[place] for place in drawn]
        places = _grouped(chosen, _is_choice(distributions[name]))
        of_drawn = objective[drawn]
        p = None
        if len(drawn) >= FEWEST and len(set(places.tolist())) > 1:
            p = _p_value(places, of_drawn, learns, np.random.default_rng(seed))
        tested[name] = (_groups(chosen, places, of_drawn), p)
    adjusted = holm({name: p for name, (_, p) in tested.items() if p is not None})
    return {name: Effect(groups, p, adjusted.get(name)) for name, (groups, p) in tested.items()}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Raise p-values for being several: Holm, A Simple Sequentially Rejective Multiple Test, 1979.

    Returns:
        Values of at most 1. That any of them is below a level while nothing at all is there has at
        most that probability.
    """
    adjusted, least = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(p_values) - place) * p))
        adjusted[name] = least
    return adjusted


def shown_value(value: Any) -> str:
    """Word a value of a setting: 0.00032, not 0.000319153."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_choice(distribution: BaseDistribution) -> bool:
    return hasattr(distribution, "choices")


def _grouped(values: Sequence[Any], by_choice: bool) -> Places:
    """The group of each value, from 0 in the order of the values."""
    distinct: list[Any] = list(dict.fromkeys(values))
    if not by_choice:
        distinct.sort()
    if by_choice or len(distinct) <= _PARTS + 1:
        return np.array([distinct.index(value) for value in values], np.int64)
    ranks = require_scipy().rankdata(values)  # equal values have one rank, and stay together
    places: Places = np.unique(
        ((ranks - 0.5) / len(values) * _PARTS).astype(np.int64), return_inverse=True
    )[1]
    return places


def _groups(values: Sequence[Any], places: Places, objective: Numbers) -> tuple[Group, ...]:
    found = []
    for group in range(int(places.max(initial=-1)) + 1):
        members = np.flatnonzero(places == group).tolist()
        of_group = [values[member] for member in members]
        one = isinstance(of_group[0], str | bool)
        low, high = (of_group[0],) * 2 if one else (min(of_group), max(of_group))
        found.append(Group(low, high, len(members), float(np.median(objective[members]))))
    return tuple(found)


def _p_value(places: Places, objective: Numbers, learns: bool, rng: np.random.Generator) -> float:
    n = len(objective)
    blocks = _blocks(n) if learns else np.zeros(n, np.int64)
    ranks = np.zeros(n)
    for block in np.unique(blocks):
        inside = blocks == block
        ranks[inside] = require_scipy().rankdata(objective[inside])
        ranks[inside] -= ranks[inside].mean()
    # A sort by block and, within it, by chance: each row is a shuffle.
    shuffled = ranks[np.argsort(blocks + rng.random((_SHUFFLES, n)), axis=1)]
    found, by_chance = _between(ranks[None], places)[0], _between(shuffled, places)
    tie = 1e-9 * max(found, 1.0)
    return float(1 + np.count_nonzero(by_chance >= found - tie)) / (_SHUFFLES + 1)


def _blocks(n: int) -> Places:
    """Blocks of `BLOCK` trials; what is left over at the end joins the last one."""
    blocks: Places = np.minimum(np.arange(n) // BLOCK, max(0, n // BLOCK - 1))
    return blocks


def _between(ranks: Numbers, places: Places) -> Numbers:
    """The sum of squares between groups, of each row of ranks whose mean is 0."""
    members = (places[:, None] == np.arange(places.max() + 1)).astype(np.float64)
    sums = ranks @ members  # (rows, groups)
    between: Numbers = (sums**2 / members.sum(axis=0)).sum(axis=1)
    return between
