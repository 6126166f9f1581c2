"""``train --init-from``: what is taken over, what is not, and what is said of it."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint, save_checkpoint
from cxrgan_fast.settings.config import override
from cxrgan_fast.training.initial import read_initial, take_over, transfer
from evaluations import read

SMALL = ["--device", "cpu", "--precision", "fp32", "--base-channels", 8, "--latent-size", 8,
         "--batch-size", 4, "--phantom-images", 40, "--threads", 1]  # fmt: skip
AT_32 = [*SMALL, "--resolution", 32]
FROZEN = ["--g-lr", 0, "--d-lr", 0]
NETWORK = NetworkConfig(resolution=32, base_channels=8, latent_size=8)


@pytest.fixture
def source(train, tmp_path) -> Path:
    """A run of two steps that move its weights far."""
    code, _, err = train(
        *AT_32, "--steps", 2, "--g-lr", 0.1, "--d-lr", 0.1, "--out", tmp_path / "source"
    )
    assert code == 0, err
    return only_run(tmp_path / "source")


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def training(run: Path) -> dict[str, dict[str, Tensor]]:
    state = load_newest_checkpoint(run, torch.device("cpu")).state["training"]
    assert isinstance(state, dict)
    return state


def parameters(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    build = build_discriminator if name == "discriminator" else build_generator
    return {name: state[name] for name, _ in build(NETWORK, 2).named_parameters()}


def call(run: Path) -> dict:
    return json.loads((run / "calls.jsonl").read_text().splitlines()[-1])


# ------------------------------------------------------------------------------ by the command


def test_a_training_begins_with_all_weights_of_a_run(train, source, tmp_path):
    options = [*AT_32, *FROZEN, "--init-from", source, "--out", tmp_path / "runs", "--seed", 5]
    code, out, err = train(*options, "--steps", 1)
    assert code == 0, err
    run = only_run(tmp_path / "runs")
    before, after = training(source), training(run)
    for name in ("generator", "discriminator"):
        expected = parameters(name, before[name])
        for key, tensor in parameters(name, after[name]).items():
            assert torch.equal(tensor, expected[key]), (name, key)
    # The average goes on from the other's: no more than a step away, and the weights differ.
    of_weights, of_average = (parameters("generator", before[n]) for n in ("generator", "ema"))
    found = parameters("generator", after["ema"])
    for key, tensor in found.items():
        low = torch.minimum(of_weights[key], of_average[key]) - 1e-6
        high = torch.maximum(of_weights[key], of_average[key]) + 1e-6
        assert ((low <= tensor) & (tensor <= high)).all(), key
    assert after["step"] == 1
    path = source / "checkpoints" / "step-00000002.pt"
    assert f"begins with the weights of {path} (step 2)" in out
    assert "classes: normal, bacterial\n" in out
    said = call(run)["init_from"]
    assert said["path"] == str(path)
    assert len(said["sha256"]) == 64
    assert said["step"] == 2
    assert said["discriminator_left"] == said["generator_left"] == said["ema_left"] == []
    assert said["generator_taken"] == len(before["generator"])


def test_a_resumed_run_does_not_read_it_again_and_evaluate_says_it(
    train, fails, evaluate, source, tmp_path
):
    options = [*AT_32, "--init-from", source, "--out", tmp_path / "runs"]
    assert train(*options, "--steps", 1)[0] == 0
    run = only_run(tmp_path / "runs")
    assert "a resumed run keeps its settings" in fails(
        "--resume", run, "--steps", 2, "--init-from", tmp_path
    )
    name = source.name
    shutil.rmtree(source)
    code, out, err = train("--resume", run, "--steps", 2)
    assert code == 0, err
    assert "begins with" not in out
    assert "init_from" not in call(run)
    code, _, err = evaluate(run, "--features", "pixels", "--metrics", "fid", "--samples", 20)
    assert code == 0, err
    (note,) = [note for note in read(run / "evaluation")["notes"] if "began with" in note]
    assert name in note


def test_a_generator_file_gives_the_generator_and_its_average(train, source, tmp_path):
    file = source / "generator.safetensors"
    options = [*AT_32, *FROZEN, "--init-from", file, "--out", tmp_path / "runs"]
    code, out, err = train(*options, "--steps", 1)
    assert code == 0, err
    assert "discriminator: random weights; the file holds a generator only" in out
    after, weights = training(only_run(tmp_path / "runs")), safetensors.torch.load_file(file)
    for key, tensor in parameters("generator", after["generator"]).items():
        assert torch.equal(tensor, weights[key]), key
        torch.testing.assert_close(after["ema"][key], weights[key])
    other = parameters("discriminator", training(source)["discriminator"])
    found = parameters("discriminator", after["discriminator"])
    assert not all(torch.equal(found[key], tensor) for key, tensor in other.items())


def test_another_resolution_takes_what_has_its_shape_and_says_what_has_not(train, source, tmp_path):
    options = [*SMALL, *FROZEN, "--resolution", 64, "--init-from", source, "--steps", 1]
    code, out, err = train(*options, "--out", tmp_path / "runs")
    assert code == 0, err
    run = only_run(tmp_path / "runs")
    said = call(run)["init_from"]
    assert said["generator_taken"] > 0
    assert said["generator_left"]
    (line,) = [line for line in out.splitlines() if line.startswith("  generator: ")]
    assert f"{said['generator_taken']} of " in line
    assert said["generator_left"][0] in line
    assert "which begin at random" in line


@pytest.mark.parametrize("wanted", [["--resume", "last"], []])
def test_a_gan_of_each_class_begins_with_it(train, source, tmp_path, wanted):
    out = tmp_path / "runs"
    options = [*AT_32, *FROZEN, "--init-from", source, "--out", out, "--per-class"]
    code, said, err = train(*options, "--steps", 1)
    assert code == 0, err
    assert said.count("begins with the weights of") == 2
    run = only_run(out)
    if wanted:  # stopped before its second class began
        shutil.rmtree(run / "bacterial")
        code, said, err = train("--resume", run)
        assert code == 0, err
        assert said.count("begins with the weights of") == 1
    table = next(n for n, t in training(source)["generator"].items() if n.endswith("weight")
                 and t.dim() == 2 and len(t) == 2)  # fmt: skip
    for label, name in enumerate(("normal", "bacterial")):
        expected = training(source)["generator"][table][label]
        assert torch.equal(training(run / name)["generator"][table][0], expected)


def test_what_cannot_begin_with_it(train, fails, source, tmp_path):
    out = ["--out", tmp_path / "runs", "--steps", 1]
    line = fails(*AT_32, *out, "--family", "dcgan", "--init-from", source)
    assert f"--init-from {source}: its networks are of --family resnet, got --family dcgan" in line
    gone = tmp_path / "gone"
    assert f"--init-from: {gone}: there is no such run" in fails(*AT_32, *out, "--init-from", gone)
    other = [*SMALL, "--resolution", 32]
    other[other.index("--base-channels") + 1], other[other.index("--latent-size") + 1] = 16, 3
    line = fails(*other, *out, "--init-from", source)
    assert "no weight of its generator has the shape that these settings ask for" in line
    (source / "checkpoints" / "step-00000002.pt").write_bytes(b"cut off")
    line = fails(*AT_32, *out, "--init-from", source)
    assert f"cannot begin with {source}" in line
    assert not (tmp_path / "runs").exists()


def without_steps(state):
    del state["training"]["step"]


def no_training(state):
    state["training"] = "none"


def sparse_weights(state):
    name, tensor = next(iter(state["training"]["generator"].items()))
    state["training"]["generator"][name] = tensor.to_sparse()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_steps, "does not say how many steps its weights have seen"),
        (no_training, "does not hold the weights of a generator"),
        (sparse_weights, "does not hold the weights of a generator"),
    ],
)
def test_a_checkpoint_that_another_program_has_made(fails, source, tmp_path, damage, words):
    path = source / "checkpoints" / "step-00000002.pt"
    state = torch.load(path, weights_only=True)
    damage(state)
    save_checkpoint(source, 2, state)
    line = fails(*AT_32, "--out", tmp_path / "runs", "--steps", 1, "--init-from", source)
    assert words in line
    assert path.name in line
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_all_classes_is_refused(train, fails, tmp_path):
    out = tmp_path / "source"
    assert train(*AT_32, "--steps", 1, "--per-class", "--out", out)[0] == 0
    run = only_run(out)
    line = fails(*AT_32, "--steps", 1, "--init-from", run, "--out", tmp_path / "runs")
    assert "it holds a GAN of each class; name the folder of one, such as" in line
    code, said, err = train(
        *AT_32, "--steps", 1, "--init-from", run / "normal", "--out", tmp_path / "runs"
    )
    assert code == 0, err
    assert "classes: normal; bacterial begins as the mean of normal" in said


# ------------------------------------------------------------------------------- tensor by tensor


def test_rows_of_classes_go_by_name_and_new_ones_begin_as_the_mean():
    theirs = build_generator(NETWORK, 3)
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.copy_(torch.randn_like(tensor))
    ours = build_generator(NETWORK, 2)
    done = transfer(ours, ("new", "a"), theirs.state_dict(), ("a", "b", "c"))
    assert not done.left
    tables = 0
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if mine.shape == other.shape:
            assert torch.equal(mine, other), name
        else:
            assert torch.equal(mine[1], other[0]), name
            torch.testing.assert_close(mine[0], other.mean(0))
            tables += 1
    assert tables > 0


def test_as_many_classes_by_other_names_are_not_taken_for_each_other():
    theirs, ours = (build_discriminator(NETWORK, 2) for _ in range(2))
    transfer(ours, ("b", "a"), theirs.state_dict(), ("a", "b"))
    name = next(n for n, p in ours.named_parameters() if "embedding" in n)
    assert torch.equal(ours.state_dict()[name], theirs.state_dict()[name].flip(0))


def test_nothing_is_computed_on_the_meta_device(source):
    with torch.device("meta"):
        networks = {"generator": build_generator(NETWORK, 2)}
    done = take_over(networks, ("normal", "bacterial"), read_initial(source, "resnet"))
    assert not done["generator"].left
    assert all(tensor.is_meta for tensor in networks["generator"].state_dict().values())


@pytest.mark.parametrize("family", ["resnet", "dcgan"])
def test_rows_of_the_latent_stay_where_the_classes_change_places(family):
    config = override(
        NetworkConfig(resolution=32, base_channels=8, latent_size=16),
        {"family": family, "latent_chunks": True},
    )
    theirs, ours = build_generator(config, 2), build_generator(config, 2)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.2)
    done = transfer(ours, ["b", "a"], theirs.state_dict(), ["a", "b"])
    assert not done.left
    latents, labels = torch.randn(4, 16), torch.tensor([0, 1, 0, 1])
    images = theirs(
        latents, labels
    )  # of tables with the rows of classes elsewhere, to the rounding
    torch.testing.assert_close(ours(latents, 1 - labels), images, rtol=0, atol=1e-4)
    assert (ours(latents, labels) - images).abs().max() > 0.1
