"""``python -m cxrgan_fast.train``: train a class-conditional GAN on chest X-rays."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.command import run_command
from cxrgan_fast.data.load import packed_shape
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.flags import FLAGS
from cxrgan_fast.metrics.registry import is_code
from cxrgan_fast.nn import NetworkConfig
from cxrgan_fast.nn.family import FAMILIES, families_with
from cxrgan_fast.runs.folder import newest_run
from cxrgan_fast.setting import settings_of
from cxrgan_fast.settings.checks import changed_on_resume
from cxrgan_fast.settings.config import (
    PRESETS,
    PRESETS_OF_FAMILIES,
    OutputConfig,
    TrainConfig,
    flatten,
    override,
    usual_preset,
)
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.settings.names import refuse_names_from_elsewhere
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap

PlaceOption = Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: none)")]


@dataclass(frozen=True)
class Arguments:
    """What the command takes beside the settings."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """All settings."""
    config: PlaceOption = None
    """YAML file of settings; flags override it, and it overrides the preset."""
    resume: PlaceOption = None
    """Folder of the run to continue, or last or auto, which find it in --out (by --name, if given).
    last is the newest run that has a checkpoint. auto is the newest run, or a new one where there
    is none or it has no checkpoint yet."""


def parse(argv: list[str]) -> tuple[TrainConfig, Path | None]:
    """Read the settings from their layers (preset, file, flags), and the run to resume.

    Raises:
        UserError: A layer holds something that cannot be.
    """
    # The layers below the flags are chosen by three flags, which are therefore read first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags = ("--config", "--resume", "--preset", "--device", "--out", "--name", "--data")
    for name in (*flags, "--features", "--family"):
        first.add_argument(name, nargs="?")  # a missing value is for the parser of all flags
    chosen, _ = first.parse_known_args(argv)

    refuse_names_from_elsewhere(argv, settings_of(TrainConfig()))
    layer = read_config_file(Path(chosen.config)) if chosen.config else {}
    resume = Path(chosen.resume) if chosen.resume else None
    if chosen.resume in ("auto", "last"):
        out = Path(chosen.out or layer.get("out", OutputConfig.out))
        resume = _find_run(chosen.resume, out, chosen.name or layer.get("name", ""))
    _refuse_other_families(argv, chosen.family or layer.get("family", NetworkConfig.family))
    if chosen.family in FAMILIES:  # an unknown one is left to the parser, which lists the known
        layer["family"] = chosen.family  # whose settings there are flags of
    stored = _stored_settings(resume) if resume else None
    if stored is None:
        layer = {**_shape_of(chosen.data or layer.get("data")), **layer}
    if stored is not None:
        below = override(stored, layer)
    else:
        device = chosen.device or layer.get("device", TrainConfig.device)
        preset = chosen.preset or layer.get("preset", TrainConfig.preset)
        if preset == "auto":
            preset = usual_preset(resolve_device(device))
        if preset in PRESETS:  # else the parser of the flags refuses it, and lists the known ones
            family = layer.get("family", NetworkConfig.family)
            of_family = PRESETS_OF_FAMILIES.get((preset, family), {})
            layer = {**PRESETS[preset], **of_family, **layer, "preset": preset}
        below = override(TrainConfig(), layer)
    with FLAGS:
        arguments = parse_arguments(
            Arguments,
            args=argv,
            default=Arguments(below),
            prog="python -m cxrgan_fast.train",
            description="Train a class-conditional GAN on chest X-rays.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    for flag, read, meant in (
        ("--resume", chosen.resume, arguments.resume),
        ("--config", chosen.config, arguments.config),
    ):
        if meant is not None and (read is None or Path(read) != meant):
            # Each parser has its own mind about a name that looks like a flag.
            raise UserError(f"{flag} {meant}: begins like a flag; put ./ before it")
    settings = arguments.settings
    features = settings.evaluation.features
    if settings.evaluation.eval_every and is_code(features) and features != chosen.features:
        # A folder or a file of settings may be a stranger's, and what it names would be run.
        raise UserError(
            f"the settings name the features {features}, which is code: to run it, say so here "
            f"with --features {features}; or take others, such as --features cxr"
        )
    if stored is not None and resume is not None:
        if chosen.resume in ("auto", "last"):  # found by them, they are its own
            settings = override(settings, {"out": stored.output.out, "name": stored.output.name})
        settings = override(settings, _chosen_before(stored, settings))
        changed_on_resume(stored, settings, resume / "config.yaml")
    return settings, resume


def _chosen_before(stored: TrainConfig, asked: TrainConfig) -> dict[str, Any]:
    """What each "auto" that is asked for again became when the run began.

    A batch system gives the same command in every job of a run.
    """
    before, after = flatten(stored), flatten(asked)
    return {
        name: before[name]
        for name, known in settings_of(stored).items()
        if "auto" in known.choices and after.get(name) == "auto" and not known.setting.resumable
    }


def _refuse_other_families(argv: list[str], family: str) -> None:
    """Say whose setting a flag is, where it is one of a family that was not chosen."""
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        families = families_with(name) if word.startswith("--") else []
        if families and family not in families and family in FAMILIES:
            raise UserError(
                f"{word.partition('=')[0]} is a setting of --family {families[0]}, got --family "
                f"{family}; leave it out"
            )


def _find_run(word: str, out: Path, name: str) -> Path | None:
    of_name = f" of --name {name}" if name else ""
    if word == "last":
        run = newest_run(out, name, begun=True)
        if run is None:
            raise UserError(
                f"--resume last: {out} has no run{of_name} with a checkpoint; name a run folder, "
                "or start a new run"
            )
    else:
        run = newest_run(out, name)
        if run != newest_run(out, name, begun=True):
            run = None  # nothing to go on with
    print(f"--resume {word}: {run or f'no run{of_name} in {out} to go on with; a new one begins'}")
    return run


def _shape_of(data: str | None) -> dict[str, Any]:
    """The settings that a packed set brings with it; none for other data."""
    shape = None if data is None else packed_shape(data)
    return {} if shape is None else {"image_channels": shape[0], "resolution": shape[1]}


def _stored_settings(run: Path) -> TrainConfig:
    path = run / "config.yaml"
    if not path.exists():
        raise UserError(f"--resume {run}: there is no {path}; name a run folder")
    return override(TrainConfig(), read_config_file(path))


def main() -> None:
    """Parse, train, and say where the result lies."""
    keep_large_tensors_off_mmap()  # before the first large tensor
    config, resume = parse(sys.argv[1:])
    # Late: it takes TensorBoard's seconds, which --help and a mistyped flag need not wait for.
    from cxrgan_fast.training.loop import train

    run, grids = train(config, resume=resume)
    print(f"run: {run}")
    for grid in grids:
        print(f"samples: {grid}")


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=False))
