"""``python -m bench.sanitize``: the native kernels at small odd shapes, for compute-sanitizer.

Every op, dtype, layout and path that runs on the device, forward and backward, at extents that no
vector or tile divides; also evaluation, second derivatives and labels out of range. What a kernel
computes is tested elsewhere: here it is only to touch all the memory that it will ever touch.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

import torch

from bench import cases
from bench.cases import DTYPES, LAYOUTS, Case
from bench.gpu_case import ways
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import (
    available_backends,
    bias_leaky_relu,
    conditional_batch_norm_act,
    use_backend,
)

SHAPES = ((3, 5, 7, 5), (2, 33, 1, 3), (5, 8, 4, 4), (1, 3, 65, 67))
LOGITS = ((7,), (5001,))


def run_all(device: torch.device) -> tuple[int, int]:
    """Run everything once.

    Returns:
        How many forward and backward passes were made, and how many a path could not make.
    """
    done = refused = 0
    images = cases.all_cases(cases.IMAGE_OPS, SHAPES, DTYPES, LAYOUTS)
    losses = [
        dataclasses.replace(case, shape=shape)
        for case in cases.all_cases(cases.LOSSES, dtypes=DTYPES)
        for shape in LOGITS
    ]
    for case in (*images, *losses):
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
    with use_backend("native"):
        for case in images:
            _rarer_calls(case, device)
    _wait(device)
    return done, refused


def _rarer_calls(case: Case, device: torch.device) -> None:
    (x, *others), grad = cases.inputs(case, device)
    assert grad is not None  # the case is one of images
    if case.op == "bias_leaky_relu":
        (bias,) = others
        y = bias_leaky_relu(x, bias)
        first = torch.autograd.grad(y, (x, bias), grad.requires_grad_(), create_graph=True)
        torch.autograd.grad([each.sum() for each in first], grad)
        return
    labels, weight, bias, running_mean, running_var = others
    y = conditional_batch_norm_act(
        x, labels, weight, bias, running_mean, running_var, training=False
    )
    torch.autograd.grad(y, (x, weight, bias), grad)
    if device.type == "cpu":
        return  # where a label out of range is an IndexError
    for label in (-1, cases.CLASSES, 2**62):
        labels[-1] = label
        y = conditional_batch_norm_act(x, labels, weight, bias)
        assert y[-1].isnan().all()
        torch.autograd.grad(y, (x, weight, bias), grad)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Run and say how much."""
    parser = argparse.ArgumentParser(prog="python -m bench.sanitize", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    device = torch.device(parser.parse_args().device)
    status = available_backends()["native"]
    if device.type not in status.runs_on:
        raise UserError(f"no native kernels to run on {device}: {status.why_not[device.type]}")
    done, refused = run_all(device)
    print(f"{done} passes forward and backward on {device}; {refused} that a path cannot make")


if __name__ == "__main__":
    sys.exit(run_command(main))
