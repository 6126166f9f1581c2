"""What a run's own files say of it: the lines of its log, and a record put together from them."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.calls import last_call
from cxrgan_fast.runs.data_record import read_record
from cxrgan_fast.runs.logs import metrics_path

TAIL_BYTES = 1 << 14
"""Bytes at the end of a log, which hold its last lines."""

_CURVE = 60  # points of a run's curves that are kept
_PLACES = ("data", "out", "name", "init_from", "inception_weights", "features_weights")
_LAST_SHARE = 0.1  # of a run, over which its last numbers are averaged


def describe_run(run: Path) -> dict[str, Any]:
    """Collect what a run's own files say of it.

    Returns:
        ``steps``, ``images``, ``seconds``, ``images_per_second`` (the median of its lines),
        ``peak_memory`` (bytes; None where no line has it), ``r_t``, ``d_loss``,
        ``d_real_accuracy`` and others (the mean over the last tenth of the lines), ``curve`` (some
        of its lines), ``parameters``, ``settings``, ``version`` and ``fingerprint`` of the data.

    Raises:
        UserError: it has no lines.
    """
    rows = read_rows(run)
    if not rows:
        raise UserError(f"{run} has no measurements: let runs be longer than --log-every steps")
    last, call, data = rows[-1], last_call(run) or {}, read_record(run)
    tail = rows[-max(1, math.ceil(_LAST_SHARE * len(rows))) :]
    chosen = sorted({round(k * (len(rows) - 1) / _CURVE) for k in range(_CURVE + 1)})
    names = ("r_t", "d_loss", "g_loss", "d_real_accuracy", "d_fake_accuracy", "r1")
    means = {
        name: statistics.fmean(values)
        for name in names
        if (values := [row[name] for row in tail if row.get(name) is not None])
    }
    return {
        "folder": run.name,
        "steps": last["step"],
        "images": last["images"],
        "seconds": last["seconds"],
        "images_per_second": statistics.median(row["images_per_second"] for row in rows),
        "peak_memory": max((row["peak_memory"] for row in rows if "peak_memory" in row),
                           default=None),
        **means,
        "curve": [
            {key: rows[k][key] for key in ("step", "images", "seconds", *names) if key in rows[k]}
            for k in chosen
        ],
        "parameters": call.get("parameters"),
        "settings": {  # where things lie is of no interest elsewhere
            name: value
            for name, value in (call.get("settings") or {}).items()
            if name not in _PLACES
        },
        "version": call.get("version"),
        "torch": call.get("torch"),
        "fingerprint": None if data is None else data.fingerprint,
    }  # fmt: skip


def read_rows(run: Path, most_bytes: int | None = None) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics.jsonl, or those at its end."""
    path = metrics_path(run)
    try:
        content = path.read_bytes() if most_bytes is None else read_tail(path, most_bytes)
    except FileNotFoundError:
        return []
    rows = []
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut, or being written
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def read_tail(path: Path, most_bytes: int = TAIL_BYTES) -> bytes:
    """Read the end of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most_bytes))
        return file.read()
