"""Power-function averages of weights, from which any other can be made when a training is over.

Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", section 3
and appendix C: the weights of step t count in proportion to t^γ. What a user gives is the relative
width of that profile, its standard deviation divided by the number of steps.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WIDTHS = (0.05, 0.10)
"""Relative widths of the averages that a training keeps, as in the paper."""

WIDEST = 0.28
"""Relative width that no average reaches: that of equal weights is 1/√12 = 0.289, with γ = 0."""


class PowerEMA:
    """Two power-function averages of a network's weights.

    Args:
        network: the module to follow; it is copied.

    Attributes:
        modules: the averaged copies in the order of `WIDTHS`, in evaluation mode, without
            gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        self.modules = [copy.deepcopy(network).eval().requires_grad_(False) for _ in WIDTHS]
        self._exponents = [exponent_of(width) for width in WIDTHS]

    @torch.no_grad()
    def update(self, network: nn.Module, steps_done: Tensor) -> None:
        """Take in the network after one more step. Nothing is read back from the device.

        Args:
            network: the module that is followed; buffers (running statistics) are copied.
            steps_done: steps before this one, 0-dimensional on the network's device.
        """
        weights: list[Tensor] = list(network.parameters())
        before = steps_done.double()
        for module, exponent in zip(self.modules, self._exponents, strict=True):
            averages: list[Tensor] = list(module.parameters())
            # a ← (a − w)·β + w with β = (1 − 1/t)^(γ+1): in place, and 0 in the first step.
            torch._foreach_sub_(averages, weights)
            torch._foreach_mul_(averages, (before / (before + 1)).pow(exponent + 1).float())
            torch._foreach_add_(averages, weights)
            if buffers := list(module.buffers()):
                torch._foreach_copy_(buffers, list(network.buffers()))

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by their widths."""
        pairs = zip(WIDTHS, self.modules, strict=True)
        return {f"{width:g}": module.state_dict() for width, module in pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            RuntimeError: names or shapes of another network.
        """
        for width, module in zip(WIDTHS, self.modules, strict=True):
            module.load_state_dict(state[f"{width:g}"])


def exponent_of(width: float) -> float:
    """Compute the exponent γ of a profile from its relative width.

    Args:
        width: σ_rel = √(γ+1) / ((γ+2)·√(γ+3)), above 0 and at most `WIDEST`.

    Raises:
        ValueError: another width.
    """
    if not 0 < width <= WIDEST:
        raise ValueError(f"width must be above 0 and at most {WIDEST}, got {width}")
    # (γ+2)²·(γ+3) = σ⁻²·(γ+1), multiplied out.
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())


def fit_profile(
    stored: Sequence[tuple[int, float]], step: int, width: float
) -> tuple[list[float], float]:
    """Find by what factors stored averages sum up to the average of another width.

    Least squares of the profiles over the time of the training (appendix C.2).

    Args:
        stored: the step, from 1, and the width of each stored average.
        step: the step of the average that is wanted.
        width: its width.

    Returns:
        A factor for each stored average; and how far the sum's profile is from the one wanted, as
        a share of it: 0.1 is a tenth, in the square mean.
    """
    steps = np.array([float(at) for at, _ in stored])
    exponents = np.array([exponent_of(each) for _, each in stored])
    among = _products(steps[:, None], exponents[:, None], steps[None], exponents[None])
    target = np.array([float(step)]), np.array([exponent_of(width)])
    wanted = _products(steps, exponents, *target)
    # Neighbors are much alike: the smallest of the factors that fit lose the fewest digits.
    factors = np.linalg.lstsq(among, wanted, rcond=1e-13)[0]
    own = float(_products(*target, *target)[0])
    left = own - 2 * factors @ wanted + factors @ among @ factors
    return factors.tolist(), float(np.sqrt(max(left, 0.0) / own))


def _products(
    a_steps: np.ndarray, a_exponents: np.ndarray, b_steps: np.ndarray, b_exponents: np.ndarray
) -> np.ndarray:
    """∫ p_a·p_b over time, of profiles p(τ) = (γ+1)·τ^γ / T^(γ+1) up to T."""
    sooner = np.minimum(a_steps, b_steps)
    exponents = a_exponents + b_exponents + 1
    shares = (sooner / a_steps) ** a_exponents * (sooner / b_steps) ** b_exponents
    scale = (a_exponents + 1) * (b_exponents + 1) / exponents
    return scale * shares * sooner / (a_steps * b_steps)
