"""Every public op under torch.compile, whole, with its gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import (
    bias_leaky_relu,
    conditional_batch_norm_act,
    conv2d_downsample,
    discriminator_loss,
    generator_loss,
    upsample_conv2d,
)

OPS: dict[str, Callable[[Tensor], Tensor]] = {
    "conditional_batch_norm_act": lambda x: conditional_batch_norm_act(
        x, torch.tensor([0, 1, 1]), torch.ones(2, 4), torch.zeros(2, 4)
    ),
    "bias_leaky_relu": lambda x: bias_leaky_relu(x, torch.ones(4)),
    "upsample_conv2d": lambda x: upsample_conv2d(x, torch.ones(2, 4, 3, 3)),
    "conv2d_downsample": lambda x: conv2d_downsample(x, torch.ones(2, 4, 3, 3)),
    **{
        f"discriminator_loss-{kind}": lambda x, kind=kind: discriminator_loss(x, x * 2, kind=kind)
        for kind in ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein")
    },
    **{
        f"generator_loss-{kind}": lambda x, kind=kind: generator_loss(x, kind=kind)
        for kind in ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein")
    },
}


@pytest.mark.parametrize("name", OPS)
def test_compiles_whole_with_the_same_gradients(name: str) -> None:
    torch.compiler.reset()  # one line of code below stands for all the ops: not a recompilation
    x = torch.randn(3, 4, 6, 6, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return OPS[name](x.sin()).square().sum()

    # aot_eager traces forward and backward as the default does, and compiles no C++.
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    value, expected = compiled(x), function(x)
    torch.testing.assert_close(value, expected)
    (gradient,), (true,) = torch.autograd.grad(value, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(gradient, true)
