"""``python -m bench.first_minute``: what to ask a GPU first, in a minute.

Every line is one question, with its answer and its seconds: what is here, how fast memory and
products are at most, whether every op is right on every backend, path and layout, whether a
captured training step gives the bits of the step op by op, and what the benchmark measures of one
case. The exit status is how many questions failed.

The questions are asked in a process of their own. One that ends it, hangs, or leaves the GPU
unusable has failed, and the next is asked in another process. ``--json`` has all that was found so
far after every answer. Needs PyTorch and NumPy; a question that needs another package says which.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from bench.command import check, parser_of, recorded
from bench.first_questions import questions
from bench.question import Details, NotHereError, Question, Setting, WrongError
from bench.record import ROOT, as_text, whole
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_named
from cxrgan_fast.provenance import commit

MOST_FAILURES = 70
"""The exit status does not tell more: larger ones mean other things."""
LIMITS = {"cuda": 40.0, "cpu": 120.0}
"""Seconds that a question may take: Triton compiles for every shape."""
STANDIN_LIMIT = 600.0
"""The same where the CUDA kernels are compiled for the CPU first, and then emulated."""
START_SECONDS = 120.0
"""That a process has before its first question, at least: importing PyTorch may be slow."""
OURS = ("bench", "cxrgan_fast", "op_cases", "augmented_batch_cases", "cuda_standin")

STATUSES = ANSWERED, FAILED, NOT_HERE = "answered", "failed", "cannot be asked here"
UNKNOWN = "which questions there are"


@dataclass(frozen=True)
class Result:
    """A question and what came of it."""

    question: str
    status: str
    """ANSWERED, FAILED or NOT_HERE."""
    answer: str
    seconds: float
    details: Details

    def as_record(self) -> Details:
        """What the JSON holds of it."""
        return {**vars(self), "seconds": round(self.seconds, 2)}


Make = Callable[[Setting], list[Question]]


# --- In the process that asks ---------------------------------------------------------------------


def ask(question: Question) -> Result:
    """Ask a question; whatever it raises is its answer."""
    torch.manual_seed(0)  # the same numbers wherever it is asked
    start = time.perf_counter()
    details: Details = {}
    try:
        answer, details = question.ask()
        status = ANSWERED
    except NotHereError as reason:
        status, answer = NOT_HERE, str(reason)
    except WrongError as error:
        status, answer, details = FAILED, str(error), error.details
    except Exception as error:
        status, answer = FAILED, _words(error)
    return Result(question.text, status, answer, time.perf_counter() - start, details)


def _words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and _top(error.name) not in OURS:
        package = _top(error.name)
        return f"needs the Python package {package}: carry it as the head of bench/gpu.sh says"
    words = " ".join(str(error).split()) or "no reason given"
    return f"{type(error).__name__}: {words[:500]}"


def _top(module: str) -> str:
    return module.partition(".")[0]


def _ask_from(make: Make, setting: Setting, first: int, to: Connection) -> None:
    """Ask questions from that number on, until all are asked or the GPU is unusable.

    Sent are, of each, how many there are and its text before it is asked; its result, and whether
    this process can ask the next, after it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this ends it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, for the steps
    os.environ.setdefault("CXRGAN_TRITON_TUNE", "0")  # what is right does not depend on tiles
    try:
        asked = make(setting)
    except Exception as error:
        to.send((first + 1, UNKNOWN))
        to.send((Result(UNKNOWN, FAILED, _words(error), 0.0, {}), False))
        return
    for question in asked[first:]:
        to.send((len(asked), question.text))
        result = ask(question)
        usable = setting.device != "cuda" or result.status != FAILED or _usable()
        to.send((result, usable))
        if not usable:
            return


def _usable() -> bool:
    """Whether the GPU still does anything for this process: some errors end that for good."""
    try:
        torch.cuda.synchronize()
        return bool(torch.ones(1, device="cuda").item() == 1)
    except (RuntimeError, AssertionError):
        return False


# --- In the process that waits --------------------------------------------------------------------


