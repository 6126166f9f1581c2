"""The power-function averages that a run keeps, and what is made of them when it is over.

Each is a generator file of its own, in a folder beside the checkpoints.
"""

import re
from pathlib import Path

import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.nn.power_ema import WIDEST, fit_profile
from cxrgan_fast.runs.generator_file import GeneratorSnapshot, load_generator

_NAME = re.compile(r"power-(0\.[0-9]{1,6})-([0-9]{1,18})\.safetensors")


def averages_folder(run: Path) -> Path:
    """Return the folder of a run's averages."""
    return run / "averages"


def average_path(run: Path, width: str, step: int) -> Path:
    """Return the path of the average of a relative width, such as "0.05", at ``step``."""
    return averages_folder(run) / f"power-{width}-{step:08d}.safetensors"


def saved_averages(run: Path) -> list[tuple[int, float, Path]]:
    """Return step, width and path of each average that a run has kept, oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in averages_folder(run).glob("power-*"))
    return sorted((int(match[2]), float(match[1]), path) for match, path in found if match)


def drop_averages_after(run: Path, step: int) -> None:
    """Delete the averages of later steps, which a run that goes on from ``step`` makes again."""
    for at, _, path in saved_averages(run):
        if at > step:
            path.unlink(missing_ok=True)


def make_average(run: Path, width: float, device: str | torch.device = "cpu") -> GeneratorSnapshot:
    """Make the average of any width at the newest step of which a run has kept some.

    Its running statistics are those of that step: measure them anew where it generates images
    (`sampling.class_sources` does).

    Args:
        run: folder of one GAN's run.
        width: relative width of the average, such as 0.05.
        device: where to put the generator.

    Returns:
        The generator; its ``extra`` has "sigma_rel", "averages" (how many it is made of) and
        "profile_error" (see :func:`fit_profile`).

    Raises:
        UserError: a width that cannot be, a run without averages, or a file that is damaged or of
            another network.
    """
    if not 0 < width <= WIDEST:
        raise UserError(f"--ema should be a number above 0 and at most {WIDEST}, got {width:g}")
    stored = saved_averages(run)
    if not stored:
        raise UserError(
            f"--ema {width:g}: {run} has kept no averages to make it of; they come from a training "
            "with --power-ema-every N"
        )
    newest = stored[-1][0]
    factors, error = fit_profile([(step, each) for step, each, _ in stored], newest, width)
    snapshot = load_generator(stored[-1][2])
    weights = dict(snapshot.generator.named_parameters())
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in weights.items()}
    for (*_, path), factor in zip(stored, factors, strict=True):
        each = load_generator(path)
        if (each.network, each.class_names) != (snapshot.network, snapshot.class_names):
            raise UserError(f"{path} is of another network than {stored[-1][2]}; move it away")
        for name, parameter in each.generator.named_parameters():
            sums[name].add_(parameter.double(), alpha=factor)
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(sums[name])
    snapshot.generator.to(device)
    about = {"averages": str(len(stored)), "profile_error": f"{error:.6f}"}
    snapshot.extra.update(about, sigma_rel=f"{width:g}")
    return snapshot
