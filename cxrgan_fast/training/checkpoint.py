"""Checkpoints: all that a run needs to go on, written so that no crash leaves half of one."""

import io
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic

FORMAT = "cxrgan_fast.checkpoint/2"
_NAME = re.compile(r"step-(\d+)\.pt")


def checkpoint_path(run: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` lies."""
    return run / "checkpoints" / f"step-{step:08d}.pt"


def generator_path(run: Path, step: int) -> Path:
    """Where the averaged generator of ``step`` lies."""
    return run / "checkpoints" / f"generator-{step:08d}.safetensors"


def best_generator_path(run: Path) -> Path:
    """Where the averaged generator with the lowest FID of a run's evaluations lies."""
    return run / "best_generator.safetensors"


def saved_steps(run: Path) -> list[int]:
    """Steps that have a checkpoint, oldest first."""
    found = (_NAME.fullmatch(path.name) for path in (run / "checkpoints").glob("step-*.pt"))
    return sorted(int(match.group(1)) for match in found if match)


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of ``step`` whole or not at all.

    Takes as much memory again as ``state``, for the file's content.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    # To memory first: a thread that the end of the program meets within torch.save, which is C++,
    # aborts it. That a slow disk is left behind at a second Ctrl-C is no reason for that.
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    write_atomic(checkpoint_path(run, step), lambda file: file.write(content.getbuffer()))


def prune_checkpoints(run: Path, keep: int, mark_every: int, best: int | None) -> None:
    """Delete all checkpoints but the newest ``keep``, multiples of ``mark_every`` and ``best``."""
    for step in saved_steps(run)[:-keep]:
        if step != best and not (mark_every and step % mark_every == 0):
            checkpoint_path(run, step).unlink(missing_ok=True)
            generator_path(run, step).unlink(missing_ok=True)


def load_newest_checkpoint(
    run: Path, device: torch.device
) -> tuple[Path, dict[str, Any], list[Path]]:
    """The newest checkpoint of ``run`` that is whole, its content, and damaged ones that are newer.

    Only tensors and plain values are read: a checkpoint cannot run code.

    Raises:
        UserError: There is no checkpoint, or none that can be read.
    """
    damaged: list[Path] = []
    for path in _newest_first(run):
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError):
            damaged.append(path)
            continue
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            damaged.append(path)
            continue
        return path, state, damaged
    if damaged:
        raise UserError(
            f"cannot resume {run}: {damaged[0]} is damaged or not a checkpoint of this program, "
            "and there is no older one; start a new run"
        )
    raise UserError(f"cannot resume {run}: it has no checkpoint yet; start a new run")


def _newest_first(run: Path) -> Iterator[Path]:
    for step in reversed(saved_steps(run)):
        yield checkpoint_path(run, step)
