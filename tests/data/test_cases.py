"""Inputs that were once read wrong, kept in a folder beside the checkout; skipped without it.

The kinds are tested elsewhere, on inputs that the tests make themselves.
"""

from pathlib import Path

import numpy as np
import pytest

from cxrgan_fast.data.packed import open_packed
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, prepare_set
from cxrgan_fast.data.readers import Picture, read_image
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"there is no folder of such inputs, {CASES}"
)


def read(name: str) -> Picture:
    return read_image((CASES / name).read_bytes(), Preparation(48, fit="crop"))


@pytest.mark.parametrize(("name", "apart"), [("tiff16_white_is_zero", 1), ("png16_alpha", 2)])
def test_both_classes_show_the_same(name: str, apart: int, tmp_path: Path) -> None:
    division = Division(val_share=0, test_share=0)
    source = open_source(CASES / name)
    prepare_set(source, tmp_path / "out", Preparation(32), division=division, progress=False)
    made = open_packed(tmp_path / "out")
    images = {
        (row.class_name, Path(row.file).stem): image.astype(int)
        for row, image in zip(made.rows, made.images, strict=True)
    }
    of_a = {stem: image for (label, stem), image in images.items() if label == "A"}
    assert of_a
    for stem, image in of_a.items():
        assert np.abs(image - images["B", stem]).max() <= apart
    assert max(image.max() for image in of_a.values()) > 150


@pytest.mark.parametrize("name", ["dicom_without_preamble.dcm", "dicom_empty_rescale.dcm"])
def test_dicom_is_read(name: str) -> None:
    pixels = read(name).pixels.astype(int)
    assert pixels.max() == 255
    assert len(np.unique(pixels)) > 20


def test_values_beyond_bits_stored_are_refused() -> None:
    with pytest.raises(UserError, match="values beyond its 12 BitsStored"):
        read("dicom_values_beyond_bitsstored.dcm")


@pytest.mark.parametrize(
    ("name", "white"), [("j2k_overlay_bits.dcm", 3200), ("j2k_overlay_bits_win.dcm", 4095)]
)
def test_overlay_bits_are_no_gray_values(name: str, white: int) -> None:
    pixels = read(name).pixels[0].astype(int)
    for value, corner in (
        (3200, pixels[2, 2]),
        (2400, pixels[2, -2]),
        (1600, pixels[-2, 2]),
        (0, pixels[-2, -2]),
    ):
        assert corner == pytest.approx(value * 255 / white, abs=1)
    assert len(np.unique(pixels)) == 4
