"""With how many threads the steps of a CPU run: fixed, as a checkpoint has it, or adapted.

Threads of a step wait for each other thousands of times a second. Where other work takes a core
from one of them, all wait for it: two threads on two cores then make a fraction of the images
that one thread makes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.threads import free_cores

ENOUGH = 0.85  # the share of its cores with which a number of threads counts as undisturbed
_WINDOW_SECONDS = 2.0
_BETTER = 1.05  # a change has to gain this, or it is taken back
_SLOWED = 3.0  # against the fastest window; where processor time hides what other machines take
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 160.0  # seconds before a change that did not help is retried

Clock = Callable[[], float]


@dataclass(frozen=True)
class Start:
    """With what a training begins.

    Attributes:
        threads: how many.
        adapts: whether steps may change the number.
        reason: the reason, for the reader of the log.
    """

    threads: int
    adapts: bool
    reason: str


def choose_threads(
    config: TrainConfig,
    device: torch.device,
    most: int,
    recorded: int | None = None,
    free: Callable[[int], float] = free_cores,
) -> Start:
    """Choose the number of threads that a training begins with.

    Args:
        config: ``threads`` and ``deterministic`` count.
        device: where the steps run.
        most: the largest number that auto takes, :func:`default_threads` before any was set.
        recorded: the number that the checkpoint was computed with, when a run on a CPU goes on.
        free: measures the cores that a number of threads gets, as :func:`free_cores`.

    Raises:
        UserError: a deterministic run would go on with another number of threads.
    """
    asked = config.threads
    if asked != "auto":
        if recorded is None or recorded == asked:
            return Start(asked, False, "--threads")
        if config.deterministic:
            raise UserError(
                f"--threads {asked}: a deterministic run keeps its number of threads, which was "
                f"{recorded}; leave --threads out, or start a new run"
            )
        return Start(
            asked,
            False,
            f"--threads; the checkpoint was computed with {recorded}, so the weights will differ "
            "in rounding from those of a run that was not interrupted",
        )
    if recorded is not None:
        return Start(recorded, False, "as the checkpoint was computed, to go on to the bit")
    if device.type != "cpu":
        return Start(most, False, "the steps run on the GPU")
    if config.deterministic:
        return Start(most, False, "kept, for --deterministic")
    if most == 1:
        return Start(1, False, "one core")
    # The best of three: a hiccup is no reason to leave a core alone.
    threads = _usable(max(free(most) for _ in range(3)), most)
    if threads == most:
        return Start(most, True, "all cores are free; adapted to other work")
    return Start(threads, True, f"other work takes the rest of {most} cores; adapted to it")


def _usable(cores: float, threads: int) -> int:
    """How many of ``threads`` are worth starting where they get that many cores."""
    if cores >= ENOUGH * threads:
        return threads
    return max(1, min(threads - 1, math.floor(cores + 1 - ENOUGH)))


class StepThreads:
    """Runs steps, measures what processor time they get, and adapts the number of threads.

    The number is lowered where the steps get less than :data:`ENOUGH` of their cores and
    :func:`free_cores` says the same, or where they take three times as long as before; it is raised
    where free_cores says that more cores are free. Either is kept only if the steps become faster,
    else taken back and tried again after a pause that doubles. So nothing changes on a machine
    without other work.

    Args:
        adapts: whether to change the number. If not, a line says once that fewer may help.
        images_per_step: real images of a step, for the lines of the log.
        most: the largest number of threads.
        wall: a clock, in seconds.
        processor: the processor time of all threads of this process, in seconds.
        free: as :func:`free_cores`.
    """

    def __init__(
        self,
        adapts: bool,
        images_per_step: int,
        most: int,
        *,
        wall: Clock = time.perf_counter,
        processor: Clock = time.process_time,
        free: Callable[[int], float] = free_cores,
    ) -> None:
        self.adapts, self.images_per_step = adapts, images_per_step
        self.most = most
        self._wall, self._processor, self._free = wall, processor, free
        self._warm = False
        self._before: tuple[int, float, float] | None = None  # of a trial: threads, s/step, cores
        self._fastest: dict[int, float] = {}
        self._pauses = {"lower": _FIRST_PAUSE, "raise": _FIRST_PAUSE}
        self._not_before = {"lower": 0.0, "raise": 0.0}
        self._reset()

    def _reset(self) -> None:
        self._steps, self._seconds, self._busy = 0, 0.0, 0.0

    def run(self, step: Callable[[], None]) -> str | None:
        """Run a step. Return a line for the log where the number of threads was changed."""
        wall, processor = self._wall(), self._processor()
        step()
        if not self._warm:  # the first step allocates, compiles and tunes
            self._warm = True
            return None
        self._steps += 1
        self._seconds += self._wall() - wall
        self._busy += self._processor() - processor
        if self._seconds < _WINDOW_SECONDS:
            return None
        pace, cores = self._seconds / self._steps, self._busy / self._seconds
        self._reset()
        return self._judge(pace, cores)

    def _judge(self, pace: float, cores: float) -> str | None:
        """Decide after a window, whose steps took ``pace`` seconds and used so many cores."""
        threads = torch.get_num_threads()
        if self._before is not None:
            return self._end_trial(threads, pace)
        fastest = min(pace, self._fastest.get(threads, pace))
        self._fastest[threads] = fastest
        if threads > 1 and self._may("lower"):
            if pace > _SLOWED * fastest or self._starved(threads, cores):
                return self._try(_usable(min(cores, threads - 1), threads), pace, cores)
            # Small ops leave cores alone by themselves; not to be measured in every window.
            self._pause("lower", _FIRST_PAUSE if cores < ENOUGH * threads else 0)
        if self.adapts and threads < self.most and self._may("raise"):
            more = _usable(self._free(self.most), self.most)
            if more > threads:
                return self._try(more, pace, cores)
            self._pause("raise", _FIRST_PAUSE)
        return None

    def _starved(self, threads: int, cores: float) -> bool:
        return cores < ENOUGH * threads and self._free(threads) < ENOUGH * threads

    def _may(self, change: str) -> bool:
        return self._wall() >= self._not_before[change]

    def _pause(self, change: str, seconds: float) -> None:
        self._not_before[change] = self._wall() + seconds

    def _try(self, threads: int, pace: float, cores: float) -> str | None:
        before = torch.get_num_threads()
        if self.adapts:
            self._before = (before, pace, cores)
            torch.set_num_threads(threads)
            return None
        self._not_before["lower"] = math.inf  # said once
        return (
            f"threads: other work takes cores: {before} threads get {cores:.1f} of them; "
            f"--threads {threads} may be faster, and rounds otherwise"
        )

    def _end_trial(self, threads: int, pace: float) -> str | None:
        assert self._before is not None
        before, pace_before, cores = self._before
        self._before = None
        change = "raise" if threads > before else "lower"
        if pace * _BETTER > pace_before:
            torch.set_num_threads(before)
            self._pause(change, self._pauses[change])
            self._pauses[change] = min(2 * self._pauses[change], _LONGEST_PAUSE)
            return None
        self._pauses[change] = _FIRST_PAUSE
        self._fastest[threads] = pace  # the others' were of another time
        why = f"which got {cores:.1f} cores" if change == "lower" else "since cores are free again"
        rates = (self.images_per_step / each for each in (pace_before, pace))
        return "threads: {} instead of {}, {}; {:.1f} images/s became {:.1f}".format(
            threads, before, why, *rates
        )
