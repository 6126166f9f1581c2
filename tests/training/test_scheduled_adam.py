"""Adam with a decay rate that changes: as PyTorch's while it does not, else as defined."""

import pytest
import torch
from torch import nn

from cxrgan_fast.training.scheduled_adam import ScheduledAdam

SHAPES = [(4, 3, 3, 3), (7,), ()]
ADAMS = {False: torch.optim.Adam, True: torch.optim.AdamW}


def parameters() -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(100 + step)
    scale = 10.0 ** (step % 5 - 3)
    return [scale * torch.randn(shape, generator=random) for shape in SHAPES]


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_a_constant_rate_gives_what_pytorchs_adam_gives(decoupled, weight_decay, beta1):
    mine, theirs = parameters(), parameters()
    ours = ScheduledAdam(mine, torch.tensor(1e-2), beta1, weight_decay, decoupled=decoupled)
    ours.param_groups[0]["beta2"].fill_(0.99)
    other = ADAMS[decoupled](theirs, 1e-2, (beta1, 0.99), weight_decay=weight_decay)
    for step in range(20):
        for params, optimizer in ((mine, ours), (theirs, other)):
            for p, gradient in zip(params, gradients(step), strict=True):
                p.grad = gradient.clone()
            optimizer.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6)


def test_a_rate_that_changes_weighs_every_gradient_by_the_rates_since():
    """The second moment in float64, by its definition, not by a recursion."""
    (p,), beta1, lr = [nn.Parameter(torch.zeros(5))], 0.3, 1e-2
    optimizer = ScheduledAdam([p], lr, beta1, 0.0, decoupled=False)
    rates = [0.6, 0.9, 0.5, 0.99, 0.0, 0.7]
    seen: list[torch.Tensor] = []
    for step, rate in enumerate(rates):
        before = p.detach().clone()
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(step))
        p.grad = gradient.clone()
        optimizer.param_groups[0]["beta2"].fill_(rate)
        optimizer.step()
        seen.append(gradient.double())
        weights = [
            (1 - rates[k]) * torch.tensor(rates[k + 1 : step + 1]).double().prod().item()
            for k in range(step + 1)
        ]
        firsts = [(1 - beta1) * beta1 ** (step - k) for k in range(step + 1)]
        mean = sum(w * g for w, g in zip(firsts, seen, strict=True)) / sum(firsts)
        square = sum(w * g * g for w, g in zip(weights, seen, strict=True)) / sum(weights)
        expected = -lr * mean / (square.sqrt() + 1e-8)
        torch.testing.assert_close((p - before).double(), expected, rtol=2e-5, atol=1e-9)


def test_a_parameter_without_a_gradient_stays():
    still, moved = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = ScheduledAdam([still, moved], 0.1, 0.0, 0.1, decoupled=True)
    moved.grad = torch.ones(2)
    optimizer.step()
    assert still.tolist() == [1, 1]
    assert not torch.equal(moved, still)
