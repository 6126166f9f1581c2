"""Where a study is kept: what goes wrong there is one line, and nothing is lost by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies import storage
from cxrgan_fast.studies.storage import (
    is_address,
    open_storage,
    said_plainly,
    without_password,
)

optuna = pytest.importorskip("optuna")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a study."""
    path = tmp_path / "study.journal"
    optuna.create_study(storage=open_storage(str(path)), study_name="a")
    return path


def names(path: Path) -> list[str]:
    return optuna.get_all_study_names(open_storage(str(path)))


def test_a_journal_is_made_with_its_folder_and_read_again(tmp_path):
    path = tmp_path / "new" / "study.journal"
    optuna.create_study(storage=open_storage(str(path)), study_name="a")
    assert names(path) == ["a"]
    with pytest.raises(UserError, match=r"there is no study in .*none: the file is missing"):
        open_storage(str(tmp_path / "none"), create=False)
    assert not (tmp_path / "none").exists()


def test_half_a_line_that_a_power_cut_has_left_is_dropped(journal):
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"wor')
    optuna.create_study(storage=open_storage(str(journal)), study_name="b")
    assert names(journal) == ["a", "b"]


def test_only_looking_mends_nothing(journal):
    with journal.open("ab") as file:
        file.write(b'{"op_code":8,"wor')
    before = journal.read_bytes()
    assert optuna.get_all_study_names(open_storage(str(journal), create=False)) == ["a"]
    assert journal.read_bytes() == before


@pytest.mark.parametrize(
    "line", [b"text\n", b"[1]\n", b"\xff\n", b"{}\n", b'{"op_code":0}\n', b'{"op_code":99}\n']
)
def test_a_damaged_journal_is_named_with_its_line_and_left_as_it_is(journal, line):
    content = line + journal.read_bytes()
    journal.write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no journal of studies") as refused:
        open_storage(str(journal))
    if b"op_code" not in line:
        assert "line 1 is none of a journal" in str(refused.value)
    assert journal.read_bytes() == content


def test_what_is_no_journal_is_not_cut(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no line end")
    with pytest.raises(UserError, match="no journal of studies"):
        open_storage(str(notes))
    assert notes.read_text() == "no line end"


def test_damage_that_comes_later_is_said_and_a_defect_of_ours_is_not_hidden(journal):
    with pytest.raises(ValueError, match="ours"), said_plainly(str(journal)):
        raise ValueError("ours")
    opened = open_storage(str(journal))
    with journal.open("ab") as file:
        file.write(b"text\nmore\n")
    with (
        pytest.raises(UserError, match="is damaged: line 2 is none of a journal"),
        said_plainly(str(journal)),
    ):
        optuna.get_all_study_names(opened)


def test_a_place_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="it is not a file"):
        open_storage(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is not a file"):
        open_storage(str(tmp_path / "pipe"))
    with pytest.raises(UserError, match="cannot write /dev/null/x"):
        open_storage("/dev/null/x")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://127.0.0.1:1/x?password=secret", "Connection refused"),
        ("foo://me:secret@h/x", "Can't load plugin"),
        ("sqlite:////dev/null/x", "unable to open database file"),
        ("mysql://me:secret@h/x", "needs a package that is missing"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(
    monkeypatch, address, said
):
    pytest.importorskip("psycopg")
    monkeypatch.setattr(storage, "CONNECT_SECONDS", 2)
    with pytest.raises(UserError, match=said) as refused:
        open_storage(address)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_addresses_and_passwords():
    assert is_address("postgresql://h/x")
    assert not is_address("runs/a/study.journal")
    assert without_password("postgresql://me:p@ss@h/x") == "postgresql://me:***@h/x"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
