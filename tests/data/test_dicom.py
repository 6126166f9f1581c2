"""DICOM files: the values as the file says they are meant, or a line that says why not."""

import sys
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLosslessSV1, RLELossless

from cxrgan_fast.data.dicom import DicomImage, decode_dicom
from cxrgan_fast.data.dicom_file import is_dicom
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import Picture, image_size, read_image
from cxrgan_fast.errors import UserError
from dicom_files import dataset, encoded

# pydicom warns of what it then reads or refuses; readers put it into the notes of the image.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

RAMP = (
    np.linspace(0, 4095, 64).round().astype(np.uint16)[None, :].repeat(48, 0)
)  # (48, 64), 12 bits
GRAY = np.floor(RAMP * (255 / 4095) + 0.5).astype(int)


def gray(found: Dataset) -> np.ndarray:
    """The picture in bytes, before it is made square."""

    def use(image: DicomImage) -> np.ndarray:
        scaled = (image.values.astype(np.float64) - image.low) * 255 / (image.high - image.low)
        return np.floor(scaled.clip(0, 255) + 0.5).astype(int)

    return decode_dicom(encoded(found), use)


def read(found: Dataset, **settings: Any) -> Picture:
    return read_image(encoded(found), Preparation(**{"resolution": 48, **settings}))


