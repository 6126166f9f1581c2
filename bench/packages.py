"""``python -m bench.packages NAME...``: which Python packages are missing, and how to carry them.

Prints those of the names (as pip knows them) that this interpreter cannot import, on one line; with
``--how``, also the command that downloads wheels of them for this interpreter, to be run on a
machine that has a network. Needs nothing but Python: it says what else is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence

MODULES = {"pillow": "PIL", "pyyaml": "yaml", "pytest-xdist": "xdist"}
"""What is imported, where it is not called as pip calls it."""
# Of the oldest first, as wheels are tagged: PEP 600, and the name before it.
GLIBCS = ((2, 17), (2, 28), (2, 34))
OLDER_NAME = "manylinux2014"


def missing(names: Iterable[str]) -> list[str]:
    """Those of some packages that cannot be found, each once, in the order given."""
    return [
        name
        for name in dict.fromkeys(names)
        if importlib.util.find_spec(MODULES.get(name, name).partition(".")[0]) is None
    ]


def platforms(machine: str, libc: str) -> list[str]:
    """The tags of the wheels that run on a Linux with glibc, the oldest first.

    Args:
        machine: such as ``x86_64``.
        libc: such as ``glibc 2.36``, what ``CS_GNU_LIBC_VERSION`` is there; "" gives the tag that
            every Linux with glibc takes.
    """
    words = libc.split()
    version = tuple(map(int, words[1].split(".")[:2])) if len(words) > 1 else GLIBCS[0]
    tags = [f"manylinux_{a}_{b}_{machine}" for a, b in GLIBCS if (a, b) <= version]
    return [f"{OLDER_NAME}_{machine}", *tags]


def download_command(names: Sequence[str]) -> str:
    """The pip command that downloads wheels of some packages for this interpreter."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    tags = [f"--platform {tag}" for tag in platforms(platform.machine(), libc)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    words = ["python3 -m pip download --dest wheels --only-binary=:all:"]
    return " ".join([*words, f"--python-version {version}", *tags, *names])


def main() -> None:
    """Print what is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.packages", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages, as pip knows them")
    parser.add_argument("--how", action="store_true", help="say how to carry them, too")
    arguments = parser.parse_args()
    for name in arguments.names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", name):
            parser.exit(2, f"error: NAME: expected what pip calls a package, got {name!r}\n")
    names = missing(arguments.names)
    print(*names)
    if arguments.how and names:
        print(download_command(names))


if __name__ == "__main__":
    main()
