"""Mistakes planted in the CUDA kernels turn the tests that run their source on the CPU red."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from cuda_standin import building
from programs import run_program

ROOT = Path(__file__).resolve().parents[2]
CHECK = "import standin_check; standin_check.main()"  # what test_batch_norm_paths runs
ORDERS = ("forwards", "backwards", "1")


@dataclass(frozen=True)
class Fault:
    """Text that occurs once in a file of csrc/cuda, and what it is replaced by."""

    name: str
    file: str
    right: str
    wrong: str
    path: str = "two_pass"

    def __str__(self) -> str:
        return self.name


FAULTS = [
    Fault(
        "no barrier before a block's moments are merged",
        "moments.cuh",
        "  __syncthreads();\n  for (int column",
        "  for (int column",
    ),
    Fault(
        "no barrier between the class sums and the corrections",
        "conditional_batch_norm_steps.cuh",
        "    }\n  }\n  __syncthreads();\n}\n",
        "    }\n  }\n}\n",
    ),
    Fault(
        "no barrier between the sums of pieces and those of classes",
        "conditional_batch_norm_steps.cuh",
        "    of_samples = samples;\n    __syncthreads();\n",
        "    of_samples = samples;\n",
    ),
    Fault(
        "no barrier before a block's bias gradients are summed",
        "bias_leaky_relu.cu",
        "  __syncthreads();\n  for (int column",
        "  for (int column",
    ),
    Fault(
        "no barrier before a block's losses are summed",
        "adversarial_loss.cu",
        "  __syncthreads();\n  double total = 0;",
        "  double total = 0;",
    ),
    Fault(
        "a cluster's blocks do not wait for each other's moments",
        "conditional_batch_norm_kernels.cuh",
        "  cluster_sync();\n  if (share.chunk == 0)\n    combine_moments",
        "  if (share.chunk == 0)\n    combine_moments",
        path="cluster",
    ),
    Fault(
        "a cluster's blocks do not wait for its statistics",
        "conditional_batch_norm_kernels.cuh",
        "mean, var, rstd);\n  cluster_sync();\n  Affine<V> a;",
        "mean, var, rstd);\n  Affine<V> a;",
        path="cluster",
    ),
    Fault(
        "a cluster's blocks do not wait for each other's sums",
        "conditional_batch_norm_kernels.cuh",
        "  });\n  cluster_sync();\n  const int columns",
        "  });\n  const int columns",
        path="cluster",
    ),
    Fault(
        "a cluster's blocks do not wait for the corrections",
        "conditional_batch_norm_kernels.cuh",
        "  cluster_sync();\n  Correction own",
        "  Correction own",
        path="cluster",
    ),
    Fault(
        "a plane's tail ends one value early",
        "strips.cuh",
        "static_cast<int>(smaller(s.end - at, V::kWidth))",
        "static_cast<int>(smaller(s.end - 1 - at, V::kWidth))",
    ),
    Fault(
        "a plane's tail ends one value late",
        "strips.cuh",
        "static_cast<int>(smaller(s.end - at, V::kWidth))",
        "static_cast<int>(smaller(s.end + 1 - at, V::kWidth))",
    ),
    Fault(
        "the last row of pixels is left out",
        "strips.cuh",
        "packets = length - row;",
        "packets = length - row - 1;",
    ),
    Fault(
        "every sample takes the first label",
        "conditional_batch_norm_steps.cuh",
        "op.labels[s.sample]",
        "op.labels[0]",
    ),
    Fault(
        "sums go to the first label's class",
        "conditional_batch_norm_steps.cuh",
        "op.labels[n] != k",
        "op.labels[0] != k",
    ),
    Fault(
        "a hole is a column too wide",
        "discriminator_input.cu",
        "x < hole_right",
        "x <= hole_right",
    ),
    Fault(
        "every sample is moved like the first",
        "discriminator_input.cu",
        "placement_of(move, sample)",
        "placement_of(move, 0)",
    ),
    Fault(
        "the last packet of a row of pixels is left out",
        "discriminator_input.cu",
        "at < lines.length;",
        "at < lines.length - kWidth;",
    ),
    Fault(
        "a mirrored image is read a column off",
        "discriminator_input.cu",
        "width - 1 - from_x",
        "width - from_x",
    ),
    Fault(
        "the row after the last is read",
        "discriminator_input.cu",
        "row >= move.stored_count",
        "row > move.stored_count",
    ),
    Fault(
        "a packet of noise is read from any address",
        "discriminator_input.cu",
        "(!lines.noise_is_line || all_aligned(move.noise.values))",
        "true",
    ),
]


def complaint(module: str, path: str) -> str:
    """What the check says in the first order of threads in which it is not content; or ""."""
    for order in ORDERS:
        try:
            printed = run_program(CHECK, module, path, CXRGAN_STANDIN_ORDER=order)
        except AssertionError as error:
            return str(error)
        assert printed == "right\n"
    return ""


def test_there_is_no_complaint_without_a_fault(cuda_standin: ModuleType) -> None:
    assert complaint(str(cuda_standin.__file__), "two_pass,cluster") == ""


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault_is_found(fault: Fault, tmp_path: Path, cuda_standin: ModuleType) -> None:
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    file = csrc / "cuda" / fault.file
    text = file.read_text()
    assert text.count(fault.right) == 1
    file.write_text(text.replace(fault.right, fault.wrong))
    module = building.build(csrc, ROOT / "build" / "cuda_standin")
    found = complaint(str(module), fault.path)
    # A wrong number, or an access that a device would have stopped; not a broken program.
    assert "AssertionError" in found or "CUDA error" in found, found
