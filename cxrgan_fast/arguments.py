"""The command line of a command: read into its dataclass, or refused in one line."""

import contextlib
import dataclasses
import io
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.plain_numbers import decimal, shown, whole

Form = TypeVar("Form")
Number = TypeVar("Number", int, float)

_FRAME = re.compile("[\u2500-\u257f]|^ *[|+]|[|+] *$|-{8,}")  # what tyro frames its messages with
# What options are called in other programs, by what they are called here.
_CALLED = {
    "--out": "output outdir out_dir output_dir save_dir out_folder output_folder",
    "--n-per-class": "n num count num_images n_images num_samples n_samples samples",
    "--samples": "num_images n_images",
    "--classes": "class_idx label labels class_name",
    "--checkpoint": "ckpt step snapshot epoch",
    "--device": "gpu gpus gpu_id cuda cpu",
    "--features": "extractor feature_extractor",
    "--data": "real real_path real_dir reference",
    "--resolution": "size img_size image_size resize",
    "--workers": "jobs n_jobs threads num_threads num_workers",
    "--val-share": "val_split val_size valid_split val_ratio",
    "--test-share": "test_split test_size test_ratio",
}
# What options were called in earlier versions, which users' scripts may still call them.
_CALLED_BEFORE = {"--exposure": "--contrast"}
_WIDE = "20000"  # columns in which no message is wrapped


@overload
def parse_arguments(
    form: type[Form], *, prog: str, args: Sequence[str] | None = None, **more: Any
) -> Form: ...
@overload
def parse_arguments(
    form: object, *, prog: str, args: Sequence[str] | None = None, **more: Any
) -> Any: ...
def parse_arguments(form: Any, *, prog: str, args: Sequence[str] | None = None, **more: Any) -> Any:
    """Read the command line into a dataclass, by `tyro.cli`.

    Numbers are plain ASCII digits and finite. An option that takes several values is given once:
    the values of a second one would take the place of the first's without a word.

    Args:
        form: the dataclass, or a union of subcommands.
        prog: what the program is called.
        args: the words; those of this process if None.
        more: further arguments of `tyro.cli`.

    Raises:
        UserError: what does not fit, naming the option, what came and what was expected.
        SystemExit: after `--help`.
    """
    words = _as_called_now(form, sys.argv[1:] if args is None else args)
    _refuse_second_lists(form, words)
    said = io.StringIO()
    wants_help = not {"-h", "--help"}.isdisjoint(words)
    try:
        with contextlib.redirect_stderr(said), contextlib.nullcontext() if wants_help else _wide():
            return tyro.cli(form, prog=prog, args=words, registry=_NUMBERS, **more)
    except SystemExit as end:
        if end.code in (0, None):  # --help
            raise
    here = _called_here(form, words)
    raise UserError(f"{one_line(said.getvalue())}{here}; {prog} --help lists the options")


def _as_called_now(form: Any, words: Sequence[str]) -> list[str]:
    """The words, with the options of the command under their names of today."""
    known = {flag for flag, _, _ in _flags(_command_in(form, words))}
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        now = _CALLED_BEFORE.get(flag)
        found.append(f"{now}{equals}{value}" if now in known else word)
    return found


def _called_here(form: Any, words: Sequence[str]) -> str:
    """The end of a message: what the first word that another program has is called here."""
    known = {flag for flag, _, _ in _flags(_command_in(form, words))}
    for word in words:
        name = word.partition("=")[0]
        if not name.startswith("--") or name.replace("_", "-") in known:
            continue
        for flag, names in _CALLED.items():
            if flag in known and name[2:].replace("-", "_").casefold() in names.split():
                return f"; {name} is {flag} here"
    return ""


