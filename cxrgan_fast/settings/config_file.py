"""Settings as a YAML file: the sparse one of ``--config``, and the complete one of a run folder.

Apart from the settings themselves (`cxrgan_fast.settings.config`), which need neither YAML nor
pydantic: training steps can be tested and measured where those are not installed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small
from cxrgan_fast.nn.family import FAMILIES, own_settings
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.setting import Known, Settings, settings_of
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.settings.names import unknown_setting

_MOST_BYTES = 1 << 20  # of a file of settings


def _settings_in(document: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Flat settings of a YAML document, in which the groups' names may be given or left out."""
    for key, value in document.items():
        if key in _GROUPS and isinstance(value, Mapping):
            yield from _settings_in(value)
        else:
            yield str(key), value


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the settings of a sparse YAML file by their flat names, each of the right type.

    Raises:
        UserError: The file cannot be read, a key is unknown (the nearest name is given) or a
            value does not fit its setting.
    """
    try:
        text = read_small(path, _MOST_BYTES).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a YAML file: it is not text") from None
    return read_config(text, path)


def read_config(text: str, path: Path) -> dict[str, Any]:
    """Read the same from the text of a file; errors name ``path``."""
    document = read_mapping(text, path, "batch_size: 64")
    return _without_other_families(
        {
            key: read_value(named_setting(key, path), value, f"{path}: {key}")
            for key, value in _settings_in(document)
        }
    )


def read_mapping(text: str, path: Path, example: str) -> Mapping[Any, Any]:
    """Read YAML that holds values by name; an empty text holds none.

    Args:
        text: the YAML.
        path: its name, for messages.
        example: a line as it should be, for messages.

    Raises:
        UserError: the text is no YAML, or holds something else.
    """
    try:
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError) as error:
        # Of a date that is none, or a number of 5,000 digits, YAML's own errors do not tell.
        reason = printable(" ".join(str(error).split()))
        raise UserError(f"{path} is not a YAML file: {reason}") from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise UserError(f"{path} should hold lines like {example!r}, got {document!r:.200}")
    return document


def named_setting(name: Any, path: Path) -> Known:
    """Find the setting of a name, of whichever family of networks.

    Args:
        name: the setting as the file calls it.
        path: the file that names it, for messages.

    Raises:
        UserError: there is none of that name; the nearest one is given.
    """
    if name not in EVERY_SETTING:
        raise UserError(
            f"{path}: unknown setting {name!r:.200}{unknown_setting(name, EVERY_SETTING)}"
        )
    return EVERY_SETTING[name]


def read_value(known: Known, value: Any, called: str) -> Any:
    """Read the value of a setting from what YAML gives: of the right type, and within its bounds.

    Args:
        known: the setting.
        value: what YAML gives.
        called: what messages call the setting.

    Raises:
        UserError: the value does not fit the setting.
    """
    try:
        if known.scheduled and isinstance(value, str) and ":" in value:
            read: Any = Schedule.read(value)
        else:
            read = TypeAdapter(known.hint).validate_python(value)
    except ValueError:  # as pydantic's errors are
        raise known.refusal(value, called) from None
    known.check(read, called)
    if known.is_path and (value == "" or "\0" in str(value)):
        raise UserError(f"{called} is empty or holds a zero byte; name a file or folder")
    return read


def _without_other_families(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what a file says of families that are not its own, if it says nothing of them.

    Earlier versions wrote the defaults of all.
    """
    if "family" not in settings:
        return settings
    own = own_settings(settings["family"])
    others = {
        name: default for family in FAMILIES for name, default in own_settings(family).items()
    }
    return {
        name: value
        for name, value in settings.items()
        if name in own or name not in others or value != others[name]
    }


class _Loader(yaml.SafeLoader):
    """A loader without aliases and without numbers of base 60.

    Ten lines of aliases of aliases can fill the memory, and 10:1 is a schedule, not ten minutes
    and a second.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        is_number = tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        return self.DEFAULT_SCALAR_TAG if is_number and ":" in value else tag

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed", event.start_mark
            )
        return super().compose_node(parent, index)


def _groups_of(config: object) -> Iterator[str]:
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration
        value = getattr(config, field.name)
        if isinstance(value, Settings):
            yield field.name
            yield from _groups_of(value)


_GROUPS = frozenset(_groups_of(TrainConfig()))

EVERY_SETTING = settings_of(TrainConfig()) | {
    name: known
    for family in FAMILIES.values()
    for name, known in settings_of(family.settings).items()
}
"""The settings of all families by name, whichever a file may choose."""


def write_config(config: TrainConfig) -> str:
    """Write the complete configuration as YAML, by group; ``read_config_file`` reads it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path | Schedule) else value

    return yaml.safe_dump(plain(_by_group(config)), sort_keys=False)


def _by_group(config: Settings) -> dict[str, Any]:
    groups = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # any configuration
        value = getattr(config, field.name)
        groups[field.name] = _by_group(value) if isinstance(value, Settings) else value
    return groups
