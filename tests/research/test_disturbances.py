"""Disturbed real images: what is disturbed, by how much, and what is said of the metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import plot
from bench.page import with_tables
from commands import call
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.errors import UserError
from research import disturbances as research_disturbances
from research.damage import KINDS
from research.disturbances_report import (
    COLUMNS,
    EXPECTED,
    FALLS,
    NEITHER,
    RISES,
    SAME,
    UNKNOWN,
    course,
    report,
    seen_from,
    verdicts,
)
from research.disturbed_sets import (
    DRAWS,
    Disturbance,
    DisturbedSet,
    Parts,
    clusters,
    disturbances,
    divide,
)

N = 20


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    """Blobs at random places; three images a patient, one patient in two classes."""
    generator = torch.Generator().manual_seed(0)
    across = torch.arange(32.0)
    centers = torch.rand(150, 2, generator=generator) * 32
    x, y = (across - centers[:, :1]) ** 2, (across - centers[:, 1:]) ** 2
    blobs = 200 * torch.exp(-(y[:, :, None] + x[:, None]) / 50)
    noise = torch.rand(150, 32, 32, generator=generator) * 40
    labels = (torch.arange(150) >= 60).long()
    return ImageDataset(
        images=(blobs + noise).to(torch.uint8)[:, None],
        labels=labels,
        class_names=("normal", "bacterial"),
        patients=["both", *(f"p{row // 3}" for row in range(1, 149)), "both"],
        files=[f"{row}.png" for row in range(150)],
        name="blobs",
    )


@pytest.fixture(scope="module")
def parts(dataset: ImageDataset) -> Parts:
    return divide(dataset, N, seed=1)


def test_the_parts_share_no_patient_and_have_the_frequencies_of_the_data(
    dataset: ImageDataset, parts: Parts
) -> None:
    patients = [
        {dataset.patients[row] for row in rows.tolist()}
        for rows in (parts.real, parts.source, parts.held_out)
    ]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    for rows, count in ((parts.real, N), (parts.base, N), (parts.held_out, N // 2)):
        assert len(rows.unique()) == len(rows) == count
        assert int((dataset.labels[rows] == 0).sum()) == count * 60 // 150
    assert torch.isin(parts.base, parts.source).all()
    assert len(parts.source) >= 2 * N
    again = divide(dataset, N, seed=1)
    assert torch.equal(again.base, parts.base)
    assert not torch.equal(divide(dataset, N, seed=2).base, parts.base)


def test_a_set_that_is_too_small_is_refused(dataset: ImageDataset) -> None:
    with pytest.raises(UserError, match="120 are needed: lower --samples"):
        divide(dataset, 60, seed=0)


@pytest.fixture(scope="module")
def kinds(dataset: ImageDataset, parts: Parts) -> dict[str, Disturbance]:
    """At 32 pixels already, which are the features as well."""
    return disturbances(dataset, parts, dataset.images.float().flatten(1) / 255, seed=0)


def rows_of(found: DisturbedSet) -> Tensor:
    assert found.rows is not None
    return found.rows


def test_strength_zero_disturbs_nothing(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    assert list(kinds) == list(EXPECTED)
    assert len(kinds) == 9
    base = {image.tobytes() for image in dataset.images[parts.base].numpy()}
    for name, disturb in kinds.items():
        for found in disturb(0.0):
            assert {image.tobytes() for image in found.images.numpy()} == base, name
            assert len(found.images) == N
            assert sorted(found.labels.tolist()) == sorted(dataset.labels[parts.base].tolist())


def test_images_and_rows_agree(dataset: ImageDataset, kinds: dict[str, Disturbance]) -> None:
    for name, disturb in kinds.items():
        sets = disturb(0.75)
        assert len(sets) == (1 if name in KINDS else DRAWS), name
        for found in sets:
            assert found.images.dtype == torch.uint8, name
            assert len(found.images) == len(found.labels) == N, name
            assert (found.rows is None) == (name in KINDS)
            if found.rows is not None:
                assert torch.equal(found.images, dataset.images[found.rows]), name


def test_damages_grow_with_the_strength(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    base = dataset.images[parts.base].double()
    for name in ("blur", "noise", "occlusion", "contrast", "warping"):
        changes = [
            float((kinds[name](strength)[0].images.double() - base).abs().mean())
            for strength in (0.0, 0.5, 1.0)
        ]
        assert changes[0] == 0, name
        assert 0 < changes[1] < changes[2], name
        assert torch.equal(kinds[name](0.5)[0].images, kinds[name](0.5)[0].images), name


def test_missing_modes_are_missing_and_others_take_their_place(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    disturb = kinds["missing_modes"]
    pixels = dataset.images[parts.source].float().flatten(1) / 255
    modes = clusters(pixels, 10, seed=0)
    means = torch.stack([pixels[modes == mode].mean(0) for mode in range(10)])
    first = (means - pixels.mean(0)).norm(dim=1).argmax()
    order = (means - means[first]).norm(dim=1).argsort()  # as they go missing
    of_row = dict(zip(parts.source.tolist(), modes.tolist(), strict=True))
    gone = order[modes.bincount()[order].cumsum(0) <= len(modes) // 2].tolist()
    assert len(gone) >= 2  # whole modes, of the ten
    base, taken = set(parts.base.tolist()), set[int]()
    for half, whole in zip(disturb(0.5), disturb(1.0), strict=True):
        rows = set(rows_of(whole).tolist())
        assert len(rows) == N
        assert not {of_row[row] for row in rows} & set(gone)
        assert N > len(set(rows_of(half).tolist()) & base) > len(rows & base)
        taken |= rows - base
    # Not the same ones in all sets.
    assert len(taken) > N - len(rows & base)


def test_duplicates_repeat_the_others(parts: Parts, kinds: dict[str, Disturbance]) -> None:
    strengths = (0.25, 0.5, 1.0)
    counts = torch.zeros(max(parts.base.tolist()) + 1)
    for sets in zip(*map(kinds["duplicates"], strengths), strict=True):
        distinct = [set(rows_of(each).tolist()) for each in sets]
        assert set(parts.base.tolist()) > distinct[0] > distinct[1] > distinct[2]
        assert [len(each) for each in distinct] == [round(N * (1 - 0.9 * s)) for s in strengths]
        counts[list(distinct[1])] += 1
    # Each image is kept in nearly as many sets as any other.
    kept = counts[parts.base]
    assert kept.max() - kept.min() <= 1


def test_copies_are_of_the_real_part(parts: Parts, kinds: dict[str, Disturbance]) -> None:
    strengths = (0.25, 0.5, 1.0)
    first = set[frozenset[int]]()
    for sets in zip(*map(kinds["copies"], strengths), strict=True):
        before: set[int] = set()
        for strength, found in zip(strengths, sets, strict=True):
            rows = rows_of(found)
            assert len(rows.unique()) == N
            copied = set(rows[torch.isin(rows, parts.real)].tolist())
            assert len(copied) == strength * N
            assert copied > before
            before = copied
        first.add(frozenset(rows_of(sets[0]).tolist()))
    assert len(first) == DRAWS


def test_swapped_labels_leave_images_and_frequencies(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    labels = dataset.labels[parts.base]
    wrong = []
    for strength in (0.25, 1.0):
        sets = kinds["swapped_labels"](strength)
        for found in sets:
            assert found.rows is parts.base
            assert torch.equal(found.labels.bincount(), labels.bincount())
        wrong.append([int((found.labels != labels).sum()) for found in sets])
    # Of 8 and 12 labels in random order 9.6 are wrong on average.
    assert max(wrong[0]) <= 5
    assert sum(wrong[0]) > 0
    assert 7 <= sum(wrong[1]) / DRAWS <= 12


def test_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    of_row = torch.arange(90) % 3
    vectors = centers[of_row] + torch.randn(90, 2, generator=generator)
    found = clusters(vectors, 3, seed=1)
    assert {tuple(found[of_row == k].unique().tolist()) for k in range(3)} == {(0,), (1,), (2,)}
    # More clusters than there are different vectors: some stay empty.
    assert len(clusters(torch.zeros(9, 2), 4, seed=0).unique()) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 3, 5], RISES),
        ([5, 3, 3, 0, -1], FALLS),
        ([2, 2, 2, 2, 2], SAME),
        ([1, 2, 3, 2.9, 5], NEITHER),
        ([1, 0, 3, 4, 5], NEITHER),
        ([1, None, 3, 4, 5], RISES),
        ([1, None, None, None, None], UNKNOWN),
    ],
)
def test_courses(values: list[float | None], expected: str) -> None:
    assert course(values) == expected


def test_seen_from_the_strength_on_which_it_stays_outside() -> None:
    strengths = [0.0, 0.25, 0.5, 0.75, 1.0]
    assert seen_from([10, 11, 13, 14, 15], strengths, 1.0) == 0.5
    assert seen_from([10, 13, 11, 14, 5], strengths, 1.0) == 0.75
    assert seen_from([10, 13, 14, 15, 11], strengths, 1.0) is None
    assert seen_from([10, 20, 20, 20, 20], strengths, None) is None
    assert seen_from([10, 20, None, 20, 20], strengths, 1.0) == 0.75
    assert seen_from([0, 1, 1, 1, 1], strengths, 0.0) == 0.25


def test_a_metric_that_does_something_else_is_named() -> None:
    record: dict[str, Any] = {
        "strengths": [0.0, 0.5, 1.0],
        "floor_standard_errors": {"fid": 1.0},
        "disturbances": [
            {"name": "blur", "metrics": {"fid": [9, 11, 10], "precision": [0.9, 0.5, 0.1]}},
            {"name": "swapped_labels", "metrics": {"fid": [9, 9, 9], "class_fid": [12, 13, 20]}},
        ],
    }
    verdicts(record)
    blur, swapped = record["disturbances"]
    assert blur["courses"] == {"fid": NEITHER, "precision": FALLS}
    assert blur["expected"] == {"fid": RISES, "precision": FALLS}
    assert blur["unexpected"] == ["fid"]
    assert blur["seen_from"] == {"fid": None, "precision": None}
    assert swapped["unexpected"] == []
    assert set(EXPECTED["blur"]) <= set(COLUMNS)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes of phantoms."""
    out = tmp_path_factory.mktemp("disturbances") / "some.json"
    flags = "--data phantom --resolution 16 --features pixels --samples 24"
    assert call(research_disturbances.main, *flags.split(), "--out", out) == 0
    return out


