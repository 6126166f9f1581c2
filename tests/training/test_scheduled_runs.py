"""Schedules in a training: what a step does by them, and runs that end by steps or by time."""

import json
from pathlib import Path

import pytest
import torch

from cxrgan_fast.data import ImageDataset
from cxrgan_fast.runs.checkpoint import checkpoint_path
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.run import Run
from cxrgan_fast.training.scheduled_adam import ScheduledAdam
from cxrgan_fast.training.step import TrainingStep

CPU = torch.device("cpu")
SMALL = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
         "precision": "fp32", "phantom_images": 12}  # fmt: skip
PHANTOM = ["--device", "cpu", "--threads", "1", "--log-every", "1"]
PHANTOM += [word for name, value in SMALL.items()
            for word in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (12, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(12)]
    labels = torch.arange(12) % 2
    return ImageDataset(images.to(torch.uint8), labels, ("a", "b"), names, names, "made")


def step_with(dataset: ImageDataset, **settings: object) -> TrainingStep:
    return TrainingStep(override(TrainConfig(), {**SMALL, **settings}), dataset, CPU)


def weights(step: TrainingStep) -> list[torch.Tensor]:
    modules = (*step.networks.values(), step.ema.module)
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def logged(run: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("r1_gamma", Schedule(40, 8)),
        ("ema_half_life", Schedule(4, 40)),
        ("noise_std", Schedule(0.1, 0.9)),
        ("g_lr", Schedule(1e-3, 9e-3)),
        ("d_lr", Schedule(1e-3, 9e-3)),
    ],
)
def test_a_step_does_at_a_share_what_a_constant_of_that_value_does(dataset, name, schedule):
    common = {"r1_interval": 1, "ema_ramp": 0.0, "steps": 8}
    scheduled = step_with(dataset, **common, **{name: schedule})
    for _ in range(2):
        scheduled()
    at_a_quarter = schedule.start + (schedule.end - schedule.start) / 4
    constants = [
        step_with(dataset, **common, **{name: value}) for value in (at_a_quarter, schedule.start)
    ]
    for constant in constants:
        constant.load_state_dict(scheduled.state_dict())
    for step in (scheduled, *constants):
        step()
    for a, b in zip(*map(weights, (scheduled, constants[0])), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    others = zip(*map(weights, (scheduled, constants[1])), strict=True)
    assert not all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in others)


