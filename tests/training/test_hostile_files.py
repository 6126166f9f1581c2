"""Generators and packed sets that somebody has crafted are used or refused in a line."""

import contextlib
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save

from cxrgan_fast.data import Preparation, open_packed, open_source, prepare_set
from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import generator_path
from cxrgan_fast.runs.generator_file import _digest, load_generator
from cxrgan_fast.settings.config import override
from evaluations import NETWORK, write_images

HEADER = "cxrgan_fast.generator"
HUGE = "9" * 5000


@pytest.fixture
def generator(make_run):
    return generator_path(make_run(), 20)


def rewrite(path: Path, header: object) -> None:
    """Write a generator again, with another header and no digest: an old one, for all we know."""
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save(load_file(path), {HEADER: text}))


def old_header(path: Path) -> dict:
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[HEADER])
    del header["sha256"]
    # With the settings of all families side by side.
    network = {"upsampling": "resize", **header["network"]}
    network |= network.pop("own")
    return {**header, "network": network, "version": 1}


def test_a_generator_of_version_1_still_loads(generator):
    before = load_generator(generator)
    rewrite(generator, old_header(generator))
    assert load_generator(generator).class_names == before.class_names


@pytest.mark.parametrize(
    "network",
    [NETWORK, override(NETWORK, {"family": "dcgan", "upsampling": "transposed"})],
    ids=["resnet", "dcgan"],
)
def test_a_generator_of_version_2_still_loads(make_run, network):
    path = generator_path(make_run(network=network), 20)
    before = load_generator(path)
    header = {**old_header(path), "version": 2}
    header["sha256"] = _digest(header, load_file(path))
    rewrite(path, header)
    after = load_generator(path)
    assert after.network == before.network == network
    weights = before.generator.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in after.generator.state_dict().items())


def test_what_an_old_file_says_of_another_family_is_refused_if_it_means_something(generator):
    header = old_header(generator)
    header["network"]["upsampling"] = "transposed"
    rewrite(generator, header)
    with pytest.raises(UserError, match="network: there is no setting 'upsampling'"):
        load_generator(generator)


