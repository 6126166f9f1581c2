"""What the commands do with failures."""

import subprocess
import sys

import pytest

from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError


def test_a_command_that_succeeds_exits_0_and_prints_nothing(capsys):
    assert run_command(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_bad_input_is_one_line_on_stderr_and_exit_code_2(capsys):
    def main() -> None:
        raise UserError("--seed: got -1,\n  expected 0 or more")

    assert run_command(main) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: --seed: got -1, expected 0 or more\n"


def test_ctrl_c_exits_130(capsys):
    def main() -> None:
        raise KeyboardInterrupt

    assert run_command(main) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_names_that_are_no_text_are_printed_escaped():
    program = (
        "import sys\n"
        "from cxrgan_fast.command import run_command\n"
        "sys.exit(run_command(lambda: print('a\\udcffb.png')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"a\\udcffb.png\n"


def test_a_defect_keeps_its_traceback():
    def main() -> None:
        raise ValueError("a defect, not bad input")

    with pytest.raises(ValueError, match="a defect"):
        run_command(main)
