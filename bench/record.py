"""What every result file holds beside its figures: where, with what and of what."""

import json
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cxrgan_fast.env import describe

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """The commit of this checkout, with "+" where tracked files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return (git("rev-parse", "HEAD") or "unknown") + (
        "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    )


def write_result(path: Path, command: str, figures: dict[str, Any]) -> None:
    """Write figures with their circumstances as JSON."""
    environment = describe()
    # A path says nothing about a measurement, and something about who made it.
    environment["build"].pop("openmp_runtime", None)
    record = {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        **figures,
        "environment": environment,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text(record))


def as_text(record: dict[str, Any]) -> str:
    """The record as JSON, indented, but a list of numbers on one line, however long it is."""
    number = r"-?\d[-+.\deE]*"
    # No string of JSON holds a line break, so that this finds lists alone.
    lists = re.compile(rf"\[\n\s*({number}(?:,\n\s*{number})*)\n\s*\]")

    def one_line(found: re.Match[str]) -> str:
        return "[" + re.sub(r"\s+", " ", found[1]) + "]"

    return lists.sub(one_line, json.dumps(record, indent=1)) + "\n"
