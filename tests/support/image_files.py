"""Small files of X-ray-like images for tests of the data room."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def smooth(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    """A smooth pattern of its own, uint8, (H, W)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 7)).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(root: Path, a_class: int = 12, *, split: str = "") -> Path:
    """Two classes of so many images, two a patient, as the published set names them."""
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(a_class):
            patient = number // 2
            file = f"IM-{patient:04d}-{number:04d}.png"
            if label:
                file = f"person{patient}_bacteria_{number}.png"
            (folder / file).write_bytes(encoded(smooth(1000 * label + number)))
    return root


def published(root: Path) -> Path:
    """The published layout with all of its classes: train and test, 6 of each class."""
    for split in ("train", "test"):
        for number in range(6):
            for name in (f"NORMAL/IM-000{number}-1.png", f"PNEUMONIA/person{number}_bacteria_1.png",
                         f"PNEUMONIA/person{number}_virus_2.png"):  # fmt: skip
                path = root / split / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(smooth(number + len(name))))
    return root
