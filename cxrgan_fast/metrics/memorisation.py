"""The name that `cxrgan_fast.metrics.memorization` had before, for scripts that import it."""

from cxrgan_fast.metrics import memorization
from cxrgan_fast.metrics.memorization import (
    NearCopy,
    exact_copies,
    exact_duplicates,
    smaller_p_value,
)

Memorisation = memorization.Memorization
memorisation = memorization.memorization

__all__ = [
    "Memorisation",
    "NearCopy",
    "exact_copies",
    "exact_duplicates",
    "memorisation",
    "smaller_p_value",
]
