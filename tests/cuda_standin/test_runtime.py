"""What a launch refuses, what a faulty kernel is told, and how numbers are rounded."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

OK = "cudaSuccess"
KIB = 1024

# ---- Mistakes: the launch stops and says why; all others are refused until the device is reset


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (0, "LaunchFailure", "barrier not reached by all threads: 32 of 64 of block (0, 0, 0)"),
        (1, "LaunchFailure", "barrier not reached by all threads: 32 of 64"),
        (2, "LaunchFailure", "lane 5 of warp 0 of block (0, 0, 0) never arrived at a shuffle"),
        (3, "LaunchFailure", "with mask 0xffffffff: it waits at another operation"),
        (4, "LaunchFailure", "mask 0x7fffffff, which does not hold the caller: thread (31, 0, 0)"),
        (5, "LaunchFailure", "a write outside its 256 bytes of shared memory"),
        (6, "IllegalAddress", "access to 0x10: thread (0, 0, 0) of block (0, 0, 0)"),
        (7, "MisalignedAddress", "misaligned access"),
        (8, "LaunchFailure", "stack overflow: thread (0, 0, 0)"),
        (9, "LaunchFailure", "integer division by zero"),
        (10, "LaunchFailure", "__trap(): thread (3, 0, 0)"),
        (11, "LaunchFailure", "the width of a shuffle"),
    ],
)
def test_a_mistake_is_reported(cuda: Any, which: int, error: str, message: str) -> None:
    if which == 9 and platform.machine() != "x86_64":
        pytest.skip("this processor does not trap at a division by zero, nor does a GPU")
    error = f"cudaError{error}"
    sums = np.zeros(1, np.float32)
    assert cuda.mistake(which) == error
    assert message in cuda.message()
    assert cuda.last_error() == error
    assert cuda.last_error() == error
    assert cuda.many_exchanges(sums, 1, 64) == error
    assert message in cuda.message()
    cuda.reset()
    assert cuda.last_error() == OK
    assert cuda.message() == "no error"
    assert cuda.many_exchanges(sums, 1, 64) == OK


def test_a_mask_of_more_lanes_than_the_block_has_is_reported(cuda: Any) -> None:
    assert cuda.partial_warp() == "cudaErrorLaunchFailure"
    assert "lane 16 of warp 0" in cuda.message()
    assert "is no thread of the block" in cuda.message()


def test_faults_outside_a_kernel_are_left_to_others(cuda: Any) -> None:
    program = (
        "import ctypes, faulthandler; faulthandler.enable();"
        f"cuda = ctypes.CDLL({str(cuda.path)!r});"
        "assert cuda.mistake(6) == 700; print('so far', flush=True); ctypes.string_at(8)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stdout == "so far\n", run.stderr
    assert run.returncode < 0
    assert "Segmentation fault" in run.stderr


# ---- Launches


def try_launch(
    cuda: Any,
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (32, 1, 1),
    cluster: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
    opt_in: int = 48 * KIB,
    large_clusters: bool = False,
) -> str:
    extents = np.array([*grid, *block, *cluster], np.uint32)
    status: str = cuda.try_launch(extents, shared, opt_in, large_clusters)
    assert cuda.last_error() == status  # which also forgets it
    assert cuda.last_error() == OK
    return status


def test_limits_of_a_launch(cuda: Any) -> None:
    assert try_launch(cuda, block=(1024, 1, 1)) == OK
    assert try_launch(cuda, block=(4, 4, 64)) == OK
    for block in [(0, 1, 1), (1025, 1, 1), (32, 33, 1), (1, 1, 65)]:
        assert try_launch(cuda, block=block) == "cudaErrorInvalidConfiguration"
    assert try_launch(cuda, grid=(1, 65535, 1), block=(1, 1, 1)) == OK
    for grid in [(0, 1, 1), (1, 65536, 1), (1, 1, 65536), (1 << 31, 1, 1)]:
        assert try_launch(cuda, grid=grid) == "cudaErrorInvalidConfiguration"


def test_shared_memory_above_48_kib_is_opted_in(cuda: Any) -> None:
    assert try_launch(cuda, shared=48 * KIB) == OK
    assert try_launch(cuda, shared=48 * KIB + 1) == "cudaErrorInvalidValue"
    assert try_launch(cuda, shared=100 * KIB, opt_in=99 * KIB) == "cudaErrorInvalidValue"
    assert try_launch(cuda, shared=227 * KIB, opt_in=227 * KIB) == OK
    assert try_launch(cuda, opt_in=227 * KIB + 1) == "cudaErrorInvalidValue"


def test_limits_of_a_cluster(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wide, wrong = (16, 1, 1), "cudaErrorInvalidClusterSize"
    assert try_launch(cuda, grid=wide, cluster=(8, 1, 1)) == OK
    assert try_launch(cuda, grid=(4, 4, 2), cluster=(2, 2, 2)) == OK
    assert try_launch(cuda, grid=(12, 1, 1), cluster=(8, 1, 1)) == wrong
    assert try_launch(cuda, grid=(4, 4, 1), cluster=(4, 4, 1)) == wrong
    assert try_launch(cuda, grid=wide, cluster=(0, 1, 1)) == wrong
    assert try_launch(cuda, grid=wide, cluster=wide) == wrong
    assert try_launch(cuda, grid=wide, cluster=wide, large_clusters=True) == OK
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", "cc=89")
    assert try_launch(cuda, grid=wide, cluster=(8, 1, 1)) == "cudaErrorNotSupported"
    assert try_launch(cuda, grid=wide) == OK


def test_limits_of_a_cooperative_launch(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = 1 << 20  # the block that does not come to the barrier
    assert cuda.grid_barrier(128, nobody, 0, True) == OK  # 32 blocks on each of 4
    assert cuda.grid_barrier(129, nobody, 0, True) == "cudaErrorCooperativeLaunchTooLarge"
    assert cuda.grid_barrier(24, nobody, 37 * KIB, True) == OK
    assert cuda.grid_barrier(25, nobody, 37 * KIB, True) == "cudaErrorCooperativeLaunchTooLarge"
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", "cooperative=0")
    assert cuda.grid_barrier(1, nobody, 0, True) == "cudaErrorNotSupported"


def test_an_unknown_order_is_refused(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAN_STANDIN_ORDER", "sideways")
    assert try_launch(cuda) == "cudaErrorInitializationError"
    cuda.many_exchanges(np.zeros(1, np.float32), 1, 64)
    assert "CXRGAN_STANDIN_ORDER" in cuda.message()


# ---- The device


def occupancy(cuda: Any, threads: int, shared: int, cluster: int = 1) -> tuple[int, int]:
    """Blocks on a multiprocessor, clusters on the device."""
    blocks, clusters = np.zeros(1, np.int32), np.zeros(1, np.int32)
    assert cuda.occupancy(threads, shared, cluster, blocks, clusters) == OK
    return int(blocks[0]), int(clusters[0])


def test_occupancy(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert occupancy(cuda, 1024, 0) == (2, 8)  # threads; 4 multiprocessors
    assert occupancy(cuda, 100, 0) == (16, 64)  # rounded up to warps
    assert occupancy(cuda, 32, 0) == (32, 128)  # blocks
    # Of a multiprocessor's 228 KiB each block takes one for the driver.
    assert occupancy(cuda, 32, 37 * KIB, cluster=4) == (6, 6)
    assert occupancy(cuda, 32, 38 * KIB, cluster=8) == (5, 2)
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", "cc=75,sms=10")
    assert occupancy(cuda, 1024, 0) == (1, 10)
    assert occupancy(cuda, 32, 16 * KIB) == (4, 40)


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("", [4, 9, 0, 227 * KIB, 4 << 20]),
        ("sms=40,cc=75", [40, 7, 5, 64 * KIB, 4 << 20]),
        ("shared=1000,cc=86,l2=77", [4, 8, 6, 1000, 77]),
    ],
)
def test_the_device_is_the_one_asked_for(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, setting: str, wanted: list[int]
) -> None:
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", setting)
    multiprocessors, major, minor, shared, l2 = 16, 75, 76, 97, 38  # of cudaDeviceAttr
    found = []
    for attribute in (multiprocessors, major, minor, shared, l2):
        value = np.zeros(1, np.int32)
        assert cuda.device_attribute(attribute, value) == OK
        found.append(int(value[0]))
    assert found == wanted


@pytest.mark.parametrize("setting", ["sms", "sms=", "sms=-1", "sms=4x", "cc=90a", "color=4"])
def test_a_device_that_cannot_be_read_is_refused(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("CXRGAN_STANDIN_DEVICE", setting)
    status = cuda.device_attribute(16, np.zeros(1, np.int32))
    assert status == "cudaErrorInitializationError"


# ---- Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_16_bit_number_widens_exactly(cuda: Any, dtype: torch.dtype) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    out = np.zeros(1 << 16, np.float32)
    assert cuda.widen(dtype == torch.bfloat16, bits, out, out.size) == OK
    wanted = torch.from_numpy(bits.view(np.int16)).view(dtype).float().numpy()
    numbers = ~np.isnan(wanted)
    assert np.array_equal(np.isnan(out), ~numbers)
    assert np.array_equal(out.view(np.uint32)[numbers], wanted.view(np.uint32)[numbers])


def hard_to_round() -> np.ndarray:
    """Every number of 16 bits, what lies half-way to the next, and their neighbors; and others."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    parts = [np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, np.uint32)]
    for dtype in (torch.float16, torch.bfloat16):
        number = every.view(dtype).float().numpy().view(np.uint32)
        half = 1 << (12 if dtype is torch.float16 else 15)  # of the last place of a normal number
        # Of subnormal halves the last place is larger: these are their midpoints.
        middle = np.arange(-4095, 4096, dtype=np.float32) * np.float32(2.0**-25)
        for each in (number, number + np.uint32(half), middle.view(np.uint32)):
            parts += [each, each + np.uint32(1), each - np.uint32(1)]
    return np.concatenate(parts).view(np.float32)


