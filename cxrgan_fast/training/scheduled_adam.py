"""Adam with a decay rate that changes from step to step, in a step that can be captured."""

import torch
from torch import Tensor, nn


class ScheduledAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) or AdamW whose decay rate of the second moment is a tensor.

    PyTorch's fused kernels take the rate as a number, which a captured step would keep for good,
    and its others read a tensor back from the device. Nor is 1 - β2^t what the moment lacks at the
    beginning where β2 changes: here both moments are divided by the same average of ones.

    Args:
        params: float32, on one device.
        lr: learning rate: a number, or 0-dimensional float32.
        beta1: decay rate of the first moment, in [0, 1).
        weight_decay: L2 penalty; with ``decoupled`` what AdamW takes from the weights.
        decoupled: whether it is AdamW.

    Attributes:
        param_groups: one group, whose "beta2" is to be written into: 0-dimensional float64.
    """

    EPS = 1e-8
    """What is added to the root of the second moment, as in PyTorch's Adam."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float | Tensor,
        beta1: float,
        weight_decay: float,
        *,
        decoupled: bool,
    ) -> None:
        device = params[0].device
        beta2 = torch.zeros((), dtype=torch.float64, device=device)
        settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "decoupled": decoupled})
        for p in params:
            self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        # The averages of ones, of all parameters together.
        self._ones = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(2)]
        self.state[params[0]] |= {"ones": self._ones[0], "ones_sq": self._ones[1]}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # without a closure
        """Move the parameters that have a gradient."""
        (group,) = self.param_groups
        params = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in params]
        means = [self.state[p]["exp_avg"] for p in params]
        squares = [self.state[p]["exp_avg_sq"] for p in params]
        lr, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
        ones, ones_sq = self._ones
        if group["weight_decay"] and group["decoupled"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        elif group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, params, alpha=group["weight_decay"]))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        ones.mul_(beta1).add_(1 - beta1)
        torch._foreach_mul_(squares, beta2.float())
        new = torch._foreach_mul(gradients, gradients)
        torch._foreach_mul_(new, (1 - beta2).float())
        torch._foreach_add_(squares, new)
        ones_sq.mul_(beta2).add_(1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, ones_sq.sqrt().float())
        torch._foreach_add_(roots, self.EPS)
        steps = torch._foreach_div(means, roots)
        torch._foreach_mul_(steps, (-lr / ones).float())
        torch._foreach_add_(params, steps)
