"""The executors: one step, however it is run."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cxrgan_fast.augment.diffaugment import POLICIES
from cxrgan_fast.data import ImageDataset
from cxrgan_fast.schedule import Schedule
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.executors import (
    CompileExecutor,
    Executor,
    GraphExecutor,
    make_executor,
    unchanged,
)
from cxrgan_fast.training.step import TrainingStep
from recorded_graph import (
    END_ALLOCATIONS,
    AsOnTheDevice,
    CudaStandIn,
    RecordedGraph,
    refuse_to_wait,
    stand_in_for_cuda_graphs,
)

TINY = {"resolution": 32, "base_channels": 8, "latent_size": 8, "batch_size": 4,
        "precision": "fp32"}  # fmt: skip
CPU = torch.device("cpu")
# Each asks something else of a captured step: schedules, several kinds, state that is not weights.
CASES = {
    "default": {"r1_interval": 4},
    "noise": {"noise_std": 0.5, "noise_decay_steps": 20, "discriminator_steps": 2, "mirror": True},
    "scheduled": {
        "steps": 16,
        "r1_gamma": Schedule(5, 0, "cosine", 0.4),
        "r1_interval": 2,
        "noise_std": Schedule(0, 0.5),
        "ema_half_life": Schedule(100, 10),
        "ema_ramp": 0.0,
        "g_lr": Schedule(0, 1e-3, share=0.5),
        "d_lr": Schedule(1e-3, 1e-4, "cosine"),
        "beta2": Schedule(0.5, 0.99),
        "power_ema_every": 4,
    },
    "scheduled-adamw": {"optimizer": "adamw", "beta2": Schedule(0.9, 0.5), "l2": 0.1},
    "scheduled-sgd": {"optimizer": "sgd", "g_lr": Schedule(1e-3, 0), "d_lr": Schedule(0, 1e-3)},
    "saturating": {"loss": "minimax", "early_steps": 5, "r1_gamma": 0.0, "label_smoothing": 0.1},
    "bf16": {"precision": "bf16", "spectral_norm": True, "loss": "hinge"},
    "fp16": {"precision": "fp16", "family": "dcgan", "class_balance": True},
    "sgd": {"optimizer": "sgd", "conditioning": "concat", "loss": "least_squares", "l2": 1e-4},
    "rmsprop": {"optimizer": "rmsprop", "loss": "wasserstein", "g_lr": 1e-4, "d_lr": 1e-4},
    "adamw": {"optimizer": "adamw", "ema_ramp": 0.0, "l2": 0.1, "output": "sigmoid"},
    "streamed": {"resident_share": 0.0, "augment": ()},
    "pairs": {"loss": "relativistic", "r2_gamma": 0.5, "r1_interval": 1, "resident_share": 0.0},
    "pairs bf16": {
        "precision": "bf16",
        "loss": "relativistic",
        "reuse_real_logits": True,
        "r1_gamma": 0.0,
        "r2_gamma": 2.0,
        "r1_interval": 4,
        "discriminator_steps": 2,
        "noise_std": 0.5,
        "noise_decay_steps": 5,
        "mirror": True,
    },
    "ada": {"augment": POLICIES, "augment_probability": 0.5, "ada_target": 0.2, "steps": 100,
            "ada_ramp": 0.4, "r1_interval": 4},
    "ada pairs": {"loss": "relativistic", "r2_gamma": 0.5, "ada_target": 0.5, "ada_ramp": 0.4,
                  "augment_probability": 0.2, "augment": ("scale", "cutout"), "steps": 60},
    "options": {"minibatch_std": 4, "latent_chunks": True, "normalize_latents": True,
                "scale_residuals": True, "r1_interval": 2},
    "r3": {"family": "r3", "r1_interval": 4, "blocks_per_size": 1},
    "r3 pairs": {"family": "r3", "blocks_per_size": 1, "conditioning": "concat", "r1_interval": 1,
                 "precision": "bf16", "loss": "relativistic", "r2_gamma": 0.5},
    "sometimes": {"augment": ("rotation", "cutout"), "precision": "bf16", "steps": 60,
                  "augment_probability": Schedule(0, 0.8, "cosine", 0.5)},
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    images = torch.randint(0, 256, (23, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    names = [str(i) for i in range(23)]
    labels = (torch.arange(23) % 3 == 0).long()
    return ImageDataset(images.to(torch.uint8), labels, ("a", "b"), names, names, "made")


def step_with(dataset: ImageDataset, **settings: object) -> TrainingStep:
    return TrainingStep(override(TrainConfig(), {**TINY, **settings}), dataset, CPU)


def state(step: TrainingStep) -> list[torch.Tensor]:
    # Not where the next rows lie among those that were sent ahead, which a resumed run sends anew.
    cursors = {tensor.data_ptr() for tensor in step.batches.state()}
    tensors = [tensor for tensor in step.tensors() if tensor.data_ptr() not in cursors]
    return [step.draws.random.get_state(), *(tensor.clone() for tensor in tensors)]


class Ops(TorchDispatchMode):
    """What a step asks of the device, with shapes; and no question that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        refuse_to_wait(function)
        shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        self.seen.append((str(function), str(shapes)))
        return function(*args, **(kwargs or {}))


