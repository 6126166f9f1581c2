"""Everything about two sets: matched, with floors, by class, ready for JSON."""

import json
from dataclasses import replace

import pytest
import torch

from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.evaluation.evaluator import Evaluator
from cxrgan_fast.evaluation.findings import Evaluation
from cxrgan_fast.evaluation.floors import OTHER_PATIENTS, TEST_SPLIT
from cxrgan_fast.evaluation.matching import subset
from cxrgan_fast.evaluation.report import to_record
from cxrgan_fast.evaluation.table import aligned, to_table
from cxrgan_fast.metrics.extractor import Features
from cxrgan_fast.metrics.metric import all_metrics, metric_names
from cxrgan_fast.metrics.pixels import Pixels

CPU = torch.device("cpu")


def phantoms(split: str, n: int) -> ImageDataset:
    return load_dataset("phantom", resolution=16, split=split, phantom_images=n, progress=False)


@pytest.fixture(scope="module")
def train() -> ImageDataset:
    """90 images, 30 normal and 60 bacterial, two of each patient."""
    dataset = subset(phantoms("train", 120), torch.arange(30, 120))
    return replace(dataset, patients=[f"p{row // 2}" for row in range(90)])


@pytest.fixture(scope="module")
def test_split() -> ImageDataset:
    return phantoms("test", 40)


@pytest.fixture(scope="module")
def fake() -> ImageDataset:
    return phantoms("val", 60)


def evaluator(train: ImageDataset, test: ImageDataset | None, **options: object) -> Evaluator:
    settings = {"resamples": 10, "cache": False, "progress": False, **options}
    return Evaluator(train, test, Pixels(), CPU, **settings)


@pytest.fixture(scope="module")
def evaluation(train, test_split, fake) -> Evaluation:
    return evaluator(train, test_split).evaluate(fake, samples=1000)


def test_sets_are_matched_in_count_and_classes(evaluation):
    # 30 generated bacterial images are as many as there are; the data have half as many normal.
    assert evaluation.fake.class_counts() == {"normal": 15, "bacterial": 30}
    fid = evaluation.pooled.comparison.estimates["fid"]
    assert (fid.n_real, fid.n_fake) == (45, 45)
    per_class = {n: p.comparison.estimates["fid"] for n, p in evaluation.classes.items()}
    assert {n: (e.n_real, e.n_fake) for n, e in per_class.items()} == {
        "normal": (15, 15), "bacterial": (30, 30),
    }  # fmt: skip
    assert any("45 images of each kind are compared, not 1000" in n for n in evaluation.notes)


def test_real_images_score_at_the_floor_and_noise_far_above(evaluation, train, test_split, fake):
    value = evaluation.pooled.comparison.estimates["fid"].value
    floors = {n: f.estimates["fid"].value for n, f in evaluation.pooled.floors.items()}
    assert list(floors) == [OTHER_PATIENTS, TEST_SPLIT]
    assert 0.3 < value / floors[OTHER_PATIENTS] < 3
    noise = torch.randint(256, fake.images.shape, generator=torch.Generator().manual_seed(0))
    bad = replace(fake, images=noise.to(torch.uint8))
    found = evaluator(train, test_split).evaluate(bad, metrics=("fid",)).pooled.comparison
    assert found.estimates["fid"].value > 10 * floors[OTHER_PATIENTS]


def test_floors_are_of_other_patients_and_at_most_as_many_images(train, test_split):
    pairs = evaluator(train, test_split).floor_pairs([15, 30])
    first, second = pairs[OTHER_PATIENTS].real, pairs[OTHER_PATIENTS].fake
    assert not set(first.dataset.patients) & set(second.dataset.patients)
    # Copies are looked for in all of the first half, and nowhere in the second.
    patient_of = {i.numpy().tobytes(): p for i, p in zip(train.images, train.patients, strict=True)}
    looked_at = {patient_of[i.numpy().tobytes()] for i in pairs[OTHER_PATIENTS].originals}
    assert set(first.dataset.patients) <= looked_at
    assert not looked_at & set(second.dataset.patients)
    assert len(pairs[TEST_SPLIT].originals) == 90
    assert first.dataset.class_counts() == second.dataset.class_counts()
    assert len(first.dataset) <= 45
    held_out = pairs[TEST_SPLIT].fake
    assert held_out.dataset.class_counts() == {"normal": 10, "bacterial": 20}
    assert set(held_out.dataset.patients) <= set(test_split.patients)
    few = evaluator(train, test_split).floor_pairs([2, 4])
    assert {len(s.dataset) for pair in few.values() for s in (pair.real, pair.fake)} == {6}


