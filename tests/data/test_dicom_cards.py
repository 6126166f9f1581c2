"""A card of four tones through what DICOM can say of pixels: read right, or refused by name."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxrgan_fast.data.dicom_file import is_dicom
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import Picture, read_image
from cxrgan_fast.errors import UserError
from dicom_files import dataset, encoded
from tone_cards import GRAY, LEVELS, tones

# pydicom warns of what it then reads or refuses; readers put it into the notes of the image.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

TWELVE = tones(4095)
EIGHT = GRAY.astype(np.uint8)
EXPECTED = GRAY[:, 4:28]
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def read(content: bytes) -> Picture:
    return read_image(content, Preparation(24, fit="crop"))


def gray(found: Dataset | bytes) -> np.ndarray:
    content = found if isinstance(found, bytes) else encoded(found)
    return read(content).pixels[0].astype(int)


def compressed(pixels: np.ndarray, kind: str, bits: int, **values: Any) -> Dataset:
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 100} if kind == "JPEG" else {"no_jp2": True}
    Image.fromarray(pixels).save(stream, kind, **options)
    found = dataset(pixels, bits, **values)
    found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    found.PixelData = encapsulate([stream.getvalue()])
    found["PixelData"].is_undefined_length = True
    return found


def in_syntax(found: Dataset, syntax: UID) -> bytes:
    found.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        size = found.BitsAllocated // 8
        found.PixelData = np.frombuffer(found.PixelData, f"<u{size}").astype(f">u{size}").tobytes()
    return encoded(found)


def run_length(found: Dataset) -> Dataset:
    found.compress(RLELossless)
    return found


def functional(sequence: str, group: str, **values: Any) -> Dataset:
    inner, outer, found = Dataset(), Dataset(), dataset(TWELVE)
    for name, value in values.items():
        setattr(inner, name, value)
    setattr(outer, group, Sequence([inner]))
    setattr(found, sequence, Sequence([outer]))
    return found


def with_lut(kind: str, bits: int, table: list[int], first: int = 0) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(table) % 65536, first, bits]
    item.LUTData = table
    found = dataset(TWELVE)
    setattr(found, kind, Sequence([item]))
    for name in ("LUTDescriptor", "LUTData"):
        found[kind].value[0][name].VR = "US"
    return found


def luma() -> np.ndarray:
    return np.stack([EIGHT, np.full_like(EIGHT, 128), np.full_like(EIGHT, 128)], -1)


def subsampled() -> Dataset:
    found = dataset(luma(), 8, PhotometricInterpretation="YBR_FULL_422")
    pairs = EIGHT.reshape(24, 16, 2)
    found.PixelData = np.dstack([pairs, np.full((24, 16, 2), 128, np.uint8)]).tobytes()
    return found


RGB = np.stack([EIGHT] * 3, -1)
SIGNED = TWELVE.astype(np.int16) - 2048

RIGHT: dict[str, Callable[[], Dataset | bytes]] = {
    "12 of 16 bits": lambda: dataset(TWELVE, **WINDOW),
    "16 bits": lambda: dataset(tones(65535), 16),
    "8 bits": lambda: dataset(EIGHT, 8),
    "32 bits": lambda: dataset(TWELVE.astype(np.uint32) * 1000, 32),
    "signed": lambda: dataset(SIGNED, WindowCenter=0, WindowWidth=4096),
    "signed, signs not continued": lambda: dataset(
        SIGNED.view(np.uint16) & 0xFFF, PixelRepresentation=1
    ),
    "signed 8": lambda: dataset((GRAY - 128).astype(np.int8), 8),
    "MONOCHROME1": lambda: dataset(
        4095 - TWELVE, PhotometricInterpretation="MONOCHROME1", **WINDOW
    ),
    "high bit 15": lambda: dataset(TWELVE << 4, HighBit=15, **WINDOW),
    "implicit": lambda: in_syntax(dataset(TWELVE, **WINDOW), ImplicitVRLittleEndian),
    "big-endian": lambda: in_syntax(dataset(TWELVE, **WINDOW), ExplicitVRBigEndian),
    "deflated": lambda: in_syntax(dataset(TWELVE, **WINDOW), DeflatedExplicitVRLittleEndian),
    "run lengths": lambda: run_length(dataset(TWELVE, **WINDOW)),
    "run lengths, 8 bits": lambda: run_length(dataset(EIGHT, 8)),
    "run lengths, RGB": lambda: run_length(dataset(RGB, 8)),
    "RGB": lambda: dataset(RGB, 8),
    "RGB in planes": lambda: dataset(
        RGB, 8, PlanarConfiguration=1, PixelData=RGB.transpose(2, 0, 1).tobytes()
    ),
    "YBR_FULL": lambda: dataset(luma(), 8, PhotometricInterpretation="YBR_FULL"),
    "YBR_FULL_422": subsampled,
    "JPEG": lambda: compressed(EIGHT, "JPEG", 8),
    "JPEG YBR_FULL_422": lambda: compressed(
        RGB, "JPEG", 8, PhotometricInterpretation="YBR_FULL_422"
    ),
    "JPEG 2000": lambda: compressed(TWELVE, "JPEG2000", 12, **WINDOW),
    "JPEG 2000, 8 bits": lambda: compressed(EIGHT, "JPEG2000", 8),
    "JPEG 2000, YBR_RCT": lambda: compressed(
        RGB, "JPEG2000", 8, PhotometricInterpretation="YBR_RCT"
    ),
    "an empty rescale": lambda: dataset(TWELVE, RescaleSlope=None, RescaleIntercept=None),
    "an empty window": lambda: dataset(TWELVE, WindowCenter=None, WindowWidth=None),
    "the second window meets the values": lambda: dataset(
        TWELVE, WindowCenter=[90000, 2048], WindowWidth=[10, 4096]
    ),
    "linear exact": lambda: dataset(
        TWELVE, WindowCenter=2047.5, WindowWidth=4095, VOILUTFunction="LINEAR_EXACT"
    ),
    "modality LUT of 12 bits": lambda: with_lut("ModalityLUTSequence", 12, list(range(4096))),
    "modality LUT of 8 bits": lambda: with_lut(
        "ModalityLUTSequence", 8, [value // 16 for value in range(4096)]
    ),
    "VOI LUT that begins later": lambda: with_lut(
        "VOILUTSequence", 12, list(range(1, 4096)), first=1
    ),
    "rescale shared by frames": lambda: functional(
        "SharedFunctionalGroupsSequence",
        "PixelValueTransformationSequence",
        RescaleSlope=2,
        RescaleIntercept=-100,
    ),
    "window of the frame": lambda: functional(
        "PerFrameFunctionalGroupsSequence", "FrameVOILUTSequence", **WINDOW
    ),
}


@pytest.mark.parametrize("name", list(RIGHT))
def test_four_tones_are_read_right(name: str) -> None:
    assert np.abs(gray(RIGHT[name]()) - EXPECTED).max() <= (3 if "JPEG" in name else 1)


def test_negative_rescale_in_functional_groups_turns_dark_into_bright() -> None:
    found = functional(
        "SharedFunctionalGroupsSequence",
        "PixelValueTransformationSequence",
        RescaleSlope=-1,
        RescaleIntercept=4095,
    )
    assert np.abs(gray(found) - (255 - EXPECTED)).max() <= 1


REFUSED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "beyond BitsStored": (
        lambda: dataset(tones(16000), 12),
        r"^holds values beyond its 12 BitsStored \(bits 12, 13 are in use\)",
    ),
    "beyond BitsStored, compressed": (
        lambda: compressed(tones(16000), "JPEG2000", 12),
        "^holds values beyond its 12 BitsStored",
    ),
    "a little beyond, and smooth": (
        lambda: dataset(np.linspace(3000, 5000, 768).astype(np.uint16).reshape(24, 32), 12),
        "^holds values beyond its 12 BitsStored",
    ),
    "a decimal comma": (
        lambda: dataset(TWELVE, RescaleSlope=None),
        r"^its RescaleSlope \(0028,1053\) is '1,5'; expected a number \(with a decimal point\)",
    ),
    "half a window": (
        lambda: dataset(TWELVE, WindowWidth=100),
        r"^has no WindowCenter \(0028,1050\)",
    ),
    "no rescale at all": (lambda: dataset(TWELVE, RescaleSlope=0), "RescaleSlope .* is 0"),
    "16-bit colors": (
        lambda: dataset(np.stack([TWELVE] * 3, -1), 16),
        "^has colors of 16 bits each",
    ),
    "an unknown window function": (
        lambda: dataset(TWELVE, VOILUTFunction="CUBIC", **WINDOW),
        "^its VOILUTFunction .* is CUBIC",
    ),
    "another size in the codestream": (
        lambda: compressed(TWELVE, "JPEG2000", 12, Rows=12),
        "^has 32 x 12 pixels by its tags and 32 x 24 by its compressed picture",
    ),
    "a LUT that is too short": (
        lambda: with_lut("ModalityLUTSequence", 12, list(range(4096))),
        r"^its LUTData \(0028,3006\) has 4096 entries; expected 5000",
    ),
    "a LUT beyond its bits": (
        lambda: with_lut("ModalityLUTSequence", 8, list(range(4096))),
        r"^its LUTData \(0028,3006\) holds values of more than the 8 bits",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_read_is_named(name: str) -> None:
    make, message = REFUSED[name]
    found = make()
    if name == "a LUT that is too short":
        found.ModalityLUTSequence[0].LUTDescriptor[0] = 5000
    content = encoded(found)
    if name == "a decimal comma":
        # pydicom writes no such number.
        content = content.replace(b"(\0S\x10DS\0\0", b"(\0S\x10DS\x04\x001,5 ")
    with pytest.raises(UserError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_shapes_that_contradict_the_photometric_interpretation() -> None:
    inverse = {**WINDOW, "PresentationLUTShape": "INVERSE"}
    with pytest.raises(UserError, match=r"PresentationLUTShape \(2050,0020\) INVERSE and is MONO"):
        read(encoded(dataset(TWELVE, **inverse)))
    found = gray(dataset(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1", **inverse))
    assert np.abs(found - EXPECTED).max() <= 1


def test_a_missing_photometric_interpretation_is_named() -> None:
    found = dataset(TWELVE)
    del found.PhotometricInterpretation
    with pytest.raises(UserError, match="has the photometric interpretation that is missing"):
        read(encoded(found))


def test_a_file_without_preamble_is_read() -> None:
    found = encoded(dataset(TWELVE, **WINDOW))
    assert is_dicom(found[132:])
    assert np.array_equal(gray(found[132:]), gray(found))
    bare = dataset(TWELVE, **WINDOW)
    del bare.file_meta
    for implicit in (True, False):
        stream = io.BytesIO()
        bare.save_as(stream, implicit_vr=implicit, little_endian=True)
        content = stream.getvalue()
        assert content[:2] == b"\x08\0"
        assert np.array_equal(gray(content), gray(found))


def test_other_files_are_no_dicom() -> None:
    for content in (b"", b"\x08\0", bytes(500), b"II*\0" + bytes(500), b"\x02\0\0\0" * 50):
        assert not is_dicom(content)


@pytest.mark.parametrize("kind", ["native", "JPEG2000"])
@pytest.mark.parametrize("declared", [True, False])
def test_overlays_beside_the_values_are_no_gray_values(kind: str, declared: bool) -> None:
    drawn = TWELVE.copy()
    drawn[4:8, 6:26] |= 1 << 15
    drawn[14:20, 3:9] |= 1 << 12
    found = dataset(drawn, **WINDOW)
    if kind == "JPEG2000":
        found = compressed(drawn, "JPEG2000", 12, **WINDOW)
    if declared:
        for group, bit in ((0x6000, 15), (0x6002, 12)):
            found.add_new((group, 0x0100), "US", 16)
            found.add_new((group, 0x0102), "US", bit)
    picture = read(encoded(found))
    assert np.abs(picture.pixels[0].astype(int) - EXPECTED).max() <= 1
    told = [note for note in picture.notes if "passed over as an overlay: 12, 15" in note]
    assert len(told) == (not declared)


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize(
    ("word", "value", "limit", "signed"),
    [
        (0xF000, 0xF000, None, False),
        (0xF830, -2000, None, False),  # as scanners write it, whatever PixelRepresentation says
        (0x8000, -32768, None, True),
        (0x8000, 0x8000, None, True),
        (0xF123, 0xF000, 0xF200, False),
        (4095, 4095, None, False),  # within BitsStored
    ],
)
def test_padding_is_told_by_its_tag_and_is_no_value(
    word: int, value: int, limit: int | None, signed: bool, syntax: UID | None
) -> None:
    card = SIGNED.view(np.uint16) & 0xFFF if signed else TWELVE.astype(np.uint16)
    card = np.where(card == 4095, 4000, card).astype(np.uint16)
    padded = card.copy()
    padded[:, :2] = word
    center = 0 if signed else 2048
    tags: dict[str, Any] = {"PixelRepresentation": int(signed), "WindowCenter": center}
    found = dataset(padded, 12, WindowWidth=4096, **tags)
    for keyword, tag in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
        if tag is not None:
            found.add_new(keyword, "SS" if tag < 0 else "US", tag)
    clean = gray(dataset(card, 12, WindowWidth=4096, **tags))
    if syntax == RLELossless:
        found = run_length(found)
    content = in_syntax(found, syntax) if syntax == ExplicitVRBigEndian else encoded(found)
    picture = read_image(content, Preparation(24, fit="crop"))
    assert np.abs(picture.pixels[0].astype(int) - clean).max() <= 1
    squashed = read_image(content, Preparation(32)).pixels[0]
    assert (squashed[:, 0] == 0).all()
    beyond = "padding beyond its BitsStored: its PixelPaddingValue says which it is"
    assert (beyond in picture.notes) is (word != 4095)
    # Without the tag those words would be folded over.
    del found.PixelPaddingValue
    if word != 4095 and syntax is None:
        with pytest.raises(UserError, match="values beyond its 12 BitsStored"):
            read(encoded(found))


def test_a_window_that_misses_all_values_is_said_and_not_black() -> None:
    found = read(encoded(dataset(TWELVE, WindowCenter=90000, WindowWidth=100)))
    assert np.abs(found.pixels[0].astype(int) - EXPECTED).max() <= 1
    assert found.notes == (
        "its window misses all of its values: their range is black to white instead",
    )
    assert read(encoded(dataset(TWELVE, **WINDOW))).notes == ()


def test_a_lut_that_misses_all_values_is_said_and_not_black() -> None:
    found = read(encoded(with_lut("VOILUTSequence", 8, list(range(256)), first=60000)))
    assert np.abs(found.pixels[0].astype(int) - EXPECTED).max() <= 1
    assert found.notes == (
        "its VOI LUT has one tone for all values: their range is black to white instead",
    )


def test_a_sigmoid_is_in_the_middle_at_its_center() -> None:
    found = gray(dataset(TWELVE, WindowCenter=1365, WindowWidth=2000, VOILUTFunction="SIGMOID"))
    expected = 255 / (1 + np.exp(-4 * (LEVELS[:, 4:28] * 1365.0 - 1365) / 2000))
    assert np.abs(found - expected).max() <= 1


def test_warnings_of_pydicom_are_noted_and_not_switched_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = dataset(TWELVE, **WINDOW)
    meta = encoded(found)[: -len(found.PixelData)]
    meta = meta[: meta.index(b"\x08\0\x16\0")]
    del found.file_meta
    stream = io.BytesIO()
    found.save_as(stream, implicit_vr=True, little_endian=True)
    # The header says that types are told, and they are not.
    picture = read(meta + stream.getvalue())
    assert np.abs(picture.pixels[0].astype(int) - EXPECTED).max() <= 1
    (note,) = picture.notes
    assert note.startswith("pydicom: Expected explicit VR, but found implicit VR")
    assert any("Expected explicit VR" in record.getMessage() for record in caplog.records)
    assert read(encoded(dataset(TWELVE, **WINDOW))).notes == ()