class OpByOp(Executor):
    """Runs a step below the same hooks as the stand-in for a graph.

    They change which ops a layer becomes, and with it the last bit; on a GPU there are none.
    """

    def run(self, kind: Hashable) -> None:
        """See `Executor.run`."""
        with Ops():
            super().run(kind)


def assert_same_bits(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert len(one) == len(other)
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(a, b), f"tensor {i} of shape {tuple(a.shape)}"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> CudaStandIn:
    return stand_in_for_cuda_graphs(monkeypatch)


@pytest.mark.first_tier(1)
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [10, pytest.param(50, marks=pytest.mark.long)])
def test_a_graph_replays_what_a_step_does_to_the_bit(dataset, steps, case):
    eager, graph = step_with(dataset, **CASES[case]), step_with(dataset, **CASES[case])
    run, replay = OpByOp(eager), GraphExecutor(graph)
    if case == "fp16":
        steps = 10  # its convolutions take a CPU ten times as long
    for _ in range(steps):
        run()
        replay()
    assert replay.name == "graph"
    assert 1 <= len(replay.graphs) <= 4
    assert_same_bits(state(eager), state(graph))
    assert eager.meters.read() == graph.meters.read()
    assert (graph.steps_done, int(graph.clock)) == (steps, steps)


@pytest.mark.usefixtures("cuda")
def test_a_graph_reads_how_far_the_run_is(dataset):
    settings = CASES["scheduled"] | {"r1_interval": 1}
    eager, graph = step_with(dataset, **settings), step_with(dataset, **settings)
    run, replay = OpByOp(eager), GraphExecutor(graph)
    for _ in range(3):
        run()
        replay()
    assert len(replay.graphs) == 2  # without noise, and with
    assert_same_bits(state(eager), state(graph))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("case", ["noise", "ada"])
def test_a_captured_run_goes_on_from_a_checkpoint(dataset, case):
    settings = CASES[case]
    straight = GraphExecutor(step_with(dataset, **settings))
    for _ in range(6):
        straight()
    saved = straight.step.state_dict()
    resumed = GraphExecutor(step_with(dataset, **settings))
    resumed()  # captured before: what is loaded has to get to where the graph reads
    resumed.step.load_state_dict(saved)
    for _ in range(4):
        straight()
        resumed()
    assert_same_bits(state(straight.step), state(resumed.step))


@pytest.mark.usefixtures("cuda")
def test_the_stand_in_tells_a_step_that_bakes_a_number_in(dataset, monkeypatch):
    """A moving average whose weight the host computes is what a graph must not hold."""
    eager, graph = step_with(dataset), step_with(dataset)
    for step in (eager, graph):
        average = type(step.ema).update

        def by_the_host(generator, seen, batch_size, half_life, step=step, average=average):
            average(step.ema, generator, float(step.images_seen), batch_size, half_life)

        monkeypatch.setattr(step.ema, "update", by_the_host)
    run, replay = Executor(eager), GraphExecutor(graph)
    for _ in range(5):
        run()
        replay()
    averages = zip(eager.ema.module.parameters(), graph.ema.module.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in averages)


@pytest.mark.first_tier(1)
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("update", ["discriminator", "generator"])
def test_what_cannot_be_captured_runs_op_by_op_and_says_so_once(dataset, capsys, update):
    eager, graph = step_with(dataset), step_with(dataset)
    generator = graph.networks["generator"]

    def asks_the_host(latents, labels):
        if torch.is_grad_enabled() == (update == "generator"):
            assert latents.isfinite().all()  # waits for the device
        return generator(latents, labels)

    graph.objective.run["generator"] = asks_the_host
    run, replay = Executor(eager), GraphExecutor(graph)
    for _ in range(4):
        run()
        replay()
    assert replay.name == "eager"
    assert_same_bits(state(eager), state(graph))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("executor: this step cannot be captured as a CUDA graph (aten")
    assert lines[0].endswith("; it runs op by op")


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("end_allocations", END_ALLOCATIONS)
def test_a_failed_capture_leaves_nothing_half_open(dataset, monkeypatch, end_allocations, refused):
    """Nor does one after which no other can begin."""
    cuda = stand_in_for_cuda_graphs(monkeypatch, end_allocations)
    eager, step = step_with(dataset), step_with(dataset)
    mine = RecordedGraph()  # of somebody else in this process
    with cuda.capture(mine, cuda.graph_pool_handle(), cuda.stream):
        torch.zeros(2)

    def asks_the_host(latents, labels):
        cuda.refuses_captures = refused
        assert latents.isfinite().all()
        return step.networks["generator"](latents, labels)

    step.objective.run["generator"] = asks_the_host
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    run, replay = OpByOp(eager), GraphExecutor(step)
    run()
    with AsOnTheDevice(cuda):
        replay()  # the step's own generator draws
        assert torch.equal(torch.randn(3), expected)  # and so does the default one
    assert cuda.pools_under_way == set()
    assert_same_bits(state(eager), state(step))
    if not refused:
        mine.replay()


