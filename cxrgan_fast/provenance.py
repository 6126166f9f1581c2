"""With what something was made: version, commit, command, and the machine."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast import __version__

ROOT = Path(__file__).resolve().parent.parent


def provenance(device: torch.device) -> dict[str, Any]:
    """Collect what a reader needs to make a result again, as plain values for JSON.

    Args:
        device: where the work is done.

    Returns:
        ``version`` of this package, ``commit`` (None without a checkout), ``command``, ``date``
        (UTC), ``python``, ``torch``, ``platform`` and ``device`` with its ``device_name``.
    """
    known = commit()
    return {
        "version": __version__,
        "commit": None if known == "unknown" else known,
        "command": command_line(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "device": device.type,
        "device_name": device_name(device),
    }


def command_line() -> str:
    """Return the command that runs in this process, as one would type it: ``python -m ...``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    # python -m PACKAGE runs PACKAGE.__main__.
    program = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else sys.argv[:1]
    return shlex.join([*program, *sys.argv[1:]])


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()[0]


def processor() -> tuple[str, set[str]]:
    """Return the processor's model and the features that the system lists of it."""
    model, features = platform.processor() or platform.machine(), set[str]()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    model = value.strip()
                elif key.strip() in ("flags", "Features"):
                    features = set(value.split())
                    break  # the other cores say the same
    except OSError:
        pass  # not Linux
    return model, features


def commit(root: Path = ROOT) -> str:
    """Return the commit of a checkout, followed by "+" if tracked files differ from it.

    A copy of the files without their history, such as an installed package, says what CXRGAN_COMMIT
    says, or "unknown".
    """
    # Without its own .git it may lie inside another checkout, whose commit git would tell.
    head = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else ""
    if not head:
        return os.environ.get("CXRGAN_COMMIT") or "unknown"
    return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where it fails, or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
