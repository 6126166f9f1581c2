"""The bound of memory holds for every decoder, transfer syntax and number of threads."""

import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from cxrgan_fast.data import decoding, memory
from cxrgan_fast.data.dicom_file import _file_meta
from cxrgan_fast.data.dicom_values import codestream_size
from cxrgan_fast.data.memory import Budget
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.readers import read_image
from cxrgan_fast.errors import UserError
from dicom_files import dataset, encoded
from mutations import png_of_zeros, png_with_text_bomb
from tone_cards import tiff

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "prepare_measured.py"


def prepared(source: Path, out: Path, workers: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(source), str(out)],
        env={**os.environ, "WORKERS": str(workers)},
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found["results"][0], "peak": found["peak"]}


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What the program takes with nothing to read."""
    folder = tmp_path_factory.mktemp("rest")
    (folder / "set/a").mkdir(parents=True)
    (folder / "set/a/x.png").write_bytes(png_of_zeros(16, 16, 1))
    peak: int = prepared(folder / "set", folder / "out", 1)["peak"]
    return peak


@pytest.mark.long
def test_many_threads_share_one_bound(tmp_path: Path, at_rest: int) -> None:
    folder = tmp_path / "set/a"
    folder.mkdir(parents=True)
    bomb = png_of_zeros(4000, 4000, 4)
    for number in range(12):
        (folder / f"{number}.png").write_bytes(bomb)
    found = prepared(tmp_path / "set", tmp_path / "out", 12)
    assert len(found["read"]) == 12
    # Each takes 384 MB by its header, so four at a time; twelve would take more than 2 GB.
    assert found["peak"] - at_rest < memory.DECODING.limit


def deflated(size: int) -> bytes:
    """A deflated file that claims 8,192 bytes of pixels and holds `size` zeros."""
    made = dataset(np.zeros((64, 64), np.uint16), 12)
    plain = encoded(made)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta = encoded(made)
    meta = meta[: _file_meta(meta, 132)[0]]
    header = plain[_file_meta(plain, 132)[0] : -8192 - 4] + struct.pack("<I", size)
    packer = zlib.compressobj(9, wbits=-15)
    blocks = [packer.compress(header)]
    blocks += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([meta, *blocks, packer.compress(bytes(size % (1 << 20))), packer.flush()])


@pytest.mark.long
def test_deflated_dicom_is_inflated_up_to_its_claim(tmp_path: Path, at_rest: int) -> None:
    folder = tmp_path / "set/a"
    folder.mkdir(parents=True)
    bomb = deflated(700_000_000)
    assert len(bomb) < 1_000_000
    for number in range(4):
        (folder / f"{number}.dcm").write_bytes(bomb)
    (folder / "whole.dcm").write_bytes(deflated(8192))
    found = prepared(tmp_path / "set", tmp_path / "out", 4)
    assert found["read"] == ["a/whole.dcm"]
    assert {reason[:37] for _, reason in found["left_out"]} == {
        "is deflated, and holds more than the 8"[:37]
    }
    assert found["peak"] - at_rest < 300_000_000


@pytest.mark.long
def test_archives_are_unpacked_one_large_file_at_a_time(tmp_path: Path, at_rest: int) -> None:
    zeros = bytes(1 << 20)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("1.csv", "2.csv", "a/1.png", "a/2.png", "a/3.png"):
            with archive.open(name, "w") as entry:
                for _ in range(200):
                    entry.write(zeros)
        archive.writestr("a/fine.png", png_of_zeros(16, 16, 1))
    found = prepared(tmp_path / "set.zip", tmp_path / "out", 3)
    assert found["read"] == ["a/fine.png"]
    assert len(found["left_out"]) == 3
    # Two of 200 MB fit into the bound for files, with an eighth more while they grow.
    assert found["peak"] - at_rest < 550_000_000


def test_a_long_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"^claims 64000000 x 1 pixels, more than the 65,535"):
        read_image(png_of_zeros(64_000_000, 1, 1), Preparation(16))
    assert read_image(png_of_zeros(65_535, 1, 1), Preparation(16)).width == 65_535


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_tiles_larger_than_the_image_are_reckoned() -> None:
    pixels = np.full((64, 64), 9)
    whole = tiff(pixels, 8, 1, tile=(64, 64))
    assert (read_image(whole, Preparation(16)).pixels == 9).all()
    hostile = tiff(pixels, 8, 1, tile=(60_000, 60_000), deflated=True)
    with pytest.raises(UserError, match=r"^its decoding would take 86\.4 GB of memory"):
        read_image(hostile, Preparation(16))


def test_a_damaged_tag_of_a_tile_is_told() -> None:
    content = tiff(np.full((64, 64), 9), 8, 1, tile=(64, 64))
    entry = struct.pack("<HHII", 322, 4, 1, 64)
    assert entry in content
    with pytest.raises(UserError, match=r"^(damaged|not an image)"):
        read_image(
            content.replace(entry, struct.pack("<HHII", 322, 2, 4, 0x61616161)), Preparation(16)
        )


def test_a_jpeg_is_reckoned_at_the_size_at_which_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    amounts: list[int] = []
    hold = Budget.hold

    def watched(self: Budget, amount: int, what: str) -> Any:
        amounts.append(amount)
        return hold(self, amount, what)

    monkeypatch.setattr(Budget, "hold", watched)
    large = Image.new("RGB", (1600, 1200))
    read_image(saved(large, "JPEG"), Preparation(32))
    read_image(saved(large, "JPEG", progressive=True), Preparation(32))
    assert amounts == [24 * (200 * 150 + 16 * 1600), 24 * 1600 * 1200]


def test_a_codestream_larger_than_its_file_claims_is_not_decoded() -> None:
    stream = saved(Image.new("L", (3000, 2000)), "JPEG2000", no_jp2=True)
    assert codestream_size(stream) == (3000, 2000)
    assert codestream_size(saved(Image.new("L", (300, 200)), "JPEG")) == (300, 200)
    assert codestream_size(b"\xff\xd8\xff\xd9") is None
    made = dataset(np.zeros((64, 64), np.uint8), 8)
    made.file_meta.TransferSyntaxUID = JPEG2000Lossless
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    with pytest.raises(UserError, match=r"^has 64 x 64 pixels by its tags and 3000 x 2000"):
        read_image(encoded(made), Preparation(16))


def test_run_lengths_end_where_the_picture_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(np.zeros((64, 64), np.uint8), 8)
    made.file_meta.TransferSyntaxUID = RLELossless
    runs = bytes([129, 7]) * 100_000  # 12.8 MB of sevens, where 4,096 are claimed
    made.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + runs])
    made["PixelData"].is_undefined_length = True
    unpacked: list[int] = []

    class Watched(bytearray):
        def __iadd__(self, more: Any) -> "Watched":  # type: ignore[misc, override]
            unpacked.append(len(more))
            return super().__iadd__(more)  # type: ignore[return-value]

    monkeypatch.setattr("cxrgan_fast.data.dicom_values.bytearray", Watched, raising=False)
    assert read_image(encoded(made), Preparation(16)).pixels.shape == (1, 16, 16)
    assert sum(unpacked) == 4096
    made.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + bytes([129, 7])])
    with pytest.raises(UserError, match=r"^holds fewer RLE pixels than its header claims"):
        read_image(encoded(made), Preparation(16))


def test_texts_of_a_png_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = png_of_zeros(16, 16, 1)
    content = png_with_text_bomb()
    chunk = content[33 : -len(content) + content.index(b"IDAT") - 4]
    assert b"zTXt" in chunk
    content = plain[:33] + chunk + plain[33:-12] + chunk + plain[-12:]
    seen: list[dict[Any, Any]] = []
    load = decoding._load

    def watched(image: Any, *others: Any) -> Any:
        found = load(image, *others)
        seen.append(dict(image.info))
        return found

    monkeypatch.setattr(decoding, "_load", watched)
    assert read_image(content, Preparation(16)).width == 16
    assert seen == [{}]


def test_who_needs_more_than_is_left_waits_in_order() -> None:
    budget = Budget(100)
    order: list[str] = []
    inside = threading.Event()
    leave = threading.Event()

    def first() -> None:
        with budget.hold(60, "it"):
            inside.set()
            leave.wait(10)

    def other(name: str, amount: int) -> None:
        with budget.hold(amount, "it"):
            order.append(name)
            time.sleep(0.02)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    for name, amount in (("large", 90), ("small", 20)):
        threads.append(threading.Thread(target=other, args=(name, amount)))
        threads[-1].start()
        time.sleep(0.2)  # until it waits
    assert order == []  # the small one would fit, and does not overtake
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["large", "small"]
    assert budget._used == 0
    with (
        pytest.raises(UserError, match=r"^it would take 0\.0 GB of memory, more than"),
        budget.hold(101, "it"),
    ):
        pass


def test_what_is_held_is_given_back_whatever_happens() -> None:
    before = memory.DECODING._used, memory.CONTENT._used
    for content in (b"", b"II*\0" + bytes(99), png_of_zeros(16, 16, 1)[:-30], bytes(128) + b"DICM"):
        with pytest.raises(UserError):
            read_image(content, Preparation(16))
    assert (memory.DECODING._used, memory.CONTENT._used) == before == (0, 0)