def test_the_stand_in_leaves_a_failed_capture_half_open(cuda):
    """As PyTorch before 2.13, or there would be nothing to see that an executor mends it."""
    random, graph = torch.Generator(), RecordedGraph()
    graph.register_generator_state(random)
    pool = cuda.graph_pool_handle()
    with (
        pytest.raises(RuntimeError, match="previous error"),
        cuda.capture(graph, pool, cuda.stream),
    ):
        torch.randn(3, generator=random).isfinite().all().item()
    for generator in (None, random):
        with AsOnTheDevice(cuda), pytest.raises(RuntimeError, match="outside graph capture"):
            torch.randn(3, generator=generator)
    with pytest.raises(RuntimeError, match="outside graph capture"):
        graph.replay()
    assert cuda.pools_under_way == {pool}
    with pytest.raises(TypeError, match="pair of numbers"):
        cuda.end_allocations(0, object())


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()], ids=repr
)
def test_what_is_no_fault_of_the_step_ends_a_capture_and_the_run(dataset, cuda, capsys, error):
    step = step_with(dataset)
    calls = []

    def fails_once(latents, labels):
        calls.append(labels)
        if len(calls) == 7:  # after two of each of three runs before the capture
            raise error
        return step.networks["generator"](latents, labels)

    step.objective.run["generator"] = fails_once
    executor = GraphExecutor(step)
    with pytest.raises(type(error)):
        executor()
    assert capsys.readouterr().err == ""
    assert cuda.pools_under_way == set()
    with AsOnTheDevice(cuda):
        torch.randn(3)
        torch.randn(3, generator=step.draws.random)
    executor()  # with memory at last
    assert (executor.name, len(executor.graphs)) == ("graph", 1)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("calls_before", [1, 2, 3])
def test_a_warm_up_that_fails_is_undone_after_its_work(dataset, cuda, calls_before):
    eager, step = step_with(dataset), step_with(dataset)
    calls = []

    def fails_once(latents, labels):
        calls.append(labels)
        if len(calls) == 1 + calls_before:
            raise RuntimeError("no algorithm for this shape")
        return step.networks["generator"](latents, labels)

    step.objective.run["generator"] = fails_once
    run, replay = OpByOp(eager), GraphExecutor(step)
    for _ in range(2):
        run()
        with AsOnTheDevice(cuda, step.tensors()):
            replay()
    assert replay.name == "eager"
    assert_same_bits(state(eager), state(step))


@pytest.mark.first_tier(4)
@pytest.mark.parametrize("case", CASES)
def test_warming_up_changes_nothing(dataset, case):
    step = step_with(dataset, **CASES[case])
    step()
    step.begin()
    before, meters = state(step), step.meters.state()[0].clone()
    with unchanged(step) as restore:
        for _ in range(3):
            restore()
            step.body(step.kind())
        assert not torch.equal(step.meters.state()[0], meters)
    assert_same_bits(state(step), before)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("case", CASES)
def test_a_step_never_waits_and_is_always_the_same_work_in_the_same_memory(dataset, case):
    step = step_with(dataset, **CASES[case])
    addresses = [tensor.data_ptr() for tensor in step.tensors()]
    work = {}
    for _ in range(8):
        step.begin()
        with Ops() as ops:
            step.body(step.kind())
        assert work.setdefault(step.kind(), ops.seen) == ops.seen
        step.end()
    assert [tensor.data_ptr() for tensor in step.tensors()] == addresses


@pytest.mark.long
@pytest.mark.parametrize(
    "game",
    [{}, {"loss": "relativistic", "r2_gamma": 1.0},
     {"loss": "relativistic", "r2_gamma": 1.0, "reuse_real_logits": True}],
    ids=["plain", "pairs", "reused logits"],
)  # fmt: skip
def test_compiled_networks_train_as_the_plain_ones(dataset, game):
    settings = {"r1_interval": 2, "g_lr": 1e-4, "d_lr": 1e-4, "family": "dcgan", **game}
    eager, compiled = step_with(dataset, **settings), step_with(dataset, **settings)
    run, faster = Executor(eager), make_executor("compile", compiled)
    assert isinstance(faster, CompileExecutor)
    for _ in range(3):
        run()
        faster()
    assert compiled.objective.run["generator"] is not compiled.networks["generator"]
    ours, theirs = eager.meters.read(), compiled.meters.read()
    assert ours == pytest.approx(theirs, rel=1e-3)
    for a, b in zip(eager.ema.module.parameters(), compiled.ema.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4)


def test_a_graph_without_a_gpu_is_refused_in_one_line(dataset, capsys):
    executor = make_executor("graph", step_with(dataset))
    assert executor.name == "eager"
    line = "executor: a CUDA graph needs an NVIDIA GPU, and this is a cpu; the step runs op by op"
    assert capsys.readouterr().err.splitlines() == [line]


def test_auto_on_a_cpu_is_op_by_op(dataset):
    assert make_executor("auto", step_with(dataset)).name == "eager"
