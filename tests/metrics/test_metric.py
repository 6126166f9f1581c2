"""A metric is one record: true of its function, and read from there by all that show it."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cxrgan_fast import metrics as package
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Estimate, Features, Resamples, metric, precision_recall
from cxrgan_fast.metrics.comparison import comparable_metrics, compare
from cxrgan_fast.metrics.memorization import memorization
from cxrgan_fast.metrics.metric import (
    Asked,
    Images,
    Metric,
    Sets,
    all_metrics,
    direction,
    metric_names,
    quick_metrics,
    register,
)

ORDER = (
    "fid", "fid_infinity", "kid", "mmd", "inception_score", "class_agreement", "precision",
    "recall", "density", "coverage", "authenticity", "nearest_neighbour", "likeness", "vendi",
    "creativity", "inheritance", "diversity", "power_spectrum", "memorisation",
)  # fmt: skip


def features(n: int, seed: int, shift: float = 0.0, dimension: int = 4) -> Features:
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, dimension, generator=rng) + shift
    return Features(vectors, (4 * vectors[:, :3]).softmax(1))


def noise(n: int, seed: int, spread: int = 256) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(spread, (n, 1, 16, 16), generator=rng).to(torch.uint8)


def asked(fake: Features, columns: tuple[int, ...] = (0, 1, 2)) -> Asked:
    """What a classifier says of each image, or in other `columns` what it does not."""
    return Asked(fake.probabilities.argmax(1), tuple((column,) for column in columns))


def images(real: Tensor, fake: Tensor) -> Images:
    return Images(real, fake, originals=real)


def test_the_names_and_their_order_are_those_of_files_of_before():
    assert metric_names() == ORDER
    assert quick_metrics() == ("fid", "kid", "precision", "recall")
    assert comparable_metrics() == ORDER[:-1]


# ------------------------------------------------------------------------- the records are true


@pytest.mark.parametrize("name", comparable_metrics())
def test_as_few_images_as_the_record_says_and_no_fewer(name):
    known = all_metrics()[name]
    real, fake = known.fewest
    n = max(real, 1)  # a set of nothing has no features either
    sets = Sets(features(n, 0, dimension=1), features(fake, 1, dimension=1),
                images(noise(n, 0), noise(fake, 1)))  # fmt: skip
    sets = Sets(Features(sets.real.vectors, torch.ones(n, 2) / 2),
                Features(sets.fake.vectors, torch.ones(fake, 2) / 2), sets.images)  # fmt: skip
    sets = Sets(sets.real, sets.fake, sets.images, asked=asked(sets.fake, (0, 1)))
    assert math.isfinite(known.compute(sets).value)
    of_fewer = asked(sets.fake[:-1], (0, 1))
    fewer = Sets(sets.real, sets.fake[:-1], sets.images, asked=of_fewer)
    with pytest.raises(
        UserError, match=rf"^{re.escape(known.title)}: expected .*{fake} .*got {n} real and "
    ):
        known.compute(fewer)
    assert known.function is not None
    drawn = images(noise(n, 0), noise(fake - 1, 1))
    with pytest.raises((UserError, ValueError)):  # it is no bound of the record's alone
        known.function(Sets(fewer.real, fewer.fake, drawn, asked=of_fewer))


@pytest.mark.parametrize("name", comparable_metrics())
def test_sets_of_different_sizes_are_cut_where_the_record_says(name):
    fake = features(90, 1)
    of_both = images(noise(60, 0), noise(90, 1))
    sets = Sets(features(60, 0), fake, of_both, asked=asked(fake))
    found = all_metrics()[name].compute(sets)
    cut = found.n_real == found.n_fake == 60
    assert cut == all_metrics()[name].needs_equal_sizes


def test_a_cut_takes_the_images_and_resamples_of_the_features_that_it_takes():
    real, fake = features(20, 0), features(30, 1)
    marks = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(30, 1, 2, 2)
    counts = torch.arange(30).double()[None].expand(3, 30)
    resamples = Resamples(counts[:, :20], counts)
    cut = Sets(real, fake, Images(marks[:20], marks, marks), resamples, 5).of_equal_sizes()
    rows = cut.images.fake[:, 0, 0, 0].long()
    assert len(rows) == 20
    assert torch.equal(cut.fake.vectors, fake.vectors[rows])
    assert torch.equal(cut.resamples.fake[0].long(), rows)
    assert torch.equal(cut.images.real, marks[:20])
    assert len(cut.images.originals) == 30
    assert cut.seed == 5
    assert cut.of_equal_sizes() is cut


GOOD_AND_BAD_IMAGES = {
    "creativity": (noise(40, 1), noise(40, 0)),  # copies
    "inheritance": (noise(40, 1), noise(40, 1, spread=64)),  # another contrast
    "diversity": (noise(40, 1), noise(40, 1)[:1].expand(40, 1, 16, 16)),  # the same again
    "power_spectrum": (noise(40, 1), noise(40, 1, spread=64)),
}


@pytest.mark.parametrize("name", metric_names())
def test_better_is_where_better_images_are(name):
    known = all_metrics()[name]
    good, bad = (_value(name, is_good) for is_good in (True, False))
    if known.better == "lower":
        assert good < bad
    elif known.better == "higher":
        assert good > bad
    else:
        assert abs(good - known.better) < abs(bad - known.better)


def _value(name: str, is_good: bool) -> float:
    real = features(200, 0)
    fake = features(200, 1, 0.0 if is_good else 1.0)
    if name == "memorisation":
        copied = fake.vectors if is_good else real.vectors
        return memorization(real.vectors, copied, features(200, 2).vectors).share.value
    if name == "inception_score" and not is_good:
        fake = Features(fake.vectors, torch.full((200, 3), 1 / 3))  # nothing is told apart
    if name in GOOD_AND_BAD_IMAGES:
        drawn = GOOD_AND_BAD_IMAGES[name][0 if is_good else 1]
        sets = Sets(real[:40], fake[:40], images(noise(40, 0), drawn))
        return all_metrics()[name].compute(sets).value
    if name == "authenticity" and not is_good:
        fake = real  # copies
    if name == "vendi" and not is_good:
        fake = fake[torch.zeros(200, dtype=torch.int64)]  # the same again
    columns = (0, 1, 2) if is_good else (2, 0, 1)
    return all_metrics()[name].compute(Sets(real, fake, asked=asked(fake, columns))).value


@pytest.mark.parametrize("name", comparable_metrics())
def test_the_details_of_a_record_are_there(name):
    fake = features(60, 1)
    of_both = images(noise(60, 0), noise(60, 1))
    sets = Sets(features(60, 0), fake, of_both, asked=asked(fake))
    found = all_metrics()[name].compute(sets)
    for detail in all_metrics()[name].details:
        assert isinstance(found.details[detail.key], float), detail.key


def test_what_two_metrics_share_is_computed_once(monkeypatch):
    original, calls = precision_recall.precision_recall, []

    def counted(*vectors, **options):
        calls.append([len(each) for each in vectors])
        return original(*vectors, **options)

    monkeypatch.setattr(precision_recall, "precision_recall", counted)
    compare(features(20, 0), features(30, 1), metrics=("precision", "recall"))
    assert calls == [[20, 20]]


# ---------------------------------------------------------------------------------- registering


@pytest.fixture
def registered(monkeypatch):
    """The metrics that are known, to which a test may add."""
    all_metrics()
    known = dict(metric._registered)
    monkeypatch.setattr(metric, "_registered", known)
    return known


def made(name: str = "made", **changes: object) -> Metric:
    settings = {
        "title": "Made", "better": "lower", "takes": "features",
        "function": lambda sets: Estimate(float(len(sets.real)), len(sets.real), len(sets.fake)),
    }  # fmt: skip
    return Metric(name, **{**settings, **changes})


def test_a_metric_without_a_place_comes_last_and_is_compared(registered):
    register(made("zero"))
    register(made())
    assert metric_names() == (*ORDER, "made", "zero")
    found = compare(features(9, 0), features(5, 1))
    assert found.estimates["made"].value == 9
    assert list(found.estimates)[-2:] == ["made", "zero"]


def test_a_file_that_is_loaded_again_takes_the_place_of_its_record(registered):
    register(made(title="Old"))
    register(made(title="New"))
    assert all_metrics()["made"].title == "New"


def test_the_example_of_the_docs(registered):
    """docs/metrics.md shows a whole file, which is to work as it stands there."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    (example,) = re.findall(r"^```python\n(# cxrgan_fast/metrics/.*?)^```", text, re.M | re.S)
    exec(example, {"__name__": "an_example"})
    assert "mean_gray" in quick_metrics()
    gray = torch.full((9, 1, 4, 4), 3, dtype=torch.uint8), torch.full((5, 1, 4, 4), 10).byte()
    found = compare(features(9, 0), features(5, 1), images=images(*gray)).estimates["mean_gray"]
    assert (found.value, found.n_real, found.n_fake) == (7, 9, 5)


