"""Studies of Optuna's as a sweep fills them, with numbers whose right answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

FLOOR = 0.5
SPACE: dict[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(("adam", "sgd")),
    "g_lr": FloatDistribution(1e-5, 1e-2, log=True),
    "momentum": FloatDistribution(0.0, 0.95),
    "base_channels": IntDistribution(16, 64),
    "output": CategoricalDistribution(("tanh", "sigmoid")),
}
"""What sweeps of tests vary; momentum is drawn with sgd only."""
DEFAULT = {"optimizer": "adam", "g_lr": 3e-4, "base_channels": 32, "output": "tanh"}
BEGAN = datetime(2026, 1, 1)


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the settings of a trial at random."""
    drawn: dict[str, Any] = {
        "optimizer": str(rng.choice(["adam", "sgd"])),
        "g_lr": float(10 ** rng.uniform(-5, -2)),
        "base_channels": int(rng.integers(16, 65)),
        "output": str(rng.choice(["tanh", "sigmoid"])),
    }
    if drawn["optimizer"] == "sgd":
        drawn["momentum"] = float(rng.uniform(0, 0.95))
    return drawn


def by_learning_rate(drawn: Mapping[str, Any]) -> float:
    """Give log(FID / floor) that depends on the learning rate alone: 0.5 at 1e-3, 3 at 1e-5."""
    return 0.5 + 1.25 * abs(math.log10(drawn["g_lr"]) + 3)


def record_of(number: int, value: float, seconds: float = 600.0) -> dict[str, Any]:
    """Give what a trial of this log(FID / floor) keeps of itself."""
    fid = FLOOR * math.exp(value)
    return {
        "folder": f"trial-{number:05d}",
        "seed": 0,
        "commit": "0123456789abcdef",
        "seconds": seconds,
        "images_per_second": 100.0 + number,
        "r_t": 0.4,
        "steps": 1000 + number,
        # The rung of a half has the order of the last one; that of a tenth has the reverse.
        "rungs": {"0.1": 20 / fid, "0.2": 2 + 0 * fid, "0.5": 1.5 * fid, "1.0": fid},
        "measurements": {
            "cxr_ssl": {"fid": fid, "floor": FLOOR, "kid": fid / 100, "recall": 0.5,
                        "nearest_neighbour": 0.8, "classes": {"normal": {"fid": 1.1 * fid}}},
            "cxr": {"fid": 2 * fid, "floor": FLOOR, "kid": fid / 50, "recall": 0.4,
                    "nearest_neighbour": 0.9, "inception_score": 1.8, "classes": {}},
        },
    }  # fmt: skip


def add_trial(
    study: optuna.Study,
    drawn: Mapping[str, Any],
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    **attributes: Any,
) -> None:
    """Add a trial of ten minutes after those that there are.

    Args:
        study: it.
        drawn: settings of the trial.
        value: log(FID / floor), or None; what else the trial keeps follows from it.
        state: how the trial was told.
        attributes: what the trial keeps beside that; None takes something away.
    """
    number = len(study.get_trials(deepcopy=False))
    record = {} if value is None else record_of(number, value)
    kept = {name: each for name, each in {**record, **attributes}.items() if each is not None}
    two = len(study.directions) > 1
    values = None
    if value is not None and state == TrialState.COMPLETE:
        values = [value, kept["seconds"]] if two else [value]
    trial = optuna.trial.create_trial(
        state=state,
        params=dict(drawn),
        distributions={name: SPACE[name] for name in drawn},
        values=values,
        user_attrs=kept,
    )
    trial.datetime_start = BEGAN + timedelta(minutes=10 * number)
    trial.datetime_complete = (
        trial.datetime_start + timedelta(minutes=10) if state.is_finished() else None
    )
    study.add_trial(trial)


def new_study(
    storage: optuna.storages.BaseStorage | None = None, name: str = "first", **settings: Any
) -> optuna.Study:
    """Make an empty study as a sweep makes it, of random draws unless told otherwise."""
    settings = {"objective": "fid", "sampler": "random", "resolution": 32, **settings}
    minimize = optuna.study.StudyDirection.MINIMIZE
    directions = [minimize] * (2 if settings["objective"] == "fid,seconds" else 1)
    study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    study.set_user_attr("space", {name: {} for name in SPACE})
    study.set_user_attr("settings", settings)
    return study


def filled_study(
    trials: int = 30,
    objective: Callable[[Mapping[str, Any]], float] = by_learning_rate,
    *,
    seed: int = 0,
    noise: float = 0.1,
    storage: optuna.storages.BaseStorage | None = None,
    name: str = "first",
    **settings: Any,
) -> optuna.Study:
    """Make a study of finished trials, the default first.

    Args:
        trials: how many.
        objective: log(FID / floor) by the settings, without noise.
        seed: random seed of the draws and the noise.
        noise: standard deviation of the noise.
        storage: where the study is; None for memory.
        name: of the study.
        settings: what all of its trials have in common.
    """
    study, rng = new_study(storage, name, **settings), np.random.default_rng(seed)
    for number in range(trials):
        drawn = DEFAULT if number == 0 else draw(rng)
        value = objective(drawn) + float(rng.normal(0, noise))
        add_trial(study, drawn, value, default=True if number == 0 else None)
    return study
