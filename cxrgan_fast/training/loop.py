"""The training loop: from a configuration to a run folder, and on from an interrupted one."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.data.sources import folder_names
from cxrgan_fast.data.splits import held_out_patients, hold_out
from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.evaluation.periodic import PeriodicEvaluation, check_counts, is_due
from cxrgan_fast.files import make_folder, write_atomic
from cxrgan_fast.gan.adversarial import build_networks
from cxrgan_fast.gan.penalties import GAMMA_PER_PIXEL, automatic_gammas, resolve_gammas
from cxrgan_fast.metrics import FeatureExtractor, load_extractor
from cxrgan_fast.metrics.registry import backbone_names
from cxrgan_fast.runs import checkpoint as ckpt
from cxrgan_fast.runs.calls import record_call
from cxrgan_fast.runs.data_record import find_dataset, record_path, write_record
from cxrgan_fast.runs.folder import check_folder_name, create_run_folder
from cxrgan_fast.runs.lock import locked
from cxrgan_fast.runs.logs import RunLog
from cxrgan_fast.sampling.grid import grid_path
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import (
    EvaluationConfig,
    TrainConfig,
    flatten,
    override,
    with_absolute_paths,
)
from cxrgan_fast.settings.config_file import write_config
from cxrgan_fast.settings.images import load_images
from cxrgan_fast.threads import default_threads, threads_kept
from cxrgan_fast.training.algorithms import algorithms
from cxrgan_fast.training.initial import (
    InitialWeights,
    read_initial,
    take_over,
    transfer_lines,
    transfer_record,
)
from cxrgan_fast.training.restoring import find_state
from cxrgan_fast.training.run import NonFiniteError, Run
from cxrgan_fast.training.signals import stop_signals
from cxrgan_fast.training.start import describe_start, start_lines
from cxrgan_fast.training.thread_count import StepThreads, choose_threads
from cxrgan_fast.training.writer import BackgroundWriter


def train(
    config: TrainConfig, device: torch.device | None = None, resume: Path | None = None
) -> tuple[Path, list[Path]]:
    """Train, and return the run folder and its newest sample grids (with per_class one a class).

    Args:
        config: Settings; an "auto" is what the command makes of it.
        device: Where to train; ``config.device`` if not given.
        resume: A run folder to continue; ``config`` then holds its settings.

    Raises:
        UserError: Settings, data or the run folder cannot work, or the memory does not suffice.
        NonFiniteError: A loss or a weight is infinite or not a number.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; everything is saved.
    """
    check(config, resumed=resume is not None)
    if device is None:
        device = resolve_device(config.device)
    config = override(config, {"precision": resolve_precision(config.precision, device)})
    # What it comes to is kept in config.yaml, so that a resumed run goes on as it began.
    config = override(config, {"augment_probability": config.dataset.first_probability})
    automatic, config = automatic_gammas(config), resolve_gammas(config)
    for name in automatic:
        gamma, side, batch = flatten(config)[name], config.network.resolution, config.batch_size
        rule = f"{GAMMA_PER_PIXEL:g} · {side}² / {batch}"
        print(f"{name.replace('_', ' ')}: {gamma:g} ({rule})", flush=True)
    try:
        with algorithms(config.deterministic), threads_kept():
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


def _extractor(asked: EvaluationConfig, device: torch.device) -> FeatureExtractor:
    """Load the extractor of the evaluations.

    Weights that a resumed run has kept of other features are no mistake, and do nothing.
    """
    features = asked.features
    return load_extractor(
        features,
        device,
        inception_weights=asked.inception_weights if features == "inception" else None,
        features_weights=asked.features_weights if features in backbone_names() else None,
    )


def _train(
    config: TrainConfig, device: torch.device, resume: Path | None
) -> tuple[Path, list[Path]]:
    source = config.dataset
    check_folder_name(config.output.out if resume is None else resume)
    most_threads = default_threads()  # before a training sets its own
    extractor = None
    if config.evaluation.eval_every:
        extractor = _extractor(config.evaluation, device)

    held_out: set[str] = set()

    def load(data: str) -> ImageDataset:
        dataset = load_images(config, data)
        if not source.hold_out_patients:
            return dataset
        held_out.clear()  # of data that were looked at and are others
        held_out.update(
            held_out_patients(
                dataset.patients,
                dataset.labels.tolist(),
                source.hold_out_patients,
                source.hold_out_seed,
            )
        )
        return hold_out(dataset, held_out)[0]

    if resume is None:
        dataset = load(source.data)
    else:
        place, dataset = find_dataset(resume, source.data, load)
        config = override(config, {"data": place})
    config.network.validate(1 if source.per_class else len(dataset.class_names))
    if extractor:
        check_counts(config, dataset)
    initial = _initial(config, dataset, resume)
    _say_dataset(dataset)
    if held_out:
        print(f"held out: {len(held_out)} patients, who are not among these", flush=True)
    if resume is None:
        family, resolution = config.network.family, config.network.resolution
        out, name = config.output.out, config.output.name
        run = create_run_folder(out, dataset.name, resolution, family, name)
    else:
        run = resume
    settings = write_config(with_absolute_paths(config)).encode()

    def begin() -> None:
        # Also when resuming, so that the file says what was done last (the number of steps, say);
        # but not before the checkpoint has been looked at, so that what cannot go on is unchanged.
        if not record_path(run).exists():
            write_record(run, dataset, held_out)
        write_atomic(run / "config.yaml", settings)

    train_one = functools.partial(
        _train_one,
        extractor=extractor,
        device=device,
        most_threads=most_threads,
        begin=begin,
        initial=initial,
    )
    with locked(run):
        if not source.per_class:
            return run, [train_one(config, dataset, run, resume=resume is not None)]
        # A limit for all of them together.
        minutes = config.max_minutes / len(dataset.class_names)
        config = override(config, {"max_minutes": minutes})
        grids = []
        folders = folder_names(dataset.class_names)
        for name in dataset.class_names:
            part = run / folders[name]
            resumed = resume is not None and bool(ckpt.saved_steps(part))
            make_folder(part)
            grids.append(
                train_one(config, dataset.of_class(name), part, resume=resumed, title=name)
            )
        return run, grids


def _initial(
    config: TrainConfig, dataset: ImageDataset, resume: Path | None
) -> InitialWeights | None:
    """The weights that a training of these begins with, if one begins and they are not random."""
    names, begun = dataset.class_names, resume is not None
    if resume is not None and config.dataset.per_class:
        begun = all(ckpt.saved_steps(resume / folder) for folder in folder_names(names).values())
    if begun or config.init_from is None:
        return None
    initial = read_initial(config.init_from, config.network.family)
    if config.dataset.per_class:
        names = names[:1]
    with torch.device("meta"):  # before there is a folder, and without its memory
        take_over(build_networks(config, len(names)), names, initial)
    return initial


def _say_dataset(dataset: ImageDataset) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in dataset.class_counts().items())
    # Flushed: a batch system's log should not be silent until the end.
    print(f"data: {dataset.name}, {len(dataset.labels)} images ({counts})", flush=True)
    if dataset.prepared:
        print(f"prepared: {dataset.prepared}", flush=True)
    for note in dataset.notes:
        print(printable(note), flush=True)
    for file, reason in dataset.skipped:
        print(f"skipped {printable(file)}: {printable(reason)}")


@contextmanager
def _saved_in_any_case(run: Run, writer: BackgroundWriter) -> Iterator[None]:
    """Within, an error between two steps is raised when the state is saved.

    An error within a step leaves a state that is none, and losses that are not finite one that is
    worth nothing. What keeps the state from being saved is not worth an error of its own.
    """
    try:
        yield
    except NonFiniteError:
        raise
    except Exception:
        if run.is_between_steps and run.training_step.steps_done > max(
            [0, *ckpt.saved_steps(run.folder)]
        ):
            with suppress(Exception):
                writer.drain()
            # A writer that has failed takes no more: at a grid, say, where a checkpoint would fit.
            with suppress(Exception), BackgroundWriter() as another:
                run.save(another)
        raise


def _train_one(
    config: TrainConfig,
    dataset: ImageDataset,
    folder: Path,
    *,
    extractor: FeatureExtractor | None,
    device: torch.device,
    resume: bool,
    most_threads: int,
    begin: Callable[[], None],
    initial: InitialWeights | None,
    title: str = "train",
) -> Path:
    """Train one GAN in ``folder``, from its newest checkpoint if ``resume``; give its last grid.

    ``begin`` is called when it is certain that it can. Without a checkpoint it begins with the
    weights of ``initial``, if there are any.
    """
    n_classes = len(dataset.class_names)
    found = find_state(folder, config, n_classes, device) if resume else None
    run = Run(config, dataset, device, folder)
    if found is not None:
        run.restore(found, device)
    taken = run.take_over(initial) if found is None and initial is not None else None
    begin()
    step, output = run.training_step, config.output
    if step.steps_done >= config.steps and (extractor is None or run.evaluated == step.steps_done):
        done = step.steps_done
        print(f"{folder} has all of its {done} steps; --steps {2 * done} would go on")
        return grid_path(folder / "grids", step.steps_done)
    chosen = choose_threads(config, device, most_threads, run.threads)
    torch.set_num_threads(chosen.threads)
    facts = describe_start(run, chosen)
    print("\n".join(start_lines(facts, folder, chosen)), flush=True)
    if initial is not None and taken is not None:
        facts["init_from"] = transfer_record(initial, taken)
        print("\n".join(transfer_lines(initial, taken, run.class_names)), flush=True)
    record_call(folder, facts)
    threads = None
    if device.type == "cpu":
        threads = StepThreads(chosen.adapts, step.images_per_step, most_threads)
    evaluation = PeriodicEvaluation(config, dataset, extractor, device) if extractor else None
    limit = 60 * config.max_minutes or float("inf")
    grid_saved = saved = step.steps_done
    log = RunLog(folder, step.steps_done, config.steps, title)
    log.settings(facts["settings"])
    # Left from the last to the first: Ctrl-C is held back until all is written.
    with (
        closing(log),
        stop_signals() as stop,
        BackgroundWriter() as writer,
        _saved_in_any_case(run, writer),
    ):
        before, start = run.seconds, time.perf_counter()
        if config.plan_by == "time":
            run.planned_seconds = before + limit
        logged, logged_images = start, step.images_seen

        def evaluate() -> float:
            if evaluation is None or step.steps_done == run.evaluated or stop:
                return 0.0
            return run.evaluate(evaluation, writer, log, stop)

        if step.steps_done == 0:
            run.save_grid(writer, log)
        elif is_due(config, step.steps_done):  # cut short by what ended the run
            logged += evaluate()
        while (
            step.steps_done < config.steps
            and run.seconds - before < limit
            and run.share() < config.until
            and not stop
        ):
            if threads is None:
                run.train()
            elif said := threads.run(run.train):
                log.say(said)
            writer.check()
            log.advance()
            now = time.perf_counter()
            run.seconds = before + now - start
            if step.steps_done % output.log_every == 0:
                run.check_finite(writer)  # waits for the device, so that the time is right
                now = time.perf_counter()
                log.metrics(run.measure(step.images_seen - logged_images, now - logged))
                logged, logged_images = now, step.images_seen
            if step.steps_done % output.grid_every == 0:
                run.save_grid(writer, log)
                grid_saved = step.steps_done
            # Before the checkpoint: who goes on from it has all that come before.
            every = config.optimization.power_ema_every
            if every and (step.steps_done % every == 0 or step.steps_done == config.steps):
                run.save_averages(writer)
            due = is_due(config, step.steps_done)
            if due or step.steps_done % output.checkpoint_every == 0:
                run.save(writer)
                saved = step.steps_done
            if due:
                seconds = evaluate()
                run.seconds += seconds
                logged += seconds
        if step.steps_done:
            run.save_averages(writer)
        # The grid before the save, which takes it into the animation.
        if step.steps_done > min(grid_saved, saved):
            run.save_grid(writer, log)
            run.save(writer)
        if step.images_seen > logged_images:  # after the save, which has the sums that it reads
            run.check_finite(writer)
            now = time.perf_counter()
            log.last_metrics(run.measure(step.images_seen - logged_images, now - logged))
        evaluate()
    if 0 < step.steps_done < config.steps:
        why = "by a signal" if stop else f"after {config.max_minutes:g} minutes (--max-minutes)"
        whole = str(folder.parent if config.dataset.per_class else folder)
        if not stop and run.seconds - before < limit:
            why, whole = f"at {config.until:.4g} of the planned run (--until)", f"{whole} --until 1"
        print(
            f"stopped {why} at step {step.steps_done} of {config.steps}; --resume {whole} goes on"
        )
    if stop:
        if step.steps_done:
            print(f"saved {ckpt.checkpoint_path(folder, step.steps_done)}")
        raise KeyboardInterrupt
    if run.best:
        print(f"best: {ckpt.best_generator_path(folder)} (step {run.best['step']})")
    return grid_path(folder / "grids", step.steps_done)