def test_rounding_to_16_bits_is_to_the_nearest_even(cuda: Any) -> None:
    values = hard_to_round()
    halves, bfloats = np.zeros(values.size, np.uint16), np.zeros(values.size, np.uint16)
    assert cuda.narrow(values, halves, bfloats, values.size) == OK
    numbers = ~np.isnan(values)
    for out, dtype in ((halves, torch.float16), (bfloats, torch.bfloat16)):
        wanted = torch.from_numpy(values).to(dtype).view(torch.int16).numpy().view(np.uint16)
        assert np.array_equal(out[numbers], wanted[numbers])
        assert set(out[~numbers].tolist()) == {0x7FFF}  # what a GPU makes of any NaN


def test_pairs_convert_in_their_order(cuda: Any) -> None:
    halves, bfloats = np.zeros(2, np.uint16), np.zeros(2, np.uint16)
    out = np.zeros(4, np.float32)
    assert cuda.pairs(1.5, -2.0, halves, bfloats, out) == OK
    assert halves.tolist() == [0x3E00, 0xC000]
    assert bfloats.tolist() == [0x3FC0, 0xC000]
    assert out.tolist() == [1.5, -2.0, 1.5, -2.0]


def test_arithmetic_that_cuda_defines_by_itself(cuda: Any) -> None:
    out = np.zeros(5, np.float32)

    def of(a: float, b: float) -> list[float]:
        assert cuda.arithmetic(a, b, out) == OK
        return out.tolist()

    assert of(-1.0, 4.0) == [-1.0, 4.0, -3.0, 0.5, 1.0]
    assert of(1.0, float("nan"))[:2] == [1.0, 1.0]
    assert of(float("nan"), 4.0)[:2] == [4.0, 4.0]
    a = 1 + 2.0**-12  # a·a needs more bits than a float has: the product is not rounded
    assert of(a, a)[2] == np.float32(2 + 2.0**-11 + 2.0**-24)
