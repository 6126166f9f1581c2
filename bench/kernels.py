"""``python -m bench.kernels``: the fused ops against eager PyTorch and torch.compile.

Forward + backward through autograd, every variant in turns in one process with the same settings of
the allocator. Prints tables and writes every sample as JSON; ``python -m bench.plot`` draws
it. Ctrl-C keeps the cases that are complete. On a GPU also every backend and path that runs there,
replayed as CUDA graphs too: see ``bench.gpu_case``; there the file is written after every case,
since a GPU's errors can end a process without a word.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from bench import cases as bench_cases
from bench import gpu_case, measurements
from bench.cases import (
    BASELINES,
    COMPILE_MODES,
    CUDA_SHAPES,
    DTYPES,
    LAYOUTS,
    MEASURED_DTYPES,
    OPS,
    SHAPES,
    Case,
)
from bench.command import check, parser_of, prepare_process, recorded
from bench.kernels_report import report
from bench.record import RESULTS, Result
from bench.timing import measure, peak_bytes
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import available_backends
from cxrgan_fast.threads import MOST_THREADS

TINY = (2, 4, 1, 1)
STREAMED_MB = 16  # read, and as many written
# Where some shapes only are compiled for, so is one kind of loss.
COMPILED_LOSS = "non_saturating"
COMPILED_HELP = "those that compiled and triton are measured on (default: all; no value: none)"
SECONDS = {"cpu": 6.0, "cuda": 0.6}


def run(
    cases: Sequence[Case],
    device: torch.device,
    *,
    baselines: Sequence[str] = BASELINES,
    compiled_shapes: Sequence[tuple[int, ...]] | None = None,
    seconds: float,
    finished: Callable[[measurements.Measurements], object],
) -> None:
    """Measure case after case.

    Args:
        cases: what to measure.
        device: where.
        baselines: what to measure beside the fused op.
        compiled_shapes: images that what compiles is measured on, if not all: then also one kind of
            loss, if there are any. They come last: an interruption costs no other case.
        seconds: about how long to time each case.
        finished: is given the measurements of each case when it is complete.
    """

    def compiles(case: Case) -> bool:
        shapes = compiled_shapes
        if not shapes:
            return shapes is None
        return case.shape in shapes or case.kind == COMPILED_LOSS

    ordered = sorted(cases, key=compiles)
    if device.type == "cuda":
        ordered.sort(key=partial(_turn, cases=cases, compiles=compiles))
    with tqdm(ordered, unit="case", disable=None) as bar:
        for case in bar:
            bar.set_description(str(case))
            ways = (*baselines, "triton") if device.type == "cuda" else baselines
            beside = [name for name in ways if name not in gpu_case.COMPILING or compiles(case)]
            if device.type == "cuda":
                finished(gpu_case.measure_case(case, beside, device, seconds))
                continue
            finished(measure_on_cpu(case, beside, seconds))


def measure_on_cpu(case: Case, beside: Sequence[str], seconds: float) -> measurements.Measurements:
    """Measure one case on the CPU.

    Args:
        case: the case.
        beside: which of eager and compiled to have beside the fused op.
        seconds: about how long to time it.
    """
    cpu = torch.device("cpu")
    variants = bench_cases.steps(case, beside, cpu)
    samples = measure(variants, cpu, seconds)
    variants.pop("copy", None)
    peaks = {name: peak_bytes(step, cpu) for name, step in variants.items() if case.of_images}
    return measurements.case_measurements(case, samples, peaks)


def _turn(
    case: Case, *, cases: Sequence[Case], compiles: Callable[[Case], bool]
) -> tuple[bool, bool, int]:
    """When a case is measured: what compiles last, and of that first what training is done in.

    The ops in turns, so that whatever time there is has some of each.
    """
    if not compiles(case):
        return False, False, 0
    of_its_kind = [each for each in cases if compiles(each) and each.op == case.op]
    return True, case.dtype != "bfloat16", of_its_kind.index(case)


def overheads(
    names: Sequence[str], device: torch.device, *, smallest: tuple[int, ...], seconds: float
) -> list[measurements.Measurements]:
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
                "samples_us": measurements.rounded(
                    {name: samples[name] for name in (case.op, "leaky_relu")}
                ),
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
    parser = parser_of("bench.kernels", __doc__)
    add = parser.add_argument
    add("--out", type=Path, help="where the JSON goes (default: bench/results/kernels_DEVICE.json)")
    add("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help=", ".join(OPS))
    add("--shapes", nargs="+", type=_shape, metavar="NxCxHxW")
    add("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    add("--dtypes", nargs="+", choices=DTYPES, default=list(MEASURED_DTYPES))
    add("--against", nargs="*", choices=BASELINES, default=list(BASELINES), help="default: both")
    add("--compiled-shapes", nargs="*", type=_shape, metavar="NxCxHxW", help=COMPILED_HELP)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--seconds-per-case", type=float, help="at least 5 rounds are run (default 6, cuda 0.6)")
    add("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch sees no GPU here")
    if arguments.device == "cuda" and not hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph"):
        raise UserError("--device cuda: PyTorch 2.8 or newer is needed, to look into CUDA graphs")
    check(
        arguments, least={"threads": 1}, most={"threads": MOST_THREADS}, over_0=["seconds_per_case"]
    )


def main() -> None:
    """Measure, print and write."""
    arguments = _parser().parse_args()
    if arguments.out is None:
        arguments.out = RESULTS / f"kernels_{arguments.device}.json"
    if arguments.shapes is None:
        arguments.shapes = list(CUDA_SHAPES if arguments.device == "cuda" else SHAPES)
    if arguments.seconds_per_case is None:
        arguments.seconds_per_case = SECONDS[arguments.device]
    _check(arguments)
    prepare_process(arguments.threads)
    device = torch.device(arguments.device)
    if device.type not in available_backends()["native"].runs_on:
        print(f"note: there are no native ops on {device} here; see python -m cxrgan_fast.env")
    cases = bench_cases.all_cases(
        arguments.ops, arguments.shapes, arguments.dtypes, arguments.layouts
    )
    done: list[measurements.Measurements] = []
    record: dict[str, Any] = {"device": arguments.device, "complete": False, "cases": done}
    if device.type == "cuda":
        record["method"] = _method(arguments, device)
        gc.collect()
        gc.freeze()  # every measurement begins with a collection: not of all that was imported
    result = Result(arguments.out, recorded("bench.kernels"))

    def finished(row: measurements.Measurements) -> None:
        done.append(row)
        if device.type == "cuda":
            done.sort(key=lambda row: cases.index(_case(row)))
            result.write({**record, "summary": measurements.summaries(done)}, quickly=True)
            if not sys.stderr.isatty():  # where there is no bar
                print(f"{len(done)}/{len(cases)} {_line(row)}", flush=True)

    try:
        record["dispatch"] = overheads(
            arguments.ops, device, smallest=arguments.shapes[0], seconds=arguments.seconds_per_case
        )
        run(
            cases,
            device,
            baselines=arguments.against,
            compiled_shapes=arguments.compiled_shapes,
            seconds=arguments.seconds_per_case,
            finished=finished,
        )
        record["complete"] = True
    finally:
        done.sort(key=lambda row: cases.index(_case(row)))
        if done:
            summary = measurements.summaries(done)
            of = f"{len(done)} of {len(cases)} cases"
            result.finish({**record, "summary": summary}, report, of)
        else:
            print("no case is complete; nothing is written")


def _line(row: measurements.Measurements) -> str:
    """A case on a GPU: replayed, or where it cannot be, launched."""
    replayed = measurements.main_state(row)["median_us"]
    times = replayed or {name: 1e3 * each for name, each in row["median_ms"].items()}
    words = ", ".join(f"{name} {each:.1f}" for name, each in times.items())
    return f"{_case(row)}: {words} µs {'replayed' if replayed else 'launched'}"


def _case(row: measurements.Measurements) -> Case:
    layout = row["layout"] or "contiguous"
    return Case(row["op"], tuple(row["shape"]), row["dtype"], layout, row["kind"] or "")


def _method(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """What the measurements of a GPU cannot be read without."""
    shapes = arguments.compiled_shapes
    words = "all" if shapes is None else ["x".join(map(str, shape)) for shape in shapes]
    losses = "all" if shapes is None else COMPILED_LOSS if shapes else "none"
    return {
        "compiled": f"torch.compile(eager, dynamic=False, mode={COMPILE_MODES['cuda']!r})",
        "shapes_of_compiled_and_triton": words,
        "losses_of_compiled_and_triton": losses,
        "seconds_per_case": arguments.seconds_per_case,
        "l2_bytes": torch.cuda.get_device_properties(device).L2_cache_size,
        "median_ms": "launched from Python, on the same tensors every time",
        "replayed": "one step of a CUDA graph of several: cold on other tensors each, more than "
        "twice L2 if 32 steps are enough; warm on the same",
        "launches": "kernels, copies and memory sets, forward and backward",
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
