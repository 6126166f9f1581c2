"""What PyTorch dispatches: a function is told of every op, which then runs as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

Tell = Callable[[Any, tuple[Any, ...], dict[str, Any]], object]
"""Is given an op with its arguments, before it runs."""


class Dispatched(TorchDispatchMode):
    """Within, every op that is dispatched is told of; compiled code dispatches none."""

    def __init__(self, tell: Tell = lambda *_: None) -> None:
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._tell(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))
