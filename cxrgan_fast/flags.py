"""Settings as flags of a command: what `tyro` is told of those that are described at their fields.

Within ``with FLAGS:`` or ``with SOME_FLAGS:`` it reads and shows them as they are described.
"""

import dataclasses
from typing import Annotated, Any

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from cxrgan_fast.plain_numbers import decimal, whole
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import Known, Settings, docs_of, settings_of


def read_flag(known: Known, words: list[str]) -> Any:
    """Read what is typed after a flag.

    Raises:
        UserError: it does not fit the setting.
    """
    # As a list the empty text is the empty list, which a script's variable may hold.
    values = [_plain(known, word) for word in words if word or not known.is_list]
    value = tuple(values) if known.is_list else values[0]
    known.check(value, known.flag)
    return value


def _plain(known: Known, word: str) -> str | int | float | Schedule:
    try:
        if known.scheduled and ":" in word:
            return Schedule.read(word)
        if known.number is float:
            return float(word) if word in ("nan", "inf", "-inf") else decimal(word)
        if known.number is int or known.setting.choices:
            return whole(word)
    except ValueError:  # no number; it may be a choice by name
        pass
    return word


def _rules(*, with_needs: bool) -> ConstructorRegistry:
    """Make the rules by which settings are flags; `with_needs`, help says what each needs."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def of_settings(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not (isinstance(info.type, type) and issubclass(info.type, Settings)):
            return None
        config = info.default if isinstance(info.default, info.type) else info.type()
        owner: Any = info.type
        described, docs = settings_of(config), docs_of(owner)
        fields = []
        for field in dataclasses.fields(config):  # type: ignore[arg-type]  # a dataclass
            value = getattr(config, field.name)
            kind: Any = type(value)  # a group, by its own class
            if not isinstance(value, Settings):
                kind = _described(described[field.name], with_needs)
            fields.append(StructFieldSpec(field.name, kind, value, docs.get(field.name)))
        return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))

    return registry


def _described(known: Known, with_needs: bool) -> Any:
    """The type of a setting with all that its flag's line of help says, and how it is read."""

    def hint(default: str) -> str:
        needs = known.setting.needs if with_needs else None
        bounds = known.expected() if known.number is not None else ""  # choices are seen before it
        shown = default if default not in ("", "''", "None") else known.setting.unset or "none"
        parts = [f"default: {shown}", bounds, needs.hint if needs else ""]
        return f"({'; '.join(filter(None, parts))})"

    # What comes last in `flags` is what help shows last, after the aliases.
    *flags, name = (known.flag, *known.setting.aliases)
    notes: list[Any] = [
        tyro.conf.arg(name=name.removeprefix("--"), aliases=flags, help_behavior_hint=hint)
    ]
    if known.number is not None or known.choices or known.is_list:
        notes.append(_reader(known))
    annotated: Any = Annotated
    parts: Any = (known.hint | Schedule if known.scheduled else known.hint, *notes)
    return annotated[parts]


def _reader(known: Known) -> PrimitiveConstructorSpec[Any]:
    named = ",".join(map(str, known.choices))
    parts = [f"{{{named}}}"] if named else []
    if known.number is not None:
        parts.append("INT" if known.number is int else "FLOAT")
    if known.scheduled:
        parts.append("START:END")
    one = "|".join(parts) or "NAME"
    return PrimitiveConstructorSpec(
        nargs="*" if known.is_list else 1,
        metavar=f"[{one} ...]" if known.is_list else one,
        instance_from_str=lambda words: read_flag(known, words),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [*map(str, value if known.is_list else [value])],
    )


FLAGS = _rules(with_needs=True)
"""Rules for a command that has all settings of a training."""
SOME_FLAGS = _rules(with_needs=False)
"""Rules for a command that has a few settings, without those that they need."""
