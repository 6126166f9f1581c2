"""Tasks of the background writer: their order, their failures, and what ends them."""

import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.training import writer as module
from cxrgan_fast.training.writer import BackgroundWriter

SECONDS = 60  # for what should happen at once, on a machine with other work to do


class Blocked:
    """A task that runs until it is let go."""

    def __init__(self) -> None:
        self.running, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.running.set()
        assert self.let_go.wait(SECONDS)


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    task = Blocked()
    yield task
    task.let_go.set()


def fail(error: BaseException) -> None:
    raise error


def wait_until_failed(writer: BackgroundWriter) -> None:
    deadline = time.monotonic() + SECONDS
    while writer._failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def in_thread(call: Callable) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_tasks_leave_the_cores_to_the_training(set_threads):
    set_threads(3)
    threads = []
    with BackgroundWriter() as writer:
        writer.submit(lambda: threads.append(torch.get_num_threads()))
    assert threads == [1]
    assert torch.get_num_threads() == 3


def test_tasks_run_in_order_on_a_thread_that_ends():
    done, threads = [], set()

    def task(number: int) -> None:
        threads.add(threading.current_thread())
        done.append(number)

    with BackgroundWriter() as writer:
        for number in range(20):
            writer.submit(lambda number=number: task(number))
    assert done == list(range(20))
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_submit_returns_while_two_wait_and_waits_with_the_third(blocked):
    with BackgroundWriter() as writer:
        writer.submit(blocked)
        assert blocked.running.wait(SECONDS)
        done = []
        for number in range(2):
            writer.submit(lambda number=number: done.append(number))
        third = in_thread(lambda: writer.submit(lambda: done.append(2)))
        third.join(0.2)
        assert third.is_alive()
        blocked.let_go.set()
        third.join(SECONDS)
        assert not third.is_alive()
    assert done == [0, 1, 2]


@pytest.mark.parametrize("error", [UserError("the disk is full"), OSError(5, "I/O error"),
                                   MemoryError(), SystemExit(3)])  # fmt: skip
@pytest.mark.parametrize("notice", ["submit", "check", "drain", "close"])
def test_a_failure_is_raised_as_it_is_by_whatever_comes_next(error, notice):
    writer = BackgroundWriter()
    writer.submit(lambda: fail(error))
    wait_until_failed(writer)
    call = getattr(writer, notice)
    with pytest.raises(type(error)) as caught:
        call(lambda: None) if notice == "submit" else call()
    assert caught.value is error
    with pytest.raises(type(error)):
        writer.close()
    assert not writer._thread.is_alive()


def test_a_failure_of_the_last_task_is_raised_at_the_end():
    with pytest.raises(UserError, match="the disk is full"), BackgroundWriter() as writer:
        writer.submit(lambda: fail(UserError("the disk is full")))


def test_nothing_is_written_after_a_failure(blocked):
    done: list[str] = []
    writer = BackgroundWriter()
    writer.submit(blocked)
    writer.submit(lambda: fail(UserError("first")))
    writer.submit(lambda: done.append("waited"))
    blocked.let_go.set()
    wait_until_failed(writer)
    with pytest.raises(UserError, match="first"):
        writer.submit(lambda: done.append("came later"))
    with pytest.raises(UserError, match="first"):
        writer.close()
    assert done == []


def test_a_submit_that_waits_learns_of_the_failure(blocked):
    def fail_when_let_go() -> None:
        blocked()
        raise UserError("the disk is full")

    writer = BackgroundWriter()
    writer.submit(fail_when_let_go)
    assert blocked.running.wait(SECONDS)
    for _ in range(2):
        writer.submit(lambda: None)
    caught: list[BaseException] = []

    def submit() -> None:
        try:
            writer.submit(lambda: None)
        except UserError as error:
            caught.append(error)

    waiting = in_thread(submit)
    waiting.join(0.1)
    assert waiting.is_alive()
    blocked.let_go.set()
    waiting.join(SECONDS)
    assert [str(error) for error in caught] == ["the disk is full"]
    writer.abandon()


def test_check_raises_nothing_while_a_task_runs(blocked):
    with BackgroundWriter() as writer:
        writer.submit(blocked)
        assert blocked.running.wait(SECONDS)
        writer.check()
        blocked.let_go.set()


@pytest.fixture
def leave():
    """Leave a writer's block with an error once the first task has begun; give its thread."""

    def run(error: BaseException, first: Callable, *others: Callable) -> threading.Thread:
        begun = threading.Event()
        writer = BackgroundWriter()

        def block() -> None:
            with writer:
                writer.submit(lambda: begun.set() or first())
                for task in others:
                    writer.submit(task)
                assert begun.wait(SECONDS)
                raise error

        with pytest.raises(type(error)) as caught:
            block()
        assert caught.value is error
        return writer._thread

    return run


def test_an_exception_of_the_block_is_told_after_all_is_written(leave):
    done = []
    thread = leave(ZeroDivisionError(), lambda: time.sleep(0.1), lambda: done.append(1))
    assert done == [1]
    assert not thread.is_alive()


def test_an_exception_of_the_block_goes_before_a_failure(leave):
    leave(ZeroDivisionError(), lambda: time.sleep(0.1), lambda: fail(UserError("full")))


def test_an_interrupt_drops_what_waits_and_lets_the_running_task_end(leave):
    done = []

    def first() -> None:
        time.sleep(0.2)
        done.append("running")

    thread = leave(KeyboardInterrupt(), first, lambda: done.append("waiting"))
    assert done == ["running"]
    assert not thread.is_alive()


def test_an_interrupt_does_not_wait_for_a_task_that_hangs(leave, blocked, monkeypatch):
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)
    thread = leave(KeyboardInterrupt(), blocked)
    assert thread.is_alive()
    assert thread.daemon  # the program can end


def test_an_interrupt_while_the_end_waits_does_not_wait_longer(blocked, monkeypatch):
    """The second Ctrl-C, where the first came while the last write hung."""
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)
    writer = BackgroundWriter()
    writer.submit(blocked)
    assert blocked.running.wait(SECONDS)
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert writer._thread.is_alive()


def test_a_closed_writer_refuses_tasks():
    with BackgroundWriter() as writer:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        writer.submit(lambda: None)


def test_a_task_is_dropped_when_it_is_done():
    """It holds a copy of the weights, and the next may be long in coming."""

    class Task:
        def __call__(self) -> None:
            pass

    with BackgroundWriter() as writer:
        task = Task()
        alive = weakref.ref(task)
        writer.submit(task)
        del task
        writer.drain()
        assert alive() is None
