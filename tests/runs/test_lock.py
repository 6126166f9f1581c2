"""Two programs never train one run."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs import lock as run_lock
from cxrgan_fast.runs.lock import NAME, locked

HOLD = """
import sys, time
from pathlib import Path
from cxrgan_fast.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def write_lock(folder, **changes):
    """A lock as another machine would have left it."""
    content = {"pid": os.getpid(), "host": "elsewhere", "place": "elsewhere 1", "started": "5",
               "token": "abc123", **changes}  # fmt: skip
    (folder / NAME).write_text(json.dumps(content))
    return folder / NAME


def make_old(path, seconds):
    at = time.time() - seconds
    os.utime(path, (at, at))


def is_locked(folder):
    try:
        with locked(folder):
            return False
    except UserError:
        return True


def test_the_lock_goes_when_its_holder_is_done(tmp_path):
    with locked(tmp_path):
        assert (tmp_path / NAME).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_second_program_is_told_who_holds_it(tmp_path, holder):
    said = rf"is being trained by process {holder.pid} on {socket.gethostname()}: wait for it"
    with pytest.raises(UserError, match=said), locked(tmp_path):
        pass
    assert (tmp_path / NAME).exists()  # the refused one has left it alone


def test_a_lock_of_a_killed_program_is_taken_over_at_once(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert not is_locked(tmp_path)


def test_a_program_that_has_ended_and_that_nobody_has_waited_for_holds_nothing(tmp_path, holder):
    holder.kill()  # a zombie until the end of the test
    deadline = time.monotonic() + 10
    while is_locked(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_locked(tmp_path)


def test_another_process_with_the_holders_number_does_not_keep_the_lock(tmp_path, holder):
    lock = tmp_path / NAME
    holder_content = json.loads(lock.read_text())
    lock.write_text(json.dumps({**holder_content, "started": "1"}))
    assert not is_locked(tmp_path)


def test_another_machines_lock_holds_while_it_is_refreshed(tmp_path):
    lock = write_lock(tmp_path)
    assert is_locked(tmp_path)
    make_old(lock, run_lock.STALE_SECONDS - 30)
    assert is_locked(tmp_path)
    make_old(lock, run_lock.STALE_SECONDS + 30)
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "1"}', b"[" * 4000])
def test_a_lock_that_tells_nothing_holds_until_it_is_old(tmp_path, content):
    lock = tmp_path / NAME
    lock.write_bytes(content)
    assert is_locked(tmp_path)
    make_old(lock, run_lock.STALE_SECONDS + 30)
    assert not is_locked(tmp_path)


def test_the_lock_is_refreshed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "REFRESH_SECONDS", 0.05)
    with locked(tmp_path):
        make_old(tmp_path / NAME, 1000)
        deadline = time.monotonic() + 10
        while time.time() - (tmp_path / NAME).stat().st_mtime > 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - (tmp_path / NAME).stat().st_mtime < 100


def test_of_many_that_take_over_a_stale_lock_one_has_it(tmp_path):
    """In threads: each would have it if it did not look again."""
    for _ in range(10):
        make_old(write_lock(tmp_path), run_lock.STALE_SECONDS + 30)
        at_once, inside, most, refused = threading.Barrier(8), [], [], []

        def try_it(at_once=at_once, inside=inside, most=most, refused=refused) -> None:
            at_once.wait()
            try:
                with locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.05)
                    inside.pop()
            except UserError:
                refused.append(1)

        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(most) == 1
        assert len(most) + len(refused) == 8
        assert not (tmp_path / NAME).exists()


def test_a_lock_that_another_program_has_taken_over_is_left_to_it(tmp_path):
    """As after a pause so long that this program's lock counted as stale."""
    with locked(tmp_path):
        theirs = write_lock(tmp_path).read_bytes()
    assert (tmp_path / NAME).read_bytes() == theirs


def test_who_was_killed_while_taking_over_keeps_nobody_out_for_ever(tmp_path):
    make_old(write_lock(tmp_path), run_lock.STALE_SECONDS + 30)
    claim = tmp_path / f"{NAME}.abc123.claim"
    claim.touch()
    assert is_locked(tmp_path)  # it may be at it
    make_old(claim, run_lock.STALE_SECONDS + 30)
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_trained_is_not_resumed_and_not_changed(train, fails, tmp_path, holder):
    root = tmp_path / "runs"
    options = ["--device", "cpu", "--resolution", 32, "--base-channels", 8, "--latent-size", 8,
               "--batch-size", 4, "--phantom-images", 12, "--steps", 1]  # fmt: skip
    assert train(*options, "--out", root)[0] == 0
    (run,) = root.iterdir()
    (run / NAME).write_bytes((tmp_path / NAME).read_bytes())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert f"is being trained by process {holder.pid}" in fails("--resume", run, "--steps", 2)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    holder.kill()
    holder.wait()
    assert train("--resume", run, "--steps", 2)[0] == 0
    assert not (run / NAME).exists()
