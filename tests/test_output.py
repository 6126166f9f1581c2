"""Output whose reader is gone, and text that a terminal would obey."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cxrgan_fast.output import SafeOutput

UNSAFE = ["\x1b[31m", "\x1b]0;title\x07", "\x9b1m", "\u202e", "\x00", "\x7f", "\x1b[2J"]


def shown(descriptor_of, text):
    read, write = descriptor_of()
    stream = SafeOutput(write, "utf-8", line_buffering=True)
    stream.write(text + "\n")
    stream.flush()
    os.close(write)
    content = b""
    try:
        while block := os.read(read, 4096):
            content += block
    except OSError:  # the end of a terminal
        pass
    os.close(read)
    return content.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("text", UNSAFE)
def test_escapes_reach_no_pipe(text):
    said = shown(os.pipe, f"before {text} after, ж\t\n")
    assert said.startswith("before ")
    assert text not in said
    assert "\\x" in said or "\\u" in said
    assert said.endswith(" after, ж\t\n\n")


@pytest.mark.parametrize("text", [text for text in UNSAFE if text != "\x1b[31m"])
def test_escapes_reach_no_terminal(text):
    assert text not in shown(pty.openpty, f"before {text} after")


def test_a_progress_bar_may_move_on_a_terminal_and_be_in_color():
    said = shown(pty.openpty, "\x1b[A\x1b[1;32mbar\x1b[0m")
    assert said.startswith("\x1b[A\x1b[1;32mbar\x1b[0m")


def test_a_write_that_fails_is_kept_and_raises_nothing():
    read, write = os.pipe()
    os.close(read)
    stream = SafeOutput(write, "utf-8", line_buffering=True)
    assert stream.failure is None
    for _ in range(3):
        assert stream.write("line\n") == 5
    assert isinstance(stream.failure, BrokenPipeError)
    os.close(write)


def command(arguments: str) -> subprocess.CompletedProcess:
    program = f"{sys.executable} -m {arguments}"
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_a_result_that_a_full_disk_has_taken_is_a_failure():
    done = command("cxrgan_fast.env >/dev/full")
    assert done.returncode == 2
    assert done.stderr == "error: the output could not be written: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_none():
    done = command("cxrgan_fast.env | head -n 1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_closed_standard_error_is_no_file_that_is_opened_next(tmp_path):
    """The next file would get its number, and what libraries say would go into it."""
    code = (
        "import os, sys; from cxrgan_fast.output import protect_output; protect_output();"
        f"file = open({str(tmp_path / 'file')!r}, 'w'); os.write(2, b'noise');"
        "print('said', file=sys.stderr); sys.exit(file.fileno() < 3)"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "$0" <&- >&- 2>&-', code])
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_json_goes_through_links_and_to_devices_and_replaces_neither(tmp_path):
    from cxrgan_fast.files import write_named

    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_named(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    device = Path(os.devnull)
    write_named(device, b"new")
    assert not device.is_file()
    read, write = os.pipe()
    write_named(Path(f"/dev/fd/{write}"), b"new")
    assert os.read(read, 10) == b"new"
    os.close(read)
    os.close(write)
