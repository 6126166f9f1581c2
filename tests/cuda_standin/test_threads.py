"""Threads, warps, blocks and clusters work together as on a GPU, and a missing barrier shows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

OK = "cudaSuccess"
WARPS = (0, 32)  # the first lanes of a block of 64 threads

InEachOrder = Callable[[Callable[[], bool]], list[bool]]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-5))


# ---- Order and barriers


def block_sums_are_right(cuda: Any, barriers: bool) -> bool:
    x, sums = random(3, 256), np.zeros(3, np.float32)
    assert cuda.block_sum(x, sums, 3, 256, barriers) == OK
    return near(sums, x.sum(1))


def test_a_reduction_is_right_in_every_order(cuda: Any, order: str) -> None:
    assert block_sums_are_right(cuda, barriers=True)


def test_a_missing_barrier_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    right = in_each_order(lambda: block_sums_are_right(cuda, barriers=False))
    # Backwards, a thread's partners have all been before it.
    assert right == [False, True, False, False, True]


def test_a_block_that_relies_on_another_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    def is_right() -> bool:
        x, sums = random(20), np.full(20, np.nan, np.float32)
        assert cuda.running_sum(x, sums, 20) == OK
        return near(sums, x.cumsum())

    assert in_each_order(is_right) == [True, False, False, False, False]


def test_a_warp_that_gets_ahead_of_the_others_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    """It writes what the others have yet to read, if nothing but a shuffle is in between."""

    def is_right(buffers: int) -> bool:
        sums = np.zeros(64, np.int32)
        assert cuda.rounds(sums, buffers) == OK
        return set(sums.tolist()) == {3}  # 1 + 2, of the rounds

    assert all(in_each_order(lambda: is_right(2)))
    assert in_each_order(lambda: is_right(1)) == [True, True, True, True, False]


def test_threads_and_blocks_take_turns_in_the_order_chosen(
    cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, block = np.array([2, 3, 2], np.uint32), np.array([4, 3, 2], np.uint32)
    everyone = list(range(12 * 24))

    def turns(order: str) -> list[int]:
        monkeypatch.setenv("CXRGAN_STANDIN_ORDER", order)
        log = np.full(len(everyone), -1, np.int32)
        assert cuda.log_turns(log, grid, block) == OK
        return log.tolist()

    assert turns("") == turns("forwards") == everyone
    assert turns("backwards") == everyone[::-1]
    assert sorted(turns("1")) == sorted(turns("2")) == everyone
    assert turns("1") != turns("2")
    assert turns("1") == turns("1")
    assert turns("1")[:24] != sorted(turns("1")[:24])


@pytest.mark.parametrize("threads", [32, 256, 1024])
def test_barriers_and_shuffles_in_turn(cuda: Any, order: str, threads: int) -> None:
    sums = np.zeros(2, np.float32)
    assert cuda.many_exchanges(sums, 2, threads) == OK
    assert sums.tolist() == [32 * 31 * 32 / 2] * 2  # the sum over a warp, of 32 sums


def test_launches_from_several_threads_do_not_mix(cuda: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(block_sums_are_right, cuda, True) for _ in range(40)]
    assert all(run.result() for run in runs)


# ---- Warps


def source_of(exchange: str, lane: int, operand: int, width: int) -> int:
    """The lane that a lane reads, by the CUDA programming guide."""
    first = lane // width * width
    if exchange == "index":
        return first + operand % width
    if exchange == "up":
        return lane - operand if lane - operand >= first else lane
    if exchange == "down":
        return lane + operand if lane + operand < first + width else lane
    return lane ^ operand if lane ^ operand < first + width else lane


@pytest.mark.parametrize("dtype", ["float", "double", "int32_t", "uint32_t", "int64_t", "uint64_t"])
@pytest.mark.parametrize("exchange", ["index", "up", "down", "xor"])
def test_shuffles_read_the_lane_that_the_guide_says(cuda: Any, exchange: str, dtype: str) -> None:
    size = 8 if dtype in ("double", "int64_t", "uint64_t") else 4
    values = np.random.default_rng(0).integers(0, 256, (64, size), np.uint8)
    shuffle = getattr(cuda, f"shuffle_{dtype}")
    for width in (1, 2, 8, 32):
        for operand in range(32):
            out = np.zeros_like(values)
            which = ["index", "up", "down", "xor"].index(exchange)
            assert shuffle(which, values, out, operand, width) == OK
            lanes = [source_of(exchange, lane, operand, width) for lane in range(32)]
            assert np.array_equal(out, values[[warp + lane for warp in WARPS for lane in lanes]])


def test_parts_of_a_warp_exchange_by_themselves(cuda: Any, order: str) -> None:
    values = np.arange(64, dtype=np.int32) ** 2
    out = np.zeros_like(values)
    assert cuda.halves(values, out) == OK
    sums = values.reshape(2, 2, 16).copy()
    sums[:, 0] = sums[:, 0].reshape(2, 4, 4).sum(2).repeat(4, axis=1)  # the lower half: by fours
    sums[:, 1] = sums[:, 1].sum(1, keepdims=True)
    assert np.array_equal(out, sums.ravel())


@pytest.mark.parametrize("votes", ["none", "all", "some"])
def test_votes(cuda: Any, order: str, votes: str) -> None:
    values = np.full(64, 7 if votes == "all" else 0, np.int32)
    if votes == "some":
        values[[0, 5, 31, 33]] = -1
    out = np.zeros_like(values)
    assert cuda.vote(values, out) == OK
    for warp in WARPS:
        lanes = values[warp : warp + 32]
        ballot = sum(1 << lane for lane in range(32) if lanes[lane])
        wanted = ballot ^ (0 if any(lanes) else 0xFFFFFFFF) ^ (1 << 31 if all(lanes) else 0)
        assert set(out[warp : warp + 32].astype(np.uint32).tolist()) == {wanted}


def test_a_missing_warp_barrier_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    def is_right(barrier: bool) -> bool:
        lanes = np.arange(64, dtype=np.int32).reshape(2, 32)
        out = np.zeros_like(lanes)
        assert cuda.neighbors(lanes, out, barrier) == OK
        return np.array_equal(out, np.roll(lanes, -1, axis=1) + np.roll(lanes, 1, axis=1))

    assert all(in_each_order(lambda: is_right(True)))
    assert not any(in_each_order(lambda: is_right(False)))


# ---- Clusters


def cluster_sums_are_right(cuda: Any, size: int, barrier: bool) -> bool:
    x = random(24)
    parts, sums = np.full(24, np.nan, np.float32), np.zeros(24, np.float32)
    assert cuda.cluster(x, parts, sums, 24, size, barrier) == OK
    return near(sums, x.reshape(-1, size).sum(1).repeat(size))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_blocks_of_a_cluster_run_together(cuda: Any, order: str, size: int) -> None:
    assert cluster_sums_are_right(cuda, size, barrier=True)


def test_a_missing_cluster_barrier_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    assert not all(in_each_order(lambda: cluster_sums_are_right(cuda, 4, barrier=False)))


def peers_sums_are_right(cuda: Any, size: int, wait: bool) -> bool:
    x, sums = random(24), np.zeros(24 // size, np.float32)
    assert cuda.peers(x, sums, 24, size, wait) == OK
    return near(sums, x.reshape(-1, size).sum(1))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_blocks_of_a_cluster_read_each_others_shared_memory(
    cuda: Any, order: str, size: int
) -> None:
    assert peers_sums_are_right(cuda, size, wait=True)


def test_a_block_that_ends_while_others_read_it_shows(
    cuda: Any, in_each_order: InEachOrder
) -> None:
    assert not all(in_each_order(lambda: peers_sums_are_right(cuda, 8, wait=False)))


# ---- Cooperative launches


def grid_sums_are_right(cuda: Any, barrier: bool) -> bool:
    x = random(24)
    parts, sums = np.full(24, np.nan, np.float32), np.zeros(24, np.float32)
    assert cuda.grid(x, parts, sums, 24, barrier) == OK
    return near(sums, x.sum().repeat(24))


def test_all_blocks_of_a_cooperative_launch_run_together(cuda: Any, order: str) -> None:
    assert grid_sums_are_right(cuda, barrier=True)


def test_a_missing_grid_barrier_shows(cuda: Any, in_each_order: InEachOrder) -> None:
    assert not any(in_each_order(lambda: grid_sums_are_right(cuda, barrier=False)))


def test_a_block_that_does_not_come_to_the_grids_barrier_is_reported(cuda: Any) -> None:
    assert cuda.grid_barrier(4, 2, 0, True) == "cudaErrorLaunchFailure"
    assert "grid barrier not reached by all threads: 192 of 256" in cuda.message()


def test_a_grids_barrier_needs_a_cooperative_launch(cuda: Any) -> None:
    assert cuda.grid_barrier(4, 4, 0, False) == "cudaErrorLaunchFailure"
    assert "a launch that is not cooperative" in cuda.message()
