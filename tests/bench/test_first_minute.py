"""``bench.first_minute``: what its questions find, and that no failure stops the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Hashable
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

import planted_questions
from bench import first_minute, first_questions, first_step
from bench.first_minute import ANSWERED, FAILED, NOT_HERE, Result
from bench.question import Question, Setting
from commands import call
from cxrgan_fast.training.executors import Executor, GraphExecutor
from programs import run_program, stop_once

ROOT = Path(__file__).resolve().parents[2]
CPU = Setting("cpu", standin=False, command="python -m bench.first_minute --device cpu")


def results(make: first_minute.Make, setting: Setting = CPU, limit: float = 60) -> list[Result]:
    return list(first_minute.results(make, setting, limit))


@pytest.mark.long
def test_a_wrong_op_fails_its_question_alone(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(first_minute, "questions", planted_questions.with_a_wrong_op)
    file = tmp_path / "new" / "answers.json"
    assert call(first_minute.main, "--device", "cpu", "--json", file) == 1
    record = json.loads(file.read_text())
    status = {each["question"]: each["status"] for each in record["questions"]}
    wrong = status.pop(planted_questions.BAD)
    assert wrong == FAILED
    assert len(status) == 7
    assert set(status.values()) == {ANSWERED}
    (row,) = (each for each in record["questions"] if each["status"] == FAILED)
    assert "output of (12, 40, 8, 8) float32 is 1.0e-04 off the definition" in row["answer"]
    assert all("channels_last" in row["question"] for _ in row["details"]["wrong"])
    assert (record["complete"], record["failures"], record["standin"]) == (True, 1, False)
    assert record["command"] == "python -m bench.first_minute --device cpu"
    printed = capsys.readouterr().out
    assert f"{planted_questions.BAD}: FAILED: output of" in printed
    assert printed.splitlines()[-1].startswith("7 answered, 1 failed, 0 cannot be asked here")


def test_what_is_here_gives_the_record_its_circumstances(tmp_path: Path) -> None:
    done = [first_minute.ask(first_questions.questions(CPU)[0])]
    record = first_minute._record(CPU, done, 1.0, complete=True)
    assert done[0].status == ANSWERED
    assert record["environment"]["packages"]["torch"] in done[0].answer
    assert record["date"]
    assert "details" not in record["questions"][0]


@pytest.mark.long
def test_no_end_of_a_question_stops_the_next() -> None:
    found = results(planted_questions.with_every_end, limit=1)
    assert [each.question for each in found] == [
        each.text for each in planted_questions.with_every_end(CPU)
    ]
    by_name = {each.question: each for each in found}
    assert {name: each.status for name, each in by_name.items()} == {
        "first": ANSWERED,
        "raises": FAILED,
        "not here": NOT_HERE,
        "lacks": FAILED,
        "segfault": FAILED,
        "between": ANSWERED,
        "hang": FAILED,
        "last": ANSWERED,
    }
    assert by_name["raises"].answer == "ValueError: no such thing"
    assert by_name["not here"].answer == "there is no sea"
    assert "needs the Python package pydantic" in by_name["lacks"].answer
    assert by_name["segfault"].answer == "its process was ended by SIGSEGV"
    assert by_name["hang"].answer == "no answer within 1 s"
    assert by_name["hang"].seconds >= 1
    assert first_minute._failures(found) == 4


@pytest.mark.long
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_after_a_failure_that_leaves_the_gpu_unusable_another_process_asks(
    monkeypatch, device: str
) -> None:
    """Where there is no GPU none is usable."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = results(planted_questions.with_a_failure, Setting(device, False, ""))
    assert [each.status for each in found] == [ANSWERED, NOT_HERE, ANSWERED, FAILED, ANSWERED]
    first, second, third = (each.details["process"] for each in found if each.details)
    assert first == second  # what cannot be asked is no reason to look
    assert (third != second) == (device == "cuda")


@pytest.mark.long
def test_a_list_that_cannot_be_made_is_a_failure() -> None:
    (result,) = results(planted_questions.without_any)
    assert (result.status, result.answer) == (FAILED, "RuntimeError: the list cannot be made")


