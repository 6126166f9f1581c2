"""The picture of nearest training images: rows of each class, the most copied first."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from cxrgan_fast.data import load_dataset
from cxrgan_fast.evaluation import pictures
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.metrics.pixels import Pixels
from cxrgan_fast.sampling.grid import image_grid


def test_a_class_has_its_most_copied_image_first_with_the_original_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load_dataset("phantom", resolution=32, phantom_images=40, progress=False)
    fake = load_dataset("phantom", resolution=32, split="val", phantom_images=24, progress=False)
    (normal, *_), (bacterial, *_) = ((train.labels == k).nonzero().flatten() for k in (0, 1))
    place, other = (int((fake.labels == k).nonzero()[3]) for k in (0, 1))
    images = fake.images.clone()
    images[place] = train.images[normal].flip(2)
    images[other] = train.images[bacterial]
    found = Evaluator(
        train, None, Pixels(), torch.device("cpu"), resamples=0, cache=False, progress=False
    ).evaluate(replace(fake, images=images), metrics=("memorisation",), samples=24)
    drawn = []

    def recorded(
        images: torch.Tensor, row_names: Sequence[str], column_names: Sequence[str] = ()
    ) -> Image.Image:
        drawn.append((images, row_names, column_names))
        return image_grid(images, row_names, column_names)

    monkeypatch.setattr(pictures, "image_grid", recorded)
    pictures.write_nearest(tmp_path / "nearest.png", found, train)
    assert len(drawn) == 2
    planted = {0: (place, normal, "mirrored"), 1: (other, bacterial, "as it is")}
    for label, (shown, rows, columns) in enumerate(drawn):
        generated, original, done = planted[label]
        assert rows[0] == f"{fake.class_names[label]}, generated"
        assert torch.equal(shown[0], images[generated])
        assert torch.equal(shown[len(columns)], train.images[original])
        likeness, *words = columns[0].split("\n")
        assert float(likeness) > 0.99
        assert " ".join(words) == done
        values = [float(column.split("\n")[0]) for column in columns]
        assert values == sorted(values, reverse=True)
    with Image.open(tmp_path / "nearest.png") as picture:
        whole = [image_grid(*each).size for each in drawn]
        assert picture.size == (max(w for w, _ in whole), sum(h for _, h in whole))
