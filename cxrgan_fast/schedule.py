"""A setting that changes over the planned run, as one value: "1:0.1", "5e-4:0:cosine".

`cxrgan_fast.gan.schedules` computes what it is at a point of the run; here is only how it is
written. Python's own modules are all that this one needs.
"""

import math
from dataclasses import dataclass

from cxrgan_fast.plain_numbers import decimal

SHAPES = ("linear", "cosine")
"""How a schedule goes from its start to its end."""

SPELLING = "START:END[:linear|cosine[:SHARE]]"
"""How a schedule is typed."""


@dataclass(frozen=True)
class Schedule:
    """A number that goes from a start to an end over a share of the planned run, and stays there.

    ``str()`` of one is its text, such as "1:0.1" or "1:0.1:cosine:0.5", which :meth:`read` reads
    back.

    Attributes:
        start: the number at the beginning of the run.
        end: the number at the end of the share and from then on.
        shape: "linear", or "cosine" for half a wave: slow, fast, slow.
        share: share of the planned run that the way takes, above 0 and at most 1.

    Raises:
        ValueError: an end that is not finite, an unknown shape or a share beyond its bounds.
    """

    start: float
    end: float
    shape: str = "linear"
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "share"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not math.isfinite(self.start) or not math.isfinite(self.end):
            raise ValueError(f"start and end must be finite, got {self.start} and {self.end}")
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    @classmethod
    def read(cls, text: str) -> "Schedule":
        """Read what is typed: START:END, and perhaps a shape and a share.

        Raises:
            ValueError: it is spelled otherwise, or is no such schedule.
        """
        start, end, *rest = text.split(":", 3)
        shape = rest[0] if rest else "linear"
        share = decimal(rest[1]) if len(rest) > 1 else 1.0
        return cls(decimal(start), decimal(end), shape, share)

    def __str__(self) -> str:
        parts = [_text(self.start), _text(self.end)]
        if self.share < 1:
            parts += [self.shape, _text(self.share)]
        elif self.shape != "linear":
            parts.append(self.shape)
        return ":".join(parts)

    def __bool__(self) -> bool:
        """Tell whether it is ever another number than 0, as of a plain number."""
        return bool(self.start or self.end)


def _text(number: float) -> str:
    return repr(number).removesuffix(".0")
