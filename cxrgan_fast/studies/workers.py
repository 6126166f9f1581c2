"""Several workers on one device, each in a process of its own: for networks that leave it idle."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, TYPE_CHECKING

import torch
from tqdm import tqdm

from cxrgan_fast.errors import UserError
from cxrgan_fast.threads import available_cores
from cxrgan_fast.training.child import end_with_parent

if TYPE_CHECKING:
    from optuna import Study

_GIB = 2**30
_POLL_SECONDS = 0.2


def require_cores(count: int, device: torch.device) -> None:
    """Refuse more workers than there are cores, where these train.

    Raises:
        UserError: there are fewer.
    """
    cores = available_cores()
    if device.type != "cuda" and count > cores:
        raise UserError(
            f"--workers-per-device {count}: expected at most the cores that are there, {cores}"
        )


def require_memory(study: Study, count: int, device: torch.device) -> None:
    """Refuse more workers than the free memory of a GPU has room for.

    Args:
        study: its trial 0 says how much memory a training takes.
        count: workers.
        device: where all of them train.

    Raises:
        UserError: the memory does not suffice, or trial 0 has not run yet.
    """
    if device.type != "cuda":
        return
    trials = study.get_trials(deepcopy=False)
    peak = trials[0].user_attrs.get("peak_memory") if trials else None
    if peak is None:
        raise UserError(
            f"--workers-per-device {count}: how much memory a training takes is known once trial 0 "
            "has run; run it first, with --trials 1"
        )
    free, _ = torch.cuda.mem_get_info(device)
    if peak * count > free:
        raise UserError(
            f"--workers-per-device {count}: trial 0 took {peak / _GIB:.2f} GiB, {count} take "
            f"{count * peak / _GIB:.2f} GiB, and {free / _GIB:.2f} GiB of {device} are free; take "
            f"{int(free // peak)}"
        )


def run_workers(words: Sequence[str], count: int) -> None:
    """Run the sweep's command several times at once, and wait for all.

    What they say is passed on, line by line, with the worker's number.

    Args:
        words: the command line for one worker.
        count: how many.

    Raises:
        UserError: one has ended with an error; the others have come to their end.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; all have saved their trials.
    """
    line = [sys.executable, "-m", "cxrgan_fast.sweep", *words]
    workers = [
        Popen(line, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
              preexec_fn=end_with_parent(), text=True, errors="replace")
        for _ in range(count)
    ]  # fmt: skip
    speakers = []
    for number, worker in enumerate(workers, 1):
        assert worker.stderr is not None
        speaker = threading.Thread(target=_pass_on, args=(number, worker.stderr), daemon=True)
        speaker.start()
        speakers.append(speaker)
    try:
        while any(worker.poll() is None for worker in workers):
            time.sleep(_POLL_SECONDS)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()
        for speaker in speakers:
            speaker.join()
    broken = [number for number, worker in enumerate(workers, 1) if worker.returncode]
    if broken:
        raise UserError(
            f"{len(broken)} of {count} workers have ended with an error, which stands above; the "
            "same command goes on"
        )


def _pass_on(number: int, lines: IO[str]) -> None:
    for line in lines:
        tqdm.write(f"worker {number}: {line.rstrip()}", file=sys.stderr)
