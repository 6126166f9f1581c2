"""Synthetic images come only of a generator that has seen the allowed images and no others."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.generator_file import copy_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.studies.augmentation.synthetic import (
    allowed_images,
    draw_synthetic,
    load_generators,
)
from cxrgan_fast.training.loop import train as train_in_process
from evaluations import write_images

ALLOWED = (0, 1, 2, 3, 12, 13, 14, 15)


def train_on(folder: Path, table: Path, rows: tuple[int, ...], whole: ImageDataset, **more) -> Path:
    """Train a GAN for a step on some images of a set; its run."""
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient"])
        for row in rows:
            name = whole.class_names[whole.labels[row]]
            writer.writerow([folder / whole.files[row], name, whole.patients[row]])
    settings = {"data": str(table), "resolution": 32, "base_channels": 8, "latent_size": 8,
                "batch_size": 4, "precision": "fp32", "steps": 1, "out": table.parent / "runs",
                "classes": whole.class_names}  # fmt: skip
    run, _ = train_in_process(override(TrainConfig(), {**settings, **more}), torch.device("cpu"))
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, ImageDataset]:
    """A run that has seen the allowed images of a set, and the set."""
    home = tmp_path_factory.mktemp("home")
    folder = write_images(home / "lungs", "train", 24)
    whole = load_dataset(str(folder), resolution=32, progress=False)
    return train_on(folder, home / "part.csv", ALLOWED, whole), whole


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_a_generator_of_the_allowed_images_is_taken(trained) -> None:
    run, whole = trained
    sources = load_generators(run, allowed_images(whole, ALLOWED[::-1]))
    assert [source.class_name for source in sources] == list(whole.class_names)
    images = draw_synthetic(sources, whole.class_names, [3, 20], seed=5)
    assert images.class_counts() == dict(zip(whole.class_names, [3, 20], strict=True))
    assert images.images.shape == (23, 1, 32, 32)
    assert len(set(images.patients)) == 23
    again = draw_synthetic(sources, whole.class_names, [2, 17], seed=5)
    assert torch.equal(again.images[:2], images.images[:2])  # fewer are the first of more
    assert torch.equal(again.images[2:], images.images[3:20])
    other = draw_synthetic(sources, whole.class_names, [3, 20], seed=6)
    assert not torch.equal(other.images, images.images)


@pytest.mark.parametrize(
    "rows", [ALLOWED[:-1], (*ALLOWED, 16), (*ALLOWED[:-1], 16)], ids=["fewer", "more", "another"]
)
def test_a_generator_of_other_images_is_refused(trained, rows) -> None:
    run, whole = trained
    with pytest.raises(UserError, match=r"was trained on other images \(8\) than .* may see"):
        load_generators(run, allowed_images(whole, rows))


def test_a_run_without_a_record_is_refused(trained, copied) -> None:
    (copied / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"no dataset\.json, so that it is not known"):
        load_generators(copied, allowed_images(trained[1], ALLOWED))


def test_a_generator_that_was_put_there_is_refused(trained, copied, tmp_path) -> None:
    """The record may be edited, or the generator may be of another run: both have to agree."""
    run, whole = trained
    file = copied / "generator.safetensors"
    foreign = {"data_fingerprint": allowed_images(whole, (0, 12)).fingerprint}
    copy_generator(run / file.name, file, foreign)
    with pytest.raises(UserError, match="other images than its run's record says"):
        load_generators(copied, allowed_images(whole, ALLOWED))
    record = json.loads((copied / "dataset.json").read_text())
    more = allowed_images(whole, (*ALLOWED, 20))
    (copied / "dataset.json").write_text(json.dumps({**record, "fingerprint": more.fingerprint}))
    with pytest.raises(UserError, match="was trained on other images"):
        load_generators(copied, allowed_images(whole, ALLOWED))


def test_a_generator_that_has_learnt_elsewhere_is_refused(trained, copied) -> None:
    allowed = allowed_images(trained[1], ALLOWED)
    file = copied / "generator.safetensors"
    copy_generator(trained[0] / file.name, file, {"networks_seen": "cxr"})
    with pytest.raises(UserError, match=r"pretrained networks \(cxr\)"):
        load_generators(copied, allowed)


def test_a_run_that_began_with_another_s_weights_is_refused(trained, tmp_path) -> None:
    """Its record is right: it was trained on these images, after others."""
    run, whole = trained
    folder = run.parents[1] / "lungs"
    begun = train_on(folder, tmp_path / "part.csv", ALLOWED, whole, init_from=run)
    with pytest.raises(UserError, match=r"began with the weights of .*--init-from"):
        load_generators(begun, allowed_images(whole, ALLOWED))


def test_a_run_of_a_gan_for_each_class_is_held_to_each(trained, tmp_path) -> None:
    run, whole = trained
    folder = run.parents[1] / "lungs"
    each = train_on(folder, tmp_path / "part.csv", ALLOWED, whole, per_class=True)
    allowed = allowed_images(whole, ALLOWED)
    sources = load_generators(each, allowed)
    assert draw_synthetic(sources, whole.class_names, [1, 1], seed=0).labels.tolist() == [0, 1]
    file = each / whole.class_names[1] / "generator.safetensors"
    copy_generator(
        file, file, {"data_fingerprint": allowed.of_class(whole.class_names[0]).fingerprint}
    )
    with pytest.raises(UserError, match="other images than its run's record says"):
        load_generators(each, allowed)
