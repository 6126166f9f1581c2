"""``python -m cxrgan_fast.train``: train a class-conditional GAN on chest X-rays."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cxrgan_fast.command import run_command
from cxrgan_fast.data.packed import is_packed, open_packed
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.registry import is_code
from cxrgan_fast.training.allocator import keep_large_tensors_off_mmap
from cxrgan_fast.training.checks import changed_on_resume
from cxrgan_fast.training.config import (
    PRESETS,
    TrainConfig,
    override,
    read_config_file,
    resolve_device,
    resolve_precision,
)


@dataclass(frozen=True)
class Arguments:
    """What the command takes beside the settings."""

    settings: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """All settings."""
    config: Path | None = None
    """YAML file of settings; the flags go before it, it before the preset."""
    resume: Path | None = None
    """Run folder to go on with."""


def parse(argv: list[str]) -> tuple[TrainConfig, Path | None]:
    """Settings from the layers (preset, file, flags), and the run to resume.

    Raises:
        UserError: A layer holds something that cannot be.
    """
    # The layers below the flags are chosen by three flags, which are therefore read first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--config", "--resume", "--preset", "--device", "--data", "--features"):
        first.add_argument(name, nargs="?")  # a missing value is for the parser of all flags
    chosen, _ = first.parse_known_args(argv)

    stored = _stored_settings(Path(chosen.resume)) if chosen.resume else None
    layer = read_config_file(Path(chosen.config)) if chosen.config else {}
    if stored is None:
        layer = {**_shape_of(chosen.data or layer.get("data")), **layer}
    if stored is not None:
        below = override(stored, layer)
    else:
        device = chosen.device or layer.get("device", TrainConfig.device)
        preset = chosen.preset or layer.get("preset", TrainConfig.preset)
        if preset == "auto":
            preset = "small" if resolve_device(device).type == "cpu" else "base"
        # An unknown preset is left to the parser of the flags, which lists the known ones.
        below = override(TrainConfig(), {**PRESETS.get(preset, {}), **layer, "preset": preset})
    arguments = tyro.cli(
        Arguments,
        args=argv,
        default=Arguments(below),
        prog="python -m cxrgan_fast.train",
        description="Train a class-conditional GAN on chest X-rays.",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    evaluation = arguments.settings.evaluation
    features = evaluation.features
    if evaluation.eval_every and is_code(features) and features != chosen.features:
        # A folder or a file of settings may be a stranger's, and what it names would be run.
        raise UserError(
            f"the settings name the features {features}, which is code: to run it, say so here "
            f"with --features {features}; or take others, such as --features cxr"
        )
    if stored is not None and arguments.resume is not None:
        changed_on_resume(stored, arguments.settings, arguments.resume / "config.yaml")
    return arguments.settings, arguments.resume


def _shape_of(data: str | None) -> dict[str, Any]:
    """The settings that a packed set brings with it; none for other data."""
    if data is None or data == "phantom" or not is_packed(Path(data)):
        return {}
    channels, resolution = open_packed(data, verify=False).images.shape[1:3]
    return {"resolution": resolution, "image_channels": channels}


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

    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    config = override(config, {"precision": precision})
    run, grids = train(config, device, resume)
    print(f"run: {run}")
    for grid in grids:
        print(f"samples: {grid}")


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=False))
