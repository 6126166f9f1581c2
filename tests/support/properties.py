"""Properties that Hypothesis tries on every target, with Triton's kernels on an eighth of them.

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


def at_most(count: int) -> settings:
    """Try no more examples than that, in the first tier no more than its profile says."""
    return settings(max_examples=min(count, settings().max_examples))


# A target stays in use from example to example.
_per_target = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def on_examples(strategies: Strategies, property: Test) -> Test:
    """A test of the property on every target but Triton's."""
    test = settings(suppress_health_check=_per_target)(given(**strategies)(property))
    return pytest.mark.parametrize("target", OTHERS, indirect=True, ids=str)(test)


def on_few_examples(strategies: Strategies, property: Test) -> Test:
    """A test of the property on Triton's targets."""
    count = settings().max_examples * 3 // 25
    few = settings(suppress_health_check=_per_target, max_examples=count)
    test = few(given(**strategies)(property))
    return pytest.mark.parametrize("target", TRITON, indirect=True, ids=str)(test)
