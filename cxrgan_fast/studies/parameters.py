"""A setting that a sweep varies: the values that it draws from, read from a file of the space.

The type, the bounds and the choices are those of the setting's field; a file narrows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrgan_fast.errors import UserError, did_you_mean
from cxrgan_fast.nn.family import families_with
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import Known, Needs
from cxrgan_fast.settings.config_file import read_value

if TYPE_CHECKING:
    from optuna import Trial

Plain = str | int | float | bool
"""A value as Optuna keeps it."""

NONE = "none"
"""How a list of nothing is spelled among choices, such as no augmentation."""

_RANGE = ("low", "high", "step", "log")


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, both included.

    Attributes:
        low: smallest number.
        high: largest number.
        step: distance of two neighboring numbers; None for any number between.
        log: whether numbers are drawn on a logarithmic scale.
    """

    low: int | float
    high: int | float
    step: int | float | None
    log: bool


@dataclass(frozen=True)
class Parameter:
    """A setting that a sweep varies.

    Attributes:
        known: the setting.
        values: numbers of a range, or choices as Optuna keeps them.
    """

    known: Known
    values: Range | tuple[Plain, ...]

    @property
    def name(self) -> str:
        """Return the name of the setting."""
        return self.known.name

    def suggest(self, trial: Trial) -> Plain:
        """Have Optuna draw a value for a trial, or give the one that it has drawn before."""
        values = self.values
        drawn: Plain
        if isinstance(values, tuple):
            chosen = trial.suggest_categorical(self.name, values)
            assert chosen is not None  # no choice is
            drawn = chosen
        elif self.known.number is int:
            low, high, step = int(values.low), int(values.high), int(values.step or 1)
            drawn = trial.suggest_int(self.name, low, high, step=step, log=values.log)
        else:
            drawn = trial.suggest_float(
                self.name, values.low, values.high, step=values.step, log=values.log
            )
        return drawn

    @property
    def corners(self) -> tuple[Plain, ...]:
        """Return values that show what the others do: all choices, or the ends of a range."""
        values = self.values
        return values if isinstance(values, tuple) else (values.low, values.high)

    def contains(self, value: Plain) -> bool:
        """Tell whether the sweep can draw a value."""
        values = self.values
        if isinstance(values, tuple):
            return any(value == each and type(value) is type(each) for each in values)
        if isinstance(value, str | bool) or not values.low <= value <= values.high:
            return False
        steps = (value - values.low) / values.step if values.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    def spell(self, value: Any) -> Plain:
        """Write a value of the setting as Optuna keeps it."""
        if isinstance(value, tuple):
            return ",".join(map(str, value)) or NONE
        if isinstance(value, Schedule):
            return str(value)
        # A range of floats has 1.0 where somebody has typed 1; choices keep what the type says.
        plain: Plain = float(value) if self.known.number is float and _is_whole(value) else value
        return plain

    def read(self, plain: Plain) -> Any:
        """Return the value of the setting that :meth:`spell` has written."""
        if self.known.is_list:
            return () if plain == NONE else tuple(str(plain).split(","))
        if self.known.scheduled and isinstance(plain, str) and ":" in plain:
            return Schedule.read(plain)
        return plain

    def to_plain(self) -> dict[str, Any]:
        """Describe the values as plain values for JSON."""
        if isinstance(self.values, tuple):
            return {"choices": list(self.values)}
        return asdict(self.values)


def needs_of(known: Known) -> list[Needs]:
    """Return what other settings have to be for a setting to do something."""
    own, families = known.setting.needs, families_with(known.name)
    of_family = Needs("family", among=tuple(families)) if families else None
    return [needs for needs in (own, of_family) if needs is not None]


def read_parameter(known: Known, given: Any, path: Path) -> Parameter:
    """Read what a file of a space says of a setting.

    Args:
        known: the setting.
        given: a list of choices, a mapping with low and high and perhaps step and log, or None for
            all choices that the field has.
        path: the file, for messages.

    Raises:
        UserError: it is something else, or beyond the field's own bounds and choices.
    """
    called = f"{path}: {known.name}"
    if given is None:
        given = [False, True] if known.hint is bool else list(known.choices)
        if not given or known.number is not None or known.is_list:
            raise UserError(
                f"{called}: expected choices such as [1, 2], or low and high; the setting is "
                f"{known.expected() or 'free'}"
            )
    if isinstance(given, Mapping):
        return Parameter(known, _range(known, given, called))
    if not isinstance(given, list):
        raise UserError(
            f"{called}: expected a list of choices, or low and high, got {given!r:.200}"
        )
    bare = Parameter(known, ())
    choices = tuple(bare.spell(read_value(known, value, called)) for value in given)
    if len(set(choices)) < max(2, len(choices)):
        raise UserError(f"{called}: expected two choices or more, each once, got {given!r:.200}")
    return Parameter(known, choices)


def _range(known: Known, given: Mapping[Any, Any], called: str) -> Range:
    if known.number is None:
        raise UserError(f"{called}: expected a list of choices, for it is {known.expected()}")
    for key in given:
        if key not in _RANGE:
            hint = did_you_mean(str(key), _RANGE)
            raise UserError(f"{called}: expected {', '.join(_RANGE)}, got {key!r:.100}{hint}")
    for end in ("low", "high"):
        if isinstance(given.get(end), bool | None | str):
            raise UserError(f"{called}: {end} should be a number, got {given.get(end)!r:.100}")
    low, high = (read_value(known, given[end], f"{called}: {end}") for end in ("low", "high"))
    usual = known.setting.multiple_of if known.setting.multiple_of > 1 else None
    step, log = given.get("step", usual), given.get("log")
    if log is None:
        log = known.setting.log and low > 0 and step is None
    if not isinstance(log, bool):
        raise UserError(f"{called}: log should be true or false, got {log!r:.100}")
    if not low < high:
        raise UserError(f"{called}: low should be below high, got {low} and {high}")
    if log and low <= 0:
        raise UserError(f"{called}: on a logarithmic scale low should be above 0, got {low}")
    if step is not None:
        number = int if known.number is int else (int, float)
        if isinstance(step, bool) or not isinstance(step, number) or not 0 < step <= high - low:
            raise UserError(
                f"{called}: step should be a {'whole ' if number is int else ''}number above 0 and "
                f"at most high - low, got {step!r:.100}"
            )
        if log:
            raise UserError(f"{called}: a logarithmic scale has no steps; leave step or log out")
        steps = (high - low) / step
        if abs(steps - round(steps)) > 1e-9:
            raise UserError(f"{called}: high should be low and a number of steps, got {given!r}")
        known.check(low + step, f"{called}: low + step")
    return Range(low, high, step, log)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
