"""What the commands do with failures."""

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


def test_a_defect_keeps_its_traceback():
    def main() -> None:
        raise ValueError("a defect, not bad input")

    with pytest.raises(ValueError, match="a defect"):
        run_command(main)
