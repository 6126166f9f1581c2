"""What the commands of bench and research share: flags, checks, the line that is recorded."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from bench import command
from bench.command import check, parser_of, recorded
from bench.record import ROOT
from bench.timing import in_turns
from cxrgan_fast.errors import UserError
from cxrgan_fast.training import allocator


def test_the_line_does_not_say_where_files_lie(monkeypatch) -> None:
    words = ["--data", "/home/me/chest_xray", "--out=/home/me/r.json", "--work", "/home/me/w"]
    words += ["--seeds", "3"]
    told = "python -m bench.some --data chest_xray --seeds 3"
    assert recorded("bench.some", words, hidden=("--out", "--work")) == told
    monkeypatch.setattr("sys.argv", ["some", "./a//r.json", "--data=/home/me/chest_xray"])
    found = recorded("bench.some", file=Path("a/r.json"))
    assert found == "python -m bench.some FILE --data chest_xray"
    with pytest.raises(UserError, match="--hel; did you mean '--help'"):  # not known by its name
        parser_of("bench.some", None).parse_args(["--hel"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "--steps: got 0, expected 1 or more"),
        ({"batch_sizes": [8, 0]}, "--batch-sizes: got 0, expected 2 or more"),
        ({"seconds": 0.0}, "--seconds: got 0.0, expected over 0"),
        ({"seconds": float("nan")}, "--seconds: got nan, expected over 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_their_flag(given, message: str) -> None:
    usual = {"steps": 1, "batch_sizes": [2, 3], "seconds": None}
    least = {"steps": 1, "batch_sizes": 2}
    check(argparse.Namespace(**usual), least=least, over_0=["seconds"])
    with pytest.raises(UserError, match=message):
        check(argparse.Namespace(**usual | given), least=least, over_0=["seconds"])


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--out: {tmp_path} is a folder, expected a file"):
        check(argparse.Namespace(out=tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--record: .* cannot be made: File exists"):
        check(argparse.Namespace(record=tmp_path / "file" / "result.json"), out="record")
    check(argparse.Namespace(out=tmp_path / "new" / "result.json"))
    assert (tmp_path / "new").is_dir()


def test_threads_and_large_tensors_are_settled_before_anything_is_measured(monkeypatch) -> None:
    kept, before = [], torch.get_num_threads()
    monkeypatch.setattr(allocator, "keep_large_tensors_off_mmap", lambda: kept.append(1))
    try:
        command.prepare_process(2)
        assert (kept, torch.get_num_threads()) == ([1], 2)
        command.prepare_process()
        assert (kept, torch.get_num_threads()) == ([1, 1], 2)
    finally:
        torch.set_num_threads(before)


def test_who_is_first_moves_on_from_round_to_round() -> None:
    assert ["".join(each) for each in in_turns("abc", 4)] == ["abc", "bca", "cab", "abc"]
    assert list(in_turns("abc", 1, first=5)) == [["c", "a", "b"]]
    assert list(in_turns([], 2)) == [[], []]


def test_bench_knows_nothing_of_research() -> None:
    """What a result was written by is looked up by its name."""
    for file in (ROOT / "bench").glob("*.py"):
        source = file.read_text()
        assert "import research" not in source, file.name
        assert "from research" not in source, file.name
