"""What only the native backend of conditional_batch_norm_act has to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from cxrgan_fast.ops import available_backends, conditional_batch_norm_act, use_backend
from cxrgan_fast.ops import conditional_batch_norm as op
from cxrgan_fast.ops.backend import native

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

pytestmark = pytest.mark.skipif(
    "cpu" not in available_backends()["native"].runs_on,
    reason=available_backends()["native"].why_not.get("cpu", ""),
)


@pytest.fixture(autouse=True)
def _native() -> Iterator[None]:
    with use_backend("native"):
        yield


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def images(shape: tuple[int, ...], layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=LAYOUTS[layout])


def gradients(input: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    variables = [each.detach().requires_grad_() for each in (input, weight, bias)]
    output = conditional_batch_norm_act(variables[0], labels, *variables[1:])
    return [output.detach(), *torch.autograd.grad(output.square().sum(), variables)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(16, 40, 12, 12), (5, 3, 100, 70)], ids=str)
def test_same_bits_on_every_run_and_thread_count(
    shape: tuple[int, ...], layout: str, set_threads: Callable[[int], None]
) -> None:
    input, labels = images(shape, layout), torch.randint(2, (shape[0],))
    weight, bias = torch.randn(2, shape[1]), torch.randn(2, shape[1])
    set_threads(1)
    expected = gradients(input, labels, weight, bias)
    for threads in (1, 2, 3, 2):
        set_threads(threads)
        for value, true in zip(gradients(input, labels, weight, bias), expected, strict=True):
            assert torch.equal(value, true)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 24, 9, 9), (3, 2, 90, 80), (5, 33, 1, 1)], ids=str)
def test_reduce_then_apply_equals_both_at_once(shape: tuple[int, ...], layout: str) -> None:
    samples, channels = shape[:2]
    count = samples * shape[2] * shape[3]
    x, dy = images(shape, layout), images(shape, layout)
    labels = torch.randint(2, (samples,))
    weight, bias = torch.randn(2, channels), torch.randn(2, channels)
    problem = op._problem(x, labels, weight, bias, 0.2)

    y, statistics = op._act_cpu(x, labels, weight, bias, None, None, 1e-5, 0.2)
    mean, _, rstd = statistics
    alone = torch.empty_like(statistics)
    problem.statistics(1e-5, x.data_ptr(), *(each.data_ptr() for each in alone))
    assert torch.equal(alone, statistics)
    applied = torch.empty_like(y)
    problem.apply(x.data_ptr(), mean.data_ptr(), rstd.data_ptr(), applied.data_ptr())
    assert torch.equal(applied, y)

    dx, dweight, dbias = op._backward_cpu(
        dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
    )
    sums = [torch.empty_like(weight) for _ in range(2)]
    addresses = [each.data_ptr() for each in (dy, x, mean, rstd, *sums)]
    problem.backward_reduce(*addresses)
    assert torch.equal(sums[0], dweight)
    assert torch.equal(sums[1], dbias)
    split = torch.empty_like(dx)
    problem.backward_apply(*addresses, count, split.data_ptr())
    assert torch.equal(split, dx)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_could_share_a_batch(layout: str) -> None:
    x, dy = images((8, 20, 6, 6), layout), images((8, 20, 6, 6), layout)
    labels, weight, bias = torch.arange(8) % 3, torch.randn(3, 20), torch.randn(3, 20)
    _, statistics = op._act_cpu(x, labels, weight, bias, None, None, 1e-5, 0.2)
    mean, _, rstd = statistics
    expected, *_ = op._backward_cpu(
        dy, x, labels, weight, bias, statistics, 1e-5, 0.2, training=True
    )

    halves = [slice(0, 4), slice(4, 8)]
    problems = [op._problem(x[half], labels[half], weight, bias, 0.2) for half in halves]
    total = torch.zeros(2, 3, 20)
    for half, problem in zip(halves, problems, strict=True):
        sums = torch.empty(2, 3, 20)
        tensors = (dy[half], x[half], mean, rstd, sums[0], sums[1])
        problem.backward_reduce(*(each.data_ptr() for each in tensors))
        total += sums
    for half, problem in zip(halves, problems, strict=True):
        dx = torch.empty_like(x[half])
        tensors = (dy[half], x[half], mean, rstd, total[0], total[1])
        problem.backward_apply(*(each.data_ptr() for each in tensors), 8 * 36, dx.data_ptr())
        torch.testing.assert_close(dx, expected[half], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_every_element_is_written(layout: str, training: bool) -> None:
    input, labels = images((3, 21, 5, 7), layout), torch.tensor([0, 2, 2])
    weight, bias = torch.randn(4, 21), torch.randn(4, 21)  # no sample of classes 1 and 3
    running = torch.zeros(21), torch.ones(21)
    variables = [each.requires_grad_() for each in (input, weight, bias)]
    # Fills every torch.empty with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        output = conditional_batch_norm_act(
            input, labels, weight, bias, *running, training=training
        )
        grads = torch.autograd.grad(output.sum(), variables)
    finally:
        torch.use_deterministic_algorithms(False)
    for value in (output, *grads, *running):
        assert value.isfinite().all()
    assert not grads[1][[1, 3]].any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounds_as_torch_does(dtype: torch.dtype, layout: str) -> None:
    """Every bit pattern, times a factor that makes subnormals, overflow and ties."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    input = patterns.view(1, 256, 16, 16).to(memory_format=LAYOUTS[layout])
    label, zero = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 256)
    # Their r is 1.
    mean, var = torch.zeros(256), torch.ones(256)
    for factor in (1.0, 0.5, 3.0, 1 / 256, 1 + 2**-9, 1e4):
        weight = torch.full((1, 256), factor)
        output, _ = op._act_cpu(input, label, weight, zero, mean, var, 0.0, 1.0)
        exact = input.float() * factor
        if dtype == torch.bfloat16 and native().simd_level() == "avx512_bf16":
            exact[exact.abs() < torch.finfo(dtype).tiny] = 0  # as the processor's conversion does
        expected = exact.to(dtype)
        assert torch.equal(output.isnan(), expected.isnan())
        numbers = ~expected.isnan()
        assert torch.equal(output[numbers], expected[numbers])


