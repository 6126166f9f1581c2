"""The runs of a confirmation: a study beside the sweep's, with its workers, folders and going on.

Run k has the seed of the sweep and 1 + k // 2 more, and is the winner's where k is even, else the
default's. So nobody has to plan runs or hand them out: whoever joins takes the next number.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.judge import Judge
from cxrgan_fast.evaluation.request import make_output
from cxrgan_fast.metrics.registry import load_extractors
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.settings.config_file import read_config
from cxrgan_fast.settings.images import load_images
from cxrgan_fast.studies.confirmation import ARMS, DEFAULT, WINNER, Rerun, judge_confirmation
from cxrgan_fast.studies.folder import alone
from cxrgan_fast.studies.library import load_optuna
from cxrgan_fast.studies.measurements import METRICS, WITH_FLOORS
from cxrgan_fast.studies.outcomes import Outcome, best_of, default_of, outcomes_of
from cxrgan_fast.studies.pruning import SHARES, prunes
from cxrgan_fast.studies.show import CONFIG
from cxrgan_fast.studies.space import Space
from cxrgan_fast.studies.storage import open_storage, said_plainly
from cxrgan_fast.studies.study import CONFIRMS, SETTINGS
from cxrgan_fast.studies.sweep import find_named, place_of
from cxrgan_fast.studies.trial import Budget, Resources
from cxrgan_fast.studies.worker import Worker
from cxrgan_fast.studies.workers import require_cores, require_memory, run_workers

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

MOST_SEEDS = 1000

_SEEDS = "seeds"  # attribute of the study: how many


@dataclass(frozen=True)
class Asked:
    """A confirmation that is asked for.

    Attributes:
        name: name of the sweep.
        seeds: how many new seeds.
        storage: address or file of the study; None for the journal in the sweep's folder.
        out: folder in which the sweep's folder is.
        data: where the images are; None for where the default's trial found them.
        threads: threads of each training.
        workers: runs at a time.
        device: device of trainings and measurements.
    """

    name: str
    seeds: int
    storage: str | None
    out: Path
    data: str | None
    threads: int
    workers: int
    device: str


class ConfirmationWorker(Worker):
    """A worker that runs both arms again, to the end.

    Args:
        study: study of the confirmation.
        where: address or file of its storage, for messages.
        resources: with what runs are trained and measured.
        runs: how many there are to be.
        configs: settings of each arm.
    """

    def __init__(
        self,
        study: Study,
        where: str,
        resources: Resources,
        runs: int,
        configs: dict[str, TrainConfig],
    ) -> None:
        super().__init__(study, where, Space((), configs[DEFAULT]), resources, runs)
        self._configs = configs

    def _config(self, trial: FrozenTrial) -> TrainConfig:
        arm, seed = run_of(trial.number, self._settings["seed"])
        return override(self._configs[arm], {"seed": seed})

    def _shares(self) -> list[float]:
        # The seconds to a FID, the second of two objectives, are found at the rungs.
        return [1.0] if prunes(self._study) else list(SHARES)


def run_of(number: int, seed: int) -> tuple[str, int]:
    """Return the arm and the seed of a run.

    Args:
        number: number of the run.
        seed: random seed of the sweep's trials, which no run has.
    """
    return ARMS[number % len(ARMS)], (seed + 1 + number // len(ARMS)) % 2**63


def confirm(asked: Asked, words: Sequence[str]) -> dict[str, Any]:
    """Run the winner of a sweep and its default again on new seeds, and compare them.

    Args:
        asked: what is asked for.
        words: the command line for one worker, by which several are started.

    Returns:
        As `confirmation.judge_confirmation`.

    Raises:
        UserError: there is no such sweep, no winner beside the default, or other data.
        KeyboardInterrupt: what was done is saved; the same command goes on.
    """
    sweep = find_named(asked.name, asked.storage, asked.out)
    settings, where = sweep.user_attrs[SETTINGS], place_of(asked.name, asked.storage, asked.out)
    winner, default = _arms(sweep)
    configs = {WINNER: _settings_of(winner), DEFAULT: _settings_of(default)}
    data = asked.data or configs[DEFAULT].dataset.data
    device = resolve_device(asked.device)
    require_cores(asked.workers, device)
    features = [each.rpartition(" ")[0] for each in settings["features"]]
    extractors = load_extractors(features, device)
    dataset = load_images(configs[DEFAULT], data)
    _require_same(asked.name, settings, {
        "fingerprint": dataset.fingerprint,
        "features": [f"{each.name} {each.version}" for each in extractors],
        "device": device.type,
    })  # fmt: skip
    judge = Judge(dataset, extractors, device, settings["samples"], _say, METRICS)
    study = _join(open_storage(where), where, sweep, winner.number, asked.seeds)
    folder = asked.out / asked.name
    try:
        make_output(folder)
        with alone(folder):
            judge.find_floors(folder / "floors.json", _say, WITH_FLOORS)
        if asked.workers > 1:
            require_memory(sweep, asked.workers, device)
            run_workers([*words, "--threads", str(asked.threads)], asked.workers)
        else:
            torch.set_num_threads(asked.threads)
            place = folder / f"confirm-{winner.number}"
            make_output(place)
            budget = Budget(settings["minutes_per_trial"], settings["steps_per_trial"])
            resources = Resources(place, data, str(device), asked.threads, budget, judge)
            runs = len(ARMS) * asked.seeds
            ConfirmationWorker(study, where, resources, runs, configs).work()
    except KeyboardInterrupt:
        _say(f"the same command goes on with the confirmation of {asked.name}")
        raise
    return _judged(study, winner.number)


def find_confirmation(storage: BaseStorage, where: str, sweep: Study) -> dict[str, Any] | None:
    """Read the confirmation of a sweep's winner, or else that of an earlier winner.

    Args:
        storage: storage of the sweep.
        where: its address or file, for messages.
        sweep: study of the sweep.

    Returns:
        As `confirmation.judge_confirmation`; None where nothing has been confirmed.
    """
    optuna, best = load_optuna(), best_of(outcomes_of(sweep))
    with said_plainly(where):
        pattern = re.compile(re.escape(sweep.study_name) + r":confirm-(\d+)")
        found = [int(match[1]) for name in optuna.get_all_study_names(storage)
                 if (match := pattern.fullmatch(name))]  # fmt: skip
        if not found:
            return None
        number = best.number if best is not None and best.number in found else max(found)
        study = optuna.load_study(study_name=_name(sweep, number), storage=storage)
        return _judged(study, number)


def _arms(sweep: Study) -> tuple[Outcome, Outcome]:
    outcomes = outcomes_of(sweep)
    winner, default = best_of(outcomes), default_of(outcomes)
    if winner is None:
        raise UserError(
            f"--confirm {sweep.study_name}: no trial has run to the end yet, so that there is no "
            "winner; --show tells more"
        )
    if default is None or CONFIG not in default.kept:
        raise UserError(
            f"--confirm {sweep.study_name}: the trial of the default has not run yet, with which "
            "the winner is compared; go on with the sweep first"
        )
    if winner is default:
        raise UserError(
            f"--confirm {sweep.study_name}: the default is the best of the finished trials; there "
            "is nothing to confirm"
        )
    return winner, default


def _settings_of(trial: Outcome) -> TrainConfig:
    settings = read_config(trial.kept[CONFIG], Path(f"the settings of trial {trial.number}"))
    return override(TrainConfig(), settings)


def _require_same(name: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    for key, value in here.items():
        if there[key] != value:
            raise UserError(
                f"--confirm {name}: its trials have {key} {there[key]!s:.100}, not {value!s:.100}: "
                "give the same --data and --device as the sweep was given"
            )


def _name(sweep: Study, number: int) -> str:
    return f"{sweep.study_name}:confirm-{number}"  # no sweep has a name with a colon


def _join(storage: BaseStorage, where: str, sweep: Study, number: int, seeds: int) -> Study:
    """Make the study of a confirmation, or join it; every worker writes the same to it."""
    with said_plainly(where):
        study: Study = load_optuna().create_study(
            storage=storage, study_name=_name(sweep, number), directions=sweep.directions,
            load_if_exists=True,
        )  # fmt: skip
        study.set_user_attr(SETTINGS, sweep.user_attrs[SETTINGS])
        study.set_user_attr(CONFIRMS, {"study": sweep.study_name, "trial": number})
        study.set_user_attr(_SEEDS, max(seeds, study.user_attrs.get(_SEEDS, 0)))
        return study


def _judged(study: Study, number: int) -> dict[str, Any]:
    first = study.user_attrs[SETTINGS]["seed"]
    seeds = [run_of(len(ARMS) * place, first)[1] for place in range(study.user_attrs[_SEEDS])]
    reruns = [
        Rerun(*run_of(each.number, first), each.value, each.reason, _without_settings(each))
        for each in outcomes_of(study)
    ]
    return judge_confirmation(number, seeds, reruns)


def _without_settings(each: Outcome) -> dict[str, Any]:
    return {name: value for name, value in each.kept.items() if name not in (CONFIG, "worker")}


def _say(words: str) -> None:
    tqdm.write(words, file=sys.stderr)
