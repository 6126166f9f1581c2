"""The dozen disturbances that no extractor was trained on: each does what its strength says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from research.disturbed_sets import Disturbance, Parts, divide
from research.untrained_sets import AMOUNTS, untrained

N, SIZE = 24, 32
SHARES = ("mirror", "half_mirrored", "chimera_sides", "chimera_halves")


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    """Smooth blobs on a ramp; two images a patient, the second class half as frequent."""
    generator = torch.Generator().manual_seed(0)
    across = torch.arange(float(SIZE))
    centers = torch.rand(150, 2, generator=generator) * SIZE
    x, y = (across - centers[:, :1]) ** 2, (across - centers[:, 1:]) ** 2
    blobs = 150 * torch.exp(-(y[:, :, None] + x[:, None]) / 60)
    images = blobs + 40 * torch.rand(150, 1, 1, generator=generator) + across
    return ImageDataset(
        images=images.to(torch.uint8)[:, None],
        labels=(torch.arange(150) >= 100).long(),
        class_names=("normal", "ill"),
        patients=[str(row // 2) for row in range(150)],
        files=[str(row) for row in range(150)],
        name="blobs",
    )


@pytest.fixture(scope="module")
def parts(dataset: ImageDataset) -> Parts:
    return divide(dataset, N, seed=0, held_out=0)


@pytest.fixture(scope="module")
def kinds(dataset: ImageDataset, parts: Parts) -> dict[str, Disturbance]:
    return untrained(dataset, parts, seed=0)


def test_no_part_is_held_out_where_none_is_wanted(parts: Parts) -> None:
    assert len(parts.held_out) == 0
    assert len(parts.real) == len(parts.base) == N


def test_there_are_a_dozen_and_one(kinds: dict[str, Disturbance]) -> None:
    assert sorted(kinds) == sorted([*AMOUNTS, *SHARES, "other_class"])
    assert len(kinds) == 13


def test_strength_zero_disturbs_nothing(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    for name, disturb in kinds.items():
        (found,) = disturb(0.0)
        assert torch.equal(found.images, dataset.images[parts.base]), name
        assert torch.equal(found.labels, dataset.labels[parts.base]), name


def test_more_strength_is_more_change(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    base = dataset.images[parts.base].double()
    for name, disturb in kinds.items():
        changes = []
        for strength in (0.25, 0.5, 0.75, 1.0):
            (found,) = disturb(strength)
            assert found.images.dtype == torch.uint8
            assert torch.equal(found.images, disturb(strength)[0].images), name
            changes.append(float((found.images.double() - base).square().mean()))
        assert changes[0] > 0, name
        assert changes == sorted(changes), name
        assert changes[0] < changes[3], name


@pytest.mark.parametrize("name", SHARES)
def test_a_share_of_the_images_is_joined(
    name: str, dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    base = dataset.images[parts.base]
    chosen: set[int] = set()
    for strength in (0.25, 0.5, 1.0):
        (found,) = kinds[name](strength)
        changed = set((found.images != base).flatten(1).any(1).nonzero().flatten().tolist())
        assert len(changed) == strength * N
        assert changed >= chosen
        chosen = changed


def own(found: Tensor, base: Tensor, side: str) -> Tensor:
    half = SIZE // 2
    return {
        "left": found[..., :half] == base[..., :half],
        "right": found[..., half:] == base[..., half:],
        "top": found[..., :half, :] == base[..., :half, :],
        "bottom": found[..., half:, :] == base[..., half:, :],
    }[side].flatten(1)


@pytest.mark.parametrize(
    ("name", "kept", "taken"),
    [("chimera_sides", "left", "right"), ("chimera_halves", "top", "bottom")],
)
def test_chimeras_are_of_two_patients_of_one_class(
    name: str,
    kept: str,
    taken: str,
    dataset: ImageDataset,
    parts: Parts,
    kinds: dict[str, Disturbance],
) -> None:
    base = dataset.images[parts.base]
    (found,) = kinds[name](1.0)
    assert own(found.images, base, kept).all()
    rows = parts.base.tolist()
    for place, image in enumerate(found.images):
        same = own(image.expand_as(base), base, taken).all(1).nonzero().flatten().tolist()
        (partner,) = same
        assert dataset.patients[rows[partner]] != dataset.patients[rows[place]]
        assert dataset.labels[rows[partner]] == dataset.labels[rows[place]]


def test_mirrors(dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]) -> None:
    base = dataset.images[parts.base]
    assert torch.equal(kinds["mirror"](1.0)[0].images, base.flip(-1))
    halves = kinds["half_mirrored"](1.0)[0].images
    assert torch.equal(halves, halves.flip(-1))
    assert own(halves, base, "left").all()


def test_amounts_are_as_stated(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    base = dataset.images[parts.base].double() / 255

    def half(name: str) -> Tensor:
        return kinds[name](0.5)[0].images.double() / 255

    rounding = 0.51 / 255
    assert float((half("gamma") - base**1.5).abs().max()) < rounding
    shift = SIZE // 16  # 4 of 64 pixels
    assert float((half("shift")[..., shift:] - base[..., :-shift]).abs().max()) < rounding
    torch.testing.assert_close(half("shift")[..., 0], base[..., 0])  # the border is repeated
    box = half("corner_box")
    side = SIZE // 8
    assert float(box[..., :side, :side].max()) == 0
    assert torch.equal(box[..., side:, :], base[..., side:, :])
    grid = half("checkerboard")
    for start, gain in ((0, 1.04**2), (1, 0.96**2)):
        found, before = (images[..., start::2, start::2].sum() for images in (grid, base))
        assert float(found / before) == pytest.approx(gain, abs=0.01)
    same = half("one_exposure").mean((1, 2, 3))
    assert float(same.std()) == pytest.approx(0.5 * float(base.mean((1, 2, 3)).std()), rel=0.1)


def test_zoom_and_rotation_are_about_the_middle(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    """The middle pixels stay, and a point of light goes where it ought to."""
    point = dataset.images[parts.base].clone() * 0
    middle, far = SIZE // 2, SIZE // 2 + 8
    point[..., middle - 1 : middle + 1, far : far + 2] = 255
    lit = ImageDataset(
        images=dataset.images.index_copy(0, parts.base, point),
        labels=dataset.labels,
        class_names=dataset.class_names,
        patients=dataset.patients,
        files=dataset.files,
        name="points",
    )
    spoilt = untrained(lit, parts, seed=0)
    steps = torch.arange(SIZE) - (SIZE - 1) / 2

    def place(name: str) -> tuple[float, float]:
        image = spoilt[name](0.5)[0].images[0, 0].double()
        weight = image.sum()
        return float((image.sum(0) * steps).sum() / weight), float(
            (image.sum(1) * steps).sum() / weight
        )

    x, y = place("zoom")
    assert x == pytest.approx(9 * 1.1, abs=0.2)
    assert y == pytest.approx(0, abs=0.1)
    x, y = place("rotation")
    assert (x**2 + y**2) ** 0.5 == pytest.approx(9, abs=0.2)
    assert abs(y) == pytest.approx(9 * 0.17365, abs=0.2)  # the sine of 10 degrees


def test_jpeg_is_coarser_with_strength(kinds: dict[str, Disturbance]) -> None:
    """Compressing again what was compressed changes next to nothing."""
    (found,) = kinds["jpeg"](0.5)
    again = AMOUNTS["jpeg"](found.images / 255, 0.5) * 255
    first = AMOUNTS["jpeg"](found.images / 255, 1.0) * 255
    assert float((again - found.images).abs().mean()) < float((first - found.images).abs().mean())


def test_a_share_is_of_another_class(
    dataset: ImageDataset, parts: Parts, kinds: dict[str, Disturbance]
) -> None:
    (found,) = kinds["other_class"](0.5)
    assert found.rows is not None
    shown = dataset.labels[found.rows]
    replaced = found.rows != parts.base
    assert int(replaced.sum()) == round(0.1 * N)
    assert (shown[replaced] == 0).all()
    assert (found.labels[replaced] == 1).all()
    assert torch.equal(found.labels, dataset.labels[parts.base])
    for seed in range(5):
        (found,) = untrained(dataset, parts, seed)["other_class"](1.0)
        assert found.rows is not None
        assert not set(found.rows.tolist()) & set(parts.real.tolist())
        assert len(found.rows.unique()) == N
