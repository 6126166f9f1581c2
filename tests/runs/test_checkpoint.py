"""Damage to checkpoints and generators is noticed, named and passed over."""

import io
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import (
    DamagedError,
    checkpoint_path,
    generator_path,
    load_newest_checkpoint,
    save_checkpoint,
    saved_steps,
)
from cxrgan_fast.runs.generator_file import load_generator

CPU = torch.device("cpu")
PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip
STATE = {"training": {"weights": torch.arange(6000.0)}, "seconds": 1.5, "config": "steps: 3"}


@pytest.fixture
def folder(tmp_path):
    """A run folder with checkpoints of steps 10 and 20."""
    (tmp_path / "checkpoints").mkdir()
    for step in (10, 20):
        save_checkpoint(tmp_path, step, {**STATE, "step": step})
    return tmp_path


def damages(content: bytes, count: int) -> list[tuple[str, bytes]]:
    """Files that a disk might make of one: each differs from it."""
    rng = random.Random(0)
    made = []
    while len(made) < count:
        at, kind = rng.randrange(len(content)), rng.choice(("bit", "zeros", "cut", "longer"))
        if kind == "bit":
            damaged = bytearray(content)
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == "zeros":
            damaged = bytearray(content)
            damaged[at : at + 512] = bytes(len(damaged[at : at + 512]))
        else:
            damaged = bytearray(content[:at] if kind == "cut" else content + content[:at])
        if bytes(damaged) != content:
            made.append((f"{kind} at {at}", bytes(damaged)))
    return made


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_what_was_saved_comes_back_and_plain_pytorch_reads_it(folder):
    found = load_newest_checkpoint(folder, CPU)
    assert found.path == checkpoint_path(folder, 20)
    assert found.damaged == []
    assert same({**STATE, "step": 20}, {k: v for k, v in found.state.items() if k != "format"})
    assert same(torch.load(found.path, weights_only=True), found.state)


def test_no_damage_to_a_checkpoint_goes_unnoticed(folder):
    newest = checkpoint_path(folder, 20)
    whole = load_newest_checkpoint(folder, CPU).state
    # Every byte of the end, where the digest is, beside what chance meets.
    content = newest.read_bytes()
    flips = [bytearray(content) for _ in range(200)]
    for place, flipped in enumerate(flips):
        flipped[-1 - place] ^= 1
    for what, damaged in [*damages(content, 200), *(("end", bytes(f)) for f in flips)]:
        newest.write_bytes(damaged)
        found = load_newest_checkpoint(folder, CPU)
        # Of what says that there is a digest a bit may be lost: nothing else is damaged then.
        assert found.state["step"] == 10 or same(found.state, whole), what
        if found.state["step"] == 10:
            assert [path for path, _ in found.damaged] == [newest], what


def test_a_checkpoint_without_its_digest_is_damaged(folder):
    newest = checkpoint_path(folder, 20)
    content = newest.read_bytes()
    newest.write_bytes(content[: content.index(b"cxrgan_fast sha256 ") - 2] + b"\0\0")
    assert load_newest_checkpoint(folder, CPU).damaged == [(newest, "its digest is missing")]


def test_an_old_checkpoint_without_a_digest_still_loads_and_zip_notices_damage(folder):
    newest = checkpoint_path(folder, 20)
    torch.save({"format": "cxrgan_fast.checkpoint/2", **STATE, "step": 20}, newest)
    assert load_newest_checkpoint(folder, CPU).state["step"] == 20
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1  # within the weights
    newest.write_bytes(content)
    found = load_newest_checkpoint(folder, CPU)
    assert found.damaged == [(newest, "the checksum of a part differs")]


def test_a_newer_format_is_named_and_not_passed_over(folder, monkeypatch):
    monkeypatch.setattr("cxrgan_fast.runs.checkpoint.FORMAT", "cxrgan_fast.checkpoint/4")
    save_checkpoint(folder, 30, STATE)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"is in format cxrgan_fast.checkpoint/4 and .* install"):
        load_newest_checkpoint(folder, CPU)


def test_a_file_that_may_not_be_read_is_no_damaged_one(folder, monkeypatch):
    """Passed over, the newer checkpoint would be written over."""
    newest, opened = checkpoint_path(folder, 20), Path.open

    def refuse(path: Path, *args: object, **options: object) -> object:
        if path == newest:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"^cannot read {newest}: Permission denied; allow"):
        load_newest_checkpoint(folder, CPU)


def test_a_compressed_archive_is_not_unfolded(folder, tmp_path):
    import zipfile

    newest = checkpoint_path(folder, 20)
    packed = io.BytesIO()
    with zipfile.ZipFile(newest) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    newest.write_bytes(packed.getvalue())
    ((path, reason),) = load_newest_checkpoint(folder, CPU).damaged
    assert path == newest
    assert "compressed" in reason
    assert issubclass(DamagedError, Exception)


