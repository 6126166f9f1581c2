"""Metrics by name: each as its own function gives it, or left out with a reason."""

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import Features, Resamples
from cxrgan_fast.metrics.comparison import comparable_metrics, compare
from cxrgan_fast.metrics.creativity import creativity_inheritance_diversity
from cxrgan_fast.metrics.fid import fid
from cxrgan_fast.metrics.kid import kid
from cxrgan_fast.metrics.metric import Asked, Images, all_metrics
from cxrgan_fast.metrics.nearest_neighbor import nearest_neighbor_accuracy
from cxrgan_fast.metrics.precision_recall import precision_recall
from cxrgan_fast.metrics.strata import Grouping, Strata

N, M, D = 60, 90, 6
FEATURE_METRICS = tuple(
    name for name in comparable_metrics() if all_metrics()[name].takes != "images"
)

OF_A_CLASSIFIER = ("inception_score", "class_agreement")


@pytest.fixture
def sets() -> tuple[Features, Features]:
    rng = torch.Generator().manual_seed(0)
    sets = []
    for n, shift in ((N, 0.0), (M, 0.5)):
        vectors = torch.randn(n, D, generator=rng) + shift
        sets.append(Features(vectors, vectors[:, :3].softmax(1)))
    return sets[0], sets[1]


def test_all_metrics_in_their_order_with_standard_errors(sets):
    asked = Asked(torch.arange(M) % 3, ((0,), (1,), (2,)))
    resamples = Resamples.draw(N, M, count=20)
    found = compare(*sets, metrics=FEATURE_METRICS[::-1], resamples=resamples, asked=asked)
    assert tuple(found.estimates) == FEATURE_METRICS
    assert found.omitted == {}
    for name, estimate in found.estimates.items():
        assert estimate.standard_error is not None, name
        assert estimate.standard_error > 0, name


def test_each_is_what_its_function_gives(sets):
    found = compare(*sets, metrics=("kid", "fid"), seed=3).estimates
    assert list(found) == ["fid", "kid"]
    vectors = sets[0].vectors, sets[1].vectors
    assert found["fid"] == fid(*vectors)
    assert found["kid"] == kid(*vectors, seed=3)


def test_neighbors_are_of_sets_of_one_size(sets):
    names = ("precision", "recall", "nearest_neighbour")
    found = compare(*sets, metrics=names).estimates
    assert {(e.n_real, e.n_fake) for e in found.values()} == {(N, N)}
    turned = compare(*sets[::-1], metrics=names).estimates
    assert {(e.n_real, e.n_fake) for e in turned.values()} == {(N, N)}
    # The same part of the larger set, so that precision and recall change places.
    assert turned["precision"].value == found["recall"].value
    assert turned["recall"].value == found["precision"].value
    equal = sets[0], sets[1][:N]
    vectors = equal[0].vectors, equal[1].vectors
    found = compare(*equal, metrics=names, seed=7).estimates
    assert (found["precision"], found["recall"]) == precision_recall(*vectors)
    assert found["nearest_neighbour"] == nearest_neighbor_accuracy(*vectors, seed=7)


def test_the_part_depends_on_the_seed_and_takes_its_own_resamples(sets):
    values = {
        compare(*sets, metrics=("nearest_neighbour",), seed=seed)
        .estimates["nearest_neighbour"]
        .value
        for seed in range(5)
    }
    assert len(values) > 1
    ones = Resamples(torch.ones(2, N).double(), torch.ones(2, M).double())
    found = compare(*sets, metrics=("precision", "recall"), resamples=ones).estimates
    assert found["precision"].standard_error == pytest.approx(0, abs=1e-12)


def test_one_of_two_that_come_together(sets):
    assert list(compare(*sets, metrics=("recall",)).estimates) == ["recall"]


def test_what_cannot_be_computed_is_left_out_with_its_reason(sets):
    real, fake = sets
    found = compare(real, Features(fake.vectors))
    why = "these features come from no classifier"
    assert found.omitted == dict.fromkeys(OF_A_CLASSIFIER, why)
    assert set(found.estimates) == set(FEATURE_METRICS) - set(OF_A_CLASSIFIER)
    few = compare(real, fake[:1])
    assert "fid" in few.omitted
    assert "1 generated" in few.omitted["fid"]
    assert not set(few.estimates) & set(few.omitted)
    assert set(few.estimates) | set(few.omitted) == set(FEATURE_METRICS)


def test_an_unknown_metric_is_named(sets):
    with pytest.raises(UserError, match=r"^--metrics fidd: expected fid, .*; did you mean 'fid'"):
        compare(*sets, metrics=("fidd",))
    with pytest.raises(UserError, match=r"^--metrics memorisation: expected fid, "):
        compare(*sets, metrics=("memorisation",))  # no comparison of two sets


def test_metrics_of_images_are_computed_where_the_images_are(sets):
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(256, (n, 1, 16, 16), generator=rng).to(torch.uint8) for n in (N, M))
    names = ("creativity", "inheritance", "diversity")
    of_images = {name for name in comparable_metrics() if all_metrics()[name].takes == "images"}
    assert of_images == {*names, "power_spectrum"}
    found = compare(*sets, metrics=names)
    why = "it is computed of images, and only their features are at hand"
    assert found.omitted == dict.fromkeys(names, why)
    resamples = Resamples.draw(N, M, count=5)
    images = Images(real, fake, originals=real[:7])
    found = compare(*sets, metrics=names, images=images, resamples=resamples).estimates
    cid = creativity_inheritance_diversity(real, fake, originals=real[:7], resamples=resamples)
    assert found == {name: getattr(cid, name) for name in names}
    whole = compare(*sets, images=images)
    assert {*whole.estimates, *whole.omitted} == {*FEATURE_METRICS, *of_images}
    assert set(whole.omitted) == {"class_agreement"}  # nobody says what was asked


@pytest.mark.parametrize("metric", [m for m in FEATURE_METRICS if m not in OF_A_CLASSIFIER])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_give_no_number(sets, metric, value):
    real, fake = sets[0], sets[1][:N]
    fake.vectors[3, 2] = value
    found = compare(real, fake, metrics=(metric,))
    assert found.estimates == {}
    assert "the features of 1 of 60 generated images are not finite" in found.omitted[metric]


def test_values_alone_are_the_same_without_what_takes_time(sets):
    """With strata and equal sizes, as the divisions of a floor are compared."""
    real, fake = sets[0], sets[1][torch.arange(N)]
    asked = Asked(torch.arange(N) % 3, ((0,), (1,), (2,)))
    patients = torch.arange(N) // 2
    strata = Strata(Grouping.of(N, patients=patients), Grouping.of(N, patients=patients))
    given = {"metrics": FEATURE_METRICS, "strata": strata, "asked": asked}
    whole, values = (compare(real, fake, values_only=only, **given) for only in (False, True))
    assert values.omitted == whole.omitted == {}
    for name, estimate in values.estimates.items():
        other = whole.estimates[name]
        assert estimate.value == pytest.approx(other.value, rel=1e-12, abs=1e-12), name
        for detail in all_metrics()[name].details:
            if detail.better is not None:
                assert estimate.details[detail.key] == other.details[detail.key], name
    for name, left_out in (("kid", "subset_mean"), ("nearest_neighbour", "p_value")):
        assert left_out in whole.estimates[name].details
        assert left_out not in values.estimates[name].details
