"""A sweep from what is asked for to its trials: the data, the study, the judge and the workers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.evaluation.judge import Judge
from cxrgan_fast.evaluation.request import make_output
from cxrgan_fast.metrics.extractor import FeatureExtractor
from cxrgan_fast.metrics.registry import load_extractors
from cxrgan_fast.setting import settings_of
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import TrainConfig, flatten
from cxrgan_fast.settings.images import load_images
from cxrgan_fast.studies.differences import require_scipy
from cxrgan_fast.studies.folder import alone, check_name, mark, require_sweep_folder
from cxrgan_fast.studies.library import load_optuna
from cxrgan_fast.studies.measurements import METRICS, WITH_FLOORS
from cxrgan_fast.studies.request import Request
from cxrgan_fast.studies.space import GIVEN, read_space
from cxrgan_fast.studies.storage import JOURNAL, open_storage, said_plainly
from cxrgan_fast.studies.study import CONFIRMS, IDENTITY, SETTINGS, Fixed, find_study, join_study
from cxrgan_fast.studies.trial import Resources
from cxrgan_fast.studies.worker import Worker
from cxrgan_fast.studies.workers import require_cores, require_memory, run_workers

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage


def run_sweep(request: Request, base: TrainConfig, words: Sequence[str]) -> Study:
    """Make a study or join it, and run its trials.

    Args:
        request: what is asked for.
        base: the settings that trials have in common.
        words: the command line for one worker, by which several are started.

    Returns:
        The study, whose trials have all come to their end.

    Raises:
        UserError: something that is asked for cannot be, or the study is one of other settings.
        KeyboardInterrupt: what was done is saved; the same command goes on.
    """
    load_optuna()
    require_scipy()  # before hours of training, not at the first correlation
    request.check()
    check(base)
    space = read_space(request.space, base)
    device = resolve_device(request.device)
    require_cores(request.workers, device)
    extractors = load_extractors(request.features, device)
    dataset = load_images(base, request.data)
    settings = fixed_settings(request, base, dataset, extractors, device)
    # Before anything is made: what cannot be measured leaves nothing.
    judge = Judge(dataset, extractors, device, request.samples, _say, METRICS)
    require_sweep_folder(request.folder)
    fixed = Fixed(settings, space.to_plain(), space.default())
    study = join_study(open_storage(request.where), request.where, request.name, fixed)
    try:
        make_output(request.folder)
        with alone(request.folder):  # who comes later finds the floors
            mark(request.folder, study.user_attrs[IDENTITY])
            judge.find_floors(request.folder / "floors.json", _say, WITH_FLOORS)
        if request.workers > 1:
            require_memory(study, request.workers, device)
            run_workers([*words, "--threads", str(request.threads_of_each)], request.workers)
        else:
            torch.set_num_threads(request.threads_of_each)  # as of the trainings
            resources = Resources(
                request.folder,
                request.data,
                str(device),
                request.threads_of_each,
                request.budget,
                judge,
            )
            Worker(study, request.where, space, resources, request.trials).work()
    except KeyboardInterrupt:
        _say(f"the same command goes on with {request.name}")
        raise
    return study


def fixed_settings(
    request: Request,
    base: TrainConfig,
    dataset: ImageDataset,
    extractors: Sequence[FeatureExtractor],
    device: torch.device,
) -> dict[str, Any]:
    """Collect what all trials of a study have in common, as plain values for JSON.

    Args:
        request: what is asked for.
        base: the settings that trials have in common.
        dataset: all images that they are trained on.
        extractors: by which they are measured.
        device: on which they are trained.
    """
    flat = flatten(base)
    return {
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": len(dataset),
        "resolution": base.network.resolution,
        "minutes_per_trial": request.minutes,
        "steps_per_trial": request.steps,
        "objective": request.objective,
        "sampler": request.sampler,
        "seed": request.seed,
        "device": device.type,
        "features": [f"{each.name} {each.version}" for each in extractors],
        "samples": request.samples,
        "train": {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in flat.items()
            if name not in GIVEN and not settings_of(base)[name].setting.resumable
        },
    }


def find_named(name: str, storage: str | None, out: Path) -> Study:
    """Load the study of a sweep.

    Args:
        name: name of the sweep.
        storage: address or file; None for the journal in the sweep's folder.
        out: folder in which the sweep's folder is.

    Raises:
        UserError: there is none.
    """
    where = place_of(name, storage, out)
    return find_study(open_storage(where, create=False), where, name)


def place_of(name: str, storage: str | None, out: Path) -> str:
    """Return the address or the file of the storage of a sweep, as `find_named` takes them.

    Raises:
        UserError: the name is none of a sweep.
    """
    check_name(name)
    return storage or str(out / name / JOURNAL)


def find_all(storage: str | None, out: Path) -> list[tuple[str, Study]]:
    """Load all studies of sweeps, with where each is kept.

    Args:
        storage: address or file; None for the journals in the folders of sweeps.
        out: folder in which these are.

    Raises:
        UserError: a storage cannot be read.
    """
    optuna = load_optuna()
    places = [storage] if storage else [str(path) for path in sorted(out.glob(f"*/{JOURNAL}"))]
    found = []
    for where in places:
        opened: BaseStorage = open_storage(where, create=False)
        with said_plainly(where):
            for name in optuna.get_all_study_names(opened):
                study = optuna.load_study(study_name=name, storage=opened)
                if SETTINGS in study.user_attrs and CONFIRMS not in study.user_attrs:
                    found.append((where, study))
    return found


def _say(words: str) -> None:
    tqdm.write(words, file=sys.stderr)
