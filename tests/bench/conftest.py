"""A GPU that is the CPU, with graphs that call what they have captured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench import graphs
from cxrgan_fast.ops.backend import selected_backend

IMAGE_BYTES = 4 * 5 * 3 * 4 * 6
"""Of the float32 images that the tests measure; L2 holds three."""


class CallingGraph:
    """Stands in for a captured graph."""

    def __init__(self, work: Any) -> None:
        self.replay = work
        self.backend = selected_backend()


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[CallingGraph]:
    """Every graph that was captured; nothing here needs a GPU any more."""
    found: list[CallingGraph] = []

    class Capturer:
        def capture(self, work: Any) -> CallingGraph:
            work()
            found.append(CallingGraph(work))
            return found[-1]

    monkeypatch.setattr(graphs, "Capturer", Capturer)
    monkeypatch.setattr(graphs, "launches", lambda graph: 12)
    properties = SimpleNamespace(L2_cache_size=3 * IMAGE_BYTES)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return found
