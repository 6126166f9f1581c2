"""Properties that Hypothesis tries on every target, with Triton's kernels on fewer examples.

In its interpreter an example takes as long as ten of the others; on a GPU most of them are of a
class of shapes that is compiled for first, which takes longer still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from op_cases import TARGETS

Test = Callable[..., None]
Strategies = dict[str, SearchStrategy[Any]]

TRITON = [target for target in TARGETS if target.backend == "triton"]
OTHERS = [target for target in TARGETS if target not in TRITON]
_FEW = 60

# A target stays in use from example to example.
_per_target = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def on_examples(strategies: Strategies, property: Test) -> Test:
    """A test of the property on every target but Triton's."""
    test = settings(suppress_health_check=_per_target)(given(**strategies)(property))
    return pytest.mark.parametrize("target", OTHERS, indirect=True, ids=str)(test)


def on_few_examples(strategies: Strategies, property: Test) -> Test:
    """A test of the property on Triton's targets."""
    few = settings(suppress_health_check=_per_target, max_examples=_FEW)
    test = few(given(**strategies)(property))
    return pytest.mark.parametrize("target", TRITON, indirect=True, ids=str)(test)
