"""The questions of ``bench.first_minute``: what is here, is it right, and what can it do at most.

Each imports what it needs when it is asked, so that a package that is missing costs that question.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from bench.first_ops import about_ops, ways_of
from bench.question import Answer, NotHereError, Question, Setting, WrongError
from bench.record import ROOT, circumstances

NETWORKS = {
    "cuda": {"resolution": 32, "base_channels": 16, "latent_size": 16, "batch_size": 8},
    "cpu": {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 2},
}
STEPS = 9
"""With R1 every fourth time both kinds of step are captured, and replayed."""
TRAININGS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "r1_gamma": 0.0},
    "bf16": {"precision": "bf16", "r1_gamma": 0.0, "noise_std": 0.5, "noise_decay_steps": 30},
    "spectral norm": {
        "precision": "bf16",
        "r1_gamma": 0.0,
        "spectral_norm": True,
        "loss": "hinge",
    },
    "R1": {"precision": "bf16", "r1_interval": 4},
}
MEASURED = "conditional_batch_norm_act", (64, 128, 16, 16), "bfloat16", "channels_last"
CEILING_SECONDS = 0.3
COPIED_BYTES = {"cuda": 1 << 29, "cpu": 1 << 26}
PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}


def questions(setting: Setting) -> list[Question]:
    """All questions, in the order of what it would cost not to have the answer.

    Args:
        setting: where they are asked. With the stand-in, the CUDA kernels are compiled for the CPU
            first, which takes a minute the first time.

    Returns:
        The same questions every time for the same setting.
    """
    support = str(ROOT / "tests" / "support")
    if support not in sys.path:
        sys.path.append(support)
    ways = ways_of(setting)
    device = torch.device(setting.device)
    return [
        Question("what is here", partial(_what_is_here, setting)),
        Question("how fast a copy is", partial(_copy, device)),
        Question("how fast a bfloat16 product is", partial(_product, device)),
        *(each for way in ways if way.backend == "native" for each in about_ops(way)),
        *_about_steps(setting),
        Question("what the benchmark measures of a case", partial(_benchmark, device)),
        *(each for way in ways if way.backend != "native" for each in about_ops(way)),
    ]


def _what_is_here(setting: Setting) -> Answer:
    about = circumstances(setting.command)
    environment = about["environment"]
    packages = environment["packages"]
    words = [f"torch {packages['torch']}", f"triton {packages['triton']}"]
    words += [f"CUDA {torch.version.cuda}"] if torch.version.cuda else []
    words += [gpu["name"] for gpu in environment["gpus"]["torch"]] or [environment["cpu"]["model"]]
    words += [f"driver {gpu['driver_version']}" for gpu in environment["gpus"]["native"][:1]]
    for name, status in environment["backends"].items():
        reason = status["why_not"].get(setting.device)
        words.append(f"{name} does not run ({reason})" if reason else f"{name} runs")
    words += ["native is its CUDA kernels, run on the CPU"] if setting.standin else []
    line = ", ".join(words)
    try:
        torch.ones(1, device=setting.device).sum().item()
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())
        raise WrongError(f"PyTorch cannot use {setting.device}: {why}; {line}", about) from None
    if setting.device == "cuda" and environment["auto"].get("cuda") == "reference":
        raise WrongError(f"no backend with kernels of its own runs on this GPU; {line}", about)
    return line, about


# --- Ceilings -------------------------------------------------------------------------------------


def _median_us(function: Callable[[], object], device: torch.device) -> tuple[float, list[float]]:
    from bench.timing import measure

    samples = measure({"this": function}, device, CEILING_SECONDS)["this"]
    return statistics.median(samples), [round(each, 2) for each in samples]


def _copy(device: torch.device) -> Answer:
    size = COPIED_BYTES[device.type]
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    median, samples = _median_us(lambda: target.copy_(source), device)
    rate = 2 * size / median / 1e3  # read and written
    measurements = {"bytes": size, "gb_per_s": round(rate, 1), "samples_us": samples}
    return f"{rate:.0f} GB/s, {size >> 20} MiB read and written", measurements


def _product(device: torch.device) -> Answer:
    n = PRODUCT_SIZE[device.type]
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    median, samples = _median_us(lambda: a @ b, device)
    rate = 2 * n**3 / median / 1e6
    measurements = {"size": n, "tflop_per_s": round(rate, 2), "samples_us": samples}
    return f"{rate:.3g} TFLOP/s, {n} x {n}", measurements


# --- A step and a benchmark -----------------------------------------------------------------------


def _about_steps(setting: Setting) -> Iterator[Question]:
    for name in TRAININGS:
        text = f"a captured step is the step to the bit, {name}"
        yield Question(text, partial(_step, setting, name))


def _step(setting: Setting, name: str) -> Answer:
    if setting.device == "cpu" and not setting.standin:
        raise NotHereError("a CUDA graph needs an NVIDIA GPU; with --standin a recording stands in")
    from bench.first_step import compare

    settings, said = {**NETWORKS[setting.device], **TRAININGS[name]}, io.StringIO()
    with contextlib.redirect_stderr(said):
        kinds, differing = compare(settings, setting.device, STEPS)
    if not kinds:
        why = " ".join(said.getvalue().split()) or "it does not say why"
        raise WrongError(f"the step was not captured: {why}", {})
    details = {"steps": STEPS, "graphs": kinds, "differing_tensors": differing}
    if differing:
        raise WrongError(f"{len(differing)} tensors differ after {STEPS} steps", details)
    recorded = " (recorded, on the CPU)" if setting.device == "cpu" else ""
    return f"same bits after {STEPS} steps, {kinds} captured{recorded}", details


def _benchmark(device: torch.device) -> Answer:
    from bench.cases import Case

    op, shape, dtype, layout = MEASURED
    case = Case(op, shape, dtype, layout)
    if device.type == "cpu":
        from bench.kernels import measure_on_cpu

        found = measure_on_cpu(case, ("eager",), CEILING_SECONDS)
        times = {each: 1e3 * ms for each, ms in found["median_ms"].items()}
        return f"{case}: {_times(times)} (launched; a replay needs a GPU)", found
    from bench.gpu_case import measure_case

    found = dict(measure_case(case, ["eager"], device, CEILING_SECONDS))
    replayed: Any = found["replayed"]
    missing = [f"{state}: no replay of fused" for state in replayed if not _fused(replayed[state])]
    if missing or not found["launches"]:
        left_out = found["left_out"]
        raise WrongError(f"{', '.join(missing) or 'no launches'}; left out: {left_out}", found)
    rows = [f"{state} {_times(each['median_us'])}" for state, each in replayed.items()]
    return f"{case}: {'; '.join(rows)}; launches {found['launches']}", found


def _fused(state: dict[str, Any]) -> bool:
    return "fused" in state["median_us"]


def _times(microseconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {each:.1f} µs" for name, each in microseconds.items())
