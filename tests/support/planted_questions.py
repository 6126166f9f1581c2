"""Questions for ``bench.first_minute`` with faults in them; its other processes import this."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

import op_cases
from bench import first_ops, first_questions
from bench.question import Answer, NotHereError, Question, Setting
from cxrgan_fast.ops import bias_leaky_relu
from cxrgan_fast.ops.backend import selected_backend

BAD = "bias_leaky_relu, native, channels_last"
MARK = "CXRGAN_TEST_MARK"
"""The environment variable of a file that a question makes before it hangs."""


def with_a_wrong_op(setting: Setting) -> list[Question]:
    """The real questions about the native ops, one of which is wrong in one layout."""

    def wrong(input: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        output = bias_leaky_relu(input, *arguments, **options)
        contiguous = input.is_contiguous() or selected_backend() != "native"
        return output if contiguous else output * (1 + 1e-4)

    op_cases.bias_leaky_relu = wrong
    first_ops.IMAGES = first_ops.EMULATED_IMAGES
    first_ops.BATCHES = first_ops.EMULATED_BATCHES
    return [each for each in first_questions.questions(setting) if ", native" in each.text]


def _here() -> Answer:
    return "here", {"process": os.getpid()}


def _raise(error: Exception) -> Answer:
    raise error


def _segfault() -> Answer:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "survived", {}


def _hang() -> Answer:
    if MARK in os.environ:
        Path(os.environ[MARK]).touch()
    time.sleep(3600)
    return "woke up", {}


def with_every_end(setting: Setting) -> list[Question]:
    """One for each way in which a question can end."""
    return [
        Question("first", _here),
        Question("raises", partial(_raise, ValueError("no\nsuch thing"))),
        Question("not here", partial(_raise, NotHereError("there is no sea"))),
        Question("lacks", partial(_raise, ModuleNotFoundError("No", name="pydantic.fields"))),
        Question("segfault", _segfault),
        Question("between", _here),
        Question("hang", _hang),
        Question("last", _here),
    ]


def with_a_failure(setting: Setting) -> list[Question]:
    """Answers before and after a question that cannot be asked, then after one that fails."""
    return [
        Question("first", _here),
        Question("not here", partial(_raise, NotHereError("there is no sea"))),
        Question("second", _here),
        Question("raises", partial(_raise, ValueError("no such thing"))),
        Question("third", _here),
    ]


def with_a_hang(setting: Setting) -> list[Question]:
    """One with an answer, then one without."""
    return [Question("first", _here), Question("hang", _hang), Question("last", _here)]


def without_any(setting: Setting) -> list[Question]:
    """None can be made."""
    raise RuntimeError("the list cannot be made")