def test_saves_nothing_of_the_images_size_but_the_input() -> None:
    input = images((4, 8, 16, 16), "contiguous").requires_grad_()
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        conditional_batch_norm_act(
            input, torch.zeros(4, dtype=torch.int64), torch.ones(1, 8), torch.zeros(1, 8)
        )
    large = [each for each in saved if each.numel() >= input.numel()]
    assert [each.data_ptr() for each in large] == [input.data_ptr()]


def test_registered_as_torch_library_wants_it() -> None:
    input, labels = images((3, 5, 4, 4), "channels_last"), torch.tensor([0, 1, 1])
    weight, bias = torch.randn(2, 5), torch.randn(2, 5)
    mean, var, grad = torch.randn(5), torch.rand(5) + 0.5, torch.randn(3, 5, 4, 4)
    statistics = torch.stack((mean, var, (var + 1e-5).rsqrt()))
    variables = [each.requires_grad_() for each in (input, weight, bias)]
    input, weight, bias = variables
    ops = torch.ops.cxrgan_fast
    parameters = (input, labels, weight, bias)
    for running in ((None, None), (mean, var)):
        torch.library.opcheck(
            ops.conditional_batch_norm_act.default, (*parameters, *running, 1e-5, 0.2)
        )
    for training in (True, False):
        torch.library.opcheck(
            ops.conditional_batch_norm_backward.default,
            (grad, *parameters, statistics, 1e-5, 0.2, training),
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_compiles_whole(layout: str, training: bool) -> None:
    """One graph, forward and backward, the running statistics updated; bad labels still refused."""
    input, labels = images((4, 6, 8, 8), layout), torch.tensor([0, 1, 1, 0])
    weight, bias = torch.randn(2, 6), torch.randn(2, 6)

    def step(labels: Tensor, running_mean: Tensor, running_var: Tensor) -> list[Tensor]:
        variables = [each.detach().requires_grad_() for each in (input, weight, bias)]
        output = function(variables[0], labels, *variables[1:], running_mean, running_var, training)
        return [output.detach(), *torch.autograd.grad(output.sum(), variables), running_mean]

    def in_a_model(
        x: Tensor, labels: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, training: bool
    ) -> Tensor:
        return conditional_batch_norm_act(2 * x, labels, w, b, mean, var, training=training) + 1

    function: Callable[..., Tensor] = in_a_model
    expected = step(labels, torch.zeros(6), torch.ones(6))
    function = torch.compile(in_a_model, fullgraph=True, backend="aot_eager")
    for value, true in zip(step(labels, torch.zeros(6), torch.ones(6)), expected, strict=True):
        torch.testing.assert_close(value, true)
    with pytest.raises(IndexError, match="expected 0 <= label < 2"):
        step(labels + 1, torch.zeros(6), torch.ones(6))


def test_inductor() -> None:
    case = images((4, 6, 8, 8), "channels_last"), torch.tensor([0, 1, 1, 0])
    parameters = torch.randn(2, 6), torch.randn(2, 6)
    expected = gradients(*case, *parameters)
    variables = [each.detach().requires_grad_() for each in (case[0], *parameters)]
    compiled = torch.compile(conditional_batch_norm_act, fullgraph=True)
    output = compiled(variables[0], case[1], *variables[1:])
    got = [output.detach(), *torch.autograd.grad(output.square().sum(), variables)]
    for value, true in zip(got, expected, strict=True):
        torch.testing.assert_close(value, true)
