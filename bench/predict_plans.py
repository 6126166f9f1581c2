"""The launches of conditional batch norm on a GPU that is not here, with the code of their kernels.

The product's own launchers (csrc/cuda/conditional_batch_norm*.cu) are compiled by nvcc and linked
with ``predict_runtime.cpp``, a CUDA runtime that writes down what it is asked to launch, and
``predict_plans.cu``, which calls them. The same compilation gives ptxas's figures and the code that
``predict_code`` counts. What is compiled is kept in build/predict until a source changes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.predict_code import Code, code_of
from bench.predict_model import WARP, Hardware, Launch, units_of, work_of
from bench.predict_sass import kernels, usage
from bench.record import ROOT
from cxrgan_fast.errors import UserError

OP = "conditional_batch_norm_act"
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent
SOURCES = (
    CSRC / "cuda" / "conditional_batch_norm.cu",
    CSRC / "cuda" / "conditional_batch_norm_backward.cu",
    CSRC / "cuda" / "launch.cu",
)
ASKING = (HERE / "predict_runtime.cpp", HERE / "predict_plans.cu")
CACHE = ROOT / "build" / "predict"  # `make clean` removes it


@dataclass(frozen=True)
class Kernel:
    """A kernel as it is compiled."""

    code: Code
    registers: int
    """Of a thread."""
    shared_bytes: int
    """Static, of a block."""
    spilled_bytes: int


@dataclass(frozen=True)
class Plan:
    """What is launched for a case."""

    paths: tuple[str, str]
    """Forward and backward."""
    workspace_bytes: tuple[int, int]
    packets_in_flight: int
    launches: list[Launch]
    kernels: list[Kernel]
    """Of each launch."""
    asked: list[dict[str, Any]]
    """Each launch as the launcher asked for it, with the numbers of its tiling."""


def plans(cases: Sequence[Case], hardware: Hardware, architecture: int, path: str) -> list[Plan]:
    """What is launched for each of some cases, forward and backward.

    Args:
        cases: of conditional_batch_norm_act.
        hardware: on what.
        architecture: that the kernels are compiled for, such as 90.
        path: of ``use_cuda_path``.

    Raises:
        UserError: nvcc or nvdisasm is not here, or the launchers and ``predict_plans.cu`` do not
            compile together; a case has packets of one value, or planes that begin within one.
    """
    folder = _compiled(architecture)
    used = usage((folder / "printed.txt").read_text())
    lines = [
        f"device {hardware.multiprocessors} {hardware.shared_kib << 10} {hardware.threads} "
        f"{hardware.blocks} {architecture}",
        *(f"kernel {name} {registers} {shared}" for name, (registers, shared, _) in used.items()),
    ]
    for case in cases:
        samples, channels, height, width = case.shape
        words = case.dtype, case.layout, samples, channels, height * width, path
        lines.append(" ".join(map(str, ("case", *words))))
    answers = _run([str(folder / "plans")], "\n".join(lines) + "\n").splitlines()

    @functools.cache
    def kernel(symbol: str) -> Kernel:
        return Kernel(code_of(_listings(folder)[symbol]), *used[symbol])

    found = []
    for case, line in zip(cases, answers, strict=True):
        answer = json.loads(line)
        if not answer["whole_packets"]:
            raise UserError(f"{case}: predicted are images whose packets of 16 bytes are whole")
        of = [
            Kernel(Code(), 0, 0, 0) if each["symbol"] == "memset" else kernel(each["symbol"])
            for each in answer["launches"]
        ]
        found.append(
            Plan(
                tuple(answer["paths"]),
                tuple(answer["workspace_bytes"]),
                answer["packets_in_flight"],
                [
                    _launch(asked, each.code, answer, case.image_bytes)
                    for asked, each in zip(answer["launches"], of, strict=True)
                ],
                of,
                answer["launches"],
            )
        )
    return found


def _launch(asked: Mapping[str, Any], code: Code, answer: Mapping[str, Any], image: int) -> Launch:
    tiling, in_flight = asked["tiling"], answer["packets_in_flight"]
    units = None
    if tiling is not None:
        units = units_of(
            **{name: tiling[name] for name in ("units", "chunks", "group", "across")},
            threads=asked["threads"],
            packets=tiling["packets_a_thread"],
            in_flight=in_flight,
        )
    name = asked["kernel"].split("<")[0]
    sums = sums_of(name, asked, answer) if code.tables else []
    try:
        warp, around = work_of(code, units, asked["threads"], sums)
    except ValueError as error:
        raise UserError(f"{name}: {error}; see sums_of in bench/predict_plans.py") from None
    if code.loads % in_flight or code.stores % in_flight:
        raise UserError(
            f"{name}: a trip of its packet loops loads {code.loads} and stores {code.stores} "
            f"packets, expected multiples of View::kBatch, {in_flight}"
        )
    return Launch(
        kernel=asked["kernel"],
        direction=asked["direction"],
        blocks=asked["blocks"],
        threads=asked["threads"],
        resident=asked["resident"],
        warp=warp,
        around=around,
        bytes_read=code.loads // in_flight * image,
        bytes_written=code.stores // in_flight * image,
        cluster=asked["cluster"],
        overlapping=asked["overlapping"],
        spins=code.spins,
    )


def sums_of(
    name: str, asked: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[tuple[int, int, int]]:
    """How a warp of a kernel goes over tables of partial sums; see ``predict_model.work_of``.

    This, and ``predict_plans.cu``, is what is known here of conditional_batch_norm_steps.cuh beside
    its compiled code: which loop sums what.

    Args:
        name: of the kernel, without template arguments.
        asked: the launch.
        answer: about its case.

    Returns:
        For each loop over a table, in the order of the code: how many sums a warp makes, of how
        many parts each lane takes, and how many numbers it loads for a part.

    Raises:
        UserError: the kernel is not known.
    """
    tiling, warps, rows = asked["tiling"], asked["threads"] // WARP, answer["rows"]
    combining = name.startswith("combine_")

    def sums(teams: int, count: int, parts: int, loads: int) -> tuple[int, int, int]:
        """Of `count` sums for each of the block's channels, by teams of lanes side by side."""
        channels = teams if combining else -(-tiling["channels"] // tiling["tiles"])
        groups = -(-channels // teams)
        return -(-count * groups // warps), -(-parts // (WARP // teams)), loads

    if name in ("combine_moments_kernel", "slab_forward_kernel"):
        teams = 2 if rows else 1  # Team<kRows, Moments>::kAcross
        return [sums(teams, 1, tiling["chunks"], 1)]
    if name in ("combine_gradients_kernel", "slab_backward_kernel"):
        teams = 4 if rows else 1  # Team<kRows, Sums>::kAcross
        samples, classes, pieces = tiling["samples"], answer["classes"], tiling["pieces"]
        return [
            sums(teams, samples if pieces > 1 else 0, pieces, 1),
            sums(teams, classes, samples, 2),  # a label, then what belongs to it
            sums(teams, 1, classes, 3),  # γ, dβ and dγ
        ]
    raise UserError(f"{name}: sums_of in bench/predict_plans.py does not know what tables it sums")


# --- What is compiled --------------------------------------------------------------------------


def _compiled(architecture: int) -> Path:
    """The folder with the program, what ptxas printed, and the listings."""
    nvcc, nvdisasm = find("nvcc"), find("nvdisasm")
    flags = [
        "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-cudart", "none",
        "-Xcompiler=-Wall,-Wextra", "-Xptxas", "-v",
    ]  # fmt: skip
    key = hashlib.sha256(" ".join([_run([nvcc, "--version"]), *flags]).encode())
    sources = (*sorted((CSRC / "cuda").iterdir()), *sorted((CSRC / "include").rglob("*.h")))
    for path in (*sources, *ASKING, HERE / "predict_runtime.h"):
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = CACHE / key.hexdigest()[:16]
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        kept, built = Path(scratch, "kept"), Path(scratch, "built")
        kept.mkdir()
        built.mkdir()
        done = _process(
            [
                nvcc, *flags, f"-I{CSRC}", f"-I{CSRC / 'include'}", f"-I{HERE}", "--threads", "2",
                "--keep", "--keep-dir", str(kept), "-o", str(built / "plans"),
                *map(str, (*SOURCES, *ASKING)),
            ]
        )  # fmt: skip
        (built / "printed.txt").write_text(done.stdout + done.stderr)
        for source in SOURCES:
            cubin = kept / f"{source.stem}.sm_{architecture}.cubin"
            (built / f"{source.stem}.sass").write_text(_run([nvdisasm, "-c", str(cubin)]))
        with suppress(OSError):  # another process was first
            built.replace(folder)
    return folder


@functools.cache
def _listings(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in SOURCES:
        found |= kernels((folder / f"{source.stem}.sass").read_text())
    return found


def find(tool: str) -> str:
    """The path of one of the CUDA toolkit's programs.

    It is looked for among the commands, beside nvcc, and in Triton's package, which brings some.

    Raises:
        UserError: it is in none of these places.
    """
    places = [shutil.which(tool)]
    nvcc = shutil.which("nvcc")
    if nvcc:
        places.append(shutil.which(tool, path=str(Path(nvcc).resolve().parent)))
    triton = importlib.util.find_spec("triton")
    brought = [*(triton.submodule_search_locations or ())] if triton else []
    places += [
        shutil.which(tool, path=str(Path(folder, "backends", "nvidia", "bin")))
        for folder in brought
    ]
    found = next(filter(None, places), None)
    if found is None:
        raise UserError(
            f"{tool} is not here: the prediction needs the CUDA toolkit's nvcc, and nvdisasm, "
            "which Triton's package has too"
        )
    return found


def _run(command: Sequence[str], given: str = "") -> str:
    return _process(command, given).stdout


def _process(command: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise UserError(f"{Path(command[0]).name} failed with status {done.returncode}:\n{said}")
    return done
