"""What a run says when it starts, and keeps: with what it trains, and how that came about."""

from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.ops.backend import choose_backend
from cxrgan_fast.provenance import provenance
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import flatten, override
from cxrgan_fast.training.run import Run
from cxrgan_fast.training.step import AUTOCAST_DTYPE
from cxrgan_fast.training.thread_count import Start

OPS = (
    "conditional_batch_norm_act",
    "bias_leaky_relu",
    "discriminator_loss",
    "generator_loss",
    "augmented_batch",
)
"""The ops that have several backends."""


def describe_start(run: Run, start: Start) -> dict[str, Any]:
    """Collect with what a run trains, as plain values for JSON.

    Args:
        run: restored already if it goes on.
        start: its threads.

    Returns:
        What :func:`provenance` gives, ``step`` (from which it goes on), ``executor``,
        ``precision``, ``threads``, ``backends`` (by op), ``parameters`` (by network) and
        ``settings``: all of them by their flat names, nothing of which is "auto".

    Raises:
        UserError: the backend asked for by name cannot run here.
    """
    config, step = run.config, run.training_step
    dtype = AUTOCAST_DTYPE.get(config.precision, torch.float32)
    images = torch.empty(0, dtype=dtype, device=step.device)
    chosen = {
        "executor": run.executor,
        "precision": config.precision,
        "threads": start.threads,
        "device": str(step.device),
    }
    networks = step.networks
    return {
        **provenance(step.device),
        "step": step.steps_done,
        **chosen,
        "backends": {op: choose_backend(images, op) for op in OPS},
        "parameters": {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in networks.items()
        },
        "settings": {
            name: str(value) if isinstance(value, Path | Schedule) else value
            for name, value in flatten(override(config, chosen)).items()
        },
    }


def start_lines(facts: dict[str, Any], folder: Path, start: Start) -> list[str]:
    """Format what :func:`describe_start` returns for people."""
    by_backend: dict[str, list[str]] = {}
    for op, backend in facts["backends"].items():
        by_backend.setdefault(backend, []).append(op)
    ops = "; ".join(f"{', '.join(ops)}: {backend}" for backend, ops in by_backend.items())
    sizes = ", ".join(f"{name} {n:,} parameters" for name, n in facts["parameters"].items())
    return [
        f"folder: {folder}",
        f"device: {facts['device']} ({facts['device_name']}), precision {facts['precision']}, "
        f"executor {facts['executor']}",
        f"threads: {start.threads} ({start.reason})",
        f"ops: {ops if len(by_backend) > 1 else next(iter(by_backend))}",
        f"networks: {sizes}",
    ]
