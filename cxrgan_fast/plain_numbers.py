"""Numbers as they are typed for an option: plain ASCII digits, and finite."""

import math
import re

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def whole(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: it is none, or has other digits or separators than 0 to 9.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"expected a whole number, such as 12, got {shown(text)}")
    return int(text)


def decimal(text: str) -> float:
    """Read a number that is finite.

    Raises:
        ValueError: it is none, or has other digits or separators than Python's floats in ASCII.
    """
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, such as 0.5 or 1e-3, got {shown(text)}")
    return value


def shown(text: str) -> str:
    """Quote what came for a message, cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
