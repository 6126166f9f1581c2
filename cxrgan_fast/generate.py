"""``python -m cxrgan_fast.generate``: a labelled set of images from a trained run."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cxrgan_fast.arguments import parse_arguments
from cxrgan_fast.classes_option import ClassesOption, given
from cxrgan_fast.command import run_command
from cxrgan_fast.data.class_folders import choose_folders
from cxrgan_fast.devices import resolve_device
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import require_free
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_to_folder
from cxrgan_fast.sampling.interpolation import interpolation_sheets


@dataclass(frozen=True)
class Arguments:
    """Write generated X-rays as PNGs in class folders, with a manifest.csv."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run (also of one with --per-class), or a generator.safetensors file."""
    out: Path
    """New or empty folder to write the images to."""
    n_per_class: int = 100
    """Number of images of each class; 0 with --interpolate writes only the interpolation sheets."""
    seed: int = 0
    """Random seed of the latents; the same seed gives the same bytes."""
    truncation: Annotated[
        float | None, tyro.conf.arg(help_behavior_hint="(default: none are drawn again)")
    ] = None
    """Draw numbers of a latent again that are farther from 0, in standard deviations (0.7, say):
    the images become more typical and more alike. manifest.csv has it in a column."""
    classes: ClassesOption = ()
    """Classes to generate, separated by spaces or commas; all if none is given."""
    class_folders: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME=FOLDER ...", help_behavior_hint="(default: none)"),
    ] = ()
    """Names of class folders that differ from the names of their classes."""
    like: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: none)")] = None
    """Real data, given as to --data of train, whose class folders name those of the images.
    Programs that number folders by name (torchvision's ImageFolder) then give both sets the same
    labels."""
    checkpoint: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: the newest)")] = (
        None
    )
    """Generator to use: a step that the run has kept, best (the lowest FID of --eval-every), or a
    .safetensors file."""
    ema: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: none)")] = None
    """Relative width of a power-function average of the weights to generate with, such as 0.05,
    made of what a run with --power-ema-every has kept."""
    interpolate: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write sheets of interpolations between latents and between classes as well."""
    batch_size: int = 64
    """Number of images generated at a time, which limits the memory in use and changes no image."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""


def main() -> None:
    """Parse, generate, and say what lies where."""
    arguments = parse_arguments(Arguments, prog="python -m cxrgan_fast.generate")
    out, n, seed = arguments.out, arguments.n_per_class, arguments.seed
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: expected 0 or more, below 2^63")
    device = resolve_device(arguments.device)
    chosen = given(arguments.classes)
    require_free(out)  # before the generators are loaded, and their statistics measured
    sources = load_sources(
        arguments.run,
        arguments.checkpoint,
        chosen,
        device,
        arguments.ema,
        arguments.truncation,
    )
    classes = [source.class_name for source in sources]
    folders, warnings = choose_folders(classes, arguments.class_folders, arguments.like)
    if n == 0 and arguments.interpolate and folders:
        raise UserError("--class-folders and --like do nothing for --n-per-class 0: leave out")
    sheets = interpolation_sheets(sources, seed) if arguments.interpolate else {}
    generate_to_folder(
        sources,
        out,
        n_per_class=n,
        seed=seed,
        batch_size=arguments.batch_size,
        folders=folders,
        sheets=sheets,
    )
    if arguments.ema is not None:
        for about in {source.checkpoint: source.snapshot.extra for source in sources}.values():
            print(
                f"ema: {arguments.ema:g}, of {about['averages']} averages, whose profiles come "
                f"within {float(about['profile_error']):.1%} of it"
            )
    if n:
        print(f"{n} images of each of {', '.join(classes)}: {out}")
    for name, folder in folders.items():
        print(f"{name} is in {folder}")
    for warning in warnings:
        print(f"warning: {warning}")
    for sheet in sheets:
        print(f"interpolation: {out / sheet}")


if __name__ == "__main__":
    sys.exit(run_command(main))
