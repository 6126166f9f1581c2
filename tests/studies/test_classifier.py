"""The classifier learns, repeats itself to the bit, and leaves the process as it was."""

import numpy as np
import pytest
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation import classifier
from cxrgan_fast.studies.augmentation.classifier import Trained, train_classifier
from cxrgan_fast.studies.augmentation.recipe import Recipe

CPU = torch.device("cpu")
QUICK = Recipe(steps=3, batch_size=4, curve_points=1)


@pytest.fixture(scope="module")
def phantoms() -> tuple[ImageDataset, ImageDataset]:
    """Training images and others, small: a step takes as long as it does for the convolutions."""
    train, test = (
        load_dataset("phantom", resolution=16, split=split, phantom_images=n, progress=False)
        for split, n in (("train", 64), ("test", 40))
    )
    return train, test


def trained(phantoms, recipe: Recipe = QUICK, **more) -> Trained:
    train, test = phantoms
    settings = {"augmented": True, "negative": 0, "seed": 3, "device": CPU, "precision": "fp32"}
    return train_classifier(
        recipe, train, train.labels, test, {"test": test}, **{**settings, **more}, progress=False
    )


def test_it_learns_what_there_is_to_learn(phantoms) -> None:
    bright = [
        ImageDataset((each.images // 2 + 100 * each.labels.view(-1, 1, 1, 1)).to(torch.uint8),
                     each.labels, each.class_names, each.patients, each.files, "bright")
        for each in phantoms
    ]  # fmt: skip
    recipe = Recipe(steps=15, batch_size=8, curve_points=3)
    made = trained(bright, recipe, augmented=False)
    assert [steps for steps, _ in made.curve] == [5, 10, 15]
    assert made.curve[-1][1] > 0.95
    assert made.logits["test"].shape == (40, 2)
    assert made.logits["test"].dtype == np.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_call_gives_the_same_bits(phantoms, precision: str) -> None:
    first, again = (trained(phantoms, precision=precision) for _ in range(2))
    assert first.logits["test"].tobytes() == again.logits["test"].tobytes()
    assert first.curve == again.curve
    for other in (trained(phantoms, precision=precision, seed=4),
                  trained(phantoms, precision=precision, augmented=False)):  # fmt: skip
        assert other.logits["test"].tobytes() != first.logits["test"].tobytes()


def test_bf16_is_near_float32(phantoms) -> None:
    near, exact = (trained(phantoms, precision=each).logits["test"] for each in ("bf16", "fp32"))
    assert near.tobytes() != exact.tobytes()
    np.testing.assert_allclose(near, exact, atol=0.1)


def test_the_process_is_left_as_it_was(phantoms) -> None:
    state, before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    trained(phantoms)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == before


def test_arms_begin_alike_and_see_as_many_images(phantoms, monkeypatch) -> None:
    """A pool of other images changes which are shown, not of which classes nor how many."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    step = classifier._Step.__call__

    def spy(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        seen.append((next(self.network.parameters()).detach().clone(), labels))
        step(self, images, labels)

    monkeypatch.setattr(classifier._Step, "__call__", spy)
    train, test = phantoms
    for pool in (train, test):
        train_classifier(
            QUICK, pool, train.labels, test, {}, augmented=False, negative=0, seed=1, device=CPU,
            precision="fp32", progress=False,
        )  # fmt: skip
    one, other = seen[: QUICK.steps], seen[QUICK.steps :]
    assert len(other) == QUICK.steps
    assert torch.equal(one[0][0], other[0][0])
    assert not torch.equal(one[-1][0], other[-1][0])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


def test_the_learning_rate_falls_at_its_steps(phantoms, monkeypatch) -> None:
    rates = []
    step = torch.optim.Adam.step

    def spy(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    trained(phantoms, Recipe(steps=10, batch_size=2, curve_points=1))
    assert rates == pytest.approx([1e-3] * 6 + [1e-4] * 2 + [1e-5] * 2)


def test_a_training_that_diverges_is_said_in_a_line(phantoms) -> None:
    recipe = Recipe(steps=2, batch_size=8, learning_rate=1.0)
    with pytest.raises(UserError, match=r"diverged.*lower learning rate than 1"):
        classifier._require_finite(np.array([[np.inf, 0]], np.float32), recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", lambda told, _: told.sum() * torch.nan)
        with pytest.raises(UserError, match="diverged"):
            trained(phantoms, recipe)


def test_three_classes_are_told_too(phantoms) -> None:
    train, test = (
        ImageDataset(each.images, torch.arange(len(each)) % 3, ("normal", "b", "v"),
                     each.patients, each.files, "three") for each in phantoms
    )  # fmt: skip
    assert trained((train, test)).logits["test"].shape == (40, 3)
