"""Compiles what the ops launch for a GPU that need not be here; prints what came out, as JSON.

    python compile_kernels.py TARGET [--every-configuration] DTYPE/LAYOUT/SHAPE...

The shape of a case is that of images, 32x64x16x16, or a number of logits. A program of its own,
without the interpreter, for test_compilation.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import triton
from cxrgan_fast.kernels import (
    adversarial_loss,
    augmented_batch,
    bias_leaky_relu,
    conditional_batch_norm,
    moments,
)
from stub_driver import TARGETS, CompileOnly, pretend

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


def launch_image_ops(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> None:
    """Every image op, forward and backward, in training and evaluation."""
    x = torch.empty(shape, dtype=dtype, device="meta")
    x = x.to(memory_format=getattr(torch, layout))
    labels = torch.empty(shape[0], dtype=torch.int64, device="meta")
    weight, bias = torch.empty(2, 5, shape[1], device="meta")
    running = torch.empty(shape[1], device="meta")
    norm = x, labels, weight, bias
    _, statistics = conditional_batch_norm.forward(*norm, None, None, 1e-5, 0.2)
    conditional_batch_norm.forward(*norm, running, running, 1e-5, 0.2)
    conditional_batch_norm.update_running_statistics(running, running, statistics, 100, 0.1)
    for training in (True, False):
        conditional_batch_norm.backward(x, *norm, statistics, 1e-5, 0.2, training)
    conditional_batch_norm.statistics(x, 1e-5)
    conditional_batch_norm.apply(*norm, statistics, 0.2)
    sums = torch.empty_like(weight), torch.empty_like(bias)
    for count in (0, 100):  # values that constant statistics are of, and those of a batch
        conditional_batch_norm.backward_apply(x, *norm, statistics, *sums, count, 0.2)
    output = bias_leaky_relu.act(x, running, 0.2)
    bias_leaky_relu.gate(x, None, output, 0.2)
    bias_leaky_relu.backward(x, output, 0.2)
    launch_augmented_batch(x)


def launch_augmented_batch(x: torch.Tensor) -> None:
    """As many stored images as generated ones, with everything; and its derivatives."""
    samples = 2 * x.shape[0]
    both = torch.empty_like(x).expand(2, *x.shape).flatten(0, 1)
    stored = torch.empty(100, *x.shape[1:], dtype=torch.uint8, device="meta")
    rows = torch.empty(x.shape[0], dtype=torch.int64, device="meta")
    pairs = torch.empty(2, samples, 2, device="meta")
    augmented_batch.forward(
        x, stored, rows, rows > 0, *pairs, both.float(), pairs[0, 0, 0], (-1.0, 1.0), both
    )
    augmented_batch.linear(x, *pairs, x.shape[0], both)
    augmented_batch.backward(both, *pairs, x.shape[0], x)


def launch_losses(count: int, dtype: torch.dtype) -> None:
    """Both losses of every kind."""
    logits = torch.empty(count, dtype=dtype, device="meta")
    for kind in ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein"):
        adversarial_loss.discriminator(logits, logits, kind, 0.1)
        adversarial_loss.generator(logits, kind)


def replace_launches(launcher: CompileOnly) -> None:
    """Let every op's launches go to it."""
    modules = conditional_batch_norm, bias_leaky_relu, augmented_batch, moments
    for module in (*modules, adversarial_loss):
        module.wrap_triton = launcher  # type: ignore[attr-defined]


def spilled_bytes(ptx: str) -> int:
    """What ptxas says it keeps in memory for want of registers."""
    (arch,) = re.findall(r"^\.target (\w+)", ptx, re.M)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [str(PTXAS), "-v", f"--gpu-name={arch}", file.name, "-o", "/dev/null"]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return sum(int(each) for each in re.findall(r"(\d+) bytes spill", report))


def layouts_of_sums(ttgir: str) -> list[str]:
    """How the values of each sum lie in threads and registers: its order of additions."""
    named = dict(re.findall(r"^(#\w+) = (#ttg.*)$", ttgir, re.M))
    operands = re.findall(r"^\s*\}\) : \((tensor<.*?>)\) ->", ttgir, re.M)
    return [re.sub(r"#\w+", lambda name: named.get(name[0], name[0]), each) for each in operands]


def describe(binary: Any, target: Any) -> dict[str, Any]:
    """Accesses to memory and, for NVIDIA, registers that did not suffice."""
    ttgir = binary.asm["ttgir"]
    if target.backend == "cuda":
        ptx = binary.asm["ptx"]
        accesses = Counter(re.findall(r"(?:ld|st)\.global\S*", ptx))
        return {
            "accesses": accesses,
            "sums": layouts_of_sums(ttgir),
            "spilled_bytes": spilled_bytes(ptx),
        }
    accesses = Counter(re.findall(r"(?:global|buffer)_(?:load|store)_\w+", binary.asm["amdgcn"]))
    return {"accesses": accesses, "sums": layouts_of_sums(ttgir)}


def main() -> None:
    """What the module's docstring says."""
    target, *cases = sys.argv[1:]
    pretend(target)
    every_configuration = "--every-configuration" in cases
    results = []
    for case in cases:
        if case.startswith("--"):
            continue
        dtype, layout, shape = case.split("/")
        launcher = CompileOnly(every_configuration=every_configuration)
        replace_launches(launcher)
        extents = tuple(int(each) for each in shape.split("x"))
        if len(extents) == 1:
            launch_losses(*extents, getattr(torch, dtype))
        else:
            launch_image_ops(extents, getattr(torch, dtype), layout)
        for kernel, constants, binary in launcher.compiled:
            found = describe(binary, TARGETS[target])
            results.append({"case": case, "kernel": kernel, "constants": constants, **found})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
