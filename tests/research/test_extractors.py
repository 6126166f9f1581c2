"""What extractors see: the questions have the right answers where these are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.page import with_tables
from commands import call
from cxrgan_fast.data import load_dataset
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES
from research import extractors
from research.cxr_features import split_patients
from research.cxr_ssl_features import HELD_OUT
from research.disturbances_report import RISES
from research.extractors import between_classes, directions, main, probe
from research.extractors_report import ASKED, report, verdicts
from research.untrained_sets import untrained


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_directions_of_known_spectra() -> None:
    flat = torch.linalg.qr(normal(4000, 50) - normal(4000, 50).mean(0))[0]
    flat = flat - flat.mean(0)
    found = directions(flat)
    assert found["participation_ratio"] == pytest.approx(50, rel=0.01)
    assert found["directions_90"] == 45
    assert found["directions_99"] == 50
    found = directions(flat * torch.tensor([10.0] + [1.0] * 49))  # variances 100, 1, 1, ...
    assert found["participation_ratio"] == pytest.approx(149**2 / (100**2 + 49), rel=0.01)
    assert found["directions_90"] == 36  # 100 + 35 of 149


def test_variance_between_classes() -> None:
    labels = torch.arange(3000) % 3
    vectors = normal(3000, 1)
    assert between_classes(vectors, labels) < 0.01
    apart = vectors + 2 * labels[:, None]  # the means' variance is 8/3
    assert between_classes(apart, labels) == pytest.approx(8 / 3 / (8 / 3 + 1), abs=0.02)


def test_a_probe_is_asked_about_other_patients() -> None:
    """A name that is in the features helps only where the patient was seen before."""
    patients = [str(row // 4) for row in range(240)]
    ill = torch.arange(240) // 4 % 2 == 1
    names = normal(60, 80).repeat_interleave(4, 0)
    assert 0.3 < probe(names, ill, patients) < 0.7
    assert probe(names, ill, [str(row) for row in range(240)]) > 0.9
    told = normal(240, 40, seed=1)
    told[:, 0] += 6 * ill
    assert probe(told, ill, patients) > 0.95


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of blobs in the published layout; the third of the patients is held out."""
    root = tmp_path_factory.mktemp("set") / "chest_xray"
    rng = np.random.default_rng(0)
    across = np.arange(32)
    for k in range(90):
        for name in (
            f"NORMAL/IM-{k:04d}-0001.png",
            f"PNEUMONIA/person{k}_bacteria_{k}.png",
            f"PNEUMONIA/person{k + 100}_virus_{k}.png",
        ):
            x, y = rng.uniform(8, 24, 2)
            blob = np.exp(-((across - x)[None] ** 2 + (across - y)[:, None] ** 2) / 60)
            image = 40 + 25 * rng.uniform() + 130 * blob + 2 * across + rng.uniform(0, 9, (32, 32))
            path = root / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "extractors.json"
    flags = "--resolution 32 --features pixels --samples 24 --divisions 4"
    assert call(main, "--data", data, "--out", out, *flags.split()) == 0
    return out


def test_the_command_asks_everything(result: Path) -> None:
    record = json.loads(result.read_text())
    assert record["command"] == (
        "python -m research.extractors --data chest_xray --resolution 32 --features pixels "
        "--samples 24 --divisions 4"
    )
    assert sum(record["settings"]["held_out_images"].values()) == 90
    found = record["extractors"]["pixels"]
    assert len(found["disturbances"]) == 8 + 13  # all but copies
    assert "copies" not in found["disturbances"]
    assert len(found["floors"]["fid"]) == 5
    for kind, values in found["disturbances"].items():
        assert len(values) == 5, kind
        assert values[0] == found["floors"][found["judged"][kind]["metric"]][0]
    shift = found["judged"]["shift"]
    assert shift["course"] == RISES
    assert shift["metric"] == "fid"
    assert found["judged"]["swapped_labels"]["metric"] == "class_fid"
    assert record["noise_attacked_through"] == {}  # pixels need no gradients


