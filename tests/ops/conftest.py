"""The backends that every op is tested on."""

from collections.abc import Iterator

import pytest

from cxrgan_fast.ops import available_backends, use_backend


@pytest.fixture(params=["native", "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend in turn, in use; skipped, saying why, where it cannot run."""
    status = available_backends()[request.param]
    if "cpu" not in status.runs_on:
        pytest.skip(f"{request.param}: {status.why_not['cpu']}")
    with use_backend(request.param):
        yield request.param