@pytest.mark.first_tier(2)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_follows_its_learning_rate(dataset, optimizer):
    settings = {"optimizer": optimizer, "loss": "hinge", "steps": 4, "r1_gamma": 0.0}
    rate = Schedule(1e-4, 0, share=0.5)
    scheduled = step_with(dataset, **settings, g_lr=rate, d_lr=0.0)
    constant = step_with(dataset, **settings, g_lr=1e-4, d_lr=0.0)
    for step in (scheduled, constant):
        step()
    for a, b in zip(*map(weights, (scheduled, constant)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    scheduled()
    generator = list(scheduled.networks["generator"].parameters())
    before = [parameter.detach().clone() for parameter in generator]
    for _ in range(2):  # the rate has come to 0
        scheduled()
    assert all(torch.equal(a, b) for a, b in zip(before, generator, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_both_optimizers_follow_the_second_moments_rate(dataset, optimizer):
    step = step_with(dataset, optimizer=optimizer, beta2=Schedule(0.5, 0.9), steps=4)
    for share in (0, 0.25, 0.5):
        step()
        for each in step.optimizers.values():
            assert isinstance(each, ScheduledAdam)
            assert each.param_groups[0]["beta2"].item() == pytest.approx(0.5 + 0.4 * share)


def test_a_penalty_whose_weight_has_come_to_nothing_is_not_computed(dataset):
    step = step_with(dataset, r1_gamma=Schedule(1, 0, share=0.5), r1_interval=1, steps=8)
    computed = []
    for _ in range(8):
        computed.append(step.kind().r1)
        step()
    assert computed == [True] * 4 + [False] * 4


def test_a_longer_run_plans_anew(dataset):
    short, long = (step_with(dataset, r1_gamma=Schedule(8, 0), steps=n) for n in (4, 16))
    for _ in range(4):
        short()
    assert short.progress().share == 1
    long.load_state_dict(short.state_dict())
    assert long.progress().share == 0.25
    long.begin()
    assert long.share.item() == 0.25


def test_time_counts_where_it_is_further_than_steps(dataset, tmp_path):
    run = Run(override(TrainConfig(), {**SMALL, "steps": 100}), dataset, CPU, tmp_path)
    run.train()
    assert run.training_step.share.item() == 0
    for seconds, share in ((30.0, 0.5), (0.0, 0.02), (90.0, 1.0)):
        run.seconds, run.planned_seconds = seconds, 60.0
        run.train()
        assert run.training_step.share.item() == share


def test_a_resumed_run_goes_on_by_its_schedules_to_the_bit(train, tmp_path):
    options = ["--r1-gamma", "8:2:cosine", "--r1-interval", 2, "--ema-half-life", "9:99",
               "--noise-std", "0.5:0:linear:0.5", "--d-lr", "1e-3:0", "--beta2", "0.5:0.9",
               "--checkpoint-every", 3]  # fmt: skip
    assert train(*PHANTOM, *options, "--steps", 6, "--out", tmp_path / "straight")[0] == 0
    straight = only_run(tmp_path / "straight")
    wave = [5 + 3 * torch.cos(torch.tensor(k / 6 * torch.pi)).item() for k in range(1, 7)]
    assert logged(straight, "r1_gamma") == pytest.approx(wave, rel=1e-6)
    assert logged(straight, "d_lr")[2] == pytest.approx(5e-4)
    assert logged(straight, "noise_std") == pytest.approx([1 / 3, 1 / 6, 0, 0, 0, 0])
    parts = tmp_path / "parts"
    assert train(*PHANTOM, *options, "--steps", 6, "--out", parts)[0] == 0
    run = only_run(parts)
    checkpoint_path(run, 6).unlink()  # as if it had been killed after the third step
    assert train("--resume", run)[0] == 0
    a, b = (torch.load(checkpoint_path(each, 6), weights_only=True)["training"]
            for each in (straight, run))  # fmt: skip
    for name in ("generator", "discriminator", "ema"):
        assert all(torch.equal(a[name][key], b[name][key]) for key in a[name])
    assert train("--resume", run, "--steps", 12)[0] == 0
    longer = [5 + 3 * torch.cos(torch.tensor(k / 12 * torch.pi)).item() for k in range(7, 13)]
    assert logged(run, "r1_gamma") == pytest.approx(wave + longer, rel=1e-6)


def test_a_run_limited_in_time_plans_by_it_and_by_steps_where_asked(train, tmp_path):
    limit = ["--steps", 10**6, "--max-minutes", 0.02, "--r1-gamma", "6:0"]
    assert train(*PHANTOM, *limit, "--out", tmp_path / "time")[0] == 0
    run = only_run(tmp_path / "time")

    def planned(seconds: list[float], limit: float) -> list[float]:
        return [6 * (1 - min(each / limit, 1)) for each in seconds]

    first = logged(run, "seconds")
    assert len(first) > 1
    assert logged(run, "r1_gamma") == pytest.approx(planned(first, 1.2), abs=0.01)
    # The limit is that of a call, and so is the plan: it goes on to the end of the next call.
    assert train("--resume", run)[0] == 0
    seconds = logged(run, "seconds")[len(first) :]
    expected = planned(seconds, first[-1] + 1.2)
    assert logged(run, "r1_gamma")[len(first) :] == pytest.approx(expected, abs=0.02)
    assert expected[0] > 1 > expected[-1]

    by_steps = [*PHANTOM, *limit, "--plan-by", "steps", "--out", tmp_path / "steps"]
    assert train(*by_steps)[0] == 0
    assert min(logged(only_run(tmp_path / "steps"), "r1_gamma")) > 5.9


def test_auto_weighs_penalties_by_the_rule_says_so_and_keeps_the_number(train, tmp_path):
    autos = ["--r1-gamma", "auto", "--r2-gamma", "auto"]
    code, out, err = train(*PHANTOM, *autos, "--steps", 1, "--out", tmp_path)
    assert code == 0, err
    rule = "0.0512 (0.0002 · 32² / 4)\n"
    assert out.startswith(f"r1 gamma: {rule}r2 gamma: {rule}")
    run = only_run(tmp_path)
    assert "  r1_gamma: 0.0512\n  r2_gamma: 0.0512\n" in (run / "config.yaml").read_text()
    (row,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert row["r2"] > 0
    code, out, err = train("--resume", run, *autos, "--steps", 2)
    assert code == 0, err
    assert " gamma: " not in out


def test_a_step_alone_takes_the_rule_as_well(dataset):
    settings = {"r1_interval": 1, "batch_size": 4}
    auto, number = (
        step_with(dataset, r1_gamma=gamma, r2_gamma=gamma, **settings) for gamma in ("auto", 0.0512)
    )
    for step in (auto, number):
        step()
    assert all(torch.equal(a, b) for a, b in zip(weights(auto), weights(number), strict=True))


def test_a_run_stops_at_a_share_and_goes_on_as_if_it_had_not(train, tmp_path):
    options = ["--steps", 8, "--r1-gamma", "6:0", "--r1-interval", 1]
    assert train(*PHANTOM, *options, "--out", tmp_path / "straight")[0] == 0
    code, out, _ = train(*PHANTOM, *options, "--until", 0.5, "--out", tmp_path / "parts")
    run = only_run(tmp_path / "parts")
    assert code == 0
    assert f"stopped at 0.5 of the planned run (--until) at step 4 of 8; --resume {run} " in out
    assert logged(run, "step")[-1] == 4
    assert train("--resume", run, "--until", 1)[0] == 0
    states = [
        torch.load(checkpoint_path(each, 8), weights_only=True)["training"]["ema"]
        for each in (only_run(tmp_path / "straight"), run)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_share_of_a_time_is_a_time(train, tmp_path):
    limit = ["--steps", 10**6, "--max-minutes", 0.01]
    assert train(*PHANTOM, *limit, "--until", 0.5, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    first = logged(run, "seconds")[-1]
    assert 0.3 <= first < 0.5
    # The plan is that of the whole run, so that what is left of it is what is given.
    left = 0.01 - first / 60
    assert train("--resume", run, "--max-minutes", left, "--until", 0.8)[0] == 0
    assert 0.48 <= logged(run, "seconds")[-1] < 0.6
