"""The training loop: from a configuration to a run folder, and on from an interrupted one."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset, load_dataset, to_uint8
from cxrgan_fast.errors import UserError
from cxrgan_fast.training import checkpoint as ckpt
from cxrgan_fast.training.algorithms import algorithms
from cxrgan_fast.training.checks import changed_on_resume, check
from cxrgan_fast.training.config import TrainConfig, override, read_config, write_config
from cxrgan_fast.training.executors import make_executor
from cxrgan_fast.training.grid import grid_path, write_gif, write_grid
from cxrgan_fast.training.logs import RunLog
from cxrgan_fast.training.run_folder import create_run_folder, make_folder, write_atomic
from cxrgan_fast.training.schedules import noise_std
from cxrgan_fast.training.signals import stop_signals
from cxrgan_fast.training.snapshot import save_generator
from cxrgan_fast.training.step import TrainingStep, stream_seeds

GRID_COLUMNS = 10


class NonFiniteError(UserError):
    """The training diverged."""


def train(
    config: TrainConfig, device: torch.device, resume: Path | None = None
) -> tuple[Path, list[Path]]:
    """Train, and return the run folder and its newest sample grids (with per_class one a class).

    Args:
        config: Settings, resolved (nothing is "auto" but the device).
        device: Where to train.
        resume: A run folder to continue; ``config`` then holds its settings.

    Raises:
        UserError: Settings, data or the run folder cannot work, or the memory does not suffice.
        NonFiniteError: A loss or a weight is infinite or not a number.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; everything is saved.
    """
    check(config)
    try:
        with algorithms(config.deterministic):
            return _train(config, device, resume)
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        text = str(error)
        lacks_memory = "out of memory" in text or "can't allocate memory" in text
        if not (isinstance(error, MemoryError) or lacks_memory):
            raise
        raise UserError(
            f"the memory of {device} does not suffice for --batch-size {config.batch_size} at "
            f"--resolution {config.network.resolution} with --base-channels "
            f"{config.network.base_channels} and --latent-size {config.network.latent_size}; "
            "make one of them smaller"
        ) from None


def _train(
    config: TrainConfig, device: torch.device, resume: Path | None
) -> tuple[Path, list[Path]]:
    source = config.dataset
    dataset = load_dataset(
        source.data,
        resolution=config.network.resolution,
        image_channels=config.network.image_channels,
        classes=source.classes or None,
        skip_bad=source.skip_bad,
        phantom_images=source.phantom_images,
        seed=0,
    )
    config.network.validate(1 if source.per_class else len(dataset.class_names))
    _say_dataset(dataset)
    if resume is None:
        family, resolution = config.network.family, config.network.resolution
        run = create_run_folder(config.output.out, dataset.name, resolution, family)
    else:
        run = resume
    _write_dataset_record(run, dataset, resume is not None)
    # Also when resuming, so that the file says what was done last (the number of steps, say).
    write_atomic(run / "config.yaml", write_config(config).encode())
    if not source.per_class:
        return run, [_train_one(config, dataset, device, run, resume is not None)]
    minutes = config.max_minutes / len(dataset.class_names)  # a limit for all of them together
    config = override(config, {"max_minutes": minutes})
    grids = []
    for name in dataset.class_names:
        part = run / name
        resumed = resume is not None and bool(ckpt.saved_steps(part))
        make_folder(part)
        grids.append(_train_one(config, dataset.of_class(name), device, part, resumed, title=name))
    return run, grids


def _say_dataset(dataset: ImageDataset) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in dataset.class_counts().items())
    # Flushed: a batch system's log should not be silent until the end.
    print(f"data: {dataset.name}, {len(dataset.labels)} images ({counts})", flush=True)
    for file, reason in dataset.skipped:
        print(f"skipped {file}: {reason}")


def _write_dataset_record(run: Path, dataset: ImageDataset, resume: bool) -> None:
    """Note what the run was trained on; refuse to go on with something else.

    Raises:
        UserError: A resumed run's data differ from those it began with.
    """
    path = run / "dataset.json"
    if resume and path.exists():
        before = json.loads(path.read_text())
        if before["fingerprint"] != dataset.fingerprint:
            raise UserError(
                f"the images of {dataset.name} are not those that {run} began with "
                f"({sum(before['images'].values())} then, {len(dataset.labels)} now); "
                "restore them, or start a new run"
            )
        return
    record = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": dataset.class_counts(),
        "skipped": [list(item) for item in dataset.skipped],
    }
    write_atomic(path, json.dumps(record, indent=1).encode())


class _Run:
    """One GAN's training: its step, its folder and what is written there when."""

    def __init__(
        self, config: TrainConfig, dataset: ImageDataset, device: torch.device, folder: Path
    ) -> None:
        self.config, self.folder = config, folder
        self.class_names = dataset.class_names
        self.data = {"data": dataset.name, "data_fingerprint": dataset.fingerprint}
        self.step = TrainingStep(config, dataset, device)
        self.execute = make_executor(config.executor, self.step)
        self.seconds = 0.0
        make_folder(folder / "checkpoints")
        make_folder(folder / "grids")
        # The same latents for every class and every grid, so that a column can be followed.
        *_, grid_seed = stream_seeds(config.seed)
        fixed = torch.Generator().manual_seed(grid_seed)
        columns = torch.randn(GRID_COLUMNS, config.network.latent_size, generator=fixed)
        n_classes = len(self.class_names)
        self.grid_latents = columns.repeat(n_classes, 1).to(device)
        classes = torch.arange(n_classes, device=device)
        self.grid_labels = classes.repeat_interleave(GRID_COLUMNS)

    def restore(self, device: torch.device) -> None:
        """Go on from the newest whole checkpoint; refuse one of other settings."""
        path, state, damaged = ckpt.load_newest_checkpoint(self.folder, device)
        for other in damaged:
            print(f"passed over {other}: it is damaged")
        stored = override(TrainConfig(), read_config(state["config"], path))
        changed_on_resume(stored, self.config, path)
        training = state["training"]
        if training["device"] != device.type:
            print(
                f"{path} is from a {training['device']} and goes on with other random numbers on "
                f"a {device.type}"
            )
        self.step.load_state_dict(training)
        self.seconds = state["seconds"]

    def save(self) -> None:
        """Write checkpoint, generator and the animation; refuse to save what is broken."""
        self.check_finite()
        step, config = self.step, self.config
        generator = ckpt.generator_path(self.folder, step.step)
        save_generator(
            generator,
            step.ema.module,
            config.network,
            self.class_names,
            step=step.step,
            images_seen=step.images_seen,
            extra=self.data,
        )
        write_atomic(self.folder / "generator.safetensors", generator.read_bytes())
        # Last: who is killed before this does all of it again, whatever was written.
        state = {
            "training": step.state_dict(),
            "seconds": self.seconds,
            "config": write_config(config),
        }
        ckpt.save_checkpoint(self.folder, step.step, state)
        ckpt.prune_checkpoints(
            self.folder, config.output.keep_checkpoints, config.output.mark_every
        )
        self.animate()

    def check_finite(self) -> None:
        meters = self.step.meters
        bad = meters.describe(meters.flags(), self.step.step)
        if bad is None:
            return
        where, name = bad
        saved = ckpt.saved_steps(self.folder)
        good = "there is no checkpoint yet"
        if saved:
            good = f"the last good checkpoint is {ckpt.checkpoint_path(self.folder, saved[-1])}"
        raise NonFiniteError(
            f"step {where}: {name} is not finite; {good}; "
            "try lower learning rates, a larger --r1-gamma or --precision fp32"
        )

    def draw(self, log: RunLog) -> None:
        with torch.no_grad(), self.step.autocast():
            images = self.step.ema.module(self.grid_latents, self.grid_labels)
        path = grid_path(self.folder / "grids", self.step.step)
        write_grid(path, to_uint8(images, self.step.value_range), self.class_names)
        log.grid(path, self.step.step)

    def animate(self) -> None:
        grids = sorted((self.folder / "grids").glob("grid-*.png"))
        if grids:
            write_gif(self.folder / "progress.gif", grids)

    def measure(self, images: int, seconds: float) -> dict[str, Any]:
        """The next line of the log, for the last ``images`` in ``seconds``."""
        config, step = self.config, self.step
        return {
            "step": step.step,
            "images": step.images_seen,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-9), 2),
            "noise_std": noise_std(config, step.step),
            **step.meters.read(),
        }


