"""Synthetic chest radiographs: deterministic, with known anatomy, in two classes.

A phantom is rendered as an X-ray sees a chest: fields of path length through soft tissue, air and
bone are summed and the sum is developed like a digital radiograph. Disease therefore behaves
as it does in patients: consolidation takes air away, so ribs stay visible over it and the
border of the heart beside it disappears.

Nothing depends on how many processes or threads render: every phantom has its own streams of
random numbers, derived from (seed, index, part).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrgan_fast.data.phantom import disease, film, organs, skeleton
from cxrgan_fast.data.phantom.film import Box
from cxrgan_fast.data.phantom.frame import Field, Frame, random_frame

__all__ = ["CLASS_NAMES", "Box", "Phantom", "phantom_image"]

CLASS_NAMES = ("normal", "bacterial")
"""The classes by label: without and with lobar consolidation."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph and what is known about it.

    Attributes:
        image: uint8, (H, W); sizes and aspect ratios vary.
        label: 0 normal, 1 bacterial.
        marker_box: box of the burned-in letter R: left, top, right, bottom in pixels, the last two
            exclusive.
        consolidation_box: box of the consolidated lung, as `marker_box`; None in a normal chest.
        lung_mask: bool, (H, W), the lung fields beside heart and mediastinum.
    """

    image: npt.NDArray[np.uint8]
    label: int
    marker_box: Box
    consolidation_box: Box | None
    lung_mask: npt.NDArray[np.bool_]


def phantom_image(seed: int, index: int, label: int) -> Phantom:
    """Render phantom number `index` of the sequence that `seed` names.

    The two labels of one (seed, index) are the same patient, exposure and noise with and
    without disease.

    Args:
        seed: 0 or more.
        index: 0 or more.
        label: 0 normal, 1 bacterial (lobar consolidation in one lobe, sometimes two).

    Raises:
        IndexError: a label other than 0 and 1.
    """
    if label not in (0, 1):
        raise IndexError(f"label {label}: the phantom set has classes 0 and 1")
    build, chest, illness, exposure = (
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, part])))
        for part in range(4)
    )
    frame = random_frame(build)
    shape = organs.thorax(frame, chest)
    lost = disease.consolidation(frame, shape, illness) if label else None
    absorption, lung_mask = _absorption(frame, shape, lost, chest)
    image = film.develop(absorption, frame, exposure)
    image = film.collimate(image, frame, exposure)
    image, marker_box = film.burn_marker(image, frame, exposure)
    return Phantom(
        image=(np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8),
        label=label,
        marker_box=marker_box,
        consolidation_box=None if lost is None else _box(lost > 0.1),
        lung_mask=lung_mask,
    )


def _absorption(
    frame: Frame, shape: organs.Thorax, lost: Field | None, rng: np.random.Generator
) -> tuple[Field, npt.NDArray[np.bool_]]:
    """Sum what the beam passes through; 1 is the trunk's soft tissue at its thickest."""
    arms = organs.place_arms(rng)
    tissue = organs.body(frame, shape, arms, rng)
    silhouette = organs.heart(frame, rng)
    fill = np.float32(rng.uniform(0.62, 0.76))  # how deep a breath
    behind = np.float32(rng.uniform(0.14, 0.34))  # the lung that lies behind the heart
    lungs = shape.lungs * (1 - (1 - behind) * silhouette)
    air = fill * lungs * tissue * (1 - np.float32(0.12) * (frame.a / shape.cage) ** 2)
    vessels = organs.vessels(frame, shape, rng)
    air *= 1 - np.float32(0.55) * vessels
    if lost is not None:
        air *= 1 - lost
    absorption = tissue - air
    absorption -= np.float32(0.16) * organs.airways(frame, rng)
    absorption -= np.float32(0.26) * organs.gut_gas(frame, shape, rng)
    absorption += np.float32(rng.uniform(0.14, 0.22)) * skeleton.ribs(frame, shape, rng)
    absorption += np.float32(rng.uniform(0.13, 0.22)) * skeleton.spine(frame, rng)
    absorption += np.float32(rng.uniform(0.17, 0.26)) * skeleton.shoulder_girdle(frame, arms, rng)
    return absorption, lungs > 0.5


def _box(mask: npt.NDArray[np.bool_]) -> Box | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
