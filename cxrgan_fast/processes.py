"""Which process something is, told so that another one can ask whether it still runs."""

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, here or on another machine.

    Attributes:
        pid: process id.
        host: name of its machine, for people.
        place: the machine, since it was started, and the process's view of other processes: where
            this is the same, `pid` means the same.
        started: when the process was, in the kernel's ticks: numbers of processes come again.
    """

    pid: int
    host: str
    place: str
    started: str

    def has_ended(self) -> bool | None:
        """Tell whether it has ended; None where that cannot be asked from here."""
        if self.place != _place() or os.name == "nt":
            return None
        return _started(self.pid) != self.started or not _is_alive(self.pid)


def this_process() -> Process:
    """Return what tells this process from all others."""
    return Process(os.getpid(), socket.gethostname(), _place(), _started(os.getpid()))


def _place() -> str:
    """What tells this machine, since its start, from others; and a container from its host."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process was started; empty where the system does not tell, or it has ended."""
    try:
        # After the name of the program, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # ended, and nobody has asked how
    except (OSError, IndexError):
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
