"""``python -m bench.sanitize``: the native kernels at small odd shapes, for compute-sanitizer.

Every op, dtype, layout and path that runs on the device, forward and backward, at extents that no
vector or tile divides; also evaluation, second derivatives and labels out of range. What a kernel
computes is tested elsewhere: here it is only to touch all the memory that it will ever touch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench import cases
from bench.cases import DTYPES, LAYOUTS, Case
from bench.command import parser_of
from bench.gpu_case import ways
from bench.timing import wait
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import (
    augmented_batch,
    available_backends,
    bias_leaky_relu,
    conditional_batch_norm_act,
    use_backend,
)

SHAPES = ((3, 5, 7, 5), (2, 33, 1, 3), (5, 8, 4, 4), (1, 3, 65, 67))
LOGITS = ((7,), (5001,))


Call = Callable[[], tuple[int, int]]
"""Makes some passes: how many it has made, and how many a path could not make."""


def run_all(device: torch.device, deadline: float = math.inf) -> tuple[int, int, int]:
    """Run everything once: each op, dtype, layout and path at one shape before the next shape.

    Args:
        device: where.
        deadline: of `time.monotonic`; no call is begun after it, since a sanitizer that is stopped
            does not say what it has found.

    Returns:
        How many forward and backward passes were made, how many a path could not make, and how many
        calls are left.
    """
    done = refused = 0
    left = _calls(device)
    while left and time.monotonic() < deadline:
        with use_backend("native"):
            made, could_not = left.pop(0)()
        done, refused = done + made, refused + could_not
    wait(device)
    return done, refused, len(left)


def _calls(device: torch.device) -> list[Call]:
    calls: list[Call] = []
    losses = cases.all_cases(cases.LOSSES, dtypes=DTYPES)
    for shape, logits in itertools.zip_longest(SHAPES, LOGITS):
        images = cases.all_cases(cases.IMAGE_OPS, [shape], DTYPES, LAYOUTS)
        of_logits = [dataclasses.replace(case, shape=logits) for case in losses if logits]
        calls += [partial(_every_way, case, device) for case in (*images, *of_logits)]
        calls += [partial(_rarer_calls, case, device) for case in images]
        for dtype, layout in itertools.product(DTYPES.values(), LAYOUTS.values()):
            calls.append(partial(_augmented_batch, shape, dtype, layout, device))
    return calls


def _every_way(case: Case, device: torch.device) -> tuple[int, int]:
    done = refused = 0
    inputs = cases.inputs(case, device)
    for name, way in ways(case, (), device).items():
        if name.split()[0] != "native":
            continue
        try:
            with way.force():
                gradients = way.step(inputs)()
        except UserError:  # a path that this image does not fit
            refused += 1
            continue
        assert all(each.isfinite().all() for each in gradients), f"{case}, {name}"
        done += 1
    return done, refused


def _rarer_calls(case: Case, device: torch.device) -> tuple[int, int]:
    """Evaluation and second derivatives, which are not counted."""
    (x, *others), grad = cases.inputs(case, device)
    assert grad is not None  # the case is one of images
    if case.op == "bias_leaky_relu":
        (bias,) = others
        y = bias_leaky_relu(x, bias)
        first = torch.autograd.grad(y, (x, bias), grad.requires_grad_(), create_graph=True)
        torch.autograd.grad([each.sum() for each in first], grad)
        return 0, 0
    labels, weight, bias, running_mean, running_var = others
    y = conditional_batch_norm_act(
        x, labels, weight, bias, running_mean, running_var, training=False
    )
    torch.autograd.grad(y, (x, weight, bias), grad)
    if device.type == "cpu":
        return 0, 0  # where a label out of range is an IndexError
    for label in (-1, cases.CLASSES, 2**62):
        labels[-1] = label
        y = conditional_batch_norm_act(x, labels, weight, bias)
        assert y[-1].isnan().all()
        torch.autograd.grad(y, (x, weight, bias), grad)
    return 0, 0


def _augmented_batch(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, device: torch.device
) -> tuple[int, int]:
    """With everything, up to its second derivative; on a GPU also with rows out of range."""
    fakes, *image = shape
    samples = fakes + 3
    stored = torch.randint(256, (4, *image), dtype=torch.uint8, device=device)
    rows = torch.tensor([3, 0, 2], device=device)
    fake = torch.randn(shape, device=device).to(dtype).to(memory_format=layout).requires_grad_()
    pairs = torch.rand(samples, 2, 2, device=device)
    pairs[0], pairs[-1] = 0, 1 - 2**-24  # the largest shifts and the outermost holes
    noise = torch.randn(samples, *image, device=device).to(memory_format=layout)

    def call() -> Tensor:
        return augmented_batch(
            stored, rows, fake, value_range=(-1, 1), mirror=rows > 1, translation=pairs[:, 0],
            cutout=pairs[:, 1], noise=noise, noise_std=noise.new_tensor(0.1),
        )  # fmt: skip

    output = call()
    (gradient,) = torch.autograd.grad(output.square().sum(), fake, create_graph=True)
    torch.autograd.grad(gradient.float().square().sum(), fake)
    for row in () if device.type == "cpu" else (-1, 4, 2**62):
        rows[1] = row
        assert call()[1].isnan().all()
    return 1, 0


def main() -> None:
    """Run and say how much."""
    parser = parser_of("bench.sanitize", __doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--seconds", type=float, default=math.inf, help="then no call is begun")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    device = torch.device(arguments.device)
    status = available_backends()["native"]
    if device.type not in status.runs_on:
        raise UserError(f"no native kernels to run on {device}: {status.why_not[device.type]}")
    done, refused, left = run_all(device, deadline)
    if not done:
        raise UserError(f"--seconds {arguments.seconds:g}: too few for a single call")
    print(
        f"{done} passes forward and backward on {device}; {refused} that a path cannot make; "
        f"{left} calls left for want of time"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