def test_patients_that_were_trained_on_are_not_asked_about(data: Path) -> None:
    dataset = load_dataset(data, resolution=16, classes=CLASS_NAMES)
    trained, held_out = split_patients(dataset, 0, HELD_OUT)
    asked = set(subset(dataset, held_out).patients)
    assert not asked & set(subset(dataset, trained).patients)
    tenth = split_patients(dataset, 0)[1]
    assert set(tenth.tolist()) < set(held_out.tolist())  # what cxr is held out from as well


def test_the_result_goes_into_a_page(result: Path) -> None:
    page = with_tables("<!-- extractors.json -->\n```text\nold\n```\n", result)
    assert "participation ratio" in page
    assert "pixels falls short in" in page
    assert "chimera sides" in page


def made(values: list[float], **clean: float) -> dict[str, Any]:
    found = {
        **{name: 2 * least for name, least in ASKED.items()},
        **clean,
        "floors": {"fid": [0.9, 1.0, 1.1]},
        "disturbances": {"blur": values},
    }
    record = {"strengths": [0.0, 0.25, 0.5, 0.75, 1.0], "extractors": {"x": found}}
    verdicts(record)
    return found


@pytest.mark.parametrize(
    ("values", "clean", "short"),
    [
        ([1, 1.1, 1.5, 2, 3], {}, []),
        ([1, 1.1, 1.15, 2, 3], {}, ["blur"]),  # within the floor's interval at one half
        ([1, 1.6, 1.5, 2, 3], {}, ["blur"]),  # not ranked
        ([1, 0.7, 0.5, 0.3, 0.1], {}, ["blur"]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {}, ["blur"]),  # rises, but is nearer than real images are
        ([1, 1.1, 1.5, 2, 3], {"participation_ratio": 29.9}, ["participation_ratio"]),
        ([1, 1.1, 1.5, 2, 3], {"probe_auc": 0.94}, ["probe_auc"]),
    ],
)
def test_what_falls_short_is_named(
    values: list[float], clean: dict[str, float], short: list[str]
) -> None:
    assert made(values, **clean)["falls_short"] == short


def test_how_far_over_the_floor_is_in_its_deviations() -> None:
    judged = made([1, 1.1, 1.5, 2, 3])["judged"]["blur"]
    assert judged["deviations"] == pytest.approx(5)
    assert judged["seen_from"] == 0.5


@pytest.mark.long
def test_gradients_bring_noise_near_by_the_extractor_that_they_go_through(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractors, "STEPS", 15)
    dataset = load_dataset(data, resolution=32, classes=CLASS_NAMES)
    dataset = subset(dataset, split_patients(dataset, 0, HELD_OUT)[1])
    judges = [extractors.Judge(dataset, name, 24, 0) for name in ("cxr", "pixels")]
    found = extractors.attack(judges[0], judges, seed=0)
    through = found["cxr"]
    assert through["real"] < through["after"] < 0.6 * through["noise"]
    assert 0 < found["mean_change"] < 0.3
    assert found["pixels"]["after"] > found["pixels"]["real"]
    with pytest.raises(TypeError, match="expected an embedded extractor, got pixels"):
        extractors.attack(judges[1], judges, seed=0)


@pytest.mark.long
def test_the_package_sees_what_it_was_not_trained_on(data: Path) -> None:
    """On images that are no X-rays too, each disturbance moves the features of the default."""
    dataset = load_dataset(data, resolution=32, classes=CLASS_NAMES)
    judge = extractors.Judge(dataset, "cxr_ssl", 80, 0)
    floor = judge.floors("fid", 4)
    for name, disturb in untrained(dataset, judge.parts, 0).items():
        if name != "other_class":  # the classes of these blobs are alike
            assert judge(disturb(1.0), "fid") > max(floor), name


def test_the_published_figures_are_of_the_weights_in_the_package() -> None:
    from bench.record import RESULTS
    from cxrgan_fast.metrics.cxr import Cxr
    from cxrgan_fast.metrics.cxr_ssl import CxrSsl

    record = json.loads((RESULTS / "extractors_64.json").read_text())
    for kind in (Cxr, CxrSsl):
        assert record["extractors"][kind.name]["version"] == kind().version
    assert "cxr_ssl falls short in" in report(record)
    found = record["extractors"]["cxr_ssl"]
    assert all(found[name] >= least for name, least in ASKED.items())
