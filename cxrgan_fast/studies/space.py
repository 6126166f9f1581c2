"""The space of a sweep: which settings it varies, and the complete settings of each trial."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_small
from cxrgan_fast.setting import Known, Needs, settings_of
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import (
    PRESETS_OF_FAMILIES,
    TrainConfig,
    flatten,
    override,
)
from cxrgan_fast.settings.config_file import EVERY_SETTING, named_setting, read_mapping
from cxrgan_fast.studies.parameters import Parameter, Plain, Range, needs_of, read_parameter

DEFAULT_SPACE = Path(__file__).parent / "default_space.yaml"
"""The space of a sweep that names no other."""

GIVEN = ("seed", "init_from", "preset", "out", "name", "per_class", "hold_out_patients",
         "hold_out_seed")  # fmt: skip
"""Settings that are the sweep's own, or that no trial may have."""
SAME = ("classes", "phantom_images", "skip_bad", "resolution", "image_channels", "path_column",
        "label_column", "split_column", "patient_column", "columns")  # fmt: skip
"""Settings that shape the images, by which trials are compared."""

_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Space:
    """What a sweep draws from.

    Attributes:
        parameters: in an order in which each comes after those that it needs.
        base: the settings that trials have in common; trial 0 has them alone.
    """

    parameters: tuple[Parameter, ...]
    base: TrainConfig

    def draw(self, suggest: Callable[[Parameter], Plain]) -> dict[str, Plain]:
        """Draw a trial's values, in the order of needs and none that does nothing.

        Args:
            suggest: draws a value of a parameter.
        """
        drawn: dict[str, Plain] = {}
        values = flatten(self.base)
        for parameter in self.parameters:
            if all(_met(needs, values) for needs in needs_of(parameter.known)):
                drawn[parameter.name] = suggest(parameter)
                values[parameter.name] = parameter.read(drawn[parameter.name])
        return drawn

    def default(self) -> dict[str, Plain]:
        """Return the values of trial 0, which are those of the common settings."""
        flat = flatten(self.base)
        return self.draw(lambda parameter: parameter.spell(flat[parameter.name]))

    def settings(self, drawn: Mapping[str, Plain]) -> TrainConfig:
        """Put drawn values into the common settings; what then does nothing has its default."""
        read = {each.name: each.read(drawn[each.name]) for each in self.parameters
                if each.name in drawn}  # fmt: skip
        config, family = self.base, read.get("family", self.base.network.family)
        if family != config.network.family:
            of_family = PRESETS_OF_FAMILIES.get((config.preset, family), {})
            config = override(config, {"family": family, **of_family})
        return _without_idle(override(config, read))

    def to_plain(self) -> dict[str, Any]:
        """Describe the space as plain values for JSON."""
        return {parameter.name: parameter.to_plain() for parameter in self.parameters}


def _met(needs: Needs, values: Mapping[str, Any]) -> bool:
    return any(needs.met(_effective(name, values)) for name in needs.settings)


def _effective(name: str, values: Mapping[str, Any]) -> Any:
    """What a setting comes to: its default where it does nothing."""
    known = EVERY_SETTING[name]
    idle = not all(_met(needs, values) for needs in needs_of(known))
    return known.default if idle else values.get(name, known.default)


def _without_idle(config: TrainConfig) -> TrainConfig:
    """Settings of which each does something, or has its default: `check` refuses others."""
    while True:
        flat = flatten(config)
        idle = {
            known.name: known.default
            for known in settings_of(config).values()
            if (needs := known.setting.needs) is not None
            and flat[known.name] != known.default
            and not any(needs.met(flat[name]) for name in needs.settings)
        }
        if not idle:
            return config
        config = override(config, idle)


def read_space(path: Path, base: TrainConfig) -> Space:
    """Read a space from a YAML file whose keys are settings of ``train``.

    Args:
        path: a file of lines such as ``g_lr: {low: 1e-5, high: 1e-3}``, ``output: [tanh, sigmoid]``
            or ``optimizer:`` for all choices of its field.
        base: the settings that trials have in common.

    Raises:
        UserError: the file cannot be read, names nothing or an unknown setting (the nearest one is
            given), leaves the bounds of a field, lacks a value of the common settings, or has two
            values that ``train`` refuses together.
    """
    try:
        text = read_small(path, _MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a YAML file: it is not text") from None
    document = read_mapping(text, path, "g_lr: {low: 1e-5, high: 1e-3}")
    if not document:
        raise UserError(f"{path} names no setting: expected lines like 'output: [tanh, sigmoid]'")
    parameters = []
    for name, given in document.items():
        known = named_setting(name, path)
        _require_free(known, path)
        parameters.append(read_parameter(known, given, path))
    space = Space(_in_order(parameters), base)
    _require_default(space, path)
    _require_agreement(space, path)
    return space


def _require_free(known: Known, path: Path) -> None:
    if known.name in SAME:
        raise UserError(
            f"{path}: {known.name} shapes the images that all trials are compared by; give it with "
            "--train"
        )
    if known.name in GIVEN or known.setting.resumable:
        raise UserError(f"{path}: {known.name} is no setting that a sweep can vary; leave it out")


def _in_order(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Each after those that it needs, else as they stand."""
    by_name = {parameter.name: parameter for parameter in parameters}
    ordered: dict[str, Parameter] = {}

    def add(parameter: Parameter) -> None:
        for name in (name for needs in needs_of(parameter.known) for name in needs.settings):
            if name in by_name and name not in ordered:
                add(by_name[name])
        ordered.setdefault(parameter.name, parameter)

    for parameter in parameters:
        add(parameter)
    return tuple(ordered.values())


def _require_default(space: Space, path: Path) -> None:
    default = space.default()
    for parameter in space.parameters:
        if parameter.name in default and not parameter.contains(default[parameter.name]):
            value = default[parameter.name]
            raise UserError(
                f"{path}: {parameter.name} lacks {value}, the value of trial 0, which is the "
                f'default: add it, or let --train "{parameter.known.flag} ..." set another'
            )


def _require_agreement(space: Space, path: Path) -> None:
    """Refuse a space that can draw what ``train`` refuses.

    It refuses single values, and pairs of choices: what numbers have to do with other settings are
    needs, by which they are drawn. So each is tried with the default of all others.
    """
    default = space.default()
    choices = [(each, value) for each in space.parameters for value in each.corners
               if isinstance(each.values, tuple)]  # fmt: skip
    ends = [(each, value) for each in space.parameters for value in each.corners
            if isinstance(each.values, Range)]  # fmt: skip
    pairs = [(one, other) for one, other in itertools.combinations(choices, 2)
             if one[0] is not other[0]]  # fmt: skip
    for tried in [*((each,) for each in (*choices, *ends)), *pairs]:
        chosen = {parameter.name: value for parameter, value in tried}

        def suggest(parameter: Parameter, chosen: Mapping[str, Plain] = chosen) -> Plain:
            usual = default.get(parameter.name, parameter.corners[0])
            return chosen.get(parameter.name, usual)

        try:
            config = space.settings(space.draw(suggest))
            check(config)
            config.network.validate(2)
        except UserError as error:
            shown = " and ".join(f"{name} {value}" for name, value in chosen.items())
            raise UserError(f"{path}: {shown} cannot be drawn: {error}") from None
