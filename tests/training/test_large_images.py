"""Training at 256 and 512 pixels, from the originals to generated images, by the commands."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

from commands import call
from cxrgan_fast import generate
from cxrgan_fast.data.__main__ import main as data

TINY = ["--device", "cpu", "--precision", "fp32", "--base-channels", 8, "--latent-size", 8,
        "--batch-size", 2, "--r1-interval", 2]  # fmt: skip


def oblong_originals(root: Path) -> Path:
    """Two classes of images that are wider than high, bright to their edges."""
    random = np.random.default_rng(0)
    for name in ("ill", "well"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(100, 256, (300, 450), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.long
@pytest.mark.parametrize("family", ["resnet", "dcgan", "r3"])
@pytest.mark.parametrize("size", [256, 512])
def test_padded_originals_are_trained_on_resumed_and_generated(train, tmp_path, size, family):
    packed = tmp_path / "packed"
    originals = oblong_originals(tmp_path / "originals")
    assert call(data, "prepare", originals, packed, "--resolution", size, "--fit", "pad") == 0
    own = ["--blocks-per-size", 1] if family == "r3" else []
    options = ["--data", packed, "--family", family, *own, *TINY]

    runs = []
    for name, first in (("straight", 2), ("parts", 1)):
        code, _, err = train(*options, "--steps", first, "--out", tmp_path / name)
        assert code == 0, err
        runs.append(next((tmp_path / name).iterdir()))
    assert runs[0].name == f"00000-originals-{size}-{family}"
    assert train("--resume", runs[1], "--steps", 2)[0] == 0
    weights = [(run / "generator.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert all(value.isfinite().all() for value in load(weights[0]).values())

    out = tmp_path / "generated"
    assert call(generate.main, runs[0], "--n-per-class", 1, "--out", out, "--device", "cpu") == 0
    pictures = sorted(out.rglob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (size, size)
            assert np.asarray(image).std() > 0
    with Image.open(next((runs[0] / "grids").iterdir())) as grid:
        assert grid.size[0] >= size