def test_a_damaged_checkpoint_is_kept_beside_those_of_the_run_that_goes_on(train, tmp_path):
    options = ["--checkpoint-every", 2, "--steps", 4, "--keep-checkpoints", 1]
    assert train(*PHANTOM, *options, "--keep-checkpoints", 2, "--out", tmp_path)[0] == 0
    (run,) = tmp_path.iterdir()
    newest = checkpoint_path(run, 4)
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    # The run goes through step 4 again, and keeps one checkpoint: of its own.
    for step, name in ((3, f"{newest.name}.damaged"), (5, None)):
        options = ["--steps", step, "--keep-checkpoints", 1]
        code, out, err = train("--resume", run, *options)
        assert code == 0, err
        assert saved_steps(run) == [step]
        if name:
            assert f"passed over {newest}: it is damaged (its checksum differs)" in out
            assert f"kept as {name}" in out
    assert newest.with_name(f"{newest.name}.damaged").read_bytes() == damaged


def test_the_only_checkpoint_stays_where_it_is_when_it_is_damaged(train, fails, tmp_path):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    (run,) = tmp_path.iterdir()
    only = checkpoint_path(run, 1)
    only.write_bytes(only.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = fails("--resume", run, "--steps", 2)
    assert f"cannot resume {run}: {only} is damaged" in line
    assert "put a copy of it in its place" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_no_damage_to_a_generator_goes_unnoticed(make_run):
    run = make_run()
    path = generator_path(run, 20)
    content, whole = path.read_bytes(), load_generator(path)
    header = [bytearray(content) for _ in range(300)]
    for place, flipped in enumerate(header):
        flipped[place] ^= 1
    noticed = 0
    for what, damaged in [*damages(content, 100), *(("header", bytes(f)) for f in header)]:
        path.write_bytes(damaged)
        try:
            found = load_generator(path)
        except UserError as error:
            noticed += str(path) in str(error)
            continue
        weights = found.generator.state_dict(), whole.generator.state_dict()
        assert same(*map(dict, weights)), what
        assert (found.network, found.class_names, found.step) == (
            whole.network, whole.class_names, whole.step)  # fmt: skip
    assert noticed > 390


def test_a_damaged_generator_is_no_best_and_no_reason_to_stop(train, tmp_path):
    options = ["--eval-every", 1, "--eval-samples", 20, "--features", "pixels"]
    assert train(*PHANTOM, *options, "--steps", 2, "--out", tmp_path)[0] == 0
    (run,) = tmp_path.iterdir()
    for step in saved_steps(run):
        path = generator_path(run, step)
        damaged = bytearray(path.read_bytes())
        damaged[-100] ^= 1
        path.write_bytes(damaged)
    code, out, err = train("--resume", run, "--steps", 3)
    assert code == 0, err
    assert "passed over as the best: " in out
    assert "is damaged: its checksum differs" in out
    assert load_generator(run / "best_generator.safetensors").step > 0


@pytest.mark.first_tier(3)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("training"), "training is not a dict"),
        (lambda s: s.update(seconds="long"), "seconds is not 0 or more"),
        (lambda s: s.update(config=5), "config is not text"),
        (lambda s: s["training"].pop("ema"), "training.ema is not"),
        (lambda s: s["training"].update(step="3"), "training.step is not a number of steps"),
        (lambda s: s["training"].update(meters=[]), "training.meters is not 3 entries"),
        (lambda s: s["training"].update(g_optimizer=None), "training.g_optimizer.state is not"),
        (lambda s: s["training"].update(device="\x1b[31m"), "cannot resume|goes on|random"),
        (lambda s: s["training"].update(random=torch.zeros(3, dtype=torch.uint8)),
         "training.random is not torch.uint8 of shape"),
        (lambda s: s["training"]["discriminator"].update(
            {next(iter(s["training"]["discriminator"])): torch.zeros(2)}),
         "training.discriminator"),
    ],
)  # fmt: skip
def test_a_crafted_checkpoint_is_refused_by_the_name_of_its_part(trained, train, change, said):
    import re

    path = checkpoint_path(trained, 1)
    state = torch.load(path, weights_only=True)
    change(state)
    state.pop("format")
    save_checkpoint(trained, 1, state)
    _, out, err = train("--resume", trained, "--steps", 2)
    assert re.search(said, out + err)
    assert "\x1b" not in out + err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def a_trained_run(tmp_path_factory, request):
    """A run of one step, made once."""
    from cxrgan_fast.settings.config import TrainConfig, override
    from cxrgan_fast.training.loop import train

    root = tmp_path_factory.mktemp("trained")
    settings = {"steps": 1, "resolution": 32, "base_channels": 8, "latent_size": 8,
                "batch_size": 4, "phantom_images": 12, "precision": "fp32", "out": root,
                "preset": "small", "device": "cpu"}  # fmt: skip
    run, _ = train(override(TrainConfig(), settings), CPU)
    return run


@pytest.fixture
def trained(a_trained_run, tmp_path):
    copy = tmp_path / a_trained_run.name
    shutil.copytree(a_trained_run, copy)
    assert os.listdir(copy)
    return copy
