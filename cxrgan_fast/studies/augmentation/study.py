"""A study from its plan to its report, worked on by as many commands as have its folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cxrgan_fast import locks
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import PlaceError, file_name_safe, write_atomic, write_error
from cxrgan_fast.settings.config import TrainConfig, flatten
from cxrgan_fast.studies.augmentation.classifier import train_classifier
from cxrgan_fast.studies.augmentation.groups import Work, collect_trainings, run_group
from cxrgan_fast.studies.augmentation.plan import PLAN, Group
from cxrgan_fast.studies.augmentation.report import write_report
from cxrgan_fast.studies.augmentation.synthetic import allowed_images
from cxrgan_fast.training.executors import make_executor
from cxrgan_fast.training.step import TrainingStep

FAILED = "failed.txt"
"""Why a group failed, in its folder; the next call of the command tries it again."""
MOST_FAILURES = 3
"""Groups in a row that fail, after which a worker stops."""

_WAIT_SECONDS = 2.0
_PROBE_STEPS = (2, 6)  # before and at the end of the steps whose time is taken


def check_name(name: str) -> None:
    """Refuse a name of a study that is no name of a folder.

    Raises:
        UserError: it is not.
    """
    if not name or file_name_safe(name) != name:
        raise UserError(
            f"NAME {name!r:.100}: expected letters, digits, '.', '_' and '-', at most 40"
        )


def make_study_folder(folder: Path) -> None:
    """Make the folder of a study, or find it there.

    Raises:
        UserError: it holds something else, or cannot be made.
    """
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / PLAN).exists():
            raise UserError(f"{folder} holds something else: give another NAME or --out")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from None


def run_study(work: Work) -> list[str]:
    """Train all that is missing of a study, beside whoever else works on it.

    Each group is locked while it is worked on; a lock ends with its process, however that ends, so
    that a group that a killed one has left is taken up at once. Several machines may share the
    folder where its file system knows locks.

    Args:
        work: the study.

    Returns:
        Why groups failed, a line each.

    Raises:
        UserError: several groups in a row have failed, or a file cannot be written.
        KeyboardInterrupt: what was done is kept; the same call goes on.
    """
    groups = list(work.plan.groups())
    total = work.plan.counts()["classifiers"]
    failed: dict[Group, str] = {}
    in_a_row = 0
    with tqdm(total=total, unit="classifier", disable=None, smoothing=0) as bar:
        told = replace(work, say=bar.set_description)
        while True:
            missing = {group: len(left) for group in groups if (left := work.missing(group))}
            bar.n = total - sum(missing.values())
            bar.refresh()
            open_groups = [group for group in missing if group not in failed]
            if not open_groups:
                return list(failed.values())
            worked = False
            for group in open_groups:
                place = work.place(group)
                place.mkdir(parents=True, exist_ok=True)
                with locks.locked(place) as alone:
                    if not alone or not work.missing(group):
                        continue
                    worked = True
                    reason = _try(told, group)
                bar.n += missing[group] - len(work.missing(group))
                bar.refresh()
                in_a_row = 0 if reason is None else in_a_row + 1
                if reason is not None:
                    failed[group] = f"{group.name}: {reason}"
                    tqdm.write(f"failed: {failed[group]}", file=sys.stderr)
                if in_a_row >= MOST_FAILURES:
                    raise UserError(
                        f"{MOST_FAILURES} groups in a row have failed, the last one: "
                        f"{failed[group]}; the same command tries them again"
                    )
            if not worked:
                bar.set_description("waiting for other workers")
                time.sleep(_WAIT_SECONDS)


def _try(work: Work, group: Group) -> str | None:
    """Work on a group; why it failed, which is kept in its folder."""
    note = work.place(group) / FAILED
    try:
        run_group(work, group)
    except PlaceError:  # a full disk, say: no other group would fare better
        raise
    except UserError as error:
        write_atomic(note, f"{printable(str(error))}\n".encode())
        return str(error)
    note.unlink(missing_ok=True)
    return None


def report_study(work: Work) -> str:
    """Write the report of what is done, and return it as text.

    Raises:
        UserError: nothing is done yet, or as `write_report`.
    """
    trainings = collect_trainings(work.folder)
    total = work.plan.counts()["classifiers"]
    if not trainings:
        raise UserError(f"{work.folder}: no classifier is trained yet; run the study first")
    negative = work.plan.class_names[work.plan.negative]
    plain = work.plan.to_plain()
    about: dict[str, Any] = {
        "whole": len(trainings) == total,
        "planned_classifiers": total,
        "plan": {name: value for name, value in plain.items() if name != "folds"},
    }
    text, files = write_report(work.folder, trainings, negative=negative, about=about)
    if len(trainings) < total:
        text = (
            f"NOT WHOLE: {len(trainings)} of {total} classifiers of the plan are there.\n\n{text}"
        )
    return "\n".join([text, "", *(f"written: {path}" for path in files)])


def generator_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of a study's GANs that are not the default, as plain values for JSON."""
    default = flatten(TrainConfig())
    # A preset is known by the settings that it has made.
    given = ("data", "out", "name", "seed", "classes", "device", "threads", "preset")
    return {
        name: value if isinstance(value, bool | int | float) else str(value)
        for name, value in flatten(config).items()
        if name not in given and (name not in default or default[name] != value)
    }


def measure_times(work: Work) -> Mapping[str, float]:
    """Measure a few steps of a GAN and of a classifier, and say how long a whole one takes.

    Returns:
        Seconds of a ``gan`` and of a ``classifier``, on this device and with what runs beside them.
    """
    plan, dataset = work.plan, work.dataset
    fold = plan.folds[0]
    allowed = allowed_images(dataset, fold.train)
    first, last = _PROBE_STEPS
    gan = 0.0
    if plan.needs_generator():
        execute = make_executor(
            work.generator.executor, TrainingStep(work.generator, allowed, work.device)
        )
        for _ in range(first):
            execute()
        _wait_for(work.device)
        start = time.perf_counter()
        for _ in range(last - first):
            execute()
        _wait_for(work.device)
        gan = (time.perf_counter() - start) / (last - first) * work.generator.steps
        gan = min(gan, 60 * work.generator.max_minutes or gan)
    few, more = (_classifier_seconds(work, allowed, steps) for steps in _PROBE_STEPS)
    return {"gan": gan, "classifier": max(0.0, more - few) / (last - first) * plan.recipe.steps}


def _classifier_seconds(work: Work, allowed: ImageDataset, steps: int) -> float:
    start = time.perf_counter()
    train_classifier(
        replace(work.plan.recipe, steps=steps, curve_points=1), allowed, allowed.labels, allowed,
        {}, augmented=True, negative=work.plan.negative, seed=0, device=work.device,
        precision=work.precision, progress=False,
    )  # fmt: skip
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
