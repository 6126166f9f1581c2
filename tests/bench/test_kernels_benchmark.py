"""The cases of ``python -m bench.kernels`` as ``pytest --benchmark-only`` runs them.

Without that option a few small cases are run once, not timed, so that the rest of the suite stays
quick and these stay right.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bench.cases import BASELINES, Case, all_cases, steps
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap

SMALL = [
    Case("conditional_batch_norm_act", (2, 3, 4, 4), "bfloat16", "channels_last"),
    Case("bias_leaky_relu", (2, 3, 4, 4)),
    Case("discriminator_loss", (4,), kind="hinge"),
    Case("generator_loss", (4,), kind="minimax"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    timed = metafunc.config.getoption("benchmark_only")
    variants = (*BASELINES, "fused") if timed else ("eager", "fused")  # compiling takes seconds
    cases = all_cases() if timed else SMALL
    metafunc.parametrize("case", cases, ids=[str(case).replace(", ", "-") for case in cases])
    metafunc.parametrize("variant", variants)


@pytest.fixture
def all_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield
    torch.set_num_threads(before)


def test_forward_and_backward(
    benchmark: Any, request: pytest.FixtureRequest, all_threads: None, case: Case, variant: str
) -> None:
    benchmark.disabled = not request.config.getoption("benchmark_only")
    benchmark.group = str(case)
    if not benchmark.disabled:
        keep_large_tensors_off_mmap()
    step = steps(case, [variant] if variant in BASELINES else [])[variant]
    step()  # compiles
    step()
    gradient, *_ = benchmark(step)
    assert gradient.shape == case.shape
    assert gradient.isfinite().all()
