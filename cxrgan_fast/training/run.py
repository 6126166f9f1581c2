"""One GAN's training: its step, its folder, and what is written there."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cxrgan_fast.data import ImageDataset, to_uint8
from cxrgan_fast.devices import peak_memory
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.evaluation.periodic import PeriodicEvaluation, describe, metric_labels
from cxrgan_fast.files import make_folder, write_atomic
from cxrgan_fast.gan.draws import stream_seeds
from cxrgan_fast.gan.schedules import noise_std, scheduled
from cxrgan_fast.runs import checkpoint as ckpt
from cxrgan_fast.runs.best import Row, is_better, keep_best, restore_best
from cxrgan_fast.runs.generator_file import save_generator
from cxrgan_fast.runs.logs import RunLog, read_evaluations
from cxrgan_fast.runs.power_averages import average_path, averages_folder, drop_averages_after
from cxrgan_fast.sampling.grid import animate, grid_path, rows_shown, write_grid
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig, flatten
from cxrgan_fast.settings.config_file import write_config
from cxrgan_fast.training.executors import make_executor
from cxrgan_fast.training.host_copy import copy_to_host
from cxrgan_fast.training.initial import InitialWeights, Transfer, take_over
from cxrgan_fast.training.restoring import check_training, upgraded
from cxrgan_fast.training.step import TrainingStep
from cxrgan_fast.training.writer import BackgroundWriter

GRID_COLUMNS = 10


class NonFiniteError(UserError):
    """The training diverged."""


class Run:
    """A training with its folder.

    What :meth:`save_grid` and :meth:`save` write is copied when they are called and written later,
    by the writer's thread; nothing there reads what the steps change.

    Args:
        config: Settings, resolved.
        dataset: What to train on.
        device: Where.
        folder: The run's folder; it exists.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(
        self, config: TrainConfig, dataset: ImageDataset, device: torch.device, folder: Path
    ) -> None:
        self.config, self.folder = config, folder
        self.class_names = dataset.class_names
        self.data = {
            "data": dataset.name,
            "data_fingerprint": dataset.fingerprint,
            # Families of networks that the training has learned from, with commas: none yet. An
            # objective with a discriminator on pretrained features has to name them here.
            "networks_seen": "",
        }
        if config.init_from is not None:  # evaluate says what follows from it
            self.data["init_from"] = config.init_from.name
        self.training_step = TrainingStep(config, dataset, device)
        self._execute = make_executor(config.executor, self.training_step)
        self.is_between_steps = True
        self.seconds = 0.0
        self.planned_seconds = float("inf")  # in all; whoever limits the time sets it
        self.threads: int | None = None  # those of the checkpoint that it goes on from
        self.evaluated = 0  # the newest step that has been
        self.best: Row | None = None
        make_folder(folder / "checkpoints")
        make_folder(folder / "grids")
        if config.optimization.power_ema_every:
            make_folder(averages_folder(folder))
        self._averages_at = 0  # the newest step whose power-function averages are written
        # The same latents for every class and every grid, so that a column can be followed.
        *_, grid_seed = stream_seeds(config.seed)
        fixed = torch.Generator().manual_seed(grid_seed)
        columns = torch.randn(GRID_COLUMNS, config.network.latent_size, generator=fixed)
        shown = rows_shown(len(self.class_names))
        self.grid_rows = [self.class_names[label] for label in shown]
        self.grid_latents = columns.repeat(len(shown), 1).to(device)
        self.grid_labels = torch.tensor(shown, device=device).repeat_interleave(GRID_COLUMNS)

    def restore(self, found: ckpt.Checkpoint, device: torch.device) -> None:
        """Go on from a checkpoint that :func:`find_state` has found.

        Raises:
            UserError: It holds something else than the state of this training.
        """
        path, state = found.path, found.state
        today = self.training_step.state_dict()
        training = upgraded(state["training"], today)
        check_training(path, today, training)
        if training["device"] != device.type:
            print(
                f"{path} is from a {printable(training['device'])} and goes on with other random "
                f"numbers on a {device.type}"
            )
        try:
            self.training_step.load_state_dict(training)
        except RuntimeError as error:  # what a generator of random numbers says of its state
            raise UserError(f"{path}: training.random: {error}; start a new run") from None
        self.seconds = state["seconds"]
        drop_averages_after(self.folder, self.training_step.steps_done)
        self._averages_at = self.training_step.steps_done
        if training["device"] == device.type == "cpu":  # else there are no bits to keep
            self.threads = state.get("threads")  # an older checkpoint does not say
        rows = read_evaluations(self.folder, self.training_step.steps_done)
        if rows:
            self.evaluated = rows[-1]["step"]
            self.best = restore_best(self.folder, rows)

    def take_over(self, initial: InitialWeights) -> dict[str, Transfer]:
        """Take over the weights of another run, before the first step."""
        step = self.training_step
        return take_over({**step.networks, "ema": step.ema.module}, self.class_names, initial)

    @property
    def executor(self) -> str:
        """Return how steps run: "eager", "compile" or "graph"."""
        return self._execute.name

    def train(self) -> None:
        """Run one step. While it fails, :attr:`is_between_steps` stays False."""
        self.is_between_steps = False
        self._tell_time()
        self._execute()
        self.is_between_steps = True

    def share(self) -> float:
        """Return the share of the planned run that is done, from 0 to 1."""
        self._tell_time()
        return self.training_step.progress().share

    def _tell_time(self) -> None:
        self.training_step.time_share = self.seconds / self.planned_seconds

    def measure(self, images: int, seconds: float) -> dict[str, Any]:
        """Return the next line of the log, for the last ``images`` in ``seconds``."""
        config, step = self.config, self.training_step
        self._tell_time()
        progress, memory = step.progress(), peak_memory(step.device)
        return {
            "step": step.steps_done,
            "images": step.images_seen,
            "share": progress.share,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(images / max(seconds, 1e-9), 2),
            "noise_std": noise_std(config.objective, progress),
            **{
                name: scheduled(value, progress.share)
                for name, value in flatten(config).items()
                if isinstance(value, Schedule)
            },
            "threads": torch.get_num_threads(),
            **({} if memory is None else {"peak_memory": memory}),
            **step.meters.read(),
        }

    def check_finite(self, writer: BackgroundWriter) -> None:
        """Refuse to go on with what is broken. Waits for the device.

        Raises:
            NonFiniteError: A loss or a weight is not finite.
        """
        meters, step = self.training_step.meters, self.training_step.steps_done
        flags = meters.flags().cpu()
        if meters.describe(flags, step):
            writer.drain()  # so that the last good checkpoint is among the files
        self._refuse_non_finite(flags, step)

    def save_grid(self, writer: BackgroundWriter, log: RunLog) -> None:
        """Have a grid of samples written."""
        step = self.training_step.steps_done
        path = grid_path(self.folder / "grids", step)
        with torch.no_grad(), self.training_step.autocast():
            images = self.training_step.ema.module(self.grid_latents, self.grid_labels)

        def write(content: dict[str, Any]) -> None:
            write_grid(path, content["images"], self.grid_rows)
            log.grid(path, step)

        self._hand_over(writer, {"images": to_uint8(images, self.training_step.value_range)}, write)

    def save_averages(self, writer: BackgroundWriter) -> None:
        """Have the power-function averages of this step written, if there are any and once."""
        step, images_seen = self.training_step.steps_done, self.training_step.images_seen
        if self.training_step.power_ema is None or step == self._averages_at:
            return
        self._averages_at = step

        def write(averages: dict[str, Any]) -> None:
            for width, weights in averages.items():
                save_generator(
                    average_path(self.folder, width, step),
                    weights,
                    self.config.network,
                    self.class_names,
                    step=step,
                    images_seen=images_seen,
                    extra={**self.data, "sigma_rel": width},
                )

        self._hand_over(writer, self.training_step.power_ema.state_dict(), write)

    def save(self, writer: BackgroundWriter) -> None:
        """Have the checkpoint, the generator and the animation written."""
        step, images_seen = self.training_step.steps_done, self.training_step.images_seen
        state = {
            "training": self.training_step.state_dict(),
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
            "config": write_config(self.config),
        }
        # As it is now: one that comes later is not written yet when this is.
        best = self.best

        def write(state: dict[str, Any]) -> None:
            generator = ckpt.generator_path(self.folder, step)
            save_generator(
                generator,
                state["training"]["ema"],
                self.config.network,
                self.class_names,
                step=step,
                images_seen=images_seen,
                extra=self.data,
            )
            write_atomic(self.folder / "generator.safetensors", generator.read_bytes())
            # Last: who is killed before this does all of it again, whatever was written.
            ckpt.save_checkpoint(self.folder, step, state)
            self._prune(best)
            animate(self.folder)

        self._hand_over(writer, state, write)

    def evaluate(
        self,
        evaluation: PeriodicEvaluation,
        writer: BackgroundWriter,
        log: RunLog,
        stop: Sequence[int],
    ) -> float:
        """Evaluate the step, which has been handed to :meth:`save`; given up if ``stop`` fills.

        Returns:
            The seconds that it took, the device's work of the steps before not counted.

        Raises:
            NonFiniteError: A loss or a weight is not finite.
            UserError: As :class:`PeriodicEvaluation`.
        """
        self.check_finite(writer)
        start = time.perf_counter()
        row = evaluation(self.training_step.averaged_generator(), stop)
        if row is not None:
            row["best"] = is_better(row, self.best)
            if row["best"]:
                self.best = row
            self.evaluated = row["step"]
            log.say(describe(row))

            def write() -> None:
                log.evaluation(row, metric_labels(row))
                if row["best"]:
                    keep_best(self.folder, row)
                    self._prune(row)  # what was the best before

            writer.submit(write)
        return time.perf_counter() - start

    def _prune(self, best: Row | None) -> None:
        output, spared = self.config.output, best["step"] if best else None
        ckpt.prune_checkpoints(self.folder, output.keep_checkpoints, output.mark_every, spared)

    def _hand_over(
        self,
        writer: BackgroundWriter,
        content: dict[str, Any],
        write: Callable[[dict[str, Any]], None],
    ) -> None:
        """Have ``write`` called with ``content`` as it is now, if no weight is broken."""
        # The flags go with it: whether they are raised is not known before the device is there.
        step = self.training_step.steps_done
        copy = copy_to_host((self.training_step.meters.flags(), content))

        def task() -> None:
            flags, content = copy.wait()
            self._refuse_non_finite(flags, step)
            write(content)

        writer.submit(task)

    def _refuse_non_finite(self, flags: torch.Tensor, step: int) -> None:
        bad = self.training_step.meters.describe(flags, step)
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