def test_a_name_that_is_taken_or_can_be_none_is_refused(registered):
    taken = r"^name: 'fid', of a metric of .*test_metric, is that of one of cxrgan_fast\.metrics\.f"
    with pytest.raises(ValueError, match=taken):
        register(made("fid"))
    with pytest.raises(ValueError, match=r"'memorisation', .* of the package already"):
        register(made("memorisation"))
    for name in ("", "1nn", "a b", "a/b", "FID"):
        with pytest.raises(ValueError, match=f"expected lower-case letters.*got '{name}'"):
            register(made(name))
    with pytest.raises(ValueError, match=r"better: expected lower, higher or .* made, got 'low'"):
        register(made(better="low"))
    with pytest.raises(ValueError, match=r"takes: expected features, images, .* made, got 'image'"):
        register(made(takes="image"))
    with pytest.raises(ValueError, match="quick: expected a function of made, got None"):
        register(made(function=None, quick=True))
    assert set(registered) == set(ORDER)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_comes_to_no_number_is_left_out_with_that_reason(registered, value):
    register(made(function=lambda sets: Estimate(value, 1, 1)))
    found = compare(features(9, 0), features(5, 1), metrics=("made",))
    assert found.estimates == {}
    assert found.omitted == {"made": f"Made: of these images it comes to {value}, no number"}


def test_a_file_that_cannot_be_imported_is_not_passed_over(monkeypatch, tmp_path):
    (tmp_path / "half_a_metric.py").write_text("import not_installed_anywhere\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    metric._import_the_folder.cache_clear()
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
            metric_names()
    monkeypatch.undo()
    assert metric_names() == ORDER


def test_every_file_that_computes_a_metric_registers_it():
    """One that somebody forgets to register would be missed by nobody."""
    folder = Path(package.__file__).parent
    of_file = {known.function.__module__ for known in all_metrics().values() if known.function}
    computing = {
        f"{package.__name__}.{file.stem}"
        for file in folder.glob("*.py")
        if "-> Estimate:" in file.read_text() and file.stem != "metric"
    }
    assert len(computing) > 5
    assert computing <= of_file
    assert of_file <= set(sys.modules)


def test_directions_in_words():
    assert [direction(better) for better in ("lower", "higher", 0.5)] == [
        "lower", "higher", "near 0.5",
    ]  # fmt: skip
