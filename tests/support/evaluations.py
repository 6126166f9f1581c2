"""Folders of images and generators for the tests of evaluations."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cxrgan_fast.data import load_dataset
from cxrgan_fast.data.load import Split
from cxrgan_fast.nn import NetworkConfig, build_generator
from cxrgan_fast.runs.generator_file import save_generator

PIXELS = ["--features", "pixels"]
QUICK = [*PIXELS, "--metrics", "fid", "--samples", 20]
NETWORK = NetworkConfig(resolution=32, base_channels=8, latent_size=8)
CLASSES = ("normal", "bacterial")


def write_images(folder: Path, split: Split, n: int, size: int = 32) -> Path:
    """Class folders of phantoms, which are other ones in each split."""
    data = load_dataset("phantom", resolution=32, split=split, phantom_images=n, progress=False)
    for row in range(n):
        path = folder / data.class_names[data.labels[row]] / f"{split}{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[row, 0].numpy()).resize((size, size)).save(path)
    return folder


def write_noise(path: Path, seed: int) -> None:
    """An image of nothing."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_broken(file: Path) -> None:
    """A generator whose weights are no numbers."""
    weights = build_generator(NETWORK, 2).state_dict()
    broken = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_generator(file, broken, NETWORK, CLASSES, step=30, images_seen=30)


def read(folder: Path, name: str = "evaluation.json") -> dict:
    """The record of an evaluation, held to be JSON."""

    def no_constant(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    return json.loads((folder / name).read_text(), parse_constant=no_constant)


def fid(record: dict) -> dict:
    """The estimate of all classes."""
    return record["all classes"]["generated"]["metrics"]["fid"]
