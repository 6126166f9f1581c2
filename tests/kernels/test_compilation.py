"""Every kernel compiles for GPUs that are not here, into what its comments promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long  # compiles

HERE = Path(__file__).parent
KERNELS = {
    "apply_kernel",
    "_moments_kernel",
    "_merge_kernel",
    "backward_reduce_kernel",
    "class_gradients_kernel",
    "backward_apply_kernel",
    "running_statistics_kernel",
    "_gate_kernel",
    "_backward_kernel",
    "_move_kernel",
    "_discriminator_kernel",
    "_generator_kernel",
}
# Large planes and tiny ones in both layouts; 33 thousand samples of few channels make many parts.
CASES = {
    "sm_75": [
        "bfloat16/channels_last/32x64x64x64",
        "float16/contiguous_format/33000x2x16x16",
        "float16/contiguous_format/64",
    ],
    "sm_80": [
        "--every-configuration",
        "float32/contiguous_format/32x64x64x64",
        "float32/channels_last/32x64x4x4",
        "bfloat16/contiguous_format/32x64x4x4",
        "bfloat16/channels_last/33000x64x8x8",
        "float32/contiguous_format/64",
        "bfloat16/contiguous_format/64",
    ],
    "sm_90": [
        "bfloat16/contiguous_format/33000x2x16x16",
        "float32/channels_last/32x64x1x1",
        "float32/contiguous_format/9000",
    ],
    "gfx942": [
        "bfloat16/contiguous_format/33000x2x16x16",
        "float32/channels_last/32x64x64x64",
        "float32/contiguous_format/64",
    ],
}
IMAGES_READ = {
    "apply_kernel": 1,
    "_moments_kernel": 1,
    "backward_reduce_kernel": 2,
    "backward_apply_kernel": 2,
    "_gate_kernel": 1,
    "_backward_kernel": 2,
}


def run_program(name: str, *arguments: str, cache: Path) -> str:
    """What one of the programs beside this file prints, run without the interpreter."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    result = subprocess.run(
        [sys.executable, str(HERE / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module", params=list(CASES))
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Every kernel that the cases of a target launch."""
    cache = tmp_path_factory.mktemp("triton")
    return json.loads(
        run_program("compile_kernels.py", request.param, *CASES[request.param], cache=cache)
    )


def images(compiled: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in compiled if each["kernel"] in IMAGES_READ]


def test_every_kernel_compiles(compiled: list[dict[str, Any]]) -> None:
    assert {each["kernel"] for each in compiled} == KERNELS


def test_threads_access_16_bytes_of_an_image_at_once(compiled: list[dict[str, Any]]) -> None:
    for each in images(compiled):
        size = 4 if "float32" in each["case"] else 2
        tile = size * each["constants"]["TILE"] // 128  # bytes of a tile that a thread of 128 has
        read = IMAGES_READ[each["kernel"]]
        if each["kernel"] == "_gate_kernel":
            read += each["constants"]["WITH_GATE"]
        accesses = each["accesses"]
        on_amd = any("global_load" in name or "buffer_load" in name for name in accesses)
        wide = sum(
            count
            for name, count in accesses.items()
            if ("load" in name if on_amd else name.startswith("ld"))
            and ("x4" in name or ".v4.b32" in name)
        )
        # AMD has 256 threads in the same warps.
        assert wide >= read * max(1, tile // 16 // (2 if on_amd else 1)), each


def test_registers_suffice(compiled: list[dict[str, Any]]) -> None:
    for each in compiled:
        assert each.get("spilled_bytes", 0) == 0, each


def test_the_tile_that_is_tuned_changes_no_sum(compiled: list[dict[str, Any]]) -> None:
    """The output's kernel merges statistics, dx's sums over classes: in one order for any tile."""
    orders: dict[tuple[str, str], set[str]] = {}
    for each in compiled:
        constants = each["constants"]
        if "SOURCE" in constants or each["kernel"] in ("backward_apply_kernel", "_gate_kernel"):
            way = constants.get("SOURCE", constants.get("CONSTANT", each["kernel"]))
            orders.setdefault((each["case"], str(way)), set()).add(json.dumps(each["sums"]))
            if way == "moments":
                assert len(each["sums"]) >= 4, each  # the test sees the sums that there are
            elif way is False:  # A and B, over the classes
                assert len(each["sums"]) >= 2, each
            else:
                assert not each["sums"], each
    assert all(len(different) == 1 for different in orders.values())


def test_no_batch_size_compiles_anything_anew(tmp_path: Path) -> None:
    variants = json.loads(run_program("batch_sizes.py", cache=tmp_path))
    assert len(variants) > 40
    assert {key: count for key, count in variants.items() if count != 1} == {}


# Kernels and what each writes; anything else that was thought to be written would be copied first.
TRACED = {
    "norm": [("_moments_kernel", ["moments"]), ("apply_kernel", ["output", "statistics"])],
    "norm of many parts": [
        ("_moments_kernel", ["moments"]),
        ("_merge_kernel", ["statistics"]),
        ("apply_kernel", ["output"]),
    ],
    "running statistics": [("running_statistics_kernel", ["running_mean", "running_var"])],
    "norm in evaluation": [("apply_kernel", ["output", "statistics"])],
    "norm backward": [
        ("backward_reduce_kernel", ["sums"]),
        ("class_gradients_kernel", ["grad_bias", "grad_weight"]),
        ("backward_apply_kernel", ["grad_input"]),
    ],
    "norm backward in evaluation": [
        ("backward_reduce_kernel", ["grad_input", "sums"]),
        ("class_gradients_kernel", ["grad_bias", "grad_weight"]),
    ],
    "norm statistics": [("_moments_kernel", ["moments"]), ("_merge_kernel", ["statistics"])],
    "norm apply": [("apply_kernel", ["output"])],
    "norm backward_reduce": [
        ("backward_reduce_kernel", ["sums"]),
        ("class_gradients_kernel", ["grad_bias", "grad_weight"]),
    ],
    "norm backward_apply": [("backward_apply_kernel", ["grad_input"])],
    "relu": [("_gate_kernel", ["output"])],
    "relu gate": [("_gate_kernel", ["output"])],
    "relu backward": [("_backward_kernel", ["grad_input", "sums"])],
    "discriminator input": [("_move_kernel", ["output"])],
    "discriminator input, linear": [("_move_kernel", ["output"])],
    "discriminator input, backward": [("_move_kernel", ["output"])],
    "discriminator": [("_discriminator_kernel", ["fake_gradient", "loss", "real_gradient"])],
    "generator": [("_generator_kernel", ["gradient", "loss"])],
}


def test_compilers_see_the_kernels(tmp_path: Path) -> None:
    traced = json.loads(run_program("trace_ops.py", cache=tmp_path))
    assert {
        op: [(each["kernel"], each["written"]) for each in kernels]
        for op, kernels in traced.items()
    } == TRACED
