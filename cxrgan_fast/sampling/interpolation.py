"""Sheets of what lies between two latents, and between two classes."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cxrgan_fast.data.sources import folder_names
from cxrgan_fast.sampling.class_sources import ClassSource
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.grid import write_grid

_COLUMNS = 9  # odd, so that one is the middle
_PAIRS = 3  # of latents, for each class
_LATENTS = 6  # of a class sheet


def slerp(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Interpolate between latents along a great circle (White 2016, arXiv:1609.04468).

    A straight line between two Gaussian latents passes closer to the origin than nearly all that
    the generator was trained on; here the length stays between the lengths of the two.

    Args:
        start: (latent_size,), at t = 0.
        end: (latent_size,), at t = 1.
        t: (T,), from 0 to 1.

    Returns:
        (T, latent_size). Latents in the same or in opposite directions are joined by a line.
    """
    t = t[:, None]
    angle = torch.acos(torch.cosine_similarity(start, end, dim=0).clamp(-1, 1))
    if torch.sin(angle) < 1e-4:
        return torch.lerp(start, end, t)
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def interpolation_sheets(
    sources: Sequence[ClassSource], seed: int = 0
) -> dict[str, Callable[[Path], None]]:
    """Name the interpolations between the first images that the seed gives, and what makes each.

    `latent_interpolation.png` goes from one latent to another, left to right, in a row for each of
    three pairs of each class: its first and last columns are images 0 to 5 of the class as
    `generate_to_folder` makes them, to within rounding. `class_interpolation_A_to_B.png`, for each
    two neighbours among the classes that one conditional generator makes, keeps each row's latent
    and goes from A to B by mixing what the network learnt of them: its first column is images 0 to
    5 of A.

    Args:
        sources: from `load_sources`.
        seed: random seed of the latents.

    Returns:
        By the name of each file the function that makes it and writes it to a path, for
        `generate_to_folder`. It raises UserError where the file cannot be written, or a generator
        produces values that are not numbers.
    """
    sheets: dict[str, Callable[[Path], None]] = {
        "latent_interpolation.png": partial(_write_latent_sheet, sources, seed)
    }
    for a, b in itertools.pairwise(sources):
        if a.snapshot is b.snapshot:  # between generators of one class each there is nothing
            start, end = folder_names((a.class_name, b.class_name)).values()
            name = f"class_interpolation_{start}_to_{end}.png"
            sheets[name] = partial(_write_class_sheet, a, b, seed)
    return sheets


def _write_latent_sheet(sources: Sequence[ClassSource], seed: int, path: Path) -> None:
    t = torch.linspace(0, 1, _COLUMNS)
    rows, names = [], []
    for source in sources:
        ends = source.latents(seed, range(2 * _PAIRS))
        latents = torch.cat([slerp(a, b, t) for a, b in ends.view(_PAIRS, 2, -1)])
        rows.append(generate_images(source, latents, torch.full((len(latents),), source.label)))
        names += [f"{source.class_name} {2 * i} to {2 * i + 1}" for i in range(_PAIRS)]
    write_grid(path, torch.cat(rows), names, [f"{x:.3g}" for x in t.tolist()])


def _write_class_sheet(a: ClassSource, b: ClassSource, seed: int, path: Path) -> None:
    t = torch.linspace(0, 1, _COLUMNS)
    weights = torch.zeros(_COLUMNS, len(a.snapshot.class_names))
    weights[:, a.label], weights[:, b.label] = 1 - t, t
    latents = a.latents(seed, range(_LATENTS))
    images = generate_images(a, latents.repeat_interleave(_COLUMNS, 0), weights.repeat(_LATENTS, 1))
    between = [f"{x:.3g}" for x in t[1:-1].tolist()]
    header = [a.class_name, *between, b.class_name]
    write_grid(path, images, [f"latent {i}" for i in range(_LATENTS)], header)