NETWORKS = [
    {"extra_layers": 100_000}, {"extra_layers": 10**30}, {"extra_layers": -1},
    {"extra_layers": True}, {"extra_layers": "1"}, {"extra_layers": 100},
    {"base_channels": 2**40}, {"base_channels": 4096}, {"base_channels": 8.0},
    {"latent_size": 2**40}, {"latent_size": 2**62}, {"latent_size": None},
    {"resolution": 256}, {"resolution": [32]}, {"resolution": {"a": 1}}, {"family": []},
    {"family": "\x1b[31m"}, {"negative_slope": "x"}, {"negative_slope": float("nan")},
    {"unknown\x1b[31m": 1}, {"image_channels": 3}, {"spectral_norm": "yes"},
]  # fmt: skip
HEADERS = [
    "", "[]", "5", "null", "{", HUGE, "[" * 10**5, '{"version": 1}', '{"version": ' + HUGE + "}",
    '{"version": true}', '{"version": "1"}', '{"version": 99}', '{"version": 1e999}',
]  # fmt: skip
FIELDS = [
    {"class_names": [["a"], ["b"]]}, {"class_names": "ab"}, {"class_names": {"a": 1, "b": 2}},
    {"class_names": ["\x00", "b"]}, {"class_names": ["a"]}, {"class_names": ["x"] * 10**5},
    {"class_names": [str(i) for i in range(10**5)]}, {"step": -1}, {"step": 2**64},
    {"step": 1.5}, {"step": True}, {"images_seen": "1"}, {"images_seen": None},
    {"extra": {"fid": 1}}, {"extra": [1]}, {"extra": {"a": {"b": "c"}}}, {"network": []},
    {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_header_that_is_none_is_refused_by_name(generator, header):
    rewrite(generator, header)
    with pytest.raises(UserError, match=str(generator)):
        load_generator(generator)


@pytest.mark.first_tier(19)
@pytest.mark.parametrize("change", [*({"network": n} for n in NETWORKS), *FIELDS], ids=str)
def test_a_field_that_cannot_be_is_refused_by_name(generator, change):
    header = old_header(generator)
    if change.get("network"):
        change = {"network": {**header["network"], **change["network"]}}
    rewrite(generator, {**header, **change})
    with pytest.raises(UserError) as caught:
        load_generator(generator)
    assert str(generator) in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_header_that_is_said_to_be_huge_takes_no_memory(generator):
    generator.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(UserError, match="its header is huge"):
        load_generator(generator)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "generator.safetensors")
    with pytest.raises(UserError, match="it is not a file"):
        load_generator(tmp_path / "generator.safetensors")


# ------------------------------------------------------------------------------- packed sets


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    write_images(folder / "lungs", "train", 12)
    prepare_set(open_source(folder / "lungs"), folder / "set", Preparation(32), progress=False)
    return folder / "set"


@pytest.fixture
def packed(prepared, tmp_path):
    return Path(shutil.copytree(prepared, tmp_path / "set"))


def sign(packed: Path) -> None:
    """Bring the checksums up to date: whoever crafts a set can."""
    described = json.loads((packed / "set.json").read_bytes())
    for name in described["sha256"]:
        if (packed / name).is_file():
            content = (packed / name).read_bytes()
            described["sha256"][name] = hashlib.sha256(content).hexdigest()
    (packed / "set.json").write_text(json.dumps(described))


def described(**changes: object) -> Callable[[Path], object]:
    def change(packed: Path) -> None:
        before = json.loads((packed / "set.json").read_bytes())
        (packed / "set.json").write_text(json.dumps({**before, **changes}))

    return change


def labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    def edit(packed: Path) -> None:
        np.save(packed / "labels.npy", change(np.load(packed / "labels.npy")))

    return edit


def array(name: str, header: str, rest: bytes = b"") -> Callable[[Path], object]:
    """Write a file of NumPy's whose header says something."""

    def edit(packed: Path) -> None:
        text = header.encode() + b"\n"
        (packed / name).write_bytes(
            b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + rest
        )

    return edit


def rows(change: Callable[[str], str]) -> Callable[[Path], object]:
    def edit(packed: Path) -> None:
        path = packed / "images.csv"
        path.write_bytes(change(path.read_bytes().decode()).encode())

    return edit


def to(name: str, content: str) -> Callable[[Path], object]:
    return lambda packed: (packed / name).write_text(content)


def pipe(name: str) -> Callable[[Path], object]:
    def edit(packed: Path) -> None:
        (packed / name).unlink()
        os.mkfifo(packed / name)

    return edit


SETS: list[Callable[[Path], object]] = [
    *(to("set.json", text) for text in ("", "[]", "5", "{", HUGE, "[" * 10**5, "{}")),
    described(version=2), described(version=None), described(version="\x1b[31m"),
    described(name=5), described(name=None), described(class_names=[]), described(class_names=5),
    described(class_names=["a", "a"]), described(class_names=[1, 2]), described(class_names="ab"),
    described(class_names=["\x1b[31m", "b"]), described(shape=[]), described(shape=[12, 1, 32]),
    described(shape=[2**70, 1, 32, 32]), described(shape=["12", 1, 32, 32]), described(shape=None),
    described(shape=[12, 1, 32, 33]), described(settings=5), described(left_out=5),
    described(left_out=[["a"]]), described(left_out=[[1, 2]]), described(left_out=["ab"]),
    described(sha256={}), described(sha256=[]), described(sha256={"images.npy": 5}),
    labels(lambda a: a - 1), labels(lambda a: a + 1), labels(lambda a: a + 2**62),
    labels(lambda a: a.astype(np.int32)), labels(lambda a: a[:5]), labels(lambda a: a[None]),
    labels(lambda a: np.int64(1)), labels(lambda a: np.array([{}], object)),
    array("labels.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000,)}"),
    array("labels.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}"),
    array("labels.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (12,)}"),
    array("labels.npy", "(" * 9000), array("labels.npy", "{}"), array("labels.npy", "5"),
    array("images.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 1, 32, 32)}"),
    array("images.npy", "{'descr': '|O', 'fortran_order': False, 'shape': (12, 1, 32, 32)}"),
    array("images.npy", "{'descr': [('a', '|u1')] * 3, 'fortran_order': 5, 'shape': 'x'}"),
    rows(lambda text: ""), rows(lambda text: "a,b\r\n"), rows(lambda text: text + "1\r\n"),
    rows(lambda text: text.replace("bacterial", "normal")), rows(lambda text: text + '"'),
    rows(lambda text: text.splitlines()[0]), rows(lambda text: text.replace(",", ",x", 9)),
    rows(lambda text: text + "," * 10**6), rows(lambda text: text + "\0" * 10),
    *(pipe(name) for name in ("labels.npy", "images.npy", "images.csv")),
]  # fmt: skip


@pytest.mark.parametrize("edit", SETS, ids=range(len(SETS)))
def test_a_packed_set_that_was_crafted_is_refused_by_name(packed, edit):
    edit(packed)
    # Where what is to be signed was the edit, there is no signing it.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sign(packed)
    with pytest.raises(UserError, match="set") as caught:
        open_packed(packed)
    assert "\x1b" not in str(caught.value)


def test_a_packed_set_that_is_whole_opens_after_signing(packed):
    sign(packed)
    assert len(open_packed(packed).rows) == 12
