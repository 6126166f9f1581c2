"""The trainings of ``research.parity``: one for each seed and variant, each kept in a folder.

A training that is complete is never done again; one that was stopped begins again, so that its
clock means something. What is in a folder was trained with the settings that the folder names.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from bench.record import read_result
from bench.reference_settings import Settings
from bench.throughput_variants import build, forget
from bench.timing import seconds_of
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic
from cxrgan_fast.gan.draws import stream_seeds
from cxrgan_fast.settings.config import TrainConfig, flatten, override
from cxrgan_fast.training.step import TrainingStep

REFERENCE = "reference"
PRECISIONS = ("fp32", "bf16", "fp16")
"""The package's variants have the names of their precisions."""

Run = dict[str, Any]


def snapshot_steps(steps: int, snapshots: int) -> list[int]:
    """The steps after which weights are kept, evenly spaced; the last is the last."""
    return [round(steps * (number + 1) / snapshots) for number in range(snapshots)]


def settings_of(
    config: TrainConfig, dataset: ImageDataset, device: torch.device, steps: int, snapshots: int
) -> dict[str, Any]:
    """All that trainings must have in common to be compared, as JSON gives it back."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    settings = {
        "steps": steps,
        "snapshots": snapshots,
        "training": dataclasses.asdict(Settings.of(flatten(config))),
        "preset": config.preset,
        "data": {"images": dataset.class_counts(), "fingerprint": dataset.fingerprint},
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    restored: dict[str, Any] = json.loads(json.dumps(settings))
    return restored


class Work:
    """The folder in which trainings and what was measured of them are kept.

    Args:
        folder: made where it is not there.
        settings: from `settings_of`.

    Raises:
        UserError: the folder cannot be made, holds something else, or trainings with other
            settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, dict(settings)
        path = folder / "settings.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            foreign = not path.exists() and any(folder.iterdir())
        except OSError as error:
            raise UserError(f"--work: {folder} cannot be made: {error.strerror}") from None
        if foreign:
            raise UserError(f"--work: {folder} holds something else; name a new folder")
        if not any(folder.glob("seed-*/*/run.json")):
            write_atomic(path, json.dumps(settings, indent=1).encode())
            return
        kept = _flat(read_json(path))
        wanted = _flat(settings)
        for name in sorted(kept.keys() | wanted.keys()):
            there, here = kept.get(name), wanted.get(name)
            if there != here:
                raise UserError(
                    f"--work: {folder} was trained with {name} {there}, not {here}: "
                    f"name a new folder, or go on with {there}"
                )

    def run_folder(self, seed: int, variant: str) -> Path:
        """Where a training is kept."""
        return self.folder / f"seed-{seed}" / variant

    def run(self, seed: int, variant: str) -> Run | None:
        """What a complete training has measured; None where it is not complete."""
        path = self.run_folder(seed, variant) / "run.json"
        return read_json(path) if path.exists() else None

    def keep(self, run: Run) -> None:
        """Keep what a training has measured: it is complete from now on."""
        path = self.run_folder(run["seed"], run["variant"]) / "run.json"
        write_atomic(path, json.dumps(run).encode())


def read_json(path: Path) -> dict[str, Any]:
    """A file of the folder.

    Raises:
        UserError: it is damaged.
    """
    try:
        return read_result(path)
    except UserError:
        raise UserError(f"{path} is damaged: remove the folder {path.parent}") from None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def start(variant: str, config: TrainConfig, dataset: ImageDataset, device: torch.device) -> Any:
    """A training before its first step: a function that does the next one.

    Of one ``config.seed`` every variant begins with the same weights. All else that is drawn is of
    the seed too, but by other generators of random numbers, so that it differs.

    Args:
        variant: REFERENCE, or the package's in one of PRECISIONS.
        config: settings; the precision is the variant's.
        dataset: what is trained on.
        device: where.
    """
    if variant != REFERENCE:
        return build("auto", override(config, {"precision": variant}), dataset, device)
    config = override(config, {"precision": "fp32"})
    initial = TrainingStep(config, dataset, torch.device("cpu"))
    torch.manual_seed(stream_seeds(config.seed)[1])
    training = build(REFERENCE, config, dataset, device)
    training.load_weights(*(network.state_dict() for network in initial.networks.values()))
    return training


def train(
    variant: str,
    config: TrainConfig,
    dataset: ImageDataset,
    device: torch.device,
    *,
    snapshots: Sequence[int],
    folder: Path,
    progress: Callable[[int], object] = lambda steps: None,
) -> Run:
    """Train one variant from one seed, and keep its generators' averages.

    The clock counts steps, from the first one, with what is compiled, tuned, captured or started
    in it; not the construction of the networks, nor the loading and placing of the data, nor what
    is written.

    Args:
        variant: see `start`.
        config: settings, with the seed.
        dataset: what is trained on.
        device: where.
        snapshots: steps after which weights are kept; the last ends the training.
        folder: where the weights go, as `generator_name` calls them.
        progress: is told how many steps more are done.

    Returns:
        What was measured, to be kept by `Work.keep`.

    Raises:
        UserError: the weights cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").unlink(missing_ok=True)  # of weights that are replaced
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from None
    training = start(variant, config, dataset, device)
    try:
        average = (training if variant == REFERENCE else training.step).ema
        images_per_step = config.batch_size * config.objective.discriminator_steps
        window = config.objective.r1_interval if config.objective.penalized else 16

        def timed(steps: int) -> float:
            seconds = seconds_of(training, steps, device)
            progress(steps)
            return seconds

        clock = first = timed(1)
        done, windows, kept = 1, list[tuple[int, float]](), []
        for step in snapshots:
            while done < step:
                steps = min(window, step - done)
                seconds = timed(steps)
                windows.append((steps, seconds))
                clock += seconds
                done += steps
            _save(average, folder / generator_name(step))
            kept.append({"step": step, "images": step * images_per_step, "seconds": clock})
        run = {
            "variant": variant,
            "seed": config.seed,
            "executor": getattr(training, "name", "eager"),
            "first_step_s": first,
            "images_per_second": images_per_step / _seconds_per_step(windows),
            "window_steps": [steps for steps, _ in windows],
            "window_s": [seconds for _, seconds in windows],
            "snapshots": kept,
        }
    finally:
        vars(training).clear()  # a DataLoader left to the garbage collector takes its time
        forget()
    return run


def generator_name(step: int) -> str:
    """The file of a generator's average."""
    return f"generator-{step:06d}.safetensors"


def _save(average: Any, path: Path) -> None:
    weights = average.state_dict()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    try:
        safetensors.torch.save_file(tensors, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}") from None


def _seconds_per_step(windows: Sequence[tuple[int, float]]) -> float:
    """The median of the whole windows: whatever else the machine did for a while is left out."""
    whole = max(steps for steps, _ in windows)
    return statistics.median(seconds for steps, seconds in windows if steps == whole) / whole
