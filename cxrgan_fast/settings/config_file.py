"""Settings as a YAML file: the sparse one of ``--config``, and the complete one of a run folder.

Apart from the settings themselves (`cxrgan_fast.settings.config`), which need neither YAML nor
pydantic: training steps can be tested and measured where those are not installed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_small
from cxrgan_fast.nn.family import FAMILIES, FamilySettings, own_settings
from cxrgan_fast.settings.config import TrainConfig
from cxrgan_fast.settings.names import unknown_setting

_MOST_BYTES = 1 << 20  # of a file of settings


def _settings_of(document: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Flat settings of a YAML document, in which the groups' names may be given or left out."""
    for key, value in document.items():
        if key in _GROUPS and isinstance(value, Mapping):
            yield from _settings_of(value)
        else:
            yield str(key), value


def read_config_file(path: Path) -> dict[str, Any]:
    """Settings of a sparse YAML file by their flat names, each of the right type.

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
    """The same from the text of a file; ``path`` is what errors name."""
    try:
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError) as error:
        # Of a date that is none, or a number of 5,000 digits, YAML's own errors do not tell.
        reason = printable(" ".join(str(error).split()))
        raise UserError(f"{path} is not a YAML file: {reason}") from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise UserError(f"{path} should hold lines like 'batch_size: 64', got {document!r:.200}")
    types = dict(_types_of(TrainConfig))
    settings: dict[str, Any] = {}
    for key, value in _settings_of(document):
        if key not in types:
            raise UserError(f"{path}: unknown setting {key!r:.200}{unknown_setting(key, types)}")
        try:
            settings[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{path}: {key} cannot be {value!r:.200}: {reason}") from None
        is_path = isinstance(settings[key], Path) or key in ("data", "features")
        if is_path and (value == "" or "\0" in str(value)):
            raise UserError(f"{path}: {key} is empty or holds a zero byte; name a file or folder")
    return _without_other_families(settings)


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
    """A loader without aliases: ten lines of aliases of aliases can fill the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed", event.start_mark
            )
        return super().compose_node(parent, index)


def _types_of(config: type) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(config).items():
        if hint is FamilySettings:
            for family in FAMILIES.values():
                yield from _types_of(family.settings)
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _types_of(hint)
        else:
            yield name, hint


def _groups_of(config: type) -> Iterator[str]:
    for name, hint in get_type_hints(config).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield name
            yield from _groups_of(hint)


_GROUPS = frozenset(_groups_of(TrainConfig))


def write_config(config: TrainConfig) -> str:
    """The complete configuration as YAML, by group; ``read_config_file`` reads it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path) else value

    return yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False)
