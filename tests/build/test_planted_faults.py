"""Mistakes planted in the CUDA kernels turn the tests that run their source on the CPU red."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from cuda_standin import building
from programs import run_program

pytestmark = pytest.mark.long  # compiles

ROOT = Path(__file__).resolve().parents[2]
CHECK = "import standin_check; standin_check.main()"  # what test_batch_norm_paths runs
ORDERS = ("forwards", "backwards", "1", "eager")


@dataclass(frozen=True)
class Fault:
    """Text that occurs once in a file of csrc/cuda, and what it is replaced by."""

    name: str
    file: str
    right: str
    wrong: str
    path: str = "two_pass"
    gpu: str = ""
    """What GPU the stand-in is (CXRGAN_STANDIN_DEVICE), if not its usual one."""

    def __str__(self) -> str:
        return self.name


WIDE = "sms=80,cc=90,shared=232448"  # a multiprocessor for each channel of contiguous images
NARROW = "sms=80,cc=90,shared=3000"  # the same, which keeps hardly any packets
ONE = "sms=1,cc=90,shared=232448"  # whose blocks go over several rounds
ALONE = "sms=4,cc=80,shared=166912,cooperative=0"  # blocks that may not wait for each other

FAULTS = [
    Fault(
        "no barrier before a block's moments are merged",
        "moments.cuh",
        "  __syncthreads();\n  for (int column",
        "  for (int column",
    ),
    Fault(
        "no barrier between dγ, dβ and the corrections",
        "conditional_batch_norm_kernels.cuh",
        "                                         to.dbias, scratch);\n        __syncthreads();\n",
        "                                         to.dbias, scratch);\n",
    ),
    Fault(
        "the same where combining is a launch of its own",
        "conditional_batch_norm_kernels.cuh",
        "                                         to.dbias, scratch);\n        __syncthreads();\n",
        "                                         to.dbias, scratch);\n",
        gpu=ALONE,
    ),
    Fault(
        "no barrier between a round's units and its samples",
        "conditional_batch_norm_kernels.cuh",
        "    leave_sums<V>(t, sums, buffer);\n    __syncthreads();\n",
        "    leave_sums<V>(t, sums, buffer);\n",
    ),
    Fault(
        "one buffer for two rounds",
        "conditional_batch_norm_kernels.cuh",
        "    buffer = buffer == shared ? shared + of_round : shared;\n",
        "",
        gpu=ONE,
    ),
    Fault(
        "a sample whose units are in two rounds has the first's sum",
        "conditional_batch_norm_combine.cuh",
        "slot <= to;",
        "slot < to || slot == n * t.pieces / t.round + n;",
    ),
    Fault(
        "no barrier before the partial sums of a pair are added",
        "conditional_batch_norm_combine.cuh",
        "      scratch[threadIdx.x] = {d, centered};\n      __syncthreads();\n",
        "      scratch[threadIdx.x] = {d, centered};\n",
    ),
    Fault(
        "a grid's blocks do not wait for each other's moments",
        "conditional_batch_norm_kernels.cuh",
        "  grid_sync();\n  combine_table",
        "  combine_table",
    ),
    Fault(
        "a grid's blocks do not wait for each other's sums",
        "conditional_batch_norm_kernels.cuh",
        "  grid_sync();\n  combine_slots",
        "  combine_slots",
    ),
    Fault(
        "combining is left out where blocks may not wait",
        "conditional_batch_norm.cu",
        "  if (cooperative) return;",
        "  return;",
        gpu=ALONE,
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
        "conditional_batch_norm_single.cuh",
        "    cluster_sync();\n    const auto get",
        "    __syncthreads();\n    cluster_arrive();\n    const auto get",
        path="cluster",
    ),
    Fault(
        "a cluster's blocks each take their own moments for all",
        "conditional_batch_norm_single.cuh",
        "of_rank(scratch.moments, p)",
        "of_rank(scratch.moments, share.chunk)",
        path="cluster",
    ),
    Fault(
        "a block's statistics are read before they are there",
        "conditional_batch_norm_single.cuh",
        "    cluster_arrive();\n  }\n  __syncthreads();\n",
        "    cluster_arrive();\n  }\n",
        path="cluster",
    ),
    Fault(
        "a cluster's block ends while others read its moments",
        "conditional_batch_norm_single.cuh",
        "  if (!keeping.grid) cluster_wait();  // others may still read this block's moments\n",
        "",
        path="cluster",
    ),
    Fault(
        "a cluster's block ends while others read its sums",
        "conditional_batch_norm_single.cuh",
        "  if (!keeping.grid) cluster_wait();  // others may still read this block's sums\n",
        "",
        path="cluster",
    ),
    Fault(
        "a cluster's blocks do not wait for each other's sums",
        "conditional_batch_norm_single.cuh",
        "  } else {\n    cluster_sync();\n  }\n",
        "  } else {\n    cluster_arrive();\n  }\n",
        path="cluster",
    ),
    Fault(
        "a block's corrections are read before they are there",
        "conditional_batch_norm_single.cuh",
        "  __syncthreads();\n  Correction corrections",
        "  Correction corrections",
        path="cluster",
    ),
    Fault(
        "a tile's blocks do not wait for each other's moments",
        "conditional_batch_norm_single.cuh",
        "    grid_sync();\n    const auto get",
        "    const auto get",
        path="persistent",
        gpu=WIDE,
    ),
    Fault(
        "a tile's blocks do not wait for each other's sums",
        "conditional_batch_norm_single.cuh",
        "    grid_sync();\n  } else",
        "  } else",
        path="persistent",
        gpu=WIDE,
    ),
    Fault(
        "every block of a tile updates the running statistics",
        "conditional_batch_norm_single.cuh",
        "if (share.chunk == 0) store_statistics",
        "store_statistics",
        path="persistent",
        gpu=WIDE,
    ),
    Fault(
        "what has no room is kept all the same",
        "conditional_batch_norm_single.cuh",
        "return i < packets_;",
        "return i <= packets_;",
        path="persistent",
        gpu=NARROW,
    ),
    Fault(
        "what is read again is another packet",
        "conditional_batch_norm_single.cuh",
        "load_packets<V>(x, s, i, packets);",
        "load_packets<V>(x, s, 0, packets);",
        path="persistent",
        gpu=NARROW,
    ),
    Fault(
        "going back, packets are counted behind a strip",
        "conditional_batch_norm_single.cuh",
        "    passed -= s.count;\n    const auto fetch = [&](int i, auto& packets)",
        "    const auto fetch = [&](int i, auto& packets)",
        path="persistent",
        gpu=WIDE,
    ),
    Fault(
        "one buffer for two rounds of what is kept",
        "conditional_batch_norm_single.cuh",
        "    buffer = buffer == scratch.rounds ?",
        "    buffer = buffer != nullptr ? buffer : buffer == scratch.rounds ?",
        path="slab",
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
        "conditional_batch_norm_affine.cuh",
        "op.labels[s.sample]",
        "op.labels[0]",
    ),
    Fault(
        "sums go to the first label's class",
        "conditional_batch_norm_combine.cuh",
        "op.labels[n] != k",
        "op.labels[0] != k",
    ),
    Fault(
        "a hole is a column too wide",
        "augmented_batch.cu",
        "x < hole_right",
        "x <= hole_right",
    ),
    Fault(
        "every sample is moved like the first",
        "augmented_batch.cu",
        "placement_of(move, sample)",
        "placement_of(move, 0)",
    ),
    Fault(
        "the last packet of a row of pixels is left out",
        "augmented_batch.cu",
        "at < lines.length;",
        "at < lines.length - kWidth;",
    ),
    Fault(
        "a mirrored image is read a column off",
        "augmented_batch.cu",
        "width - 1 - from_x",
        "width - from_x",
    ),
    Fault(
        "the row after the last is read",
        "augmented_batch.cu",
        "row >= move.stored_count",
        "row > move.stored_count",
    ),
    Fault(
        "a packet of noise is read from any address",
        "augmented_batch.cu",
        "(!lines.noise_is_line || all_aligned(move.noise.values))",
        "true",
    ),
]


def complaint(module: str, path: str, gpu: str = "") -> str:
    """What the check says in the first order of threads in which it is not content; or ""."""
    for order in ORDERS:
        chosen = {"CXRGAN_STANDIN_ORDER": order, "CXRGAN_STANDIN_DEVICE": gpu}
        try:
            printed = run_program(CHECK, module, path, **chosen)
        except AssertionError as error:
            return str(error)
        assert printed == "right\n"
    return ""


def test_there_is_no_complaint_without_a_fault(cuda_standin: ModuleType) -> None:
    module = str(cuda_standin.__file__)
    assert complaint(module, "two_pass,slab,cluster") == ""
    assert complaint(module, "two_pass", ALONE) == ""
    assert complaint(module, "persistent", WIDE) == ""
    assert complaint(module, "persistent", NARROW) == ""


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_fault_is_found(fault: Fault, tmp_path: Path, cuda_standin: ModuleType) -> None:
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    file = csrc / "cuda" / fault.file
    text = file.read_text()
    assert text.count(fault.right) == 1
    file.write_text(text.replace(fault.right, fault.wrong))
    module = building.build(csrc, ROOT / "build" / "cuda_standin")
    found = complaint(str(module), fault.path, fault.gpu)
    # A wrong number, or an access that a device would have stopped; not a broken program.
    assert "AssertionError" in found or "CUDA error" in found, found
