"""A study: made once, joined by every command that has the same fixed settings.

Whoever makes it puts the default configuration first, as trial 0, and its settings last: a study
that has settings is whole.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.studies.library import load_optuna
from cxrgan_fast.studies.parameters import Plain
from cxrgan_fast.studies.storage import said_plainly, without_password

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

SETTINGS, SPACE = "settings", "space"
"""What the study's attributes are called that say what all of its trials have in common."""
IDENTITY = "identity"
"""Attribute of a study: a random text, by which a folder knows whose trials it has."""

CONFIRMS = "confirms"
"""Attribute of a study that confirms a trial of another one."""

OBJECTIVES = {"fid": 1, "fid,seconds": 2}
"""What a sweep can look for, and how many numbers that is; each is better when it is lower."""

_MADE_SECONDS = 30.0  # in which whoever makes a study has done so, unless it was killed


@dataclass(frozen=True)
class Fixed:
    """What all trials of a study have in common.

    Attributes:
        settings: plain values for JSON: ``objective``, ``fingerprint`` of the data and others.
        space: as `Space.to_plain` gives it.
        default: values of trial 0.
    """

    settings: Mapping[str, Any]
    space: Mapping[str, Any]
    default: Mapping[str, Plain]


def join_study(storage: BaseStorage, where: str, name: str, fixed: Fixed) -> Study:
    """Make the study of a name, or join it if it is there.

    Args:
        storage: what :func:`~cxrgan_fast.studies.storage.open_storage` has opened.
        where: address or file of the storage, for messages.
        name: what the study is called.
        fixed: what its trials have in common.

    Raises:
        UserError: it is there with other settings or another space, the first of which is named.
    """
    optuna = load_optuna()
    with said_plainly(where):
        directions = ["minimize"] * OBJECTIVES[fixed.settings["objective"]]
        try:
            study: Study = optuna.create_study(
                storage=storage, study_name=name, directions=directions
            )
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(study_name=name, storage=storage)
            if _wait_for_settings(study):
                _require_same(name, SETTINGS, study.user_attrs[SETTINGS], fixed.settings)
                _require_same(name, SPACE, study.user_attrs[SPACE], fixed.space)
                return study
        others = [trial for trial in study.trials if "default" not in trial.user_attrs]
        if len(study.directions) != len(directions) or others:
            raise UserError(f"the study {name} of {without_password(where)} is none of a sweep")
        # Last the settings, which tell that the rest is there.
        study.enqueue_trial(dict(fixed.default), user_attrs={"default": True}, skip_if_exists=True)
        study.set_user_attr(IDENTITY, secrets.token_hex(8))
        study.set_user_attr(SPACE, _plain(fixed.space))
        study.set_user_attr(SETTINGS, _plain(fixed.settings))
        return study


def find_study(storage: BaseStorage, where: str, name: str) -> Study:
    """Load a study of a sweep.

    Raises:
        UserError: there is none of that name; the nearest is given.
    """
    optuna = load_optuna()
    with said_plainly(where):
        names = optuna.get_all_study_names(storage)
        if name not in names:
            known = f": there is {', '.join(names)}" if names else ", nor any other"
            raise UserError(
                f"there is no study {name!r} in {without_password(where)}{known}"
                f"{did_you_mean(name, names)}"
            )
        study: Study = optuna.load_study(study_name=name, storage=storage)
        if SETTINGS not in study.user_attrs:
            raise UserError(
                f"the study {name!r} of {without_password(where)} has no settings of a sweep: it "
                "was made by another program, or is being made"
            )
        return study


def _wait_for_settings(study: Study) -> bool:
    deadline = time.monotonic() + _MADE_SECONDS
    while SETTINGS not in study.user_attrs:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    restored: dict[str, Any] = json.loads(json.dumps(value))  # as it is read back
    return restored


def _require_same(
    name: str, kind: str, there: Mapping[str, Any], here: Mapping[str, Any], of: str = ""
) -> None:
    here = _plain(here)
    for key in dict.fromkeys([*there, *here]):
        first, second = there.get(key), here.get(key)
        if first == second:
            continue
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            _require_same(name, kind, first, second, f"{of}{key} ")
        said = f"space {of}{key}" if kind == SPACE else f"{of}{key}"
        raise UserError(
            f"the study {name} was begun with {said} {_shown(first)}, not {_shown(second)}: give "
            "another NAME, or go on as it was begun"
        )


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value!s:.200}"
