"""Settings as a YAML file: the sparse one of ``--config``, and the complete one of a run folder.

Apart from the settings themselves (`cxrgan_fast.training.config`), which need neither YAML nor
pydantic: training steps can be tested and measured where those are not installed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from cxrgan_fast.errors import UserError
from cxrgan_fast.training.config import TrainConfig
from cxrgan_fast.training.setting_names import unknown_setting


def _settings_of(document: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Flat settings of a YAML document, in which the groups' names may be given or left out."""
    groups = {f.name for f in dataclasses.fields(TrainConfig) if dataclasses.is_dataclass(f.type)}
    for key, value in document.items():
        if key in groups and isinstance(value, Mapping):
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
        text = path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a YAML file: it is not text") from None
    return read_config(text, path)


def read_config(text: str, path: Path) -> dict[str, Any]:
    """The same from the text of a file; ``path`` is what errors name."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file: {reason}") from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise UserError(f"{path} should hold lines like 'batch_size: 64', got {document!r}")
    types = dict(_types_of(TrainConfig))
    settings: dict[str, Any] = {}
    for key, value in _settings_of(document):
        if key not in types:
            raise UserError(f"{path}: unknown setting {key!r}{unknown_setting(key, types)}")
        try:
            settings[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(f"{path}: {key} cannot be {value!r}: {reason}") from None
    return settings


def _types_of(config: type) -> Iterator[tuple[str, Any]]:
    for name, hint in get_type_hints(config).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _types_of(hint)
        else:
            yield name, hint


def write_config(config: TrainConfig) -> str:
    """The complete configuration as YAML, by group; ``read_config_file`` reads it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return list(value)
        return str(value) if isinstance(value, Path) else value

    return yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False)