def _train_one(
    config: TrainConfig,
    dataset: ImageDataset,
    device: torch.device,
    folder: Path,
    resume: bool,
    title: str = "train",
) -> Path:
    """Train one GAN in ``folder``, from its newest checkpoint if ``resume``; give its last grid."""
    run = _Run(config, dataset, device, folder)
    if resume:
        run.restore(device)
    step, output = run.step, config.output
    if step.step >= config.steps:
        print(f"{folder} has all of its {step.step} steps; --steps {2 * step.step} would go on")
        return grid_path(folder / "grids", step.step)
    log = RunLog(folder, step.step, config.steps, title)
    limit = 60 * config.max_minutes or float("inf")
    before, start = run.seconds, time.perf_counter()
    logged, logged_images = start, step.images_seen
    unsaved = False
    try:
        with stop_signals() as stop:
            if step.step == 0:
                run.draw(log)
            while step.step < config.steps and run.seconds - before < limit and not stop:
                run.execute()
                log.advance()
                unsaved = True
                now = time.perf_counter()
                run.seconds = before + now - start
                if step.step % output.log_every == 0:
                    run.check_finite()  # waits for the device, so that the time is right
                    now = time.perf_counter()
                    log.metrics(run.measure(step.images_seen - logged_images, now - logged))
                    logged, logged_images = now, step.images_seen
                if step.step % output.grid_every == 0:
                    run.draw(log)
                if step.step % output.checkpoint_every == 0:
                    run.save()
                    unsaved = False
            if unsaved:
                run.check_finite()
                run.draw(log)
                run.save()
    finally:
        log.close()
    if stop:
        if step.step:
            print(f"saved {ckpt.checkpoint_path(folder, step.step)}")
        raise KeyboardInterrupt
    return grid_path(folder / "grids", step.step)
