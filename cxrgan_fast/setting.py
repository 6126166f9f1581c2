"""What is known of a setting beside its type and its default, and stands at its field.

A setting is a field of a frozen dataclass that is derived from `Settings`::

    noise_decay_steps: Annotated[int, Setting(least=0, needs=Needs("noise_std"))] = 0

with its help in a text below it. Flags, files, checks and messages read it from there, by
`settings_of`. Python's own modules are all that this one needs: where training steps are measured,
YAML and pydantic may be missing.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import numbers
import operator
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.schedule import SPELLING, Schedule

MOST_WHOLE = 2**53
"""Largest whole number of a setting that names no other: larger ones fit no double."""

MOST_REAL = 1e12
"""Largest other number of a setting that names no other: beyond it a step gives infinities."""


@dataclass(frozen=True)
class Needs:
    """Which values of another setting let a setting do something.

    Attributes:
        setting: name of the other one.
        or_setting: name of one more, such a value of which is enough; none if empty.
        among: the values that do; none given means all but 0, False and None.
        but: the one value that does not.
    """

    setting: str
    among: tuple[Any, ...] = ()
    but: Any = None
    or_setting: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the names of the other settings, one of which has to have such a value."""
        return (self.setting, self.or_setting) if self.or_setting else (self.setting,)

    def met(self, value: Any) -> bool:
        """Tell whether this is such a value."""
        if self.among:
            return value in self.among
        return bool(value) if self.but is None else value != self.but

    @property
    def text(self) -> str:
        """Say when there is no effect, as in "without --loss minimax" or "with --optimizer sgd"."""
        return f"{'without' if self.but is None else 'with'} {self._condition}"

    @property
    def hint(self) -> str:
        """Say when there is one, as in "with --loss minimax" or "not with --optimizer sgd"."""
        return f"{'with' if self.but is None else 'not with'} {self._condition}"

    @property
    def _condition(self) -> str:
        values = self.among if self.but is None else () if self.but is True else (self.but,)
        return f"{_or(tuple(map(flag_of, self.settings)))} {_or(values)}".rstrip()


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its type, its default and its help.

    Attributes:
        least: smallest number.
        most: largest number; `MOST_WHOLE` or `MOST_REAL` if None.
        below: number that it has to be smaller than.
        multiple_of: number that it has to be a multiple of.
        log: whether a sweep draws its numbers on a logarithmic scale, unless it is told otherwise.
        choices: the numbers that it may be, instead of bounds.
        needs: without what it does nothing.
        idle: a value, other than the default, that is no mistake where the setting does nothing.
        unset: what a default of None or of the empty text means, for help; "none" if empty.
        resumable: whether a run that is resumed may change it.
        is_path: whether a text names a file or folder; a `Path` always does.
        aliases: further flags that mean it.
        elsewhere: what other programs call it, with spaces between.
        answer: what is said to somebody who calls it so; its flag if empty.
    """

    least: int | float | None = None
    most: int | float | None = None
    below: int | float | None = None
    multiple_of: int = 1
    log: bool = False
    choices: tuple[int, ...] = ()
    needs: Needs | None = None
    idle: Any = None
    unset: str = ""
    resumable: bool = False
    is_path: bool = False
    aliases: tuple[str, ...] = ()
    elsewhere: str = ""
    answer: str = ""


class Settings:
    """Base of the dataclasses whose fields are settings: one that exists holds values that fit.

    Raises:
        UserError: a value does not fit its field, which is named.
    """

    def __post_init__(self) -> None:
        owner: Any = type(self)
        for known in _of_class(owner).values():
            known.check(getattr(self, known.name), known.name)


@dataclass(frozen=True)
class Known:
    """All that is known of one setting.

    Attributes:
        name: name of its field.
        owner: the class that has the field.
        hint: its type, apart from that of a schedule.
        default: its default.
        setting: what stands at its field.
        scheduled: whether it may be a `Schedule` of such numbers, too.
    """

    name: str
    owner: type
    hint: Any
    default: Any
    setting: Setting
    scheduled: bool = False

    @property
    def flag(self) -> str:
        """Return the flag of the setting."""
        return flag_of(self.name)

    @property
    def help(self) -> str:
        """Return the help below the field; empty where Python has no sources."""
        return docs_of(self.owner).get(self.name, "")

    @property
    def is_list(self) -> bool:
        """Tell whether the setting takes several values."""
        return get_origin(self.hint) is tuple

    @property
    def is_path(self) -> bool:
        """Tell whether the setting names a file or folder."""
        return Path in self._types or self.setting.is_path

    @property
    def choices(self) -> tuple[Any, ...]:
        """Return the values that it may have, apart from those that `number` allows."""
        named = (get_args(each) for each in self._types if get_origin(each) is Literal)
        return (*itertools.chain.from_iterable(named), *self.setting.choices)

    @property
    def number(self) -> type[int] | type[float] | None:
        """Return the type of the numbers that it may be, between bounds; None if it takes none."""
        kinds = (each for each in (int, float) if each in self._types)
        return None if self.setting.choices else next(kinds, None)

    @property
    def bounds(self) -> tuple[int | float | None, int | float]:
        """Return the smallest and largest number; with `below`, the largest itself is excluded."""
        setting = self.setting
        usual = MOST_WHOLE if self.number is int else MOST_REAL
        most = setting.most if setting.below is None else setting.below
        return setting.least, usual if most is None else most

    @property
    def _types(self) -> tuple[Any, ...]:
        hint = get_args(self.hint)[0] if self.is_list else self.hint
        return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)

    def expected(self, value: Any = None) -> str:
        """Say what it may be: "auto or a whole number from 1 to 1024"; nothing where it is free.

        Args:
            value: one that does not fit. A bound that goes without saying is said if it is why.
        """
        parts = []
        if self.choices:
            parts.append(_or(self.choices))
            if self.number is None:
                parts = [f"one of {', '.join(map(str, self.choices))}"]
        if self.number is not None:
            kind = "a whole number" if self.number is int else "a number"
            if self.setting.multiple_of > 1:
                kind = f"a multiple of {self.setting.multiple_of}"
            parts.append(f"{kind} {self._bounds_text(value)}")
        if self.scheduled:
            parts.append(f"a schedule {SPELLING} of such numbers")
        if self.is_list and self.choices:
            return f"{', '.join(map(str, self.choices))}, or some of them, each once"
        return " or ".join(parts)

    def _bounds_text(self, value: Any) -> str:
        least, most = self.bounds
        if self.setting.below is not None:
            return f"of at least {_shown(least)} and below {_shown(most)}"
        ends = (value.start, value.end) if isinstance(value, Schedule) else (value,)
        beyond = any(isinstance(end, int | float) and end > most for end in ends)
        if self.setting.most is None and not beyond:
            return f"of at least {_shown(least)}"
        return f"from {_shown(least)} to {_shown(most)}"

    def check(self, value: Any, called: str) -> None:
        """Refuse a value that does not fit.

        Args:
            value: a value of the setting's type, or anything else.
            called: what messages call the setting.

        Raises:
            UserError: the value does not fit; the message says what came and what was expected.
        """
        if not self._fits(value):
            raise self.refusal(value, called)

    def refusal(self, value: Any, called: str) -> UserError:
        """Make the error for a value that does not fit."""
        expected = self.expected(value) or _WORDS.get(self._types[0], "another value")
        hint = did_you_mean(value, map(str, self.choices)) if isinstance(value, str) else ""
        # Python writes no whole number of more than some thousand digits.
        huge = isinstance(value, int) and value.bit_length() > 4096
        if isinstance(value, Schedule):
            value = str(value)
        shown = f"one of {value.bit_length()} bits" if huge else f"{value!r:.200}"
        return UserError(f"{called} should be {expected}, got {shown}{hint}")

    def _fits(self, value: Any) -> bool:
        if isinstance(value, Schedule):
            return self.scheduled and self._fits_one(value.start) and self._fits_one(value.end)
        if not self.is_list:
            return self._fits_one(value)
        if not isinstance(value, tuple):
            return False
        return all(map(self._fits_one, value)) and (
            not self.choices or len(set(value)) == len(value)
        )

    def _fits_one(self, value: Any) -> bool:
        if not self.choices and self.number is None:
            return True
        if isinstance(value, bool):  # which is 1 to Python
            return False
        if value in self.choices:
            return True
        kind: Any = numbers.Integral if self.number is int else numbers.Real
        if self.number is None or not isinstance(value, kind):
            return False
        least, most = self.bounds
        setting = self.setting
        return (
            (least is None or least <= value)
            and (value < most if setting.below is not None else value <= most)
            and (setting.multiple_of == 1 or value % setting.multiple_of == 0)
        )


_WORDS = {bool: "true or false", str: "a text", Path: "the name of a file or folder"}


def flag_of(name: str) -> str:
    """Return the flag of a setting: "--batch-size" of "batch_size"."""
    return "--" + name.replace("_", "-")


def settings_of(config: Any) -> dict[str, Known]:
    """Describe all settings of a configuration by their flat names, in their order.

    Args:
        config: one, or the class of one, whose groups then are those of its defaults.
    """
    instance = config() if isinstance(config, type) else config
    found: dict[str, Known] = {}
    owner: Any = type(instance)
    of_class = _of_class(owner)
    for field in dataclasses.fields(instance):
        if field.name in of_class:
            found[field.name] = of_class[field.name]
        else:
            found.update(settings_of(getattr(instance, field.name)))
    return found


@functools.cache
def _of_class(owner: type) -> dict[str, Known]:
    """The settings of one class, without those of its groups."""
    hints = get_type_hints(owner, include_extras=True)
    return {
        field.name: _known(field, owner, hints[field.name])
        for field in dataclasses.fields(owner)
        if not dataclasses.is_dataclass(hints[field.name])
    }


def _known(field: "dataclasses.Field[Any]", owner: type, hint: Any) -> Known:
    notes: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
    settings = [note for note in notes if isinstance(note, Setting)]
    setting = settings[0] if settings else Setting()
    kinds = get_args(hint)
    scheduled = Schedule in kinds
    if scheduled:
        hint = functools.reduce(operator.or_, (kind for kind in kinds if kind is not Schedule))
    return Known(field.name, owner, hint, field.default, setting, scheduled)


@functools.cache
def docs_of(owner: type) -> dict[str, str]:
    """Return the help below each field of a class, as one line each."""
    docs: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        if dataclasses.is_dataclass(each):
            docs |= dict(_docs(each))
    return docs


def _docs(owner: type) -> Iterator[tuple[str, str]]:
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except OSError:  # installed without sources
        return
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            doc = below.value if isinstance(below, ast.Expr) else None
            if isinstance(doc, ast.Constant) and isinstance(doc.value, str):
                yield field.target.id, " ".join(doc.value.split())


def _or(values: tuple[Any, ...]) -> str:
    words = [*map(str, values)]
    return " or ".join([", ".join(words[:-1]), *words[-1:]] if len(words) > 1 else words)


def _shown(bound: int | float | None) -> str:
    """A bound as people write it: 2^53, not 9007199254740992."""
    if isinstance(bound, int) and bound > 10**6:
        for exact, minus in ((bound, ""), (bound + 1, " - 1")):
            if exact & (exact - 1) == 0:
                return f"2^{exact.bit_length() - 1}{minus}"
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
