"""The two adversarial losses, in five kinds, from logits of any shape.

============== ================================================= =====================
kind           discriminator                                     generator
============== ================================================= =====================
minimax        mean(softplus(−r) + s·r) + mean(softplus(f))      −mean(softplus(f))
non_saturating the same                                          mean(softplus(−f))
hinge          mean(relu(1−r)) + mean(relu(1+f))                 −mean(f)
least_squares  ½·mean((r−1+s)²) + ½·mean(f²)                     ½·mean((f−1)²)
wasserstein    mean(f) − mean(r)                                 −mean(f)
============== ================================================= =====================

r and f are the logits of real and generated images, s the label smoothing: the target of real
images is 1−s. Goodfellow et al. 2014 (minimax, non_saturating), Salimans et al. 2016 (smoothing),
Mao et al. 2017 (least_squares), Arjovsky et al. 2017 (wasserstein), Lim & Ye 2017 (hinge).
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from . import reference
from .checks import check_floating, check_same_device

LossKind = Literal["minimax", "non_saturating", "hinge", "least_squares", "wasserstein"]
LOSS_KINDS: tuple[str, ...] = get_args(LossKind)

# A smoothed target needs a loss that has targets: the hinge and the critic's difference have none.
SMOOTHED_KINDS = ("minimax", "non_saturating", "least_squares")


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    kind: LossKind = "non_saturating",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The loss that the discriminator minimises.

    Args:
        real_logits: logits of real images, any shape, any floating dtype.
        fake_logits: logits of generated images, any shape, on the same device; it may differ
            in shape from ``real_logits``, each has its own mean.
        kind: one of the five losses in the module's table.
        label_smoothing: s in [0, 1), one-sided; only for kinds with a target (minimax,
            non_saturating, least_squares).

    Returns:
        A scalar, computed in float32 whatever the logits' dtype (float64 if they are float64).

    Raises:
        TypeError: logits that are no floating tensors.
        ValueError: unknown kind, smoothing out of range or without a target, different devices.
    """
    check_floating("real_logits", real_logits)
    check_floating("fake_logits", fake_logits)
    check_same_device("fake_logits", fake_logits, real_logits, "real_logits")
    _check_kind(kind)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if label_smoothing and kind not in SMOOTHED_KINDS:
        raise ValueError(
            f"label_smoothing must be 0 for kind {kind!r}, which has no target to smooth, "
            f"got {label_smoothing}"
        )
    return reference.discriminator_loss(
        real_logits, fake_logits, kind=kind, label_smoothing=float(label_smoothing)
    )


def generator_loss(fake_logits: Tensor, *, kind: LossKind = "non_saturating") -> Tensor:
    """The loss that the generator minimises.

    Args:
        fake_logits: logits of generated images, any shape, any floating dtype.
        kind: one of the five losses in the module's table.

    Returns:
        A scalar, computed in float32 whatever the logits' dtype (float64 if they are float64).

    Raises:
        TypeError: logits that are no floating tensor.
        ValueError: unknown kind.
    """
    check_floating("fake_logits", fake_logits)
    _check_kind(kind)
    return reference.generator_loss(fake_logits, kind=kind)


def _check_kind(kind: str) -> None:
    if kind not in LOSS_KINDS:
        raise ValueError(f"kind must be one of {', '.join(LOSS_KINDS)}, got {kind!r}")
