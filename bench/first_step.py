"""Whether a captured training step gives the bits that the step gives op by op.

On a GPU as a CUDA graph; on a CPU as the recording that the tests have in place of one.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch

from bench.dispatched import Dispatched
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.algorithms import algorithms
from cxrgan_fast.training.executors import Executor, GraphExecutor
from cxrgan_fast.training.step import TrainingStep

IMAGES = 50


class _BelowHooks(Executor):
    """Below a mode some layers become other ops, as in a recording."""

    def run(self, kind: Hashable) -> None:
        with Dispatched():
            super().run(kind)


def compare(settings: dict[str, Any], device: str, steps: int) -> tuple[int, list[str]]:
    """Do the same steps op by op and captured, and compare all of their state.

    Args:
        settings: of the training, by their flat names.
        device: ``cuda``, or ``cpu`` for the recording; that needs pytest.
        steps: how many.

    Returns:
        How many kinds of step were captured, 0 if it ran op by op, of which stderr then says why;
        and which tensors differ.
    """
    if device == "cuda":
        return _compare(settings, torch.device("cuda"), steps, Executor)
    import pytest

    from recorded_graph import stand_in_for_cuda_graphs

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on busy cores a second one waits longer than such small tensors take
    try:
        with pytest.MonkeyPatch.context() as patch:
            stand_in_for_cuda_graphs(patch)
            return _compare(settings, torch.device("cpu"), steps, _BelowHooks)
    finally:
        torch.set_num_threads(threads)


def _compare(
    settings: dict[str, Any], device: torch.device, steps: int, op_by_op: type[Executor]
) -> tuple[int, list[str]]:
    config = override(TrainConfig(), settings)
    dataset = _dataset(config.network.resolution)
    with algorithms(deterministic=True):
        one, other = (TrainingStep(config, dataset, device) for _ in range(2))
        run, replay = op_by_op(one), GraphExecutor(other)
        for _ in range(steps):
            run()
            replay()
        pairs = zip(_state(one), _state(other), strict=True)
        differing = [
            f"tensor {number} of shape {tuple(mine.shape)}"
            for number, (mine, its) in enumerate(pairs)
            if not torch.equal(mine, its)
        ]
    return (len(replay.graphs) if replay.name == "graph" else 0), differing


def _dataset(resolution: int) -> ImageDataset:
    random = torch.Generator().manual_seed(0)
    shape = (IMAGES, 1, resolution, resolution)
    names = [str(number) for number in range(IMAGES)]
    return ImageDataset(
        images=torch.randint(256, shape, generator=random).to(torch.uint8),
        labels=(torch.arange(IMAGES) % 3 == 0).long(),
        class_names=("a", "b"),
        patients=names,
        files=names,
        name="made",
    )


def _state(step: TrainingStep) -> list[torch.Tensor]:
    return [step.draws.random.get_state(), *step.tensors()]
