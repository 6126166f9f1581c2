"""Each line of help of each command reads as a phrase by itself."""

import argparse
import re
from collections.abc import Iterator

import pytest

from cxrgan_fast import env, evaluate, generate, study, sweep
from cxrgan_fast.data import __main__ as data
from cxrgan_fast.train import parse
from odd_arguments import parser_of

MAINS = {
    "train --family resnet": lambda: parse(["--family", "resnet", "--device", "cpu"]),
    "train --family dcgan": lambda: parse(["--family", "dcgan", "--device", "cpu"]),
    "generate": generate.main,
    "evaluate": evaluate.main,
    "sweep": sweep.main,
    "study": study.main,
    "data": data.main,
    "env": env.main,
}
# "Of the draw.", "Of the whole folder", "likewise" and "Threads; without, one a core" are words
# that only a neighboring line or their author explains.
LEANS = re.compile(
    r"^(of|in|with|without|by|from|to|as|and|or|else|only)\b|\blikewise\b"
    r"|; (without|not given|else)\b",
    re.IGNORECASE,
)
BRITISH = re.compile(
    r"colour|grey|centre|neighbour|paediatric|memoris|(initial|normal|optim|maxim|minim)is(e|a)",
    re.IGNORECASE,
)
KEPT_NAMES = re.compile(r"\bnearest_neighbour\b|\bmemorisation\b")  # metrics in users' files
HINT = re.compile(r" \(((default|required)[^()]*(\([^()]*\))?[^()]*)\)$")


def helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    """Each option with what is said of it, and with the hint at its end."""
    for action in parser._actions:
        if type(action).__name__ == "_SubParsersAction":
            assert isinstance(action.choices, dict)
            for command in action.choices.values():
                yield from helps(command)
        elif type(action).__name__ != "_HelpAction":
            said = " ".join(str(action.help).split())
            name = action.option_strings[0] if action.option_strings else str(action.metavar)
            hint = HINT.search(said)
            yield name, said[: hint.start()] if hint else said, hint.group(1) if hint else ""


@pytest.fixture(params=MAINS)
def found(request, monkeypatch) -> list[tuple[str, str, str]]:
    return list(helps(parser_of(MAINS[request.param], monkeypatch)))


def test_each_line_is_a_phrase_of_its_own(found):
    assert found
    for name, text, hint in found:
        if name == "--json" and not hint:  # of argparse, which writes its own lines in this way
            assert text == "print JSON instead of text"
            continue
        assert re.match(r"[A-Z].*[.]$", text), (name, text)
        assert not LEANS.search(text), (name, text)


def test_each_line_is_in_american_spelling(found):
    for name, text, hint in found:
        assert not BRITISH.search(KEPT_NAMES.sub("", f"{text} {hint}")), (name, text, hint)


def test_an_option_says_what_it_is_without_it(found):
    """No "(default: )" or "(default: '')", which say nothing of what happens then."""
    for name, _, hint in found:
        assert hint or name == "--json", name
        assert not re.match(r"default: *(''|\"\"|None)?(;|$)", hint), (name, hint)