def test_without_a_window_the_used_range_is_black_to_white() -> None:
    assert np.array_equal(gray(dataset(RAMP)), GRAY)
    half = gray(dataset(RAMP // 2 + 100))
    assert half.min() == 0
    assert half.max() == 255


def test_monochrome1_is_inverted() -> None:
    found = gray(dataset(RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(found - (255 - GRAY)).max() <= 1


def test_the_first_window_is_applied() -> None:
    found = dataset(RAMP, WindowCenter=[1024.5, 9], WindowWidth=[1025, 9])  # 512 to 1536
    expected = np.clip((RAMP.astype(float) - 512) / 1024, 0, 1) * 255
    assert np.abs(gray(found) - expected).max() <= 1
    inverted = dataset(
        RAMP, WindowCenter=1024.5, WindowWidth=1025, PhotometricInterpretation="MONOCHROME1"
    )
    assert np.abs(gray(inverted) - (255 - expected)).max() <= 1


def test_rescaled_and_signed_values() -> None:
    signed = RAMP.astype(np.int16) - 2048
    plain = dataset(signed, RescaleSlope=2, RescaleIntercept=-10)
    assert np.array_equal(gray(plain), GRAY)
    windowed = dataset(
        signed, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=-9.5, WindowWidth=2049
    )
    expected = np.clip((signed * 2.0 - 10 + 1034) / 2048, 0, 1) * 255
    assert np.abs(gray(windowed) - expected).max() <= 1


def test_a_negative_slope_turns_dark_into_bright() -> None:
    found = dataset(RAMP, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.abs(gray(found) - (255 - GRAY)).max() <= 1
    windowed = dataset(
        RAMP, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096
    )
    assert np.abs(gray(windowed) - (255 - GRAY)).max() <= 1


def test_a_lut_of_values_of_interest() -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.LUTData = [4095 - value for value in range(4096)]
    found = dataset(RAMP, VOILUTSequence=Sequence([item]))
    found.VOILUTSequence[0]["LUTDescriptor"].VR = "US"
    found.VOILUTSequence[0]["LUTData"].VR = "US"
    assert np.abs(gray(found) - (255 - GRAY)).max() <= 1


def test_padding_is_black_and_outside_the_range() -> None:
    padded = RAMP + 100
    padded[:, :8] = 65000
    found = dataset(padded, bits=16, PixelPaddingValue=65000)
    found["PixelPaddingValue"].VR = "US"
    image = gray(found)
    assert image[:, :8].max() == 0
    assert image[:, 8].max() == 0
    assert image[:, -1].min() == 255


def test_colors_and_eight_bits() -> None:
    color = np.zeros((16, 16, 3), np.uint8)
    color[..., 1] = 200
    assert read(dataset(color, bits=8), resolution=16, image_channels=3).pixels[1].min() == 200
    assert read(dataset(color, bits=8), resolution=16).pixels.mean() == pytest.approx(117, abs=1)
    plain = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(gray(dataset(plain, bits=8)), plain)


def test_run_length_compression() -> None:
    found = dataset(RAMP)
    found.compress(RLELossless)
    assert np.array_equal(gray(found), GRAY)


def test_percentiles_are_of_the_deep_values() -> None:
    deep = (RAMP // 64).astype(np.uint16)  # 6 bits' worth in the middle of 16
    deep[0, 0] = 60000
    found = read(dataset(deep, bits=16), contrast="percentile", percentiles=(1, 99))
    assert len(np.unique(found.pixels)) > 40
    assert found.pixels.min() == 0
    assert found.pixels.max() > 250


def test_size_and_patient() -> None:
    found = read(dataset(RAMP, PatientID="Mustermann^Max"))
    assert (found.width, found.height) == (64, 48)
    assert image_size(encoded(dataset(RAMP))) == (64, 48)
    assert found.patient is not None
    assert found.patient.startswith("patient-")
    assert len(found.patient) == 20
    assert "Muster" not in found.patient
    assert found.patient == read(dataset(RAMP // 2, PatientID="Mustermann^Max ")).patient
    assert found.patient != read(dataset(RAMP, PatientID="other")).patient
    assert read(dataset(RAMP, PatientID="")).patient is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NumberOfFrames": 3}, "^holds 3 frames; expected one image"),
        ({"PixelData": None}, "^holds no picture"),
        ({"Rows": 9000, "Columns": 9000}, "^claims 9000 x 9000 pixels"),
        ({"Rows": 0}, "^claims 64 x 0 pixels"),
        ({"Rows": 480}, "^holds 6,144 bytes of pixels where its header claims 61,440"),
        ({"PhotometricInterpretation": "FANCY"}, "FANCY"),
        ({"BitsAllocated": 12}, "12 bits a pixel"),
        (
            {"WindowCenter": 5, "WindowWidth": -4},
            r"^its WindowWidth \(0028,1051\) is -4; expected at least 1",
        ),
    ],
)
def test_pictures_that_cannot_be_read(change: dict[str, Any], message: str) -> None:
    found = dataset(RAMP, **{name: value for name, value in change.items() if value is not None})
    for name, value in change.items():
        if value is None:
            delattr(found, name)
    with pytest.raises(UserError, match=message) as caught:
        read(found)
    assert "\n" not in str(caught.value)


def test_a_compression_that_nothing_here_decodes_is_named() -> None:
    found = dataset(RAMP)
    found.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    from pydicom.encaps import encapsulate

    found.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    with pytest.raises(UserError, match=r"JPEG Lossless.*pip install pylibjpeg"):
        read(found)


@pytest.mark.parametrize("tenth", range(10))
def test_cut_off_files_are_refused(tenth: int) -> None:
    whole = encoded(dataset(RAMP))
    with pytest.raises(UserError):
        read_image(whole[: len(whole) * tenth // 10], Preparation(16))


def test_damaged_bytes_raise_user_errors_or_nothing() -> None:
    whole = encoded(dataset(RAMP, WindowCenter=1000, WindowWidth=500, PatientID="x"))
    rng = np.random.default_rng(0)
    read_well, reasons = 0, []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(128, 700, 3):
            damaged[place] = rng.integers(0, 256)
        try:
            read_well += read_image(bytes(damaged), Preparation(16)).pixels.shape == (1, 16, 16)
        except UserError as error:
            reasons.append(str(error))
    assert 0 < read_well < 150
    assert len(reasons) == 150 - read_well
    assert not any("\n" in reason for reason in reasons)


def test_without_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    content = encoded(dataset(RAMP))
    assert is_dicom(content)
    with pytest.raises(UserError, match=r"DICOM needs pydicom: pip install 'cxrgan_fast\[dicom\]'"):
        read_image(content, Preparation(16))
