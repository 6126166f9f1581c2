"""The training of the extractor that is told no class, on a set of a few small files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from commands import call
from cxrgan_fast.metrics.cxr_ssl_network import DIMENSION, RAW, CxrSslNetwork
from research import cxr_ssl_features
from research.cxr_ssl_features import (
    DIRECTIONS,
    HELD_OUT,
    fit,
    main,
    raw_features,
    variance_covariance,
    vicreg,
    view,
)
from research.extractors import directions


def rows(n: int = 400, d: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in the published layout, of noise of three brightnesses."""
    root = tmp_path_factory.mktemp("set") / "chest_xray"
    rng = np.random.default_rng(0)
    for k in range(8):
        for place, name in enumerate(
            (
                f"NORMAL/IM-{k:04d}-0001.jpeg",
                f"PNEUMONIA/person{k}_bacteria_{k}.jpeg",
                f"PNEUMONIA/person{k}_virus_{k}.jpeg",
            )
        ):
            path = root / "train" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 90, (40, 40)) + 80 * place
            Image.fromarray(image.astype(np.uint8)).save(path)
    return root


def train(data: Path, out: Path, *words: object) -> int:
    return call(main, "--data", data, "--out", out, "--batch-size", 4, "--epochs", 2, *words)


def test_weights_and_a_record_are_written(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    assert train(data, file, "--record", tmp_path / "r.json") == 0
    network = CxrSslNetwork()
    network.load_state_dict(load_file(file))
    assert network.turn.weight.any()
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["bytes"] == file.stat().st_size <= 4_000_000
    patients = 16  # 8 whose images are normal, 8 with two images
    assert record["held_out_images"] + record["training_images"] == 24
    assert round(HELD_OUT * patients) <= record["held_out_images"] < 2 * HELD_OUT * patients
    assert record["training_cpu_seconds"] > 0
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.long
def test_an_interrupted_training_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, halves = tmp_path / "straight.safetensors", tmp_path / "halves.safetensors"
    assert train(data, straight) == 0
    epoch = cxr_ssl_features.Training.epoch

    def interrupted_fit(sets: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        raise KeyboardInterrupt

    def interrupted(self: cxr_ssl_features.Training, title: str) -> float:
        if title.startswith("epoch 2/"):
            raise KeyboardInterrupt
        return epoch(self, title)

    with monkeypatch.context() as patch:
        patch.setattr(cxr_ssl_features.Training, "epoch", interrupted)
        assert train(data, halves) == 130
    assert train(data, halves, "--seed", 1) == 2
    assert "is of other settings" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(cxr_ssl_features, "fit", interrupted_fit)
        assert train(data, halves) == 130
    assert "going on after epoch 1" in capsys.readouterr().out
    # All epochs are done: what is left is the last layer, and the record still has their seconds.
    assert train(data, halves, "--record", tmp_path / "r.json") == 0
    assert "going on after epoch 2" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["training_cpu_seconds"] > 0
    expected = load_file(straight)
    assert all(torch.equal(value, expected[name]) for name, value in load_file(halves).items())


def test_rows_that_vary_and_say_different_things_cost_nothing() -> None:
    centered = rows() - rows().mean(0)
    white = torch.linalg.qr(centered)[0] * len(centered) ** 0.5
    assert float(variance_covariance(white)) == pytest.approx(0, abs=1e-3)
    assert float(variance_covariance(0.5 * white)) == pytest.approx(0.5, abs=1e-2)
    repeated = white[:, [0] * 20]  # each of 20 has 19 covariances of 1
    wanted = cxr_ssl_features.COVARIANCE_WEIGHT * 19
    assert float(variance_covariance(repeated)) == pytest.approx(wanted, rel=1e-3)


def test_what_cells_have_in_common_is_not_punished() -> None:
    """Cells that are alike within an image cost no more than cells that are not."""

    def parts(cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return cells, rows(1000, 20), torch.zeros(1000, 4)

    alike = rows(1000, 16)[:, :, None, None].expand(1000, 16, 4, 4)
    apart = rows(16000, 16).view(1000, 4, 4, 16).permute(0, 3, 1, 2)
    costs = [float(vicreg(parts(cells), parts(cells))) for cells in (alike, apart)]
    assert costs[0] == pytest.approx(costs[1], abs=0.05)
    # What a cell has in all images says nothing of any.
    places = 3 * rows(16, 16, seed=1).view(1, 4, 4, 16).permute(0, 3, 1, 2)
    assert float(vicreg(parts(apart + places), parts(apart + places))) == pytest.approx(
        costs[1], abs=1e-3
    )
    nothing = (torch.zeros(9, 16, 4, 4), torch.zeros(9, 20), torch.zeros(9, 4))
    assert float(vicreg(nothing, nothing)) == pytest.approx(2 * 0.99)  # of cells and of the whole
    one = parts(apart)
    other = (apart + 1, one[1], one[2])
    assert float(vicreg(one, other)) == pytest.approx(costs[1] + 1, rel=1e-4)


def test_views_are_shifted_by_whole_pixels_and_not_blurred(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    toned = view(images, torch.Generator().manual_seed(1))
    assert 0.01 < float((toned.mean((1, 2, 3)) - images.mean((1, 2, 3))).abs().max()) < 0.2
    monkeypatch.setattr(cxr_ssl_features, "TONE", 0.0)
    found = view(images, torch.Generator().manual_seed(1)).clamp(min=1e-4)
    offsets = set()
    for image, moved in zip(images[:, 0], found[:, 0], strict=True):
        fitting = [
            (y, x)
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
            if torch.allclose(image.roll((y, x), (0, 1))[1:-1, 1:-1], moved[1:-1, 1:-1], atol=1e-3)
        ]
        assert len(fitting) == 1
        offsets.add(fitting[0])
    assert len(offsets) == 9


def test_the_last_layer_evens_the_leading_directions_out() -> None:
    """Of features that fall off steeply and are heavy-tailed, at two resolutions."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(RAW, RAW, generator=generator))[0]
    spread = torch.arange(1, RAW + 1).float() ** -1.0

    def draw(n: int, offset: float) -> Tensor:
        drawn = torch.randn(n, RAW, generator=generator) * spread
        drawn[:, 300] += offset
        return (drawn * torch.rand(n, 1, generator=generator).exp()) @ mixing

    sets = [draw(2000, 0.0), draw(2000, 0.2)]
    weight, bias, amplitudes = fit(sets)
    assert weight.shape == (DIMENSION, RAW)

    def features(found: Tensor) -> Tensor:
        return amplitudes * torch.tanh(found @ weight.T + bias)

    def ratio(found: Tensor) -> float:
        return directions(features(found))["participation_ratio"]

    totals = [float(features(found).var(0).sum()) for found in sets]
    assert sum(totals) / 2 == pytest.approx(100, rel=1e-3)
    assert min(map(ratio, sets)) == pytest.approx(DIRECTIONS, rel=0.01)
    assert ratio(draw(2000, 0.2)) > 0.7 * DIRECTIONS  # rows that it was not fitted to
    assert torch.equal(weight, weight.half().float())


def test_raw_features_are_of_the_resolution_that_is_asked_for() -> None:
    network = CxrSslNetwork()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 1, 128, 128), generator=generator, dtype=torch.uint8)
    found = [raw_features(network, images, size) for size in (32, 64, 128)]
    assert all(each.shape == (3, RAW) for each in found)
    assert not torch.allclose(found[0], found[2], atol=1e-3)
    gray = torch.full((2, 1, 128, 128), 90, dtype=torch.uint8)
    same = [raw_features(network, gray, size) for size in (32, 128)]
    torch.testing.assert_close(same[0], same[1], rtol=1e-3, atol=1e-3)