def _command_in(form: Any, words: Sequence[str]) -> Any:
    """The dataclass of the subcommand that is called; where there is none, the form."""
    for part in () if dataclasses.is_dataclass(form) else typing.get_args(form):
        if any(getattr(note, "name", None) in words[:1] for note in typing.get_args(part)[1:]):
            return part
    return form


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Within, messages are not wrapped, which happens in the middle of long words too."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _numbers() -> ConstructorRegistry:
    registry = ConstructorRegistry()

    def rule(kind: type[Number], metavar: str, read: Callable[[str], Number]) -> None:
        spec = PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: isinstance(value, kind) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

        @registry.primitive_rule
        def of_type(
            info: PrimitiveTypeInfo,
        ) -> PrimitiveConstructorSpec[Any] | None:
            return spec if info.type is kind else None

    rule(int, "INT", whole)
    rule(float, "FLOAT", decimal)
    return registry


_NUMBERS = _numbers()


def _refuse_second_lists(form: Any, words: Sequence[str]) -> None:
    given: dict[str, str] = {}
    lists = {flag: field for flag, field, is_list in _flags(form) if is_list}
    for word in words:
        flag = word.partition("=")[0]
        setting = lists.get(flag.replace("_", "-"))
        if setting is None:
            continue
        if setting in given:
            raise UserError(
                f"{flag} is given twice ({given[setting]} before): give it once, with all values "
                "after it"
            )
        given[setting] = flag


def _flags(form: Any) -> Iterator[tuple[str, str, bool]]:
    """The flags of options, the field of each, and whether it takes any number of values."""
    while typing.get_origin(form) is typing.Annotated:
        form = typing.get_args(form)[0]
    if not dataclasses.is_dataclass(form):
        for part in typing.get_args(form):  # a union of subcommands
            yield from _flags(part)
        return
    for name, hint in typing.get_type_hints(form, include_extras=True).items():
        flags, kind = {f"--{name.replace('_', '-')}"}, hint
        while typing.get_origin(kind) is typing.Annotated:
            kind, *notes = typing.get_args(kind)
            for note in notes:
                flags |= {f"--{called}" for called in [getattr(note, "name", None)] if called}
                flags |= set(getattr(note, "aliases", None) or ())
        if dataclasses.is_dataclass(kind):
            yield from _flags(kind)
            continue
        is_list = typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is Ellipsis
        yield from ((flag, name, is_list) for flag in flags)


def one_line(message: str) -> str:
    """Say in a line what one of tyro's framed messages says.

    Args:
        message: its title, what is wrong, and more, divided by rules.
    """
    lines = [" ".join(_FRAME.sub(" ", line).split()) for line in message.splitlines()]
    while lines and not lines[0]:
        del lines[0]
    parts = [""]
    for line in lines[1:]:  # the first is the title
        if line:
            parts[-1] = f"{parts[-1]} {line}".strip()
        elif parts[-1]:
            parts.append("")
    said = parts[0].rstrip(".")
    for pattern, instead in _SHORTER:
        if match := re.fullmatch(pattern, said, re.DOTALL):
            return instead(match)
    for part in parts[1:]:
        if match := re.match(r"Perhaps you meant: (--[a-z0-9-]+)", part):
            return f"{said}; did you mean {match[1]!r}?"
        if part.startswith("Available subcommands"):
            known = part.partition(": ")[2].split(", ")
            words = said.partition(": ")[2].split(", ")
            return f"{said}: expected one of {', '.join(known)}{did_you_mean(words[0], known)}"
    return said


def _choice(match: re.Match[str]) -> str:
    choices = re.findall(r"'([^']*)'", match[3])
    near = did_you_mean(match[1], choices)
    return f"{match[2]} {shown(match[1])}: expected one of {', '.join(choices)}{near}"


# The sentences of tyro that can be shorter, or say more. Others stay as they are.
_SHORTER: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"invalid choice '(.*)' for argument '(.*)'\. Expected one of (\(.*\))", _choice),
    (
        r"Error parsing (.*?): no type matching (.*) could be instantiated from \['(.*)'\]",
        lambda match: f"{match[1]}: expected {match[2]}, got {shown(match[3])}",
    ),
    (r"Error parsing (.*)", lambda match: match[1]),
    (r"Missing value for argument '(.*?)'.*", lambda match: f"{match[1]}: a value is missing"),
)
