"""The folder of ``research.compare_settings``: what is kept of a study, so that it can go on.

``study.json`` has what all runs have in common, and the settings of each arm. The run of an arm and
a seed lies in ``seed-SEED/ARM/``, made by ``train`` itself, with ``train.log`` (what it said),
``run.json`` (once it has ended) and ``evaluation.json`` (once it has been evaluated).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_json, write_atomic
from cxrgan_fast.runs.folder import newest_run
from research.compare_arms import Arm

Record = dict[str, Any]


class Work:
    """The folder in which the runs of a study and what was measured of them are kept.

    Args:
        folder: made where it is not there.
        settings: what all runs have in common, as plain values for JSON.
        arms: arms; those that are new to the folder are added to it.

    Raises:
        UserError: the folder cannot be made, or holds something else, runs of other settings, or an
            arm of the same name and other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], arms: Sequence[Arm]) -> None:
        self.folder = folder
        path = folder / "study.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The lock of a study that is being made is no foreign file.
            foreign = not path.exists() and any(each.name != ".lock" for each in folder.iterdir())
        except OSError as error:
            raise UserError(f"--work: {folder} cannot be made: {error.strerror}") from None
        if foreign:
            raise UserError(f"--work: {folder} holds something else; name a new folder")
        kept = read_json(path) if path.exists() else {"settings": dict(settings), "arms": {}}
        self._require_same("", kept["settings"], settings)
        for arm in arms:
            if arm.name in kept["arms"]:
                self._require_same(f"arm {arm.name!r} with ", kept["arms"][arm.name],
                                   arm.settings())  # fmt: skip
            else:
                kept["arms"][arm.name] = arm.settings()
        write_atomic(path, json.dumps(kept, indent=1).encode())

    def _require_same(self, of: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        # A setting that is new in this version has its default, as if it had been there.
        for name in there:
            if name in here and there[name] != here[name]:
                raise UserError(
                    f"--work: {self.folder} was made {of or 'with '}{name} {there[name]}, not "
                    f"{here[name]}: name a new folder, or go on with {there[name]}"
                )

    def place(self, seed: int, arm: Arm) -> Path:
        """The folder of an arm's run of a seed."""
        return self.folder / f"seed-{seed}" / arm.folder

    def run_folder(self, seed: int, arm: Arm) -> Path | None:
        """The run folder that ``train`` has made; None where there is none with a checkpoint."""
        return newest_run(self.place(seed, arm), begun=True)

    def read(self, seed: int, arm: Arm, name: str) -> Record | None:
        """What was kept of a run under a name, "run" or "evaluation"; None where there is none."""
        path = self.place(seed, arm) / f"{name}.json"
        return read_json(path) if path.exists() else None

    def keep(self, seed: int, arm: Arm, name: str, record: Record) -> None:
        """Keep something of a run under a name."""
        write_atomic(self.place(seed, arm) / f"{name}.json", json.dumps(record).encode())

    def forget(self, seed: int, arm: Arm, name: str) -> None:
        """Keep nothing of a run under a name any more."""
        (self.place(seed, arm) / f"{name}.json").unlink(missing_ok=True)
