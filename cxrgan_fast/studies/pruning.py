"""Pruning that is earned: where an early FID has foretold the final one, and only there.

The first trials run to the end with FID at shares of their budget, the rungs. Spearman's ρ of each
rung with the final FID is computed over them; a later trial is stopped at a rung of a high ρ, not
before a quarter of the budget, if its FID is above the median of what others had there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cxrgan_fast.studies.differences import require_scipy
from cxrgan_fast.studies.record import RUNGS, completed, failed
from cxrgan_fast.studies.study import OBJECTIVES, SETTINGS

if TYPE_CHECKING:
    from optuna import Study

SHARES = (0.1, 0.2, 0.5, 1.0)
"""Rungs: shares of the budget after which the first trials are measured."""
FIRST = 12
"""Trials that run to the end before any is pruned."""
LEAST_RHO = 0.7
"""Spearman's ρ with the final FID from which a rung prunes."""
LEAST_SHARE = 0.25
"""Share of the budget before which no trial is pruned: of the rungs, only that of 0.5 is later."""
CORRELATIONS = "rank_correlations"
"""Attribute of a study: ρ by rung, and the ``trials`` of which it is."""


def rung_name(share: float) -> str:
    """Return what a record calls a rung: "0.1" to "1.0"."""
    return repr(float(share))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Compute Spearman's ρ: the correlation of the ranks, equal values having their mean rank.

    Returns:
        A number from -1 to 1; NaN for fewer than two pairs, or where all values are equal.

    Raises:
        UserError: SciPy is missing.
    """
    if len(first) < 2 or any(len(set(each)) == 1 for each in (first, second)):
        return math.nan
    return float(require_scipy().spearmanr(first, second).statistic)


def rank_correlations(study: Study) -> dict[str, float | int | None]:
    """Compute ρ of each rung with the final FID, over the trials that have all rungs.

    Those that come later have only the rungs that prune, and of those only the better ones have a
    final FID: they would make ρ another quantity.

    Returns:
        ρ by rung, None where it is not defined, and the number of ``trials``.
    """
    names = [rung_name(share) for share in SHARES]
    whole = [trial.user_attrs.get(RUNGS, {}) for trial in completed(study)]
    whole = [rungs for rungs in whole if all(name in rungs for name in names)]
    found: dict[str, float | int | None] = {"trials": len(whole)}
    for name in names[:-1]:
        rho = rank_correlation([each[name] for each in whole], [each[names[-1]] for each in whole])
        found[name] = None if math.isnan(rho) else rho
    return found


def shares_to_measure(study: Study) -> list[float]:
    """Return the rungs at which a trial that begins now is measured; the last is the end."""
    found = rank_correlations(study)
    if not prunes(study) or not _are_enough(found):
        return list(SHARES)
    return [share for share in SHARES if share == 1 or _is_earned(share, found)]


def prunes(study: Study) -> bool:
    """Tell whether trials of this study can be pruned; Optuna prunes none of two objectives."""
    return OBJECTIVES[study.user_attrs[SETTINGS]["objective"]] == 1


def _are_enough(found: Mapping[str, float | int | None]) -> bool:
    return (found["trials"] or 0) >= FIRST


def _is_earned(share: float, found: Mapping[str, float | int | None]) -> bool:
    rho = found[rung_name(share)]
    return LEAST_SHARE <= share < 1 and rho is not None and rho >= LEAST_RHO


def should_prune(study: Study, share: float, fid: float) -> bool:
    """Tell whether a trial is stopped at a rung.

    Args:
        study: its other trials are those with which it is compared.
        share: the rung.
        fid: FID of the trial at the rung.
    """
    found = rank_correlations(study)
    if not prunes(study) or not _are_enough(found) or not _is_earned(share, found):
        return False
    name = rung_name(share)
    others = [
        trial.user_attrs[RUNGS][name]
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not failed(trial)
        if name in trial.user_attrs.get(RUNGS, {})
    ]
    return bool(others) and fid > statistics.median(others)
