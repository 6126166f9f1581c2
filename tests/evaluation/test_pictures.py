"""Pictures of an evaluation show the images that they are said to show."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.evaluation.pictures import MOST_STEPS, some_of_each_class, write_steps
from cxrgan_fast.metrics.comparison import Comparison
from cxrgan_fast.metrics.estimate import Estimate


def a_set(counts: dict[str, int]) -> ImageDataset:
    """Images that are all of one gray, another one each."""
    n = sum(counts.values())
    labels = [label for label, count in enumerate(counts.values()) for _ in range(count)]
    files = [f"{row}.png" for row in range(n)]
    return ImageDataset(
        images=torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 128, 128),
        labels=torch.tensor(labels),
        class_names=tuple(counts),
        patients=files,
        files=files,
        name="generated",
    )


def grays(images: Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_each_class_that_there_is_has_its_share_of_the_samples():
    assert grays(some_of_each_class(a_set({"a": 20, "b": 20}))) == [*range(5), *range(20, 25)]
    assert grays(some_of_each_class(a_set({"a": 3, "b": 0, "c": 20}))) == [0, 1, 2, *range(3, 8)]
    many = some_of_each_class(a_set(dict.fromkeys("abcdefghijklmn", 2)))
    assert grays(many) == list(range(0, 20, 2))


def test_a_row_a_step_shows_its_images_in_order(tmp_path):
    samples = {step: torch.full((2, 1, 128, 128), step, dtype=torch.uint8) for step in range(1, 41)}
    found = {step: Comparison({"fid": Estimate(step / 7, 5, 5)}) for step in samples}
    write_steps(tmp_path / "rows.png", samples, found, "pixels, 1024-d")
    with Image.open(tmp_path / "rows.png") as picture:
        column = np.asarray(picture)[:, -70]  # through the last image of each row
    shown = [int(gray) for gray in column if gray != 255]
    steps = list(dict.fromkeys(shown))
    assert steps == sorted(steps)
    assert len(steps) == MOST_STEPS
    assert (steps[0], steps[-1]) == (1, 40)
