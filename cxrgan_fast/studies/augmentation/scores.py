"""From logits of classes to one score: the log-odds of disease against the negative class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrgan_fast.errors import UserError, did_you_mean

Floats = NDArray[np.float64]


def negative_label(class_names: Sequence[str], negative: str | None = None) -> int:
    """Find the class against which all others are disease.

    Args:
        class_names: the classes.
        negative: name of the class; None for the one called normal.

    Raises:
        UserError: there is no such class, or no other one.
    """
    if len(class_names) < 2:
        raise UserError(
            f"classes {', '.join(class_names)}: expected two or more, one of them without disease"
        )
    wanted = "normal" if negative is None else negative
    folded = [name.casefold() for name in class_names]
    if wanted.casefold() not in folded:
        hint = did_you_mean(wanted, class_names) if negative is not None else ""
        raise UserError(
            f"negative class {wanted!r}: the classes are {', '.join(class_names)}{hint}; name the "
            "one without disease"
        )
    return folded.index(wanted.casefold())


def disease_scores(logits: NDArray[np.floating], negative: int) -> Floats:
    """Compute the log-odds that an image is not of the negative class.

    The softmax of the logits gives each class a probability; a score of 0 is one of 0.5.

    Args:
        logits: (N, K).
        negative: label of the negative class.

    Returns:
        (N,) float64.
    """
    logits = np.asarray(logits, np.float64)
    others = np.delete(logits, negative, axis=1)
    scores: Floats = np.logaddexp.reduce(others, axis=1) - logits[:, negative]
    return scores


def probabilities(scores: Floats) -> Floats:
    """Compute the probability of disease of each score, (N,) float64."""
    # Without overflow on either side.
    small = np.exp(-np.abs(scores))
    found: Floats = np.where(scores >= 0, 1 / (1 + small), small / (1 + small))
    return found
