"""Run a command as on another system: without what Linux has and that system has not.

    python elsewhere.py windows|macos MODULE [ARGUMENT ...]

The libraries are imported before, as they have their own ways there; the package is imported after.
Neither system has the extension nor Triton, and the text files' encoding is not UTF-8.
"""

import errno
import importlib
import os
import runpy
import signal
import sys
from typing import Any

SYSTEM: Any = os  # whose functions are replaced

LIBRARIES = ("torch", "torch.utils.tensorboard", "torch._dynamo", "PIL.Image", "PIL.ImageDraw",
             "PIL.GifImagePlugin", "PIL.PngImagePlugin", "numpy", "safetensors.torch", "pydantic",
             "tyro", "tqdm", "yaml", "concurrent.futures.thread", "shutil", "tempfile",
             "subprocess", "multiprocessing", "ctypes")  # fmt: skip

MODULES = {
    "macos": (),
    "windows": ("fcntl", "resource", "pwd", "grp", "termios", "pty"),
}
FUNCTIONS = {
    "macos": ("sched_getaffinity", "sched_setaffinity", "posix_fallocate"),
    "windows": (
        "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "confstr", "sysconf", "pread",
        "pwrite", "preadv", "pwritev", "fork", "getuid", "geteuid", "getloadavg", "fchmod", "chown",
        "mkfifo", "statvfs", "fdatasync", "killpg", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY",
        "O_NOFOLLOW", "register_at_fork",
    ),
}  # fmt: skip
SIGNALS = {"macos": (), "windows": ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "pthread_kill")}


def take_away(system: str) -> None:
    """Leave this process with what the system has."""
    for name in (*MODULES[system], "cxrgan_fast._C", "triton"):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it fails from now on
    for name in FUNCTIONS[system]:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS[system]:
        if hasattr(signal, name):
            delattr(signal, name)
    (windows if system == "windows" else macos)()


def macos() -> None:
    """CS_GNU_LIBC_VERSION is a name that macOS does not know."""

    def confstr(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    SYSTEM.confstr = confstr


def windows() -> None:
    """Folders cannot be opened, nothing is renamed over a file, entries have no inode."""
    opened, rename, scandir = os.open, os.rename, os.scandir

    def open_no_folder(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, mode, **options)

    def rename_to_nothing(source: Any, target: Any, **options: Any) -> None:
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        rename(source, target, **options)

    class Entry:
        def __init__(self, entry: Any) -> None:
            self._entry, self.name, self.path = entry, entry.name, entry.path

        def __getattr__(self, name: str) -> Any:
            return getattr(self._entry, name)

        def stat(self, **options: bool) -> os.stat_result:
            fields = list(self._entry.stat(**options))
            fields[1] = fields[2] = 0  # st_ino, st_dev
            return os.stat_result(fields)

    class Entries:
        def __init__(self, path: Any = ".") -> None:
            self._entries = scandir(path)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Entry:
            return Entry(next(self._entries))

        def close(self) -> None:
            self._entries.close()

    SYSTEM.open, SYSTEM.rename, SYSTEM.scandir = open_no_folder, rename_to_nothing, Entries


def main() -> None:
    """Import the libraries, take away, run."""
    system, module, *arguments = sys.argv[1:]
    for name in LIBRARIES:
        importlib.import_module(name)
    take_away(system)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
