"""A running trial belongs to one worker, and to the next once that one is no more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cxrgan_fast.studies import ownership
from cxrgan_fast.studies.ownership import GRACE_SECONDS, WORKER, Ownership, Watch, running
from cxrgan_fast.studies.storage import open_storage
from programs import run_program

optuna = pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(ownership, "_SETTLE_SECONDS", 0.3)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    path = str(tmp_path / "j")
    optuna.create_study(storage=open_storage(path), study_name="a")
    return path


def study_of(journal: str):
    """The study as another worker sees it."""
    return optuna.load_study(study_name="a", storage=open_storage(journal))


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(ownership.time, "monotonic", lambda: now[0])
    return now


def test_a_worker_that_counts_on_is_there_and_one_that_stands_still_is_lost(journal, clock):
    study, watch = study_of(journal), Watch()
    trial = study.ask()
    # Of another machine, where nobody can be asked.
    elsewhere = {"pid": 1, "host": "h", "place": "elsewhere", "started": "1", "token": "t"}
    for count in range(5):
        trial.set_user_attr(WORKER, {**elsewhere, "count": count})
        clock[0] += GRACE_SECONDS
        assert not watch.is_lost(running(study)[0])
    clock[0] += GRACE_SECONDS - 1
    assert not watch.is_lost(running(study)[0])
    clock[0] += 2
    assert watch.is_lost(running(study)[0])


def test_one_that_was_killed_before_it_wrote_its_name_is_lost_after_the_grace(journal, clock):
    study, watch = study_of(journal), Watch()
    study.ask()
    assert not watch.is_lost(running(study)[0])
    clock[0] += GRACE_SECONDS + 1
    assert watch.is_lost(running(study)[0])


def test_one_that_has_ended_here_is_lost_at_once(journal):
    run_program(
        "import optuna, sys\n"
        "from cxrgan_fast.studies.ownership import Ownership\n"
        "from cxrgan_fast.studies.storage import open_storage\n"
        "study = optuna.load_study(study_name='a', storage=open_storage(sys.argv[1]))\n"
        "Ownership(study, study.ask()._trial_id).take()\n",
        journal,
        PYTHONPATH=str(Path(__file__).parents[2]),
    )
    study = study_of(journal)
    (trial,) = running(study)
    assert Watch().is_lost(trial)
    owned = Ownership(study, trial._trial_id)
    assert owned.claim()
    assert not Watch().is_lost(running(study)[0])  # it is this process's now


def test_a_worker_that_lets_go_leaves_the_trial_to_the_next(journal):
    study = study_of(journal)
    owned = Ownership(study, study.ask()._trial_id)
    owned.take()
    with owned:
        assert not Watch().is_lost(running(study)[0])
    assert Watch().is_lost(running(study)[0])


def test_of_several_who_want_a_lost_trial_one_gets_it(journal):
    study = study_of(journal)
    trial_id = study.ask()._trial_id
    wanting = [Ownership(study_of(journal), trial_id) for _ in range(4)]
    got: list[bool] = []
    threads = [threading.Thread(target=lambda each=each: got.append(each.claim()))
               for each in wanting]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False, False, False, True]


def test_a_worker_that_was_only_slow_sees_that_it_has_lost_the_trial(journal):
    study = study_of(journal)
    slow = Ownership(study, study.ask()._trial_id)
    slow.take()
    with slow:
        assert not slow.lost.wait(0.2)
        count = running(study)[0].user_attrs[WORKER]["count"]
        assert count > 0  # it counts
        other = study_of(journal)
        taken = Ownership(other, running(other)[0]._trial_id)
        taken.take()
        assert slow.lost.wait(5)
    assert running(study)[0].user_attrs[WORKER]["token"] == taken._name["token"]


def test_a_storage_that_is_gone_for_a_while_loses_nothing(journal, monkeypatch):
    study = study_of(journal)
    owned = Ownership(study, study.ask()._trial_id)
    owned.take()
    kept = Path(journal).read_bytes()
    with owned:
        Path(journal).unlink()
        assert not owned.lost.wait(0.3)
        Path(journal).write_bytes(kept)
        assert not owned.lost.wait(0.3)
    assert owned._thread.is_alive() is False


def test_who_wants_a_trial_that_was_told_meanwhile_does_not_get_it(journal, monkeypatch):
    study = study_of(journal)
    trial = study.ask()
    owned = Ownership(study, trial._trial_id)
    monkeypatch.setattr(
        ownership.time, "sleep", lambda _: study_of(journal).tell(trial.number, 1.0)
    )
    assert not owned.claim()
