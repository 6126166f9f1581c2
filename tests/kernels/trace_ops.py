"""Traces the ops as torch.compile does, on GPU tensors that are not there; prints what it sees.

A program of its own, without the interpreter, for test_compilation.py.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from cxrgan_fast.kernels import (
    adversarial_loss,
    augmented_batch,
    bias_leaky_relu,
    conditional_batch_norm,
)
from stub_driver import pretend
from torch import Tensor
from torch._functorch.aot_autograd import aot_function
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
from torch._subclasses import FakeTensorMode


def update_running(running_mean: Tensor, running_var: Tensor, statistics: Tensor) -> Tensor:
    """On copies: the ops that are traced here change nothing in place."""
    running_mean, running_var = running_mean.clone(), running_var.clone()
    conditional_batch_norm.update_running_statistics(
        running_mean, running_var, statistics, 100, 0.1
    )
    return running_mean + running_var


def see(
    fake: Tensor, stored: Tensor, rows: Tensor, pairs: Tensor, noise: Tensor, std: Tensor
) -> Tensor:
    """Into an output of its own, as the op does."""
    output = torch.empty_like(noise, dtype=fake.dtype)
    return augmented_batch.forward(
        fake, stored, rows, rows > 0, pairs, pairs, noise, std, (-1.0, 1.0), output
    )


def see_linear(tangent: Tensor, pairs: Tensor, noise: Tensor) -> Tensor:
    """The same of a change."""
    stored = noise.shape[0] - tangent.shape[0]
    return augmented_batch.linear(tangent, pairs, pairs, stored, torch.empty_like(noise))


def see_backward(grad: Tensor, pairs: Tensor, fake: Tensor) -> Tensor:
    """The transpose."""
    stored = grad.shape[0] - fake.shape[0]
    return augmented_batch.backward(grad, pairs, pairs, stored, torch.empty_like(fake))


OPS = {
    "norm": conditional_batch_norm.forward,
    "update_running": update_running,
    "norm_backward": conditional_batch_norm.backward,
    "norm_statistics": conditional_batch_norm.statistics,
    "norm_apply": conditional_batch_norm.apply,
    "norm_backward_reduce": conditional_batch_norm.backward_reduce,
    "norm_backward_apply": conditional_batch_norm.backward_apply,
    "relu": bias_leaky_relu.act,
    "relu_gate": bias_leaky_relu.gate,
    "relu_backward": bias_leaky_relu.backward,
    "see": see,
    "see_linear": see_linear,
    "see_backward": see_backward,
    "discriminator": adversarial_loss.discriminator,
    "generator": adversarial_loss.generator,
}


def kernels_in(op: Any, *inputs: Any) -> list[dict[str, Any]]:
    """The kernels in the graph of an op, and which of their arguments are written."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    tensors = [each for each in inputs if isinstance(each, Tensor)]

    def call(*given: Tensor) -> Any:
        remaining = iter(given)
        return op(*(next(remaining) if isinstance(each, Tensor) else each for each in inputs))

    aot_function(call, fw_compiler=keep)(*tensors)
    (graph,) = graphs
    found = []
    for node in graph.graph.nodes:
        if node.target is torch.ops.higher_order.triton_kernel_wrapper_functional:
            kernel = kernel_side_table.get_kernel(node.kwargs["kernel_idx"])
            while hasattr(kernel, "configs"):
                kernel = kernel.fn
            written = sorted(node.kwargs["tensors_to_clone"])
            found.append({"kernel": kernel.__name__, "written": written})
    return found


def main() -> None:
    """What the module's docstring says."""
    pretend("sm_80")
    for name, function in OPS.items():
        torch.library.triton_op(f"cxrgan_traced::{name}", function, mutates_args=())
    ops = torch.ops.cxrgan_traced
    with FakeTensorMode():
        x = torch.empty(16, 64, 32, 32, device="cuda", dtype=torch.bfloat16)
        large = torch.empty(64, 2, 128, 128, device="cuda")
        labels = torch.empty(16, device="cuda", dtype=torch.int64)
        weight, bias = (torch.empty(3, 64, device="cuda") for _ in range(2))
        running, statistics = torch.empty(64, device="cuda"), torch.empty(3, 64, device="cuda")
        logits, many = torch.empty(64, device="cuda"), torch.empty(9000, device="cuda")
        norm = x, labels, weight, bias
        of_two = torch.empty(3, 2, device="cuda")
        bytes_ = torch.empty(9, 64, 32, 32, device="cuda", dtype=torch.uint8)
        noise, pairs = torch.empty(32, 64, 32, 32, device="cuda"), torch.empty(32, 2, device="cuda")
        found = {
            "norm": kernels_in(ops.norm, *norm, None, None, 1e-5, 0.2),
            "norm of many parts": kernels_in(
                ops.norm, large, labels, of_two, of_two, None, None, 1e-5, 0.2
            ),
            "running statistics": kernels_in(ops.update_running, running, running, statistics),
            "norm in evaluation": kernels_in(ops.norm, *norm, running, running, 1e-5, 0.2),
            "norm backward": kernels_in(ops.norm_backward, x, *norm, statistics, 1e-5, 0.2, True),
            "norm backward in evaluation": kernels_in(
                ops.norm_backward, x, *norm, statistics, 1e-5, 0.2, False
            ),
            "norm statistics": kernels_in(ops.norm_statistics, x, 1e-5),
            "norm apply": kernels_in(ops.norm_apply, *norm, statistics, 0.2),
            "norm backward_reduce": kernels_in(ops.norm_backward_reduce, x, *norm, statistics, 0.2),
            "norm backward_apply": kernels_in(
                ops.norm_backward_apply, x, *norm, statistics, weight, bias, 100, 0.2
            ),
            "relu": kernels_in(ops.relu, x, running, 0.2),
            "relu gate": kernels_in(ops.relu_gate, x, None, x, 0.2),
            "relu backward": kernels_in(ops.relu_backward, x, x, 0.2),
            "discriminator input": kernels_in(
                ops.see, x, bytes_, labels, pairs, noise, torch.empty((), device="cuda")
            ),
            "discriminator input, linear": kernels_in(ops.see_linear, x, pairs, noise),
            "discriminator input, backward": kernels_in(ops.see_backward, noise, pairs, x),
            "discriminator": kernels_in(ops.discriminator, logits, many, "minimax", 0.1),
            "generator": kernels_in(ops.generator, logits, "hinge"),
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
