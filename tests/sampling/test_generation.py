"""The same seed gives the same bytes, and a folder holds a whole set or nothing."""

import csv
import errno
import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxrgan_fast.data import to_uint8
from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig
from cxrgan_fast.sampling import generation
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_images, generate_to_folder, run_generator
from cxrgan_fast.sampling.latents import latents_for


def content(folder: Path) -> dict[str, str]:
    """What is in a folder: the hash of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def generate(sources, out: Path, **options) -> dict[str, str]:
    generate_to_folder(sources, out, progress=False, **options)
    return content(out)


# ----------------------------------------------------------------------------- what is written


def test_a_set_is_class_folders_of_pngs_and_a_manifest(make_run, tmp_path):
    out = tmp_path / "new" / "set"
    files = generate(load_sources(make_run()), out, n_per_class=3, seed=5)
    pngs = [
        f"{name}/{name}_seed5_{i:05d}.png" for name in ("normal", "bacterial") for i in range(3)
    ]
    assert sorted(files) == sorted([*pngs, "manifest.csv"])
    with (out / "manifest.csv").open(newline="") as manifest:
        rows = list(csv.DictReader(manifest))
    assert list(rows[0]) == ["file", "class", "seed", "checkpoint"]
    assert [row["file"] for row in rows] == pngs
    assert [row["class"] for row in rows] == ["normal"] * 3 + ["bacterial"] * 3
    assert {row["seed"] for row in rows} == {"5"}
    assert {row["checkpoint"] for row in rows} == {
        "00000-phantom-32-resnet/generator.safetensors@20"
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_the_pngs_are_the_images_of_the_generator(make_run, tmp_path, channels, output):
    network = NetworkConfig(
        resolution=32, base_channels=8, latent_size=8, image_channels=channels, output=output
    )
    sources = load_sources(make_run(network=network))
    generate(sources, tmp_path / "out", n_per_class=2, seed=1)
    for source in sources:
        name = source.class_name
        latents = latents_for(1, name, range(2), 8)
        images = source.snapshot.generator(latents, torch.full((2,), source.label))
        expected = to_uint8(images, network.image_range)  # (2, C, 32, 32)
        assert expected.float().std() > 5  # there is something to see
        for i in range(2):
            with Image.open(tmp_path / "out" / name / f"{name}_seed1_{i:05d}.png") as png:
                assert png.mode == {1: "L", 3: "RGB"}[channels]
                pixels = np.asarray(png, np.int16).reshape(32, 32, channels).transpose(2, 0, 1)
            # The batch is another one here, so that a value may round the other way.
            assert np.abs(pixels - expected[i].numpy()).max() <= 1


# ---------------------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("family", ["resnet", "dcgan", "r3"])
def test_the_batch_size_changes_no_byte(make_run, tmp_path, family):
    network = NetworkConfig(family=family, resolution=64, base_channels=16, latent_size=32)
    sources = load_sources(make_run(network=network))
    sets = [
        generate(sources, tmp_path / str(size), n_per_class=23, batch_size=size)
        for size in (1, 7, 64)
    ]
    assert len(sets[0]) == 2 * 23 + 1
    assert sets[0] == sets[1] == sets[2]
    assert len(set(sets[0].values())) == len(sets[0])  # no image twice


def test_fewer_images_or_classes_are_a_part_of_more(make_run, tmp_path):
    run = make_run(class_names=["normal", "bacterial", "viral"])
    whole = generate(load_sources(run), tmp_path / "whole", n_per_class=40)
    for n in (1, 16, 23):
        part = generate(load_sources(run), tmp_path / str(n), n_per_class=n, batch_size=16)
        del part["manifest.csv"]
        assert part.items() < whole.items()
    some = load_sources(run, None, ["viral"])
    part = generate(some, tmp_path / "class", n_per_class=40)
    del part["manifest.csv"]
    assert part.items() < whole.items()


def test_another_seed_gives_other_images(make_run, tmp_path):
    sources = load_sources(make_run())
    first = generate(sources, tmp_path / "0", n_per_class=4, seed=0)
    second = generate(sources, tmp_path / "1", n_per_class=4, seed=1)
    assert not set(first.values()) & set(second.values())


def test_the_network_sees_groups_of_one_size_whatever_is_asked(make_run, monkeypatch):
    (source, _) = load_sources(make_run())
    seen = []
    forward = source.snapshot.generator.forward

    def spy(latents, labels):
        seen.append((len(latents), len(labels)))
        return forward(latents, labels)

    monkeypatch.setattr(source.snapshot.generator, "forward", spy)
    for n in (1, 16, 35):
        latents = torch.randn(n, 8)
        assert generate_images(source, latents, torch.zeros(n, dtype=torch.int64)).shape[0] == n
        assert generate_images(source, latents, torch.full((n, 2), 0.5)).shape[0] == n
    assert set(seen) == {(16, 16)}


def test_a_network_as_it_is_in_training_generates_the_same(make_run):
    (source, _) = load_sources(make_run())
    snapshot = source.snapshot
    latents, labels = torch.randn(21, 8), torch.arange(21) % 2
    pixels = run_generator(snapshot.generator, latents, labels, snapshot.network.image_range, "it")
    assert torch.equal(pixels, generate_images(source, latents, labels))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run_generator(
            snapshot.generator, latents, labels, snapshot.network.image_range, "it"
        )
    difference = (rounded.int() - pixels.int()).abs()
    assert 0 < difference.float().mean() < 4  # levels of 255: it was bfloat16, and not much else
    with torch.no_grad():
        next(snapshot.generator.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"^it produces values that are not numbers"):
        run_generator(snapshot.generator, latents, labels, (-1, 1), "it")


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_per_class": 0}, "--n-per-class 0: expected 1 or more"),
        ({"n_per_class": -3}, "--n-per-class -3: expected 1 or more"),
        ({"n_per_class": 1, "batch_size": 0}, "--batch-size 0: expected 1 or more"),
    ],
)
def test_numbers_that_cannot_work_are_named(make_run, tmp_path, options, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        generate(load_sources(make_run()), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_not_empty_is_left_alone(make_run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=rf"^{out} is not empty: name a new folder"):
        generate(load_sources(make_run()), out, n_per_class=1)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_an_empty_output_folder_is_used(make_run, tmp_path):
    (tmp_path / "out").mkdir()
    assert generate(load_sources(make_run()), tmp_path / "out", n_per_class=1)


def test_an_output_folder_that_cannot_be_made_is_named(make_run, tmp_path):
    file = tmp_path / "file"
    file.touch()
    sources = load_sources(make_run())
    with pytest.raises(UserError, match=rf"^cannot write {file}: a file of that name is in the"):
        generate(sources, file, n_per_class=1)
    with pytest.raises(UserError, match=rf"^cannot write {file}/out: a part of that path is a"):
        generate(sources, file / "out", n_per_class=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission_is_named(make_run, tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(UserError, match=rf"^cannot write {out}.*: no permission"):
        generate(load_sources(make_run()), out, n_per_class=1)


# ---------------------------------------------------------------------- failures on the way


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    ("failure", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "the disk is full"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_failure_on_the_way_leaves_nothing(
    make_run, tmp_path, monkeypatch, existed, failure, raised, message
):
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    written = []
    write = Path.write_bytes

    def fail_at_the_thirtieth(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 30:
            raise failure
        return write(path, data)

    sources = load_sources(make_run())
    monkeypatch.setattr(Path, "write_bytes", fail_at_the_thirtieth)
    with pytest.raises(raised, match=message):
        generate(sources, out, n_per_class=20, batch_size=16)
    assert len(written) >= 30
    assert out.exists() == existed
    assert not existed or not list(out.iterdir())


def test_the_manifest_comes_last(make_run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    seen = []

    def spy(path: Path, data: bytes) -> None:
        seen.append((path.name, len(list(out.rglob("*.png")))))

    sources = load_sources(make_run())
    monkeypatch.setattr(generation, "write_atomic", spy)
    generate(sources, out, n_per_class=20)
    assert seen == [("manifest.csv", 40)]


def test_a_really_full_disk(make_run, tmp_path):
    disk = tmp_path / "tiny"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip("mounting a small file system needs privileges that this user has not")
    try:
        with pytest.raises(UserError, match=r"^cannot write .*: the disk is full; free some"):
            generate(load_sources(make_run()), disk / "out", n_per_class=200)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_generator_that_diverged_is_named(make_run, tmp_path):
    sources = load_sources(make_run())
    with torch.no_grad():
        next(sources[0].snapshot.generator.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"generator\.safetensors@20 produces values that are not"):
        generate(sources, tmp_path / "out", n_per_class=1)
    assert not (tmp_path / "out").exists()


def test_cudnn_stays_on_while_generating(make_run, monkeypatch):
    """`cudnn.flags` turns it off unless told otherwise; convolutions are slow without."""
    (source, _), seen = load_sources(make_run()), []
    network = source.snapshot.generator

    def watched(module, _):
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))

    network.register_forward_pre_hook(watched)
    generate_images(
        source, latents_for(0, "normal", range(2), 8), torch.zeros(2, dtype=torch.int64)
    )
    assert set(seen) == {(True, False)}
