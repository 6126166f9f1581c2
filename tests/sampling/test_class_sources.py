"""What a user may name as a run, and what is said of anything else."""

import json
import math
from unittest.mock import create_autospec

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import best_generator_path, generator_path
from cxrgan_fast.runs.generators import find_generators
from cxrgan_fast.sampling import class_sources
from cxrgan_fast.sampling.class_sources import load_sources
from cxrgan_fast.sampling.generation import generate_images
from cxrgan_fast.sampling.latents import latents_for
from cxrgan_fast.sampling.standing_statistics import measure_statistics


def names_and_labels(sources):
    return [(source.class_name, source.label) for source in sources]


def test_a_conditional_run_generates_all_its_classes_with_one_network(make_run):
    run = make_run()
    normal, bacterial = load_sources(run)
    assert names_and_labels([normal, bacterial]) == [("normal", 0), ("bacterial", 1)]
    assert normal.snapshot is bacterial.snapshot
    assert normal.snapshot.step == 20
    assert normal.checkpoint == "00000-phantom-32-resnet/generator.safetensors@20"


def test_a_per_class_run_has_a_network_for_each_class(make_run):
    run = make_run("run", steps=()).parent / "run"
    make_run("run/normal", ["normal"])
    make_run("run/bacterial", ["bacterial"])
    bacterial, normal = load_sources(run)
    assert names_and_labels([bacterial, normal]) == [("bacterial", 0), ("normal", 0)]
    assert bacterial.snapshot is not normal.snapshot
    assert normal.checkpoint == "run/normal/generator.safetensors@20"
    (earlier,) = load_sources(run, "10", ["normal"])
    assert earlier.snapshot.step == 10
    assert earlier.checkpoint == "run/normal/checkpoints/generator-00000010.safetensors@10"


def test_classes_can_be_chosen_and_keep_their_labels(make_run):
    run = make_run(class_names=["normal", "bacterial", "viral"])
    chosen = load_sources(run, None, ["viral", "normal", "viral"])
    assert names_and_labels(chosen) == [("viral", 2), ("normal", 0)]


def test_a_file_is_a_run_and_a_checkpoint_too(make_run, tmp_path):
    run = make_run()
    shared = tmp_path / "shared.safetensors"
    shared.write_bytes(generator_path(run, 10).read_bytes())
    for sources in (load_sources(shared), load_sources(run, str(shared))):
        assert sources[0].snapshot.step == 10
        assert sources[0].checkpoint == "shared.safetensors@10"


def test_the_manifest_does_not_show_where_the_run_lies(make_run, monkeypatch):
    run = make_run()
    elsewhere = load_sources(run)[0].checkpoint
    monkeypatch.chdir(run)
    assert load_sources(type(run)("."))[0].checkpoint == elsewhere


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/00000-phantom-32-resnt", "no such run; did you mean '00000-phantom-32-resnet'"),
        ("runs/zzz", "no such run$"),
        ("nowhere/at/all", "no such run$"),
    ],
)
def test_a_missing_run_is_named_with_the_nearest(make_run, tmp_path, name, message):
    make_run()
    with pytest.raises(UserError, match=rf"^{tmp_path / name}: there is {message}"):
        find_generators(tmp_path / name)


def test_a_run_without_a_generator_says_when_there_will_be_one(make_run):
    run = make_run(steps=())
    with pytest.raises(UserError, match=rf"^{run} has no generator yet: the first comes with"):
        find_generators(run)


def test_a_per_class_run_that_has_not_come_to_all_classes_is_refused(make_run):
    part = make_run("runs/00000-x/normal", class_names=("normal",))
    record = {"name": "x", "fingerprint": "0", "images": {"normal": 4, "bacterial": 4}}
    (part.parent / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"has no generator of bacterial yet: go on with .*--resume"
    ):
        load_sources(part.parent)
    assert [source.class_name for source in load_sources(part)] == ["normal"]


def test_the_folder_of_all_runs_is_not_taken_for_a_per_class_run(make_run, tmp_path):
    make_run("runs/00000-a")
    make_run("runs/00001-b")
    with pytest.raises(UserError, match=r"holds several runs that generate normal: .*runs/00001-b"):
        load_sources(tmp_path / "runs")