@pytest.mark.long
@pytest.mark.first_tier(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_keeps_the_answers_before_it(tmp_path: Path, number: int) -> None:
    file, mark = tmp_path / "answers.json", tmp_path / "hangs"
    program = (
        "import sys, planted_questions\n"
        "from bench import first_minute\n"
        "from cxrgan_fast.command import run_command\n"
        "if __name__ == '__main__':\n"
        "    first_minute.questions = planted_questions.with_a_hang\n"
        "    sys.exit(run_command(first_minute.main))\n"
    )
    (tmp_path / "program.py").write_text(program)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", "--device", "cpu", "--json", file],
        env={**os.environ, "PYTHONPATH": path, planted_questions.MARK: str(mark)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    stop_once(lambda: mark.exists() and file.exists(), process, number)
    record = json.loads(file.read_text())
    assert record["complete"] is False
    assert [each["question"] for each in record["questions"]] == ["first"]


WITHOUT_PACKAGES = """
import sys
for name in ("pytest", "hypothesis", "pydantic", "tyro", "pydicom", "yaml", "safetensors", "PIL"):
    sys.modules[name] = None
from bench.first_minute import ask
from bench.question import Setting
from bench.first_questions import questions
asked = {each.text: each for each in questions(Setting("cpu", False, ""))}
result = ask(asked["discriminator_loss, native"])
assert result.status == "answered", result
result = ask(asked["augmented_batch, native, contiguous"])
print(len(asked), result.status, result.answer)
"""


@pytest.mark.long
def test_a_missing_package_costs_its_questions_alone() -> None:
    count, *words = run_program(WITHOUT_PACKAGES, PYTHONPATH=str(ROOT)).split(maxsplit=2)
    assert int(count) == len(first_questions.questions(CPU))
    assert words[0] == FAILED
    assert "needs the Python package PIL" in words[1]


@pytest.mark.long
def test_every_path_of_the_extension_is_asked_about(cuda_standin: ModuleType) -> None:
    setting = Setting("cpu", standin=True, command="")
    asked = {each.text: each for each in first_questions.questions(setting)}
    about = "conditional_batch_norm_act, native {path}, {layout}"
    for path in cuda_standin.NORM_PATHS:
        for layout in ("contiguous", "channels_last"):
            assert about.format(path=path, layout=layout) in asked
    question = asked[about.format(path="two_pass", layout="contiguous")]
    result = first_minute.ask(question)
    assert result.status == ANSWERED, result.answer
    assert result.details["results"] == 48
    # It is the kernels of the stand-in that are asked.
    reached = RuntimeError("the kernel was reached")
    with mock.patch.object(cuda_standin, "ConditionalBatchNorm", side_effect=reached):
        assert "the kernel was reached" in first_minute.ask(question).answer


@pytest.mark.long
def test_a_step_whose_bits_differ_is_a_failure(monkeypatch) -> None:
    """A weight that the steps op by op alone move, as if a recording had missed it."""
    asked = {each.text: each for each in first_questions.questions(CPU)}
    text = "a captured step is the step to the bit, R1"
    assert first_minute.ask(asked[text]).status == NOT_HERE
    step = partial(first_questions._step, Setting("cpu", standin=True, command=""), "R1")
    right = first_minute.ask(Question(text, step))
    assert (right.status, right.details["graphs"]) == (ANSWERED, 2), right.answer
    run = first_step._BelowHooks.run

    def drifts(executor: Executor, kind: Hashable) -> None:
        run(executor, kind)
        with torch.no_grad():
            next(iter(executor.step.networks["generator"].parameters())).mul_(1 + 2**-20)

    monkeypatch.setattr(first_step._BelowHooks, "run", drifts)
    wrong = first_minute.ask(Question(text, step))
    assert wrong.status == FAILED
    assert "tensors differ after 9 steps" in wrong.answer


def test_a_step_that_is_not_captured_is_a_failure_that_says_why(monkeypatch) -> None:
    def cannot(executor: GraphExecutor, kind: Hashable) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(GraphExecutor, "_captured", cannot)
    step = partial(first_questions._step, Setting("cpu", standin=True, command=""), "fp32")
    result = first_minute.ask(Question("step", step))
    assert result.status == FAILED
    assert "operation not permitted when stream is capturing" in result.answer
