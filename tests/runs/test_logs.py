"""The run's log where its event file can no longer be written."""

import errno
import threading
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.logs import RunLog
from cxrgan_fast.sampling.grid import grid_path, write_grid

ROW = {"images": 4, "seconds": 1.0, "images_per_second": 4.0}


def full(data: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def seen(monkeypatch):
    """What threads failed with, as far as it would have been printed with a traceback."""
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    return failures


def test_a_thread_that_cannot_write_events_is_one_error_and_no_traceback(
    tmp_path, monkeypatch, seen
):
    before = threading.excepthook
    log = RunLog(tmp_path, step=0, steps=1000, title="train")
    writer = log.events.file_writer.event_writer._async_writer._writer
    monkeypatch.setattr(writer, "write", full)

    def write_until_it_is_noticed() -> None:
        for step in range(1, 1000):
            log.metrics({"step": step, **ROW})
            time.sleep(0.01)

    with pytest.raises(UserError, match="the disk is full"):
        write_until_it_is_noticed()
    log.close()
    assert seen == []
    assert threading.excepthook == before


def test_grids_may_come_from_another_thread_than_the_rest(tmp_path):
    """Every record of the event file is there and whole, whichever thread wrote it."""
    grid = grid_path(tmp_path, 0)
    write_grid(grid, torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8), ["a", "b"])
    log = RunLog(tmp_path, step=0, steps=100, title="train")
    drawing = threading.Thread(target=lambda: [log.grid(grid, step) for step in range(40)])
    drawing.start()
    lines = 0
    while drawing.is_alive() or lines < 40:
        lines += 1
        log.metrics({"step": lines, **ROW})
    drawing.join()
    log.close()

    (events,) = tmp_path.glob("events.out.tfevents.*")
    records = EventFileLoader(str(events)).Load()
    values = [value for record in records for value in record.summary.value]
    assert sum(value.tag == "samples" for value in values) == 40
    assert sum(value.tag == "speed/images_per_second" for value in values) == lines
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == lines


def test_another_failure_of_a_thread_is_shown(tmp_path, seen):
    log = RunLog(tmp_path, step=0, steps=1, title="train")

    def fail() -> None:
        raise ValueError("a defect")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    log.close()
    assert [type(failure.exc_value) for failure in seen] == [ValueError]


def test_the_line_shows_accuracies_as_shares_and_r_t_by_itself(tmp_path, capsys):
    log = RunLog(tmp_path, 0, 4, "train")
    row = {"step": 2, "images": 8, "seconds": 1.0, "images_per_second": 8.0, "d_loss": 1.0}
    log.metrics({**row, "r_t": 0.4, "d_real_accuracy": 0.7, "d_fake_accuracy": 0.62})
    log.metrics({**row, "r_t": -0.5, "d_pair_accuracy": 0.25, "augment_p": 0.125})
    log.close()
    game, pairs = capsys.readouterr().err.splitlines()
    assert "D acc 70%/62%  r_t 0.400" in game
    assert "D acc 25%  r_t -0.500  p 0.125" in pairs
