"""By what a generator was chosen is said beside what judges it."""

import pytest

from cxrgan_fast.evaluation.chosen import chosen_and_judged
from cxrgan_fast.metrics.cxr import Cxr
from cxrgan_fast.metrics.inception import Inception
from cxrgan_fast.metrics.pixels import Pixels
from cxrgan_fast.runs.generator_file import load_generator


def test_the_same_features_flatter_and_others_do_not() -> None:
    chosen = {"features": "cxr-256", "features_family": "cxr", "networks_seen": ""}
    record, notes = chosen_and_judged([chosen], [Pixels()])
    assert notes == ["chosen by cxr-256, judged by pixels"]
    assert record == {
        "chosen_by": ["cxr-256"],
        "networks_seen": [],
        "judged_by": {"name": "pixels", "family": "pixels"},
        "second_opinions_by": [],
    }
    said, warned = chosen_and_judged([chosen], [Cxr()])[1]
    assert said == "chosen by cxr-256, judged by cxr"
    assert "family cxr, which flatters" in warned
    # Files of earlier versions name the features only.
    assert len(chosen_and_judged([{"features": "pixels-1024"}], [Pixels()])[1]) == 2


def test_a_second_opinion_by_what_chose_is_flattered_too() -> None:
    chosen = {"features": "cxr-256", "features_family": "cxr", "networks_seen": ""}
    record, (said, warned) = chosen_and_judged([chosen], [Pixels(), Cxr()])
    assert record["second_opinions_by"] == [{"name": "cxr", "family": "cxr"}]
    assert said == "chosen by cxr-256, judged by pixels"
    assert "family cxr, which flatters" in warned


def test_a_network_of_the_training_makes_its_figures_void() -> None:
    seen = {"networks_seen": "imagenet,cxr"}
    (warned,) = chosen_and_judged([seen], [Cxr()])[1]
    assert "the discriminator was built on a network of the family cxr" in warned
    assert chosen_and_judged([seen], [Pixels()])[1] == []
    assert chosen_and_judged([{}], [Cxr()]) == (
        {
            "chosen_by": [],
            "networks_seen": [],
            "judged_by": {"name": "cxr", "family": "cxr"},
            "second_opinions_by": [],
        },
        [],
    )
    assert Inception.family == "imagenet"


@pytest.mark.parametrize("judge", ["pixels", "cxr"])
def test_the_best_of_a_run_says_what_chose_it(train, evaluate, tmp_path, judge):
    options = ["--device", "cpu", "--precision", "fp32", "--resolution", 32, "--base-channels", 8,
               "--latent-size", 8, "--batch-size", 4, "--phantom-images", 12]  # fmt: skip
    code, _, err = train(
        *options, "--steps", 1, "--eval-every", 1, "--eval-samples", 8, "--features", "pixels",
        "--out", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    (run,) = tmp_path.iterdir()
    extra = load_generator(run / "best_generator.safetensors").extra
    assert (extra["features"], extra["features_family"]) == ("pixels-1024", "pixels")
    assert extra["networks_seen"] == ""
    compared = ["--metrics", "fid", "--samples", 8, "--features", judge]
    code, out, err = evaluate(run, "--checkpoint", "best", *compared)
    assert code == 0, err
    assert f"chosen by pixels-1024, judged by {judge}" in out
    assert ("which flatters" in out) == (judge == "pixels")
    code, out, err = evaluate(run, *compared)
    assert code == 0, err
    assert "chosen by" not in out  # the last one is not the best of any
