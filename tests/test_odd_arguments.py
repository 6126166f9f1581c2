"""Whatever is typed for any option of any command ends as documented: done, or one line.

The options are those of the commands' real parsers, so that a new one is tried without a word
here. A call that is refused names what it is about and leaves every file as it was.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn
from unittest.mock import create_autospec

import pytest
import torch

import cxrgan_fast
from bench.page import with_tables
from bench.record import ROOT
from cxrgan_fast.command import run_command
from cxrgan_fast.training import allocator
from evaluations import write_images
from odd_arguments import (
    BLANKS,
    NUMBERS,
    SEEDS,
    Option,
    odd_paths,
    odd_values,
    options_of,
    parser_of,
)
from odd_calls import BESIDE, CALLS, DOUBLES, KERNELS, SMALLEST

WRITTEN = ("--out", "OUT", "--json", "--sheet", "--record", "file", "png")
WITHOUT_THE_PACKAGE = ("bench.packages", "bench.reference_gan")  # nor its way to end
TRAINING = ("research.cxr_features", "research.cxr_ssl_features", "research.parity")
UNWRITABLE = ("/dev/full", "/proc/x")
NO_OPTION = Option("", "flag", n=0)
LIMIT = 20  # seconds; most take a fiftieth


class Hang(BaseException):
    """A call that takes too long. No command catches it."""


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def module_of(name: str) -> Any:
    """The module that `python -m cxrgan_fast.NAME`, or `python -m bench.NAME`, runs."""
    if "." in name:
        return importlib.import_module(name)
    return importlib.import_module(f"cxrgan_fast.{'data.__main__' if name == 'data' else name}")


class Place:
    """A folder in which commands are called, and which a refused call must leave as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = odd_paths(root)
        self.data = write_images(root / "data", "train", 8)
        write_images(root / "PUBLISHED" / "train", "train", 24)
        shutil.copytree(root / "PUBLISHED/train/normal", root / "PUBLISHED/train/viral")
        shutil.copytree(root / "PUBLISHED/train", root / "PUBLISHED/test")
        mark = f"<!-- {KERNELS.name} -->\n```text\n```\n"
        (root / "PAGE").write_text(with_tables(mark, KERNELS))
        self.run = root / "runs" / "none"

    def files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, folders, names in os.walk(self.root):
            found |= {os.path.join(folder, name): (0, 0) for name in folders}
            for name in names:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                found[path] = (about.st_mtime_ns, about.st_size)
        return found

    def clean(self, before: dict[str, tuple[int, int]]) -> None:
        for name in sorted(self.files().keys() - before.keys()):
            path = Path(name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if self.files() != before:  # a file that was written over, as it may be
            for name in ("file", "folder", "loop", "nowhere", "full", "pipe"):
                path = self.root / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            odd_paths(self.root)

    def words(self, command: str, sub: str, option: Option, odd: list[str]) -> list[str]:
        placed, flags = CALLS[command, sub]
        placed = list(placed)
        flags = {**flags, **BESIDE.get((command, option.name), {})}
        for alias in (option.name, "--class" if option.name == "--classes" else ""):
            flags.pop(alias, None)
        typed: list[str] = []
        if option.name.startswith("-"):
            typed = [option.name, *odd]
        elif option.name:
            places = [each for each in options(command, sub) if not each.name.startswith("-")]
            (placed[places.index(option)],) = odd
        stands = {name: str(self.root / name) for name in ("PAGE", "PUBLISHED")}
        stands |= {"DATA": str(self.data), "RUN": str(self.run)}
        words = [*placed, *(word for pair in flags.items() for word in pair if word)]
        out = str(self.root / "OUT")
        given = [stands.get(word, word.replace("OUT", out)) for word in words]
        return [*([sub] if sub else []), *given, *typed]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setitem(sys.modules, "kagglehub", None)  # nothing is downloaded
        yield Place(root)


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    def hangs(number: int, frame: FrameType | None) -> NoReturn:
        raise Hang

    kept = create_autospec(allocator.keep_large_tensors_off_mmap, return_value=False)
    monkeypatch.setattr(allocator, "keep_large_tensors_off_mmap", kept)

    def run(command: str, words: list[str]) -> Outcome:
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", [command, *words])
        main = module_of(command).main
        before = signal.signal(signal.SIGALRM, hangs)
        signal.alarm(LIMIT)
        try:
            with monkeypatch.context() as patch:
                for owner, name, result in DOUBLES.get(command, ()):
                    double = create_autospec(getattr(owner, name), return_value=result)
                    patch.setattr(owner, name, double)
                plain = command in WITHOUT_THE_PACKAGE
                status = (main() or 0) if plain else run_command(main)
        except SystemExit as end:  # of argparse
            status = int(end.code or 0)
        except (Exception, Hang):
            status = -1
            traceback.print_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            torch.set_num_threads(threads)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def a_run(place: Place) -> Path:
    """A run that has been trained for a step."""
    words = ["train", *(word for pair in SMALLEST.items() for word in pair), "--out", "runs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        assert run_command(module_of("train").main) == 0
    (place.run,) = (place.root / "runs").iterdir()
    return place.run


@functools.cache
def options(command: str, sub: str) -> list[Option]:
    with pytest.MonkeyPatch.context() as patch:
        return options_of(parser_of(module_of(command).main, patch))[sub]


def names_it(outcome: Outcome, option: Option, odd: list[str]) -> bool:
    plain = option.name.strip("-")
    names = {option.name, plain.replace("-", " "), plain.replace("-", "_")}
    names |= {form for value in odd if value for form in (value[:200], os.path.normpath(value))}
    if plain == "classes":
        names.add("class")
    if plain == "inception-weights":
        names.add("--features inception")  # it needs a library that may be missing
    if not option.name.startswith("-"):
        names |= {"(argument ", "download needs kagglehub"}
    shown = outcome.err.encode("utf-8", "backslashreplace").decode()
    return any(name.encode("unicode_escape").decode() in shown or name in shown for name in names)


def test_every_command_is_here() -> None:
    package = Path(cxrgan_fast.__file__).parent
    modules = [*package.glob("*.py"), *package.glob("*/__main__.py")]
    modules += [*ROOT.glob("bench/*.py"), *ROOT.glob("research/*.py")]
    found = set()
    for path in modules:
        if 'if __name__ == "__main__"' in path.read_text():
            name = path.stem if path.stem != "__main__" else path.parent.name
            found.add(name if package in path.parents else f"{path.parent.name}.{name}")
    assert found == {command for command, _ in CALLS}
    for command in found:
        with pytest.MonkeyPatch.context() as patch:
            subs = set(options_of(parser_of(module_of(command).main, patch)))
        assert subs == {sub for name, sub in CALLS if name == command}


@pytest.mark.long
@pytest.mark.parametrize(("command", "sub"), CALLS)
def test_odd_values(
    command: str, sub: str, place: Place, a_run: Path, call: Callable[..., Outcome]
) -> None:
    wrong, refused = [], 0
    for option in options(command, sub):
        for odd in odd_values(option, place.paths):
            if option.name in WRITTEN and odd == [place.paths["pipe"]]:
                continue  # whoever writes to a pipe waits for its reader
            if command in TRAINING and odd[0] in (place.paths["full"], *UNWRITABLE):
                continue  # what it has trained is kept, whatever becomes of the record
            words = place.words(command, sub, option, odd)
            before = place.files()
            outcome = call(command, words)
            refused += outcome.status == 2
            if why := fault(outcome, option, odd, before, place.files()):
                wrong.append(f"{option.name} {odd[0][:70]!r}: {why}: {outcome.err[-200:]}")
            place.clean(before)
    assert not wrong, "\n".join(wrong)
    assert refused or not options(command, sub) or command == "env"


def fault(
    outcome: Outcome,
    option: Option,
    odd: list[str],
    before: dict[str, tuple[int, int]],
    after: dict[str, tuple[int, int]],
) -> str:
    """What is wrong with how a call ended; nothing if nothing is."""
    if outcome.status == 0:
        is_number = option.kind in ("whole", "number")
        never = {*BLANKS, *(NUMBERS if is_number else ())}
        if option.name == "--seed":
            never |= set(SEEDS)
        if option.name == "--classes":
            never -= {""}  # as if it were not there, as its help says
        if option.kind == "choice" or odd[0] in never:
            return "taken"
        return ""
    if outcome.status != 2:
        return f"status {outcome.status}"
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    if len(lines) != 1 or "Traceback" in outcome.err:
        return "no line"
    if before != after:
        changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
        return f"left {sorted(changed)[:3]}"
    return "" if names_it(outcome, option, odd) else "names nothing"


@pytest.mark.parametrize(("command", "sub"), CALLS)
def test_a_value_that_is_missing(
    command: str, sub: str, place: Place, a_run: Path, call: Callable[..., Outcome]
) -> None:
    before = place.files()
    for option in options(command, sub):
        if not option.name.startswith("-") or option.n in (0, None):
            continue
        first = place.words(command, sub, option, [])
        for words in (first, [*first, "--help-me"]):  # the next word is an option
            outcome = call(command, words)
            assert outcome.status == 2, (words, outcome)
            assert outcome.err.count("\n") == 1, outcome.err
            assert option.name in outcome.err or "--help-me" in outcome.err, outcome.err
    assert place.files() == before


@pytest.mark.long
@pytest.mark.parametrize(("command", "sub"), CALLS)
def test_an_option_that_is_misspelt(
    command: str, sub: str, place: Place, a_run: Path, call: Callable[..., Outcome]
) -> None:
    before = place.files()
    known = [each for each in options(command, sub) if each.name.startswith("--")]
    for option in known:
        if len(option.name) < 7:
            continue  # of three letters another word may be nearer
        odd = option.name[:3] + option.name[4:]
        words = [*place.words(command, sub, NO_OPTION, []), odd, *["1"] * (option.n or 0)]
        outcome = call(command, words)
        assert outcome.status == 2, (words, outcome)
        assert odd in outcome.err
        alike = [each.name for each in known if each.name[:3] + each.name[4:] == odd]
        assert any(f"did you mean '{name}'?" in outcome.err for name in alike), outcome.err
    for words in (["--"], ["--", "x"], ["-x"], ["---"], ["--=3"], ["stray"]):
        outcome = call(command, [*place.words(command, sub, NO_OPTION, []), *words])
        if words != ["--"] and not (command == "bench.packages" and words[-1] in ("x", "stray")):
            assert outcome.status == 2, (words, outcome)
            assert outcome.err.count("\n") == (2 if command in ("env", "bench.packages") else 1), (
                outcome.err
            )
            place.clean(before)
    assert place.files() == before


@pytest.mark.parametrize(
    ("command", "sub", "words", "named"),
    [
        ("train", "", ["--classes", "normal", "--classes", "b"], "--classes is given twice"),
        ("train", "", ["--augment", "cutout", "--augment"], "--augment is given twice"),
        ("generate", "", ["--class", "normal", "--classes", "b"], "--classes is given twice"),
        ("generate", "", ["--class", "normal", "--class=bacterial"], "--class is given twice"),
        ("evaluate", "", ["--metrics", "kid"], "--metrics is given twice"),
        ("train", "", ["--augment", "cutout", "cutout"], "each once, got ('cutout', 'cutout')"),
        ("train", "", ["--momentum", "0.5"], "--momentum does nothing without --optimizer sgd"),
        ("train", "", ["--per-class", "--class-balance"], "--class-balance does nothing"),
        ("train", "", ["--config", "file"], "file should hold lines"),
        ("evaluate", "", ["--all-checkpoints", "--checkpoint", "1"], "give one of the two"),
        ("evaluate", "", ["--inception-weights", "file"], "--inception-weights is for --features"),
        ("generate", "", ["--class-folders", "normal=a", "normal=b"], "--class-folders"),
        ("generate", "", ["--n-per-class", "0"], "--n-per-class 0: expected 1 or more"),
        ("data", "prepare", ["--percentiles", "5"], "--percentiles"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(
    command: str, sub: str, words: list[str], named: str,
    place: Place, a_run: Path, call: Callable[..., Outcome],
) -> None:  # fmt: skip
    before = place.files()
    outcome = call(command, [*place.words(command, sub, NO_OPTION, []), *words])
    assert outcome.status == 2, outcome
    assert outcome.err.startswith("error: "), outcome.err
    assert outcome.err.count("\n") == 1
    assert named in outcome.err
    assert place.files() == before


def test_an_inspection_whose_file_fails_is_shown(
    place: Place, call: Callable[..., Outcome]
) -> None:
    """It may have taken an hour."""
    outcome = call("data", ["inspect", str(place.data), "--json", "/dev/full"])
    assert outcome.status == 2
    assert "8 images of" in outcome.out
    assert "/dev/full" in outcome.err


@pytest.mark.parametrize(
    ("command", "sub", "flag", "here"),
    [
        ("generate", "", "--outdir", "--out"),
        ("generate", "", "--num-images", "--n-per-class"),
        ("generate", "", "--labels", "--classes"),
        ("generate", "", "--ckpt", "--checkpoint"),
        ("evaluate", "", "--real_path", "--data"),
        ("evaluate", "", "--n-images", "--samples"),
        ("evaluate", "", "--gpu", "--device"),
        ("data", "prepare", "--img-size", "--resolution"),
        ("data", "prepare", "--n-jobs", "--workers"),
        ("data", "prepare", "--val_split", "--val-share"),
        ("data", "subset", "--img-size", ""),  # it has none
    ],
)
def test_names_of_other_programs(
    command: str, sub: str, flag: str, here: str, place: Place, a_run: Path,
    call: Callable[..., Outcome],
) -> None:  # fmt: skip
    outcome = call(command, [*place.words(command, sub, NO_OPTION, []), f"{flag}=3"])
    assert outcome.status == 2, outcome
    assert (f"; {flag} is {here} here; " in outcome.err) == bool(here), outcome.err
    assert not here or here in {each.name for each in options(command, sub)}
