"""How much memory is taken by reading images, whatever the number of threads.

A file's bytes are held under `CONTENT` and whatever a decoder makes of them under `DECODING`. A
thread that waits for `DECODING` may hold a part of `CONTENT` and never the other way round, so
that threads cannot wait for each other in a circle.
"""

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Iterator

from cxrgan_fast.errors import UserError

_KEPT = 256 << 20  # freed bytes that the C library may keep for itself


class Budget:
    """An amount of memory that threads share: who needs more than is left waits, in order."""

    def __init__(self, limit: int) -> None:
        """Share `limit` bytes."""
        self.limit = limit
        self._used = 0
        self._freed = 0  # since the C library was last asked to give memory back
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def hold(self, amount: int, what: str) -> Iterator[None]:
        """Wait until `amount` bytes are left, and keep them for the block.

        Args:
            amount: bytes.
            what: is so large, for the message; such as "its decoding".

        Raises:
            UserError: it is more than there is in all.
        """
        if amount > self.limit:
            raise UserError(
                f"{what} would take {amount / 1e9:.1f} GB of memory, more than the "
                f"{self.limit / 1e9:.1f} GB that are used: make it smaller or remove it"
            )
        mine = object()
        with self._changed:
            self._waiting.append(mine)
            try:
                # In the order of coming: a large image is not overtaken forever by small ones.
                self._changed.wait_for(
                    lambda: self._waiting[0] is mine and self._used + amount <= self.limit
                )
                self._used += amount
            finally:
                self._waiting.remove(mine)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._freed += amount
                trim = self._freed >= _KEPT
                self._freed = 0 if trim else self._freed
            if trim:
                _give_back()
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def _give_back() -> None:
    """Have glibc give back what it keeps of freed memory, for every thread that was ever at work.

    Without, sixteen threads keep as many times what one of them takes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


CONTENT = Budget(512 << 20)
"""For the bytes of files: one of the largest that are read, or many small ones."""

DECODING = Budget(1_536_000_000)
"""For what decoders make of them: 24 bytes a pixel of the largest image that is read."""