def test_divisions_are_of_equal_sizes_and_differ(train):
    real = evaluator(train, None)
    pairs = [real.floor_pairs([15, 30], division)[OTHER_PATIENTS] for division in range(20)]
    sides = [[tuple(side.dataset.files) for side in (pair.real, pair.fake)] for pair in pairs]
    assert {len(files) for pair in sides for files in pair} == {len(sides[0][0])}
    assert len({first for first, _ in sides}) == 20
    for pair in pairs:
        assert not set(pair.real.dataset.patients) & set(pair.fake.dataset.patients)
        assert pair.real.dataset.class_counts() == pair.fake.dataset.class_counts()


def test_the_floor_is_of_many_divisions_and_what_is_beyond_it_is_said(evaluation, train, fake):
    record = json.loads(json.dumps(to_record(evaluation), allow_nan=False))
    for part in (record["all classes"], *record["classes"].values()):
        assert list(part["differences"]) == list(part["floors"]) == [OTHER_PATIENTS, TEST_SPLIT]
        for floor, of_metrics in part["differences"].items():
            floors = part["floors"][floor]["metrics"]
            assert set(of_metrics) == set(floors) & set(part["generated"]["metrics"])
            for name, found in of_metrics.items():
                value = part["generated"]["metrics"][name]["value"]
                assert found["difference"] == pytest.approx(value - floors[name]["value"])
                assert (found["value"], found["floor"]) == (value, floors[name]["value"])
                if found["interval"] is not None:
                    low, high = found["interval"]
                    assert low <= found["difference"] <= high
    of_fid = record["all classes"]["differences"]
    assert of_fid[OTHER_PATIENTS]["fid"]["divisions"] == 20
    assert of_fid[OTHER_PATIENTS]["fid"]["floor_deviation"] > 0
    assert of_fid[OTHER_PATIENTS]["creativity"]["divisions"] == 20
    assert of_fid[TEST_SPLIT]["fid"]["divisions"] == 1
    # The first of the divisions is one of them, and noise is far above all of them.
    values = record["all classes"]["floors"][OTHER_PATIENTS]["metrics"]["fid"]["details"]["values"]
    assert len(set(values)) == 20
    noise = torch.randint(256, fake.images.shape, generator=torch.Generator().manual_seed(0))
    bad = replace(fake, images=noise.to(torch.uint8))
    found = evaluator(train, None).evaluate(bad, metrics=("fid",)).pooled.differences
    low, _ = found[OTHER_PATIENTS]["fid"].interval
    assert low > max(values)


def test_without_a_test_split_there_is_one_floor_and_other_patients_stand_in(train, fake):
    found = evaluator(train, None).evaluate(fake)
    assert list(found.pooled.floors) == [OTHER_PATIENTS]
    assert found.pooled.memorization.yardstick == "other patients"
    assert "there is no floor by test split: there is no such split" in found.notes


def test_one_patient_leaves_no_floor(train, fake):
    found = evaluator(replace(train, patients=["p"] * 90), None).evaluate(fake)
    assert found.pooled.floors == {}
    assert "of one patient" in found.pooled.comparison.omitted["memorisation"]
    assert "there is no floor by other patients" in " ".join(found.notes)


def test_copies_and_duplicates_are_found_among_all_that_were_given(train, test_split, fake):
    images = fake.images.clone()
    images[:5] = train.images[:5]  # both begin with normal images
    images[40:43] = images[43]
    given = replace(fake, images=images)
    found = evaluator(train, test_split).evaluate(given, samples=20)
    assert len(found.fake) == 20
    record = to_record(found)
    copies = [[fake.files[row], train.files[row]] for row in range(5)]
    assert json.loads(json.dumps(record["duplicates"])) == {
        "images": 60,
        "among_generated": [fake.files[40:44]],
        "of_training_images": copies,
    }
    taken = {fake_file for fake_file, _ in copies} & set(found.fake.files)
    near = {(c["generated"], c["training"]) for c in record["near_copies"]}
    assert taken
    assert {(f, t) for f, t in copies if f in taken} <= near
    assert record["copies"]["near_copies"] == len(near)
    assert record["copies"]["classes"]["normal"] >= len(taken)
    assert record["near_copies"][0]["transform"]["mirrored"] is False
    table = to_table(found)
    assert "3 of 60 generated images repeat another one byte for byte" in table
    assert "5 of 60 generated images are training images byte for byte" in table


