"""What a family of networks is: two builders, and the settings that only it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from cxrgan_fast.setting import Settings

if TYPE_CHECKING:
    from cxrgan_fast.nn.config import NetworkConfig

Builder = Callable[["NetworkConfig", int], nn.Module]


@dataclass(frozen=True)
class FamilySettings(Settings):
    """Settings that one family has and the others have not; this one has none."""


@dataclass(frozen=True)
class Family:
    """A generator and a discriminator that go together.

    Attributes:
        name: that of ``--family``.
        generator: builds one from a configuration and the number of classes; see
            `cxrgan_fast.nn.build_generator`.
        discriminator: the same; see `cxrgan_fast.nn.build_discriminator`.
        settings: the class of its own settings; each has a default.
    """

    name: str
    generator: Builder
    discriminator: Builder
    settings: type[FamilySettings] = FamilySettings


FAMILIES: dict[str, Family] = {}
"""All families by name; each registers itself in its file of `cxrgan_fast.nn.families`."""


def register(family: Family) -> None:
    """Add a family.

    Raises:
        ValueError: there is one of that name, or another has a setting of the same name.
    """
    if family.name in FAMILIES:
        raise ValueError(f"there is a family {family.name!r} already")
    for name in own_settings(family.name, family.settings):
        if other := families_with(name):
            raise ValueError(f"setting {name!r} of family {family.name!r} is one of {other[0]!r}")
    FAMILIES[family.name] = family


def own_settings(name: str, settings: type[FamilySettings] | None = None) -> dict[str, Any]:
    """Return the settings that only this family has, with defaults; none if it is unknown."""
    if settings is None:
        settings = FAMILIES[name].settings if name in FAMILIES else FamilySettings
    return {field.name: field.default for field in dataclasses.fields(settings)}


def families_with(setting: str) -> list[str]:
    """Return the names of the families that have a setting of this name of their own."""
    return [name for name in FAMILIES if setting in own_settings(name)]
