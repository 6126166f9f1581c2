"""Which worker a running trial belongs to, and when it belongs to none any more.

One mechanism for every storage, which Optuna's own heartbeat is not: that is for databases only,
and takes a trial from its worker by failing it. Here it stays the same trial, with its number and
its folder. Each worker writes its name and a count to an attribute of its trial, and counts on
every `BEAT_SECONDS`. A trial is lost whose worker has ended on this machine, or whose count has
stood still for `GRACE_SECONDS` by the clock of whoever watches: no two clocks are compared.

Of several who want a lost trial one gets it (Fischer's algorithm; Lamport, A Fast Mutual Exclusion
Algorithm, 1987): each writes its own name over the last one, waits for longer than anybody takes
from reading to writing, and has the trial if the name is still its own. A worker that was only
slow sees the other name at its next count, and lets go.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cxrgan_fast.processes import Process, this_process
from cxrgan_fast.studies.library import load_optuna

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

WORKER = "worker"
"""Attribute of a running trial: whose it is. Empty once its worker has let go of it."""
BEAT_SECONDS = 30.0
"""Between two counts of a worker."""
GRACE_SECONDS = 180.0
"""After which a count that stands still is that of a worker that is no more."""

_SETTLE_SECONDS = 2.0  # longer than from reading an attribute to having written it


class Watch:
    """What this worker has seen of the trials that run, by its own clock."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_lost(self, trial: FrozenTrial) -> bool:
        """Tell whether a running trial belongs to no worker any more.

        One that cannot be asked counts as there until it has been seen standing still for
        `GRACE_SECONDS`.
        """
        worker, now = trial.user_attrs.get(WORKER), time.monotonic()
        if worker == {} or _has_ended(worker):
            return True
        seen = self._seen.get(trial.number)
        if seen is None or seen[0] != worker:
            self._seen[trial.number] = worker, now
            return False
        return now - seen[1] > GRACE_SECONDS


def _has_ended(worker: Any) -> bool:
    try:
        ended = Process(**{name: worker[name] for name in ("pid", "host", "place", "started")})
        return ended.has_ended() is True
    except (TypeError, KeyError):  # none yet, or of another version
        return False


class Ownership:
    """That a running trial belongs to this worker, as long as the block takes.

    Args:
        study: study of the trial.
        trial_id: number by which the storage knows the trial.

    Attributes:
        lost: set once another worker has taken the trial.
    """

    def __init__(self, study: Study, trial_id: int) -> None:
        self._study, self._trial_id = study, trial_id
        self._name = {**asdict(this_process()), "token": secrets.token_hex(8)}
        self._count = 0
        self._over = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ownership", daemon=True)

    def take(self) -> None:
        """Write this worker's name to a trial that no other can want: one just asked for."""
        self._write()

    def claim(self) -> bool:
        """Take a lost trial, if no other worker does; tell whether this one has it."""
        self._write()
        time.sleep(_SETTLE_SECONDS)
        return self._is_mine()

    def __enter__(self) -> Ownership:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self.lost.is_set():
            return
        with contextlib.suppress(Exception):  # a storage that is gone; others wait for the grace
            if self._is_mine():
                self._study._storage.set_trial_user_attr(self._trial_id, WORKER, {})

    def _is_mine(self) -> bool:
        trial = self._study._storage.get_trial(self._trial_id)
        return bool(
            trial.state == load_optuna().trial.TrialState.RUNNING
            and trial.user_attrs.get(WORKER, {}).get("token") == self._name["token"]
        )

    def _write(self) -> None:
        worker = {**self._name, "count": self._count}
        self._study._storage.set_trial_user_attr(self._trial_id, WORKER, worker)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            # A storage that does not answer now may do so the next time.
            with contextlib.suppress(Exception):
                if not self._is_mine():
                    self.lost.set()
                    return
                self._count += 1
                self._write()


def running(study: Study) -> list[FrozenTrial]:
    """Return the trials that run, by number."""
    state = load_optuna().trial.TrialState.RUNNING
    return study.get_trials(deepcopy=False, states=(state,))
