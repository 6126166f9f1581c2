"""``python -m bench.kernels``: the fused ops against eager PyTorch and torch.compile.

Forward + backward through autograd, every variant in turns in one process with the same settings of
the allocator. Prints tables and writes every sample as JSON; ``python -m bench.plot_kernels`` draws
it. Ctrl-C keeps the cases that are complete.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from bench import cases as bench_cases
from bench import figures
from bench.cases import BASELINES, DTYPES, LAYOUTS, OPS, SHAPES, Case
from bench.record import ROOT, write_result
from bench.timing import measure, peak_bytes
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import available_backends
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap

TINY = (2, 4, 1, 1)
STREAMED_MB = 16  # read, and as many written


def run(
    cases: Sequence[Case],
    device: torch.device,
    *,
    baselines: Sequence[str] = BASELINES,
    seconds: float,
    finished: Callable[[figures.Figures], object],
) -> None:
    """Measure case after case.

    Args:
        cases: what to measure.
        device: where.
        baselines: what to measure beside the fused op.
        seconds: about how long to time each case.
        finished: is given the figures of each case when it is complete.
    """
    with tqdm(cases, unit="case", disable=None) as bar:
        for case in bar:
            bar.set_description(str(case))
            variants = bench_cases.steps(case, baselines, device)
            samples = measure(variants, device, seconds)
            variants.pop("copy", None)
            peaks = (
                {name: peak_bytes(step, device) for name, step in variants.items()}
                if case.of_images
                else None
            )
            finished(figures.case_figures(case, samples, peaks))


def overheads(
    names: Sequence[str], device: torch.device, *, smallest: tuple[int, ...], seconds: float
) -> list[figures.Figures]:
    """How much longer each fused op takes than one eager op, F.leaky_relu: forward + backward.

    On a tiny image there is next to nothing to do, so that this is what calling an op costs; 64
    logits are next to nothing anyway. On the CPU it is also measured after a copy that has streamed
    through the caches, as a network's layers do: then an op's code and objects have left them. On
    small images it is what an op costs a network's first layers.

    Args:
        names: the ops.
        device: where.
        smallest: shape (N, C, H, W) of the small images.
        seconds: about how long to time each of the two sizes.
    """
    tiny = [
        case
        for case in bench_cases.all_cases(names, [TINY], ["float32"], ["contiguous"])
        if case.kind in ("", "non_saturating")
    ]
    small = [dataclasses.replace(case, shape=smallest) for case in tiny if case.of_images]
    source = torch.ones(STREAMED_MB << 18)  # float32
    target = torch.empty_like(source)
    sizes: list[tuple[tuple[int, ...], list[Case], Callable[[], object] | None]] = [
        (TINY, tiny, None),
        (smallest, small, None),
    ]
    if device.type == "cpu":
        sizes.insert(1, (TINY, tiny, lambda: target.copy_(source)))
    rows = []
    for image, cases, before in sizes:
        variants = {case.op: bench_cases.steps(case, (), device)["fused"] for case in cases}
        x, grad = (torch.randn(image, device=device) for _ in range(2))
        variants["leaky_relu"] = bench_cases.forward_backward(
            lambda x: F.leaky_relu(x, bench_cases.SLOPE), (x.requires_grad_(),), grad
        )
        samples = measure(variants, device, seconds, before=before)
        medians = {name: statistics.median(each) for name, each in samples.items()}
        rows += [
            {
                "op": case.op,
                "shape": list(case.shape),
                "after_mb": 0 if before is None else 2 * STREAMED_MB,
                "leaky_relu_shape": list(image),
                "fused_us": round(medians[case.op], 1),
                "leaky_relu_us": round(medians["leaky_relu"], 1),
                "overhead_us": round(medians[case.op] - medians["leaky_relu"], 1),
                "samples_us": {
                    name: [round(sample, 1) for sample in samples[name]]
                    for name in (case.op, "leaky_relu")
                },
            }
            for case in cases
        ]
    return rows


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(extent) for extent in text.split("x"))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NxCxHxW, as 64x512x4x4 is")
    return shape


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, help="where the JSON goes (default: bench/results/kernels_DEVICE.json)")
    add("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help=", ".join(OPS))
    add("--shapes", nargs="+", type=_shape, default=list(SHAPES), metavar="NxCxHxW")
    add("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    add("--against", nargs="*", choices=BASELINES, default=list(BASELINES), help="default: both")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--seconds-per-case", type=float, default=6.0, help="at least 5 rounds are run (default 6)")
    add("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.seconds_per_case > 0:
        raise UserError(f"--seconds-per-case: got {arguments.seconds_per_case}, expected over 0")
    if arguments.threads is not None and arguments.threads < 1:
        raise UserError(f"--threads: got {arguments.threads}, expected 1 or more")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here")
    out = arguments.out
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder, expected a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {out.parent} cannot be made: {error.strerror}") from None
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise UserError(f"--out: {out} cannot be written")


def _command(arguments: Sequence[str]) -> str:
    """The command line as given, but for the name of the file."""
    words, given = ["python -m bench.kernels"], iter(arguments)
    for word in given:
        if word == "--out":
            next(given)
        elif not word.startswith("--out="):
            words.append(word)
    return " ".join(words)


def main() -> None:
    """Measure, print and write."""
    arguments = _parser().parse_args()
    if arguments.out is None:
        arguments.out = ROOT / "bench" / "results" / f"kernels_{arguments.device}.json"
    _check(arguments)
    keep_large_tensors_off_mmap()  # before the first tensor, and so for every variant
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type not in available_backends()["native"].runs_on:
        print(f"note: there are no native ops on {device} here; see python -m cxrgan_fast.env")
    cases = bench_cases.all_cases(
        arguments.ops, arguments.shapes, arguments.dtypes, arguments.layouts
    )
    done: list[figures.Figures] = []
    record: dict[str, Any] = {"device": arguments.device, "complete": False, "cases": done}
    try:
        record["dispatch"] = overheads(
            arguments.ops, device, smallest=arguments.shapes[0], seconds=arguments.seconds_per_case
        )
        run(
            cases,
            device,
            baselines=arguments.against,
            seconds=arguments.seconds_per_case,
            finished=done.append,
        )
        record["complete"] = True
    finally:
        if done:
            _finish(arguments.out, _command(sys.argv[1:]), record, of=len(cases))
        else:
            print("no case is complete; nothing is written")


def _finish(path: Path, command: str, record: dict[str, Any], *, of: int) -> None:
    done = record["cases"]
    record = {**record, "summary": figures.summaries(done)}
    # First what takes a screen, then in the file also what takes a thousand.
    print(figures.report(record), end="\n\n")
    write_result(path, command, record)
    whole = "complete" if record["complete"] else "NOT complete"
    print(f"{len(done)} of {of} cases, {whole}: written to {path}")


if __name__ == "__main__":
    sys.exit(run_command(main))
