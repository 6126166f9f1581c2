"""A worker of a sweep: takes up what others have left, asks for new trials, and runs them."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.studies.library import load_optuna
from cxrgan_fast.studies.ownership import Ownership, Watch, running
from cxrgan_fast.studies.pruning import (
    CORRELATIONS,
    rank_correlations,
    shares_to_measure,
    should_prune,
)
from cxrgan_fast.studies.record import (
    MEASUREMENTS,
    keep_record,
    objective_values,
    tell_complete,
    tell_failed,
    tell_pruned,
)
from cxrgan_fast.studies.space import Space
from cxrgan_fast.studies.storage import said_plainly
from cxrgan_fast.studies.study import SETTINGS
from cxrgan_fast.studies.trial import LostTrialError, Resources, TrialError, TrialRun

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

SAMPLERS = ("tpe", "random")
"""How trials are drawn."""
MOST_BREAKS = 3
"""Trials in a row whose program has broken, after which a worker stops."""

_WAIT_SECONDS = 2.0


def make_sampler(name: str, seed: int, number: int) -> Any:
    """Make the sampler of a trial, which draws the same whichever worker asks.

    Args:
        name: one of `SAMPLERS`.
        seed: seed of the sweep.
        number: number of the trial.
    """
    samplers = load_optuna().samplers
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return samplers.RandomSampler(seed=drawn)
    # Each parameter by itself: joint drawing leaves out those that not every trial has. What runs
    # elsewhere counts as bad, so that workers do not all try the same.
    return samplers.TPESampler(seed=drawn, multivariate=False, constant_liar=True)


class Worker:
    """A worker of a sweep.

    Args:
        study: what it works for.
        where: address or file of the study's storage, for messages.
        space: from which trials are drawn.
        resources: with what trials are trained and measured.
        trials: how many there are to be in all.
    """

    def __init__(
        self, study: Study, where: str, space: Space, resources: Resources, trials: int
    ) -> None:
        self._study, self._where, self._space = study, where, space
        self._resources, self._trials = resources, trials
        self._settings = study.user_attrs[SETTINGS]
        self._watch = Watch()
        self._breaks = 0

    def work(self) -> None:
        """Run trials until there are as many as there are to be, and none is left unfinished.

        Raises:
            UserError: something is wrong that has nothing to do with a trial's settings.
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the trial is saved.
        """
        with (
            signals_interrupt(),
            tqdm(total=self._trials, unit="trial", disable=None, smoothing=0,
                 bar_format="{desc}: {n_fmt} of {total_fmt} trials [{elapsed}]") as bar,
        ):  # fmt: skip
            while True:
                with said_plainly(self._where):
                    self._show(bar, "looking for a trial")
                    found = self._next()
                    if found is None and not running(self._study):
                        self._show(bar, "done")
                        return
                if found is None:
                    self._show(bar, "waiting for trials of other workers")
                    time.sleep(_WAIT_SECONDS)
                    continue
                number, owned = found
                with owned:
                    self._run(number, owned, bar)

    def _show(self, bar: tqdm[Any], words: str) -> None:
        trials = self._study.get_trials(deepcopy=False)
        bar.n = sum(trial.state.is_finished() for trial in trials)
        bar.total = max(self._trials, bar.n)
        bar.set_description(words)

    def _next(self) -> tuple[int, Ownership] | None:
        """A trial that is this worker's: one that another has left, or a new one."""
        for trial in running(self._study):
            if self._watch.is_lost(trial):
                owned = Ownership(self._study, trial._trial_id)
                if owned.claim():
                    return trial.number, owned
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(trial.state.name == "WAITING" for trial in trials)
        if not waiting and len(trials) >= self._trials:
            return None
        asked = self._study.ask()
        owned = Ownership(self._study, asked._trial_id)
        owned.take()
        return asked.number, owned

    def _run(self, number: int, owned: Ownership, bar: tqdm[Any]) -> None:
        def say(words: str, share: float) -> None:
            bar.set_description(f"trial {number}, {words}, {min(share, 1):.0%}")

        trial = self._trial(number)
        try:
            run = TrialRun(self._resources, number, self._config(trial), owned.lost, say)
            try:
                line = self._finish(run, trial)
                self._breaks = 0
            except TrialError as failure:
                self._keep(trial, run.record())
                with said_plainly(self._where):
                    tell_failed(self._study, trial, str(failure), by_settings=failure.by_settings)
                line = f"failed: {failure}"
                self._breaks = 0 if failure.by_settings else self._breaks + 1
        except LostTrialError:
            line = "another worker has taken it, since this one was too slow to say that it has it"
        tqdm.write(f"trial {number}: {line}", file=sys.stderr)
        if self._breaks >= MOST_BREAKS:
            raise UserError(
                f"{MOST_BREAKS} trials in a row have broken, the last one: {line}; the same "
                "command goes on with others"
            )

    def _trial(self, number: int) -> FrozenTrial:
        with said_plainly(self._where):
            return self._study.get_trials(deepcopy=False)[number]

    def _config(self, trial: FrozenTrial) -> TrainConfig:
        """The trial's complete settings."""
        with said_plainly(self._where):
            drawn = self._draw(trial.number, trial._trial_id)
        return override(self._space.settings(drawn), {"seed": self._settings["seed"]})

    def _shares(self) -> list[float]:
        """The shares of the budget at which a trial is measured; the last is the end."""
        with said_plainly(self._where):
            return shares_to_measure(self._study)

    def _draw(self, number: int, trial_id: int) -> dict[str, Any]:
        """The trial's values: those that it has, and new ones where a kill has come between."""
        settings = self._settings
        self._study.sampler = make_sampler(settings["sampler"], settings["seed"], number)
        trial = load_optuna().trial.Trial(self._study, trial_id)
        return self._space.draw(lambda parameter: parameter.suggest(trial))

    def _finish(self, run: TrialRun, trial: FrozenTrial) -> str:
        """Train and measure a trial, tell the study, and say in short what has come of it."""
        for share in self._shares()[:-1]:
            run.train_to(share)
            fid = run.measure_rung(share)
            if fid is None:
                continue
            with said_plainly(self._where):
                stops = should_prune(self._study, share, fid)
            if stops:
                self._keep(trial, run.record())
                with said_plainly(self._where):
                    tell_pruned(self._study, trial, share, fid)
                return f"pruned at {share:.0%} of the budget, FID {fid:.4g}"
        run.train_to(1.0)
        measured = run.measure_end()
        self._keep(trial, {**run.record(), MEASUREMENTS: measured})
        first = measured[run.features]
        seconds = run.seconds_to_final()
        values = objective_values(self._settings["objective"], first, seconds)
        with said_plainly(self._where):
            tell_complete(self._study, trial.number, values)
            self._study.set_user_attr(CORRELATIONS, rank_correlations(self._study))
        return f"FID {first['fid']:.4g}, {first['fid'] / first['floor']:.3g} times the floor"

    def _keep(self, trial: FrozenTrial, record: dict[str, Any]) -> None:
        with said_plainly(self._where):
            keep_record(self._study, trial._trial_id, record)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP within the block do what Ctrl-C does; SIGHUP where it is heeded.

    A shell that starts a command in the background has Ctrl-C ignored: it is heeded again.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on every system
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, interrupt) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
