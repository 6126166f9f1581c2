"""A PostgreSQL server of a test's own, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_OWNER = "postgres"  # as whom root, whom the server refuses, starts it


def programs() -> Path | None:
    """The folder of the server's programs; None where they are missing."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return newest[-1].parent if newest else None


@contextlib.contextmanager
def database() -> Iterator[str]:
    """Run a server within the block, and give the address of its empty database."""
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("no PostgreSQL server is installed (Debian's package postgresql)")
    # Below no folder of pytest's, which only its own user may enter.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = _OWNER if os.getuid() == 0 else None
    try:
        if user is not None:
            try:
                shutil.chown(folder, user)
            except LookupError:
                pytest.skip(f"root cannot start PostgreSQL, and there is no user {user}")

        def run(program: str, *words: str) -> None:
            # The server keeps what it inherits open: no pipe may be among it.
            with open(os.devnull, "w") as nowhere:
                subprocess.run(
                    [bin_folder / program, "-D", folder / "data", *words],
                    user=user, cwd=folder, stdout=nowhere, stderr=nowhere, check=True, timeout=60,
                )  # fmt: skip

        run("initdb", "--auth=trust", "--username=me", "--no-sync")
        run("pg_ctl", "-w", "-o", f"-F -k {folder} -c listen_addresses=''", "start")
        try:
            yield f"postgresql://me@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
