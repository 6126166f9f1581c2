"""The cases of ``python -m bench.kernels`` as ``pytest --benchmark-only`` runs them.

Without that option a few small cases are run once, not timed, so that the rest of the suite stays
quick and these stay right.
"""

from typing import Any

import pytest

from bench.cases import BASELINES, Case, all_cases, steps

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


def test_forward_and_backward(timed: Any, case: Case, variant: str) -> None:
    timed.group = str(case)
    step = steps(case, [variant] if variant in BASELINES else [])[variant]
    step()  # compiles
    step()
    gradient, *_ = timed(step)
    assert gradient.shape == case.shape
    assert gradient.isfinite().all()
