"""Two thousand damaged and hostile files: each is read, or reported by name with the reason.

They go through `prepare_set` in a program of its own: a crash ends it with a signal, a hang at the
time limit, and its memory is measured.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxrgan_fast.data import phantom_image
from cxrgan_fast.data.memory import CONTENT, DECODING
from image_files import encoded
from mutations import (
    archive,
    mutated,
    originals,
    png_of_zeros,
    png_with_text_bomb,
)

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "support" / "prepare_measured.py"
FILES = 1800
ARCHIVES = 200
SECONDS = 240
# The bounds of `memory`, and what Python and PyTorch take.
MEMORY = DECODING.limit + CONTENT.limit + 600_000_000


def run(*sources: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, str(PROGRAM), *map(str, sources), str(out)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert b"Traceback" not in done.stderr  # libtiff complains there of what is then reported
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["peak"] < MEMORY
    return found


def everything(folder: Path) -> set[bytes]:
    return {
        os.path.join(parent, name)
        for parent, folders, files in os.walk(os.fsencode(folder))
        for name in (*folders, *files)
    }


@pytest.mark.long
def test_damaged_files(tmp_path: Path) -> None:
    rng = random.Random(2026)
    whole = originals()
    others = list(whole.values())
    folder = tmp_path / "set" / "ill"
    folder.mkdir(parents=True)
    names = []
    odd = ["{} x.{}", "{}'\".{}", "{}é漢.{}", "{}\n.{}", "{}\udcff.{}", "{};$(id).{}"]
    for number in range(FILES):
        suffix = rng.choice(list(whole))
        pattern = rng.choice(odd) if rng.random() < 0.1 else "{}.{}"
        name = pattern.format(f"f{number}", suffix)
        with open(os.fsencode(folder / name), "wb") as file:
            file.write(mutated(whole[suffix], others, rng))
        names.append(f"ill/{name}")
    for suffix, content in whole.items():
        (folder / f"whole.{suffix}").write_bytes(content)
        names.append(f"ill/whole.{suffix}")
    before = everything(tmp_path)
    (result,) = run(tmp_path / "set", out=tmp_path / "out")["results"]
    left_out = dict(result["left_out"])
    assert sorted([*result["read"], *left_out]) == sorted(names)
    assert all(reason and "\n" not in reason for reason in left_out.values())
    assert {f"ill/whole.{suffix}" for suffix in whole} <= set(result["read"])
    assert FILES / 10 < len(result["read"]) < 9 * FILES / 10
    new = everything(tmp_path) - before
    assert all(path.startswith(os.fsencode(tmp_path / "out")) for path in new)


@pytest.mark.long
def test_bombs_and_traps(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "ill"
    folder.mkdir(parents=True)
    fine = encoded(phantom_image(0, 0, 0).image)
    contents = {
        "fine.png": fine,
        "largest.png": png_of_zeros(8000, 7900, 4),  # allowed, and takes most
        "large.png": png_of_zeros(7000, 7000, 1),
        "too large.png": png_of_zeros(9000, 9000, 1),
        "claims much.png": png_of_zeros(100, 100, 1, claimed=60_000),
        "claims more.png": png_of_zeros(100, 100, 1, claimed=2**31 - 1),
        "text.png": png_with_text_bomb(),
        "empty.png": b"",
        "script.jpg": b"#!/bin/sh\ntouch /tmp/hacked\n",
        "archive.png": archive({"a/b.png": fine}),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "loop").symlink_to(tmp_path / "set")
    (folder / "self.png").symlink_to("self.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    with (folder / "sparse.tif").open("wb") as file:
        file.truncate(600 << 20)
    (result,) = run(tmp_path / "set", out=tmp_path / "out")["results"]
    # Of "claims much.png" Pillow takes the rows that there are, and black for the rest.
    assert sorted(result["read"]) == [
        f"ill/{name}.png" for name in ("claims much", "fine", "large", "largest", "text")
    ]
    reasons = dict(result["left_out"])
    assert set(reasons) == {
        *(f"ill/{name}" for name in contents if f"ill/{name}" not in result["read"]),
        *(f"ill/{name}" for name in ("loop", "self.png", "zero.png", "pipe.png", "sparse.tif")),
    }
    assert "claims 9000 x 9000 pixels" in reasons["ill/too large.png"]
    assert "629,145,600 bytes" in reasons["ill/sparse.tif"]
    assert "leads to the folder itself again" in reasons["ill/loop"]


@pytest.mark.long
def test_damaged_archives(tmp_path: Path) -> None:
    rng = random.Random(7)
    fine = encoded(phantom_image(0, 0, 0).image)
    outside = {"../evil.png": fine, "/etc/evil.png": fine, "a/../../evil.png": fine}
    whole = archive({"a/1.png": fine, "b/2.png": fine, "b/3.jpg": b"", **outside})
    other = archive({"x.csv": b"path,label\nx.png,1\n", "x.png": fine})
    sources = []
    for number in range(ARCHIVES):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(mutated(whole if number % 3 else other, [other, fine], rng))
        sources.append(path)
    paths = {
        "whole.zip": whole,
        "bomb.zip": archive({"a/1.png": fine, "a/2.png": bytes(700 << 20)}),
    }
    for name, content in paths.items():
        (tmp_path / name).write_bytes(content)
        sources.append(tmp_path / name)
    before = everything(tmp_path)
    results = run(*sources, out=tmp_path / "out")["results"]
    assert len(results) == len(sources)
    for path, result in zip(sources, results, strict=True):
        if "error" in result:
            assert str(path) in result["error"] or "class '" in result["error"]
        else:
            assert result["read"]
    good, bomb = results[-2:]
    assert good["read"] == ["a/1.png", "b/2.png"]
    assert sorted(name for name, _ in good["left_out"]) == sorted([*outside, "b/3.jpg"])
    assert bomb["read"] == ["a/1.png"]
    assert "more than the 536,870,912 that are read" in bomb["left_out"][0][1]
    assert 10 < sum("error" not in result for result in results) < ARCHIVES
    new = everything(tmp_path) - before
    assert all(path.startswith(os.fsencode(tmp_path / "out")) for path in new)
    assert not [path for path in everything(tmp_path) if path.endswith(b"evil.png")]


@pytest.mark.long
@pytest.mark.parametrize(
    "text", ["path,label\n../../../etc/passwd,a\n", "path,label\n/dev/zero,a\n"]
)
def test_tables_that_name_what_is_no_image(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.csv").write_text(text)
    (result,) = run(tmp_path / "set.csv", out=tmp_path / "out")["results"]
    assert "error" in result
