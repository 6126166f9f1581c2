"""Optimizers whose step can be captured: fused where there is such a kernel, their state ready."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cxrgan_fast.gan.schedules import scheduled
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.game import OptimizationConfig
from cxrgan_fast.training.scheduled_adam import ScheduledAdam


def make_optimizer(
    config: OptimizationConfig,
    parameters: Iterable[nn.Parameter],
    learning_rate: float | Schedule,
    device: torch.device,
) -> torch.optim.Optimizer:
    """Make the optimizer of one network.

    Its state exists from the start, with the values that it would have before the first step: a
    step that made its own could not be captured as a CUDA graph.

    Args:
        config: which one, and its settings.
        parameters: on ``device``.
        learning_rate: a schedule, or on a GPU a number too, becomes a tensor, so that a captured
            step reads it anew.
        device: device of the parameters.
    """
    params = list(parameters)
    on_cuda = device.type == "cuda"
    rate: float | Tensor = scheduled(learning_rate, 0.0)
    if on_cuda or isinstance(learning_rate, Schedule):
        rate = torch.tensor(rate, device=device)
    common: dict[str, Any] = {"lr": rate, "weight_decay": config.l2}
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(params, momentum=config.momentum, fused=True, **common)
    elif config.optimizer == "rmsprop":  # which has no fused kernel
        optimizer = torch.optim.RMSprop(
            params,
            alpha=scheduled(config.beta2, 0.0),
            foreach=True,
            capturable=on_cuda,
            **common,
        )
    elif isinstance(config.beta2, Schedule):
        decoupled = config.optimizer == "adamw"
        optimizer = ScheduledAdam(params, beta1=config.beta1, decoupled=decoupled, **common)
    else:
        adam = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = adam(
            params,
            betas=(config.beta1, config.beta2),
            fused=True,
            capturable=on_cuda,
            **common,
        )
    _make_state(optimizer)
    return optimizer


def follow_schedules(
    optimizer: torch.optim.Optimizer,
    learning_rate: float | Schedule,
    beta2: float | Schedule,
    share: Tensor,
) -> None:
    """Write into an optimizer's tensors what the schedules are at this share of the planned run.

    Args:
        optimizer: as :func:`make_optimizer` makes it for these settings.
        learning_rate: its learning rate.
        beta2: its decay rate of the second moment.
        share: 0-dimensional float64 on its device.
    """
    (group,) = optimizer.param_groups
    for name, value in (("lr", learning_rate), ("beta2", beta2)):
        if isinstance(value, Schedule):
            group[name].copy_(scheduled(value, share))


def scheduled_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors that :func:`follow_schedules` may write into."""
    (group,) = optimizer.param_groups
    return [group[name] for name in ("lr", "beta2") if isinstance(group.get(name), Tensor)]


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer make its state, which for all of them begins with zeros.

    SGD's momentum is, after a first step, the gradient: as it is from zeros (without dampening).
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for tensor in state_tensors(optimizer):
            tensor.zero_()
        for p, value in zip(params, before, strict=True):
            p.copy_(value)


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors that a step changes in place, beside the parameters."""
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore what ``optimizer.state_dict()`` gave, perhaps on another type of device.

    The hyperparameters stay those of the optimizer at hand: a run keeps its settings, but whether
    the learning rate is a tensor depends on the device. So do the tensors themselves, which a
    captured step reads and writes where they are.
    """
    mine = optimizer.state_dict()
    with torch.no_grad():
        for name, slots in mine["state"].items():
            for key, value in slots.items():
                if isinstance(value, Tensor):
                    value.copy_(state["state"][name][key])


class Scaler(torch.amp.GradScaler):
    """A GradScaler that has its tensors from the start, and restores them where they are."""

    def __init__(self, device: torch.device, enabled: bool) -> None:
        super().__init__(device.type, enabled=enabled)
        if enabled:
            self.scale(torch.zeros((), device=device))

    def tensors(self) -> list[Tensor]:
        """Return the scale and the growth tracker; none if nothing is scaled."""
        if not self.is_enabled():
            return []
        assert self._scale is not None
        assert self._growth_tracker is not None
        return [self._scale, self._growth_tracker]