def test_a_copy_of_any_training_image_is_not_creative(train, test_split):
    """Whichever of them are compared, and in whatever order they come."""
    values = []
    for order in (torch.arange(90), torch.randperm(90)):
        found = evaluator(train, test_split).evaluate(
            subset(train, order), samples=30, metrics=("fid", "creativity")
        )
        assert found.pooled.comparison.estimates["creativity"].value == 0
        assert found.pooled.comparison.estimates["creativity"].n_real == 90
        values.append(found.pooled.comparison.estimates["fid"].value)
    # Not the same rows on both sides, though files and training images are in one order.
    assert min(values) > 1
    assert max(values) < 2 * min(values)


def test_patients_in_both_splits_are_told(train, test_split, fake):
    shared = replace(test_split, patients=["p1", *test_split.patients[1:]])
    notes = evaluator(train, shared).evaluate(fake, metrics=("fid",)).notes
    assert any(note.startswith("1 patients, such as p1, are named in") for note in notes)


def test_the_record_is_json_and_says_all_of_every_number(evaluation):
    record = json.loads(json.dumps(to_record(evaluation), allow_nan=False))
    assert record["features"] == {
        "name": "pixels", "version": "1", "input_size": 32, "dimension": 1024,
    }  # fmt: skip
    parts = {"all": record["all classes"], **record["classes"]}
    for part in parts.values():
        for side in (part["generated"], *part["floors"].values()):
            assert {*side["metrics"], *side["omitted"], "memorisation"} == set(metric_names())
            for metric in side["metrics"].values():
                assert set(metric) >= {"value", "n_real", "n_fake", "interval"}
        assert part["memorisation"]["share"]["n_fake"] > 0
    assert "no classifier" in parts["all"]["generated"]["omitted"]["inception_score"]
    of_images = {name for name, metric in all_metrics().items() if metric.takes == "images"}
    assert of_images == {"creativity", "inheritance", "diversity", "power_spectrum"}
    for part in parts.values():
        assert of_images <= set(part["generated"]["metrics"])
    assert all(seconds >= 0 for seconds in record["seconds"].values())


def test_the_table_labels_every_number(evaluation):
    table = to_table(evaluation)
    fid = evaluation.pooled.comparison.estimates["fid"]
    (line,) = [line for line in table.split("normal  ")[0].splitlines() if line.startswith("FID (")]
    assert line.startswith("FID (pixels, 1024-d)")
    assert line.split(")")[1].split()[0] == "lower"
    assert f"{fid.value:.4g} ± " in line
    assert "(45/45)" in line
    assert "floor: other patients" in table
    assert "floor: test split" in table
    assert max(map(len, table.splitlines())) < 400
    why = "these features come from no classifier"
    assert (
        table.count(f"not computed: inception_score, class_agreement: {why}") == 3
    )  # and not of each floor again
    assert not [row for row in table.splitlines() if "of the floor" in row and why in row]
    details = evaluation.pooled.comparison.estimates["nearest_neighbour"].details
    rows = table.split("normal  ")[0].splitlines()
    (p_value,) = [row for row in rows if row.startswith("  p, by permutation")]
    assert f" {details['p_value']:.4g} " in p_value
    (real,) = [row for row in rows if row.startswith("  of real images")]
    assert real.split("images")[1].split()[:2] == ["near", "0.5"]
    assert f" {details['real_accuracy']:.4g} " in real
    assert table.count("memorisation (pixels, 1024-d), ") == 3
    shown = evaluation.pooled.memorization
    assert f"the nearest {shown.yardstick_share:.1%} of 90 other patients (p = " in table
    assert table.count("  by the test split (another distribution): ") == 3
    assert "near copies by pixels: 0 of 45 generated images" in table