def test_the_command_writes_what_it_prints(result: Path) -> None:
    record = json.loads(result.read_text())
    assert record["command"] == (
        "python -m research.disturbances --data phantom --resolution 16 --features pixels "
        "--samples 24"
    )
    assert [row["name"] for row in record["disturbances"]] == list(EXPECTED)
    assert record["extractor"] == {"name": "pixels", "version": "1", "dimension": 1024}
    assert record["data"]["images"] == {
        "real": 24,
        "disturbed": 24,
        "to choose these from": 84,
        "held out": 12,
    }
    metrics = {row["name"]: row["metrics"] for row in record["disturbances"]}
    for row in metrics.values():
        assert all(len(values) == 5 for values in row.values())
        assert row["fid"][0] == metrics["blur"]["fid"][0]
    assert "inception_score" in record["omitted"]  # pixels have no classifier
    assert "inception_score" not in metrics["blur"]
    copies = metrics["copies"]
    assert copies["exact_copies"] == [0, 6, 12, 18, 24]
    assert copies["creativity"][4] == 0
    assert copies["memorisation"][4] == 1
    assert metrics["duplicates"]["exact_duplicates"] == [0, 5, 11, 16, 22]
    assert metrics["noise"]["fid"][4] > 1.5 * metrics["noise"]["fid"][0]
    swapped = metrics["swapped_labels"]
    assert len(set(swapped["fid"])) == 1
    assert len(set(swapped["class_fid"])) == 5
    text = report(record)
    assert "IS is left out everywhere: these features come from no classifier" in text
    averaged = (
        "missing modes, duplicates, copies, swapped labels: means over 10 sets of each strength"
    )
    assert averaged in text
    record["disturbances"][0]["metrics"]["kid"][3] = None
    record["omitted"]["kid"] = "some reason"
    assert "KID is left out where it shows -: some reason" in report(record)
    assert re.search(r"^swapped labels\s+FID\s+stays\s+stays$", text, re.MULTILINE)


def test_the_result_goes_into_a_page_and_a_picture(result: Path, tmp_path: Path) -> None:
    page = with_tables("<!-- some.json -->\n```text\nold\n```\n", result)
    assert "none (the floor)" in page
    picture = tmp_path / "new" / "some.png"
    assert call(plot.main, result, picture) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--samples 10", "--samples: got 10, expected 20 or more"),
        ("--seed -1", "--seed: got -1, expected 0 or more"),
        ("--features pixel", "did you mean 'pixels'"),
        ("--features-weights w", "--features-weights is for --features rad-dino, dinov2, xrv"),
        ("--out .", "is a folder, expected a file"),
    ],
)
def test_flags_that_cannot_work(flags: str, message: str, capsys, tmp_path: Path) -> None:
    given = ["--data", "phantom", "--out", tmp_path / "x.json", *flags.split()]
    assert call(research_disturbances.main, *given) == 2
    assert message in capsys.readouterr().err
