"""A group's trainings, from real GANs to rows of the table, and on after whatever stops them."""

from pathlib import Path

import pytest
import torch
import yaml

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.studies.augmentation import groups
from cxrgan_fast.studies.augmentation.folds import make_folds
from cxrgan_fast.studies.augmentation.groups import Work, collect_trainings, run_group
from cxrgan_fast.studies.augmentation.plan import Group, Plan
from cxrgan_fast.studies.augmentation.recipe import Recipe
from cxrgan_fast.studies.augmentation.report import write_report

GAN = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4, "precision": "fp32",
       "steps": 2, "r1_gamma": 0.0, "checkpoint_every": 1}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def phantoms() -> ImageDataset:
    return load_dataset("phantom", resolution=32, phantom_images=48, progress=False)


def work_of(folder: Path, dataset: ImageDataset, **more: object) -> Work:
    """A study of two folds and two seeds."""
    labels = dataset.labels.tolist()
    folds = make_folds(dataset.fingerprint, dataset.patients, labels, dataset.class_names, folds=2,
                       validation_parts=3)  # fmt: skip
    settings = {"sizes": (8,), "arms": ("R", "RA", "RAS"), "ratios": (0.5, 1.0), **more}
    plan = Plan(
        data="phantom", fingerprint=dataset.fingerprint, class_names=dataset.class_names,
        negative=0, folds=tuple(folds), seeds=2,
        recipe=Recipe(steps=2, batch_size=4, curve_points=1), generator=GAN, **settings,
    )  # fmt: skip
    generator = override(TrainConfig(), GAN)
    return Work(folder, plan, dataset, generator, CPU, "fp32", say=lambda words: None)


def rows(folder: Path) -> dict[str, bytes]:
    """The tables and predictions of a study."""
    found = [*folder.glob("groups/*/*.csv"), *folder.glob("predictions/*.csv")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


def test_a_small_study_comes_to_its_report(tmp_path: Path, phantoms) -> None:
    """Folds, subsets, GANs, classifiers, table, statistics and files, as a whole."""
    work = work_of(tmp_path, phantoms)
    for group in (Group(0, 8, 0), Group(0, 8, 1)):  # the other fold has as many
        run_group(work, group)
        assert not work.missing(group)
    trainings = collect_trainings(tmp_path)
    assert 2 * len(trainings) == work.plan.counts()["classifiers"] == 16
    place = work.place(Group(0, 8, 0))
    assert sorted(path.name for path in place.iterdir()) == [
        "R.csv", "RA.csv", "RAS_0.5.csv", "RAS_1.csv", "gan", "gan-done", "train.log"
    ]  # fmt: skip
    assert "data: images, 8 images (" in (place / "train.log").read_text()
    text, files = write_report(tmp_path, trainings, progress=False)
    assert text.startswith(("No difference shown", "Synthetic images"))
    assert all(path.stat().st_size for path in files)


def test_who_takes_a_group_up_does_what_is_left_and_comes_to_the_same_bits(
    tmp_path: Path, phantoms, monkeypatch
) -> None:
    group = Group(1, 8, 1)
    whole = work_of(tmp_path / "whole", phantoms)
    (tmp_path / "whole").mkdir()
    run_group(whole, group)

    stopped = work_of(tmp_path / "stopped", phantoms)
    (tmp_path / "stopped").mkdir()
    begun: list[str] = []
    real = groups.train_classifier

    def stop_at_the_third(*arguments, **options):
        begun.append("classifier")
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(groups, "train_classifier", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_group(stopped, group)
    assert [label for label, _ in stopped.missing(group)] == ["RAS", "RAS"]
    run = next((stopped.place(group) / "gan").iterdir())
    generator = (run / "generator.safetensors").read_bytes()
    run_group(stopped, group)
    assert len(begun) == 5  # two, the one that was stopped, and the two that were left
    assert (run / "generator.safetensors").read_bytes() == generator
    assert len(list((stopped.place(group) / "gan").iterdir())) == 1
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")


def test_a_gan_that_was_cut_short_goes_on(tmp_path: Path, phantoms, monkeypatch) -> None:
    group = Group(0, 8, 0)
    work = work_of(tmp_path, phantoms, arms=("RAS",), ratios=(1.0,))
    real, steps = groups.train, []

    def cut_short(config, device, resume=None):
        steps.append((config.steps, resume))
        if resume is None:
            real(override(config, {"steps": 1}), device)
            run = next((work.place(group) / "gan").iterdir())
            settings = yaml.safe_load((run / "config.yaml").read_text())
            assert settings["steps"] == 1
            settings["steps"] = 2
            (run / "config.yaml").write_text(yaml.safe_dump(settings))
            raise KeyboardInterrupt
        return real(config, device, resume=resume)

    monkeypatch.setattr(groups, "train", cut_short)
    with pytest.raises(KeyboardInterrupt):
        run_group(work, group)
    run_group(work, group)
    assert [resume is not None for _, resume in steps] == [False, True]
    assert len(collect_trainings(tmp_path)) == 1


def test_without_synthetic_images_there_is_no_gan(tmp_path: Path, phantoms) -> None:
    work = work_of(tmp_path, phantoms, arms=("R", "RR"))
    run_group(work, Group(0, 8, 0))
    place = work.place(Group(0, 8, 0))
    assert sorted(path.name for path in place.iterdir()) == ["R.csv", "RR.csv"]


def test_a_generator_that_was_put_there_is_refused(tmp_path: Path, phantoms) -> None:
    """A group's run is held to its images again before each classifier."""
    work = work_of(tmp_path, phantoms, arms=("RAS",), ratios=(1.0,))
    for group in (Group(0, 8, 0), Group(1, 8, 0)):
        run_group(work, group)
    one, other = (next((work.place(Group(fold, 8, 0)) / "gan").iterdir()) for fold in (0, 1))
    for name in ("generator.safetensors", "dataset.json"):
        (one / name).write_bytes((other / name).read_bytes())
    (work.place(Group(0, 8, 0)) / "RAS_1.csv").unlink()
    with pytest.raises(UserError, match="was trained on other images"):
        run_group(work, Group(0, 8, 0))
