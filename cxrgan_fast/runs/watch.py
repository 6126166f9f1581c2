"""What a run is warned of: a discriminator that guesses, or one that is sure, for too long."""

import math
from collections.abc import Mapping
from typing import Any

_BLIND, _SURE = 0.1, 0.9  # r_t below the one, and above the other
_SHARE = 0.1  # of the planned run; its beginning, as long, does not count
_ROUNDING = 1e-9
_HUGE = 2.0**53  # Python's whole numbers may be larger than any float
_STEPS = 100  # at least: a tenth of a very short run says nothing yet

_WARNINGS = {
    "blind": (
        "warning: for a tenth of the run the discriminator has hardly told real from generated "
        "images (r_t {r_t:.2f}, where 0 is guessing): the generator learns little from it; try a "
        "smaller --r1-gamma (a tenth of it, for example), less of --augment or a higher --d-lr"
    ),
    "sure": (
        "warning: for a tenth of the run the discriminator has been sure of almost every real "
        "image (r_t {r_t:.2f}, where 1 is of every one): it may know them by heart; try "
        "--ada-target 0.6, more of --augment, a larger --r1-gamma or more images"
    ),
}


class DiscriminatorWatch:
    """Notices a discriminator that is blind, or sure, for a tenth of a run; each once.

    It looks at nothing but the rows of metrics.jsonl, so that a run that goes on can be shown those
    from before: what has been said then is not said again.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._kind: str | None = None
        self._begun = (0.0, 0.0)  # share of the run and step at which it became of that kind
        self._last: tuple[float, float] | None = (0.0, 0.0)

    def see(self, row: Mapping[str, Any]) -> str | None:
        """Take the next row, and return a warning if there is one to be shown.

        Args:
            row: what is written of steps; ``step``, ``share`` (of the planned run that is done) and
                ``r_t`` are looked at. One without them, or of other types, ends what has lasted.
        """
        share, step, r_t = (_number(row, name) for name in ("share", "step", "r_t"))
        kind = "blind" if r_t < _BLIND else "sure" if r_t > _SURE else None  # NaN is neither
        if math.isnan(share) or math.isnan(step):
            self._kind, self._last = None, None
            return None
        now = share, step
        last = self._last or now  # after a row that says not when, nothing is known from before
        # Where a run has been planned anew, less of it is done than before.
        if kind != self._kind or share < last[0]:
            begun = min(last, now)
            self._kind, self._begun = kind, (max(begun[0], _SHARE), begun[1])
        self._last = now
        lasted = share - self._begun[0] > _SHARE - _ROUNDING and step - self._begun[1] >= _STEPS
        if kind is None or kind in self._said or not lasted:
            return None
        self._said.add(kind)
        return _WARNINGS[kind].format(r_t=r_t)


def _number(row: Mapping[str, Any], name: str) -> float:
    """A number of a row; NaN if it is none there."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= _HUGE:
        return math.nan
    return float(value)