def test_the_best_is_the_one_of_the_evaluations(make_run):
    run = make_run()
    message = rf"^--checkpoint best: {run} has not been evaluated; train it with --eval-every"
    with pytest.raises(UserError, match=message):
        find_generators(run, "best")
    best_generator_path(run).write_bytes(generator_path(run, 10).read_bytes())
    normal, _ = load_sources(run, "best")
    assert normal.snapshot.step == 10
    assert normal.checkpoint == "00000-phantom-32-resnet/best_generator.safetensors@10"


def test_a_per_class_run_has_a_best_for_each_class_or_none(make_run):
    run = make_run("run/normal", ["normal"]).parent
    make_run("run/bacterial", ["bacterial"])
    best_generator_path(run / "normal").write_bytes(generator_path(run / "normal", 10).read_bytes())
    with pytest.raises(UserError, match=rf"^--checkpoint best: {run / 'bacterial'} has not been"):
        find_generators(run, "best")
    assert find_generators(run / "normal", "best") == [best_generator_path(run / "normal")]


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("15", "has kept the generators of steps 10, 20"),
        ("newest", "expected a step, best, or a .safetensors file"),
        ("-1", "expected a step, best, or a .safetensors file"),
        ("", "expected a step, best, or a .safetensors file"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named(make_run, checkpoint, message):
    with pytest.raises(UserError, match=rf"^--checkpoint {checkpoint}: .*{message}"):
        find_generators(make_run(), checkpoint)


def test_a_file_has_no_checkpoints(make_run):
    with pytest.raises(UserError, match=r"--checkpoint 10: .* is a file; name its run folder"):
        find_generators(make_run() / "generator.safetensors", "10")


def test_an_unknown_class_is_named_with_the_nearest(make_run):
    run = make_run()
    message = (
        rf"^--classes bactrial: {run} generates normal, bacterial; did you mean 'bacterial'\?$"
    )
    with pytest.raises(UserError, match=message):
        load_sources(run, None, ["bactrial"])
    with pytest.raises(UserError, match=r"^--classes xyz: .* generates normal, bacterial$"):
        load_sources(run, None, ["xyz"])


def test_a_damaged_generator_is_named(make_run):
    path = make_run() / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=rf"^{path} is damaged"):
        load_sources(path.parent)


def test_the_generators_go_to_the_device(make_run):
    (source, _) = load_sources(make_run(), device=torch.device("meta"))
    assert next(source.snapshot.generator.parameters()).device.type == "meta"


def test_a_truncated_source_has_statistics_of_its_latents_and_stays_so(make_run, monkeypatch):
    double = create_autospec(measure_statistics, side_effect=measure_statistics)
    monkeypatch.setattr(class_sources, "measure_statistics", double)
    run = make_run()
    sources = load_sources(run, truncation=0.3)
    assert double.call_count == 1  # of the generator that both classes share
    (_, latents) = double.call_args.args
    assert latents.abs().max() <= 0.3
    assert [source.truncation for source in sources] == [0.3, 0.3]
    drawn = sources[0].latents(4, range(3, 20))
    assert torch.equal(drawn, latents_for(4, "normal", range(3, 20), 8, 0.3))
    labels = torch.zeros(17, dtype=torch.int64)
    images = generate_images(sources[0], drawn, labels)
    sources[1].latents(0, range(2))
    assert torch.equal(generate_images(sources[0], drawn, labels), images)
    # Loaded without, they are those of the training, whatever was loaded before.
    whole = load_sources(run)[0]
    assert whole.latents(4, range(3)).abs().max() > 0.3
    assert double.call_count == 1
    assert not torch.equal(generate_images(whole, drawn, labels), images)


@pytest.mark.parametrize("truncation", [0.0, -1.0, 0.001, math.nan, math.inf])
def test_a_truncation_that_cannot_be_drawn_is_refused_before_loading(truncation, tmp_path):
    with pytest.raises(UserError, match=r"^generate --truncation .*: expected standard deviations"):
        load_sources(tmp_path / "no run", truncation=truncation)