def results(make: Make, setting: Setting, limit: float) -> Iterator[Result]:
    """Ask all questions, each in a process that those before it have left usable.

    Args:
        make: gives the questions; called anew in every process, to which it is sent by name.
        setting: where they are asked.
        limit: seconds that one may take.

    Yields:
        The result of each. Where there are no questions because ``make`` fails, that is one.
    """
    done, total = 0, 1
    while done < total:
        with _asker(make, setting, done) as (child, answers):
            usable, until_asked = True, max(limit, START_SECONDS)
            while usable and done < total:
                text, start, usable = UNKNOWN, time.perf_counter(), False
                try:
                    total, text = _receive(answers, until_asked)
                    until_asked = limit
                    result, usable = _receive(answers, limit)
                except (EOFError, ConnectionError):
                    result = _failed(text, f"its process {_end_of(child)}", start)
                except TimeoutError:
                    result = _failed(text, f"no answer within {limit:g} s", start)
                yield result
                done += 1


@contextmanager
def _asker(make: Make, setting: Setting, first: int) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that asks from that question on, and where its answers come; ended afterwards."""
    context = multiprocessing.get_context("spawn")  # a fork could not use the GPU
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_ask_from, args=(make, setting, first, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        child.kill()
        child.join()
        ours.close()


def _receive(connection: Connection, limit: float) -> Any:
    if not connection.poll(limit):
        raise TimeoutError
    return connection.recv()


def _failed(question: str, answer: str, start: float) -> Result:
    return Result(question, FAILED, answer, time.perf_counter() - start, {})


def _end_of(child: BaseProcess) -> str:
    child.join(10)
    code = child.exitcode
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


# --- The command ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("bench.first_minute", __doc__)
    add = parser.add_argument
    add("--device", choices=tuple(LIMITS), default="cuda", help="default: cuda")
    add("--json", type=Path, help="where all answers go")
    add(
        "--standin",
        action="store_true",
        help="with --device cpu: the CUDA kernels, compiled for the CPU, as the native backend, "
        "and a recording in place of CUDA graphs",
    )
    add("--limit", type=float, help="seconds that a question may take (default 40; on a CPU more)")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.standin and arguments.device != "cpu":
        raise UserError("--standin: it stands in for a GPU on --device cpu, got --device cuda")
    check(arguments, over_0=["limit"], out="json")


def _record(setting: Setting, done: Sequence[Result], total_s: float, complete: bool) -> Details:
    """All answers, with the circumstances that the first of them has found."""
    about = {"command": setting.command, "date": None, "commit": commit(ROOT), "environment": None}
    rows = [each.as_record() for each in done]
    if rows and "environment" in rows[0]["details"]:
        about = rows[0].pop("details")
    measurements = {
        "device": setting.device,
        "standin": setting.standin,
        "complete": complete,
        "seconds": round(total_s, 1),
        "failures": _failures(done),
        "questions": rows,
    }
    return whole(about, measurements)


def _failures(done: Sequence[Result]) -> int:
    return sum(each.status == FAILED for each in done)


def run(make: Make, setting: Setting, limit: float, json: Path | None) -> int:
    """Ask, print and write.

    Args:
        make: gives the questions.
        setting: where they are asked.
        limit: seconds that one may take.
        json: where all that was found so far goes after every answer, or None.

    Returns:
        How many failed.
    """
    start, done = time.perf_counter(), list[Result]()

    def write(complete: bool) -> None:
        if json is not None:
            seconds = time.perf_counter() - start
            write_named(json, as_text(_record(setting, done, seconds, complete)).encode())

    for result in results(make, setting, limit):
        done.append(result)
        begun = f"{time.perf_counter() - start:6.1f} s (+{result.seconds:5.1f})"
        status = "" if result.status == ANSWERED else f"{result.status.upper()}: "
        print(f"{begun} {result.question}: {status}{result.answer}", flush=True)
        write(complete=False)
    write(complete=True)
    counts = [f"{sum(r.status == status for r in done)} {status}" for status in STATUSES]
    print(f"{', '.join(counts)}, {time.perf_counter() - start:.0f} s", flush=True)
    return _failures(done)


def main() -> None:
    """Ask everything; exit with the number of failures."""
    arguments = _parser().parse_args()
    _check(arguments)
    command = recorded("bench.first_minute", hidden=("--json",))
    setting = Setting(arguments.device, arguments.standin, command)
    usual = STANDIN_LIMIT if arguments.standin else LIMITS[arguments.device]
    failures = run(questions, setting, arguments.limit or usual, arguments.json)
    sys.exit(min(failures, MOST_FAILURES))


if __name__ == "__main__":
    sys.exit(run_command(main))
