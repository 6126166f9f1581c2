"""The launches of conditional batch norm on a GPU that is not here, with the code of their kernels.

The product's own launchers (csrc/cuda/conditional_batch_norm*.cu) are compiled by nvcc and linked
with ``predict_plans.cu``, which calls them and is the CUDA runtime that they ask: it writes down
what it is to launch. The same compilation gives what ptxas reports and the code that
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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.predict_code import Part, code_of
from bench.predict_model import Hardware, Launch
from bench.predict_sass import kernels, usage
from bench.predict_trips import Trips, work_of
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
ASKING = HERE / "predict_plans.cu"
CACHE = ROOT / "build" / "predict"  # `make clean` removes it


@dataclass(frozen=True)
class Kernel:
    """A kernel as it is compiled."""

    code: Part
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
    packets_in_flight: tuple[int, int]
    """Of a tensor, in a trip; forward and backward."""
    launches: list[Launch]
    kernels: list[Kernel]
    """Of each launch."""
    asked: list[dict[str, Any]]
    """Each launch as the launcher asked for it, with the numbers of its tiling."""


def plans(
    cases: Sequence[Case],
    hardware: Hardware,
    architecture: int,
    path: str,
    as_before: bool = False,
) -> list[Plan]:
    """What is launched for each of some cases, forward and backward.

    Args:
        cases: of conditional_batch_norm_act.
        hardware: on what.
        architecture: that the kernels are compiled for, such as 90.
        path: of ``use_cuda_path``.
        as_before: how to count, of ``bench.predict_trips.Trips``.

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

    def kernel(symbol: str, grid: bool) -> Kernel:
        return Kernel(_code(folder, symbol, grid), *used[symbol])

    found = []
    for case, line in zip(cases, answers, strict=True):
        answer = json.loads(line)
        if not answer["whole_packets"]:
            raise UserError(f"{case}: predicted are images whose packets of 16 bytes are whole")
        of = [kernel(each["symbol"], each["cooperative"]) for each in answer["launches"]]
        found.append(
            Plan(
                tuple(answer["paths"]),
                tuple(answer["workspace_bytes"]),
                tuple(answer["packets_in_flight"]),
                [
                    launch_of(each.code, Trips(asked, answer, as_before), case.image_bytes)
                    for asked, each in zip(answer["launches"], of, strict=True)
                ],
                of,
                answer["launches"],
            )
        )
    return found


def launch_of(code: Part, trips: Trips, image: int) -> Launch:
    """A launch with its work.

    Args:
        code: its kernel.
        trips: of the kernel's loops, with the launch that they are of.
        image: bytes of the image.

    Raises:
        UserError: the kernel has loops that ``bench.predict_trips`` does not know.
    """
    asked = trips.asked
    name = asked["kernel"].split("<")[0]
    if asked["tiling"] is None:
        raise UserError(f"{name}: it has no Norm and no Tiling; see bench/predict_plans.cu")
    try:
        work = work_of(code, trips)
    except ValueError as error:
        raise UserError(f"{name}: {error}; see bench/predict_trips.py") from None
    of_launch = ("kernel", "direction", "blocks", "threads", "resident", "cluster", "overlapping")
    return Launch(
        **vars(work),
        **{name: asked[name] for name in of_launch},
        bytes_read=round(work.loads * image),
        bytes_written=round(work.stores * image),
    )


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
    for path in (*sources, ASKING):
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
                nvcc, *flags, f"-I{CSRC}", f"-I{CSRC / 'include'}", "--threads", "2",
                "--keep", "--keep-dir", str(kept), "-o", str(built / "plans"),
                *map(str, (*SOURCES, ASKING)),
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
def _code(folder: Path, symbol: str, grid: bool) -> Part:
    return code_of(_listings(folder)[symbol], grid)


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
