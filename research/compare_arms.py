"""The arms of ``research.compare_settings``: names, flags of ``train``, and what these come to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import file_name_safe, read_small
from cxrgan_fast.settings.checks import check
from cxrgan_fast.settings.config import TrainConfig, flatten
from cxrgan_fast.settings.given_flags import split_flags
from cxrgan_fast.train import parse

BEST = "best"
_MOST_BYTES = 1 << 20  # of a file of arms

# Flags of train that the study gives itself, and what gives them to it.
_OF_THE_STUDY = {
    "--data": "--data",
    "--seed": "--seeds",
    "--steps": "--steps or --minutes",
    "--max-minutes": "--minutes",
    "--threads": "--threads",
    "--device": "--device",
    "--out": "--work",
    "--name": "the name of the arm",
    "--resume": "the same command, which goes on by itself",
    "--config": "flags, so that the record has them",
}
# What is compared has to be the same for all arms: the images, and what they are shown as.
_SAME = ("classes", "phantom_images", "skip_bad", "resolution", "image_channels")


@dataclass(frozen=True)
class Arm:
    """One choice of settings.

    Attributes:
        name: what tables call it.
        flags: of ``train``, those of all arms before its own.
        config: what ``train`` makes of them.
    """

    name: str
    flags: tuple[str, ...]
    config: TrainConfig

    @property
    def folder(self) -> str:
        """The name of its folders."""
        return file_name_safe(self.name)

    @property
    def images_per_step(self) -> int:
        """How many real images a step shows."""
        return self.config.batch_size * self.config.objective.discriminator_steps

    def settings(self) -> dict[str, Any]:
        """All settings but those that the study gives, as JSON gives them back."""
        flat = flatten(self.config)
        for flag in _OF_THE_STUDY:
            flat.pop(flag.removeprefix("--").replace("-", "_"), None)
        restored: dict[str, Any] = json.loads(json.dumps(flat, default=str))
        return restored


def read_arms(texts: Sequence[str], file: Path | None, common: str) -> list[Arm]:
    """Read arms from a file and from the command line, in this order.

    Args:
        texts: each "NAME: FLAGS", or "NAME" for an arm without flags of its own.
        file: YAML whose keys are names and whose values are flags; None for none.
        common: flags of all arms.

    Raises:
        UserError: there are fewer than two; two have one name; flags that ``train`` refuses, that
            the study gives itself, or that change the images which are compared.
    """
    named = [] if file is None else list(_of_file(file).items())
    for text in texts:
        name, _, flags = text.partition(":")
        named.append((name.strip(), flags))
    of_all = split_flags("--train", common, _OF_THE_STUDY)
    arms = [_arm(name, flags, of_all) for name, flags in named]
    if len(arms) < 2:
        raise UserError(f"--arm: expected two arms or more, got {len(arms)}; see --arms as well")
    seen: dict[str, Arm] = {}
    for arm in arms:
        other = seen.setdefault(arm.folder.casefold(), arm)
        if other is not arm:
            raise UserError(
                f"--arm: {other.name!r} and {arm.name!r} would have one folder; rename one of them"
            )
    for arm in arms[1:]:
        _require_same(arms[0], arm)
    return arms


def _of_file(file: Path) -> dict[str, str]:
    try:
        document = yaml.safe_load(read_small(file, _MOST_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--arms: {file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, Mapping) or not document:
        raise UserError(f"--arms: {file} should hold lines like 'gamma 0.05: --r1-gamma 0.05'")
    for name, flags in document.items():
        if not isinstance(name, str) or not (flags is None or isinstance(flags, str)):
            raise UserError(
                f"--arms: {file}: expected a name and flags of train, got {name!r}: {flags!r:.100}"
            )
    return {name: flags or "" for name, flags in document.items()}


def _arm(name: str, flags: str, common: Sequence[str]) -> Arm:
    if not file_name_safe(name) or name == BEST:
        raise UserError(f"--arm {name!r}: expected a name with a letter or a digit, not {BEST!r}")
    words = (*common, *split_flags(f"arm {name!r}", flags, _OF_THE_STUDY))
    try:
        config, _ = parse(list(words))
        check(config)
    except UserError as error:
        raise UserError(f"arm {name!r}: {error}") from None
    for option, refused in (("--per-class", config.dataset.per_class),
                            ("--hold-out-patients", config.dataset.hold_out_patients)):  # fmt: skip
        if refused:
            raise UserError(f"arm {name!r}: {option} is not compared here; leave it out")
    return Arm(name, words, config)


def _require_same(first: Arm, arm: Arm) -> None:
    there, here = flatten(first.config), flatten(arm.config)
    columns = flatten(first.config.dataset.columns)
    for name in (*_SAME, *columns):
        if there[name] != here[name]:
            raise UserError(
                f"arm {arm.name!r}: {name} is {here[name]}, and {there[name]} in {first.name!r}: "
                "all arms are compared with the same images; give it with --train"
            )


def find_arm(name: str, arms: Iterable[Arm]) -> Arm:
    """The arm of a name.

    Raises:
        UserError: there is none.
    """
    known = {arm.name: arm for arm in arms}
    if name not in known:
        raise UserError(f"--confirm {name}: expected {BEST} or one of {', '.join(known)}")
    return known[name]