def test_columns_are_aligned():
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "-------", "ccc  d"]


def test_the_same_seed_gives_the_same_numbers(train, test_split, fake):
    records = []
    for seed in (5, 5, 6):
        found = to_record(evaluator(train, test_split, seed=seed).evaluate(fake, samples=30))
        del found["seconds"]
        records.append(found)
    assert records[0] == records[1]
    assert records[0]["all classes"] != records[2]["all classes"]


def test_one_class_is_not_said_twice(train, test_split, fake):
    sets = (train, test_split, fake)
    real, held_out, drawn = (each.of_class("normal") for each in sets)
    found = evaluator(real, held_out).evaluate(drawn, metrics=("fid",))
    assert found.classes == {}
    assert found.pooled.comparison.estimates["fid"].n_fake == 30


def test_a_floor_says_why_it_lacks_a_metric(train, test_split, fake):
    few = subset(test_split, torch.tensor([0, 1, 38, 39]))
    table = to_table(evaluator(train, few).evaluate(fake, metrics=("kid", "recall")))
    assert "not computed of the floor by test split: kid: KID: expected 4 images" in table


def test_a_class_of_which_none_is_taken_is_told(train, test_split, fake):
    rare = torch.cat([torch.tensor([0]), torch.arange(30, 90)])
    found = evaluator(subset(train, rare), test_split).evaluate(fake, samples=20)
    assert found.fake.class_counts() == {"normal": 0, "bacterial": 20}
    reasons = set(found.classes["normal"].comparison.omitted.values())
    assert "no images of this class are among those compared; more --samples take some" in reasons


def test_two_images_leave_reasons_and_no_numbers_that_mislead(train, test_split, fake):
    found = evaluator(train, test_split).evaluate(subset(fake, torch.tensor([0, 59])), samples=9)
    assert len(found.fake) == 2
    assert "fid_infinity" in found.pooled.comparison.omitted
    for part in (found.pooled, *found.classes.values()):
        for name, estimate in part.comparison.estimates.items():
            assert estimate.value == estimate.value, name  # not NaN
    json.dumps(to_record(found), allow_nan=False)


def test_sets_that_cannot_be_matched_are_refused(train, test_split, fake):
    real = evaluator(train, test_split)
    only_normal = subset(fake, torch.arange(30))
    with pytest.raises(UserError, match=r"^here: there are no images of bacterial"):
        real.evaluate(only_normal, where="here")
    with pytest.raises(UserError, match="fewer than 2 to compare"):
        real.evaluate(fake, samples=1)
    with pytest.raises(UserError, match="did you mean 'recall'"):
        real.evaluate(fake, metrics=("recal",))
    with pytest.raises(ValueError, match="expected the classes"):
        real.evaluate(replace(fake, class_names=("a", "b")))


def test_the_real_features_come_from_the_cache(train, test_split, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("CXRGAN_CACHE", str(tmp_path))
    evaluator(train, test_split, cache=True)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(Pixels, "extract", None)  # nothing is left to compute
    evaluator(train, test_split, cache=True)


class Brightness(Pixels):
    """A classifier that calls bright images bacterial; its classes have another order and case."""

    class_names = ("Bacterial", "viral", "Normal")

    def extract(self, images: torch.Tensor) -> Features:
        bright = images.mean((1, 2, 3))
        return Features(images.flatten(1), torch.stack([bright, 0 * bright, 1 - bright], 1))


def test_the_class_asked_for_is_held_against_the_classifier(train):
    bright = 200 * train.labels.to(torch.uint8)[:, None, None, None]  # the bacterial ones
    real = replace(train, images=train.images // 8 + bright)
    swapped = replace(real, images=train.images // 8 + 200 - bright)
    judge = Evaluator(real, None, Brightness(), CPU, resamples=5, cache=False, progress=False)
    right, wrong = (judge.evaluate(fake, metrics=("class_agreement",)) for fake in (real, swapped))
    assert right.pooled.comparison.estimates["class_agreement"].value == 1
    assert wrong.pooled.comparison.estimates["class_agreement"].value == 0
    assert {p.comparison.estimates["class_agreement"].value for p in wrong.classes.values()} == {0}
    (floor,) = wrong.pooled.floors.values()
    assert floor.estimates["class_agreement"].value == 1
