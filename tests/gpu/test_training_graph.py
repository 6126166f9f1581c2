"""A training step on a GPU: as one CUDA graph it gives the bits that it gives op by op."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cxrgan_fast.augment.diffaugment import POLICIES
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.algorithms import algorithms
from cxrgan_fast.training.executors import Executor, GraphExecutor
from cxrgan_fast.training.step import TrainingStep

SMALL = {"resolution": 32, "base_channels": 16, "latent_size": 16, "batch_size": 8,
         "precision": "fp32", "r1_interval": 8}  # fmt: skip
CASES = {
    "fp32": {},
    "bf16": {"precision": "bf16", "noise_std": 0.5, "noise_decay_steps": 30, "mirror": True},
    "fp16": {"precision": "fp16", "discriminator_steps": 2, "class_balance": True},
    "spectral-norm": {"spectral_norm": True, "loss": "hinge", "resolution": 64},
    "dcgan-concat": {"family": "dcgan", "conditioning": "concat", "upsampling": "transposed"},
    "options": {"minibatch_std": 4, "latent_chunks": True, "normalize_latents": True,
                "scale_residuals": True, "precision": "bf16"},
    "r3": {"family": "r3", "precision": "bf16"},
    "r3-pairs": {"family": "r3", "loss": "relativistic", "r2_gamma": 1.0, "precision": "fp16"},
    "sgd": {"optimizer": "sgd", "loss": "least_squares"},
    "rmsprop": {"optimizer": "rmsprop", "loss": "wasserstein", "g_lr": 1e-4, "d_lr": 1e-4},
    "adamw": {"optimizer": "adamw", "l2": 0.1, "loss": "minimax", "early_steps": 20},
    "streamed": {"resident_share": 0.0},
    "ada": {"augment": POLICIES, "augment_probability": 0.5, "ada_target": 0.2, "steps": 100,
            "ada_ramp": 0.4, "precision": "bf16"},
    "scheduled": {
        "steps": 60,
        "r1_gamma": Schedule(5, 0, "cosine", 0.4),
        "noise_std": Schedule(0, 0.5),
        "ema_half_life": Schedule(100, 10),
        "g_lr": Schedule(0, 1e-3, share=0.5),
        "d_lr": Schedule(1e-3, 1e-4, "cosine"),
        "beta2": Schedule(0.5, 0.99),
    },
    "scheduled-rates": {"g_lr": Schedule(1e-3, 0), "d_lr": Schedule(0, 1e-3)},
    "scheduled-rmsprop": {
        "optimizer": "rmsprop",
        "loss": "wasserstein",
        "g_lr": Schedule(1e-4, 0),
        "d_lr": Schedule(0, 1e-4),
    },
    "pairs": {"loss": "relativistic", "r2_gamma": 1.0},
    "pairs-fp16": {
        "precision": "fp16",
        "loss": "relativistic",
        "reuse_real_logits": True,
        "r2_gamma": 1.0,
        "discriminator_steps": 2,
    },
}  # fmt: skip
STEPS = 50

pytestmark = pytest.mark.usefixtures("gpu", "repeatable")


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with algorithms(deterministic=True):
        yield


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    random = torch.Generator().manual_seed(0)
    names = [str(i) for i in range(50)]
    images = {
        size: torch.randint(0, 256, (50, 1, size, size), generator=random).to(torch.uint8)
        for size in (32, 64)
    }
    labels = (torch.arange(50) % 3 == 0).long()
    return {
        size: ImageDataset(each, labels, ("a", "b"), names, names, "made")
        for size, each in images.items()
    }


def step_with(dataset: dict[int, ImageDataset], settings: dict[str, object]) -> TrainingStep:
    config = override(TrainConfig(), {**SMALL, **settings})
    return TrainingStep(config, dataset[config.network.resolution], torch.device("cuda"))


def state(step: TrainingStep) -> list[torch.Tensor]:
    return [step.draws.random.get_state(), *step.tensors()]


@pytest.mark.parametrize("case", CASES)
def test_a_graph_is_the_step_to_the_bit(dataset, case, capsys):
    eager, graph = (step_with(dataset, CASES[case]) for _ in range(2))
    run, replay = Executor(eager), GraphExecutor(graph)
    for _ in range(STEPS):
        run()
        replay()
    assert (replay.name, capsys.readouterr().err) == ("graph", "")
    for i, (one, other) in enumerate(zip(state(eager), state(graph), strict=True)):
        assert torch.equal(one, other), f"tensor {i} of shape {tuple(one.shape)}"
    assert eager.meters.read() == graph.meters.read()


def test_after_a_capture_that_failed_the_step_goes_on(dataset, capsys):
    eager, graph = (step_with(dataset, CASES["fp32"]) for _ in range(2))

    def asks_the_host(latents, labels):
        if torch.is_grad_enabled():
            latents.isfinite().all().item()
        return graph.networks["generator"](latents, labels)

    graph.objective.run["generator"] = asks_the_host
    mine = torch.cuda.CUDAGraph()  # of somebody else in this process
    with torch.cuda.graph(mine):
        drawn = torch.rand(3, device="cuda")
    run, replay = Executor(eager), GraphExecutor(graph)
    for _ in range(3):
        run()
        replay()
    assert replay.name == "eager"
    # Before PyTorch 2.13 these raise until the generators are let out of the capture.
    torch.rand(3, device="cuda")
    mine.replay()
    assert drawn.isfinite().all()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; it runs op by op")
    assert "previous error" not in line  # but what came before that
    for i, (one, other) in enumerate(zip(state(eager), state(graph), strict=True)):
        assert torch.equal(one, other), f"tensor {i} of shape {tuple(one.shape)}"
    # The allocator takes no capture to be under way: what another stream has used becomes free.
    before = active_bytes()
    clone = torch.zeros(1 << 20, device="cuda")
    clone.record_stream(torch.cuda.Stream())
    del clone
    assert active_bytes() == before


def active_bytes() -> int:
    """Bytes of PyTorch's memory that are in use, or wait for a stream to be done with them."""
    torch.cuda.synchronize()
    torch.zeros(1, device="cuda")  # an allocation looks for which streams are done
    return torch.cuda.memory_stats()["active_bytes.all.current"]


def test_the_fastest_algorithms_can_be_captured(dataset, capsys):
    with algorithms(deterministic=False):
        replay = GraphExecutor(step_with(dataset, CASES["bf16"]))
        for _ in range(9):  # both kinds
            replay()
    assert (replay.name, capsys.readouterr().err) == ("graph", "")
    assert all(tensor.isfinite().all() for tensor in replay.step.tensors())


def test_capturing_changes_nothing(dataset):
    step = step_with(dataset, CASES["bf16"])
    step()
    executor = GraphExecutor(step)
    step.begin()
    before = [tensor.clone() for tensor in state(step)]
    executor.graphs[step.kind()] = executor._captured(step.kind())
    for one, other in zip(before, state(step), strict=True):
        assert torch.equal(one, other)


def test_a_replay_asks_nothing_of_the_host(dataset):
    replay = GraphExecutor(step_with(dataset, CASES["bf16"]))
    for _ in range(9):  # both kinds
        replay()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_eager_step_never_waits_for_the_device(dataset):
    run = Executor(step_with(dataset, CASES["fp16"]))
    for _ in range(9):
        run()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_replays_take_no_more_memory(dataset):
    replay = GraphExecutor(step_with(dataset, CASES["fp32"]))
    for _ in range(9):
        replay()
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        replay()
    assert torch.cuda.memory_allocated() == before
