"""conditional_batch_norm_act on every backend against its definition in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from cxrgan_fast.ops import available_backends, conditional_batch_norm_act, use_backend

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Case:
    """One call and the gradient that comes back to it."""

    input: Tensor
    labels: Tensor
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    grad: Tensor
    training: bool
    slope: float

    def results(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Output, gradients and running statistics, on the backend in use; dtype for float64."""
        parameter_dtype = dtype or torch.float32
        input, weight, bias = (
            each.to(to).detach().requires_grad_()
            for each, to in (
                (self.input, dtype or self.input.dtype),
                (self.weight, parameter_dtype),
                (self.bias, parameter_dtype),
            )
        )
        mean, var = self.running_mean.to(parameter_dtype), self.running_var.to(parameter_dtype)
        mean, var = mean.clone(), var.clone()
        output = conditional_batch_norm_act(
            input, self.labels, weight, bias, mean, var,
            training=self.training, negative_slope=self.slope,
        )  # fmt: skip
        gradients = torch.autograd.grad(output, (input, weight, bias), self.grad.to(output.dtype))
        names = ("output", "input", "weight", "bias", "running_mean", "running_var")
        return dict(zip(names, (output.detach(), *gradients, mean, var), strict=True))

    def truth(self) -> dict[str, Tensor]:
        with use_backend("reference"):
            return self.results(torch.float64)

    def eager(self) -> dict[str, Tensor]:
        """What a user of PyTorch writes without this op."""
        input = self.input.detach().requires_grad_()
        weight, bias = self.weight.detach().requires_grad_(), self.bias.detach().requires_grad_()
        mean, var = self.running_mean.clone(), self.running_var.clone()
        normal = F.batch_norm(input, mean, var, training=self.training)
        gamma, beta = weight[self.labels][:, :, None, None], bias[self.labels][:, :, None, None]
        output = F.leaky_relu(gamma * normal + beta, self.slope).to(input.dtype)
        gradients = torch.autograd.grad(output, (input, weight, bias), self.grad)
        names = ("output", "input", "weight", "bias", "running_mean", "running_var")
        return dict(zip(names, (output.detach(), *gradients, mean, var), strict=True))


def make_case(
    shape: tuple[int, int, int, int],
    *,
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    classes: int = 3,
    training: bool = True,
    slope: float = 0.2,
    mean: float = 0.5,
) -> Case:
    samples, channels = shape[:2]
    case = Case(
        input=(torch.randn(shape) * 1.5 + mean).to(dtype).to(memory_format=LAYOUTS[layout]),
        labels=torch.randint(classes, (samples,)),
        weight=torch.randn(classes, channels),
        bias=torch.randn(classes, channels),
        running_mean=torch.randn(channels) + mean,
        running_var=torch.rand(channels) + 0.5,
        grad=torch.randn(shape).to(dtype).to(memory_format=LAYOUTS[layout]),
        training=training,
        slope=slope,
    )
    # Two right implementations may take different branches where |z| is within rounding of 0. No
    # gradient comes back there, so that everywhere else can be compared tightly.
    with use_backend("reference"):
        z = conditional_batch_norm_act(
            case.input.double(), case.labels, case.weight.double(), case.bias.double(),
            case.running_mean.double(), case.running_var.double(),
            training=training, negative_slope=1.0, momentum=0.0,
        )  # fmt: skip
    case.grad = case.grad.masked_fill(z.abs() < 1e-4, 0)
    return case


def relative_error(got: Tensor, truth: Tensor) -> float:
    return ((got.double() - truth).norm() / truth.norm()).item()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [(8, 48, 16, 16), (6, 2, 65, 67), (5, 100, 1, 1), (3, 17, 7, 5), (16, 64, 4, 4)],
    ids=str,
)
def test_output_and_gradients_are_as_exact_as_eager(
    backend: str,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: str,
    training: bool,
) -> None:
    case = make_case(shape, dtype=dtype, layout=layout, training=training)
    got, eager, truth = case.results(), case.eager(), case.truth()
    assert got["output"].dtype == dtype
    assert got["output"].is_contiguous(memory_format=LAYOUTS[layout])
    for name, value in got.items():
        allowed = 1.1 * relative_error(eager[name], truth[name])
        assert relative_error(value, truth[name]) < max(allowed, 1e-6), name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_relu_and_no_activation(backend: str, slope: float, layout: str) -> None:
    case = make_case((4, 20, 9, 9), layout=layout, slope=slope)
    truth = case.truth()
    for name, value in case.results().items():
        assert relative_error(value, truth[name]) < 1e-6, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mean_ten_thousand_times_the_deviation(backend: str, layout: str) -> None:
    case = make_case((8, 64, 12, 12), layout=layout, mean=1.5e4)
    got, truth = case.results(), case.truth()
    # μ itself is a float32 with 2^-14 of a deviation between neighbours; E[x²]−E[x]² would be off
    # by whole deviations.
    assert relative_error(got["output"], truth["output"]) < 1e-3
    assert relative_error(got["running_var"], truth["running_var"]) < 1e-6


extents = st.integers(1, 9)


@pytest.mark.skipif(
    "cpu" not in available_backends()["native"].runs_on,
    reason=available_backends()["native"].why_not.get("cpu", ""),
)
@given(
    shape=st.tuples(extents, st.integers(1, 70), extents, extents).filter(
        lambda s: s[0] * s[2] * s[3] > 1
    ),
    classes=st.integers(1, 4),
    arrangement=st.sampled_from(["contiguous", "channels_last", "cut", "transposed", "expanded"]),
    by_sample=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_and_strides(
    shape: tuple[int, int, int, int],
    classes: int,
    arrangement: str,
    by_sample: bool,
    training: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    classes = shape[0] if by_sample else classes
    case = make_case(shape, classes=classes, training=training)
    if by_sample:
        case.labels = torch.arange(shape[0])
    if arrangement == "cut":
        wide = torch.zeros(*shape[:3], shape[3] + 2)
        wide[..., 1:-1] = case.input
        case.input = wide[..., 1:-1]
    elif arrangement == "transposed":
        case.input = case.input.transpose(2, 3).contiguous().transpose(2, 3)
        case.grad = case.grad.transpose(2, 3).contiguous().transpose(2, 3)
    elif arrangement == "expanded":
        case.grad = torch.ones(1, 1, 1, 1).expand(shape)
    else:
        case.input = case.input.to(memory_format=LAYOUTS[arrangement])
    case.slope = 1.0  # no kink: hundreds of examples would hit it
    with use_backend("native"):
        got = case.results()
    truth = case.truth()
    # Gradients of a normalised tensor are differences of near-equal terms: the scale of an error is
    # that of the terms.
    scale = 1 + case.weight.abs().max() * case.grad.abs().sum() / shape[1]
    rstd = 1 / (case.input.var(dim=(0, 2, 3), correction=0).min().clamp_min(0) + 1e-5).sqrt()
    for name, value in got.items():
        allowed = 2e-6 * (1 + truth[name].norm())
        if name in ("input", "weight"):
            allowed = allowed + 2e-6 * scale * max(rstd, 1)
        assert (value - truth[name]).norm() <= allowed, name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("slope", [0.2, 1.0])
def test_derivatives_of_the_definition(training: bool, slope: float) -> None:
    case = make_case((3, 2, 3, 2), training=training)
    variables = [each.double().requires_grad_() for each in (case.input, case.weight, case.bias)]

    def op(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conditional_batch_norm_act(
            input, case.labels, weight, bias,
            case.running_mean.double(), case.running_var.double(),
            training=training, negative_slope=slope,
        )  # fmt: skip

    assert gradcheck(op, variables)
    assert gradgradcheck(op, variables)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_second_derivatives(backend: str, layout: str, training: bool) -> None:
    case = make_case((4, 8, 5, 5), layout=layout, training=training)
    directions = [torch.randn_like(each) for each in (case.input, case.weight, case.bias)]

    def second(dtype: torch.dtype) -> list[Tensor]:
        variables = [
            each.to(dtype).requires_grad_()
            for each in (case.grad, case.input, case.weight, case.bias)
        ]
        grad, input, weight, bias = variables
        output = conditional_batch_norm_act(
            input, case.labels, weight, bias,
            case.running_mean.to(dtype), case.running_var.to(dtype), training=training,
        )  # fmt: skip
        first = torch.autograd.grad(output, variables[1:], grad, create_graph=True)
        total = sum((each * of.to(dtype)).sum() for each, of in zip(first, directions, strict=True))
        return list(torch.autograd.grad(total, variables, materialize_grads=True))

    got = second(torch.float32)
    with use_backend("reference"):
        truth = second(torch.float64)
    for value, true in zip(got, truth, strict=True):
        assert (value - true).norm() <= 2e-6 * true.norm()


def test_running_statistics_are_those_of_batch_norm(backend: str) -> None:
    module = nn.BatchNorm2d(6, momentum=0.3)
    running_mean, running_var = torch.zeros(6), torch.ones(6)
    labels, weight, bias = torch.zeros(4, dtype=torch.int64), torch.ones(1, 6), torch.zeros(1, 6)
    for training in (True, True, True, False):
        module.train(training)
        images = torch.randn(4, 6, 5, 5) * 3 - 1
        output = conditional_batch_norm_act(
            images, labels, weight, bias, running_mean, running_var,
            training=training, momentum=0.3, negative_slope=1.0,
        )  # fmt: skip
        torch.testing.assert_close(output, module(images))
        torch.testing.assert_close(running_mean, module.running_mean)
        torch.testing.assert_close(running_var, module.running_var)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
@pytest.mark.parametrize("training", [True, False])
def test_label_out_of_range(backend: str, label: int, training: bool) -> None:
    case = make_case((4, 3, 5, 5), training=training)
    case.labels[2] = label
    with pytest.raises(IndexError, match=rf"labels\[2\] is {label}, expected 0 <= label < 3"):
        case.results()


def test_label_out_of_range_is_nan_where_looking_would_wait() -> None:
    # As on a GPU: the compiled reference reads the labels without looking at them first.
    case = make_case((4, 3, 5, 5), training=False)
    case.labels[2] = 7
    compiled = torch.compile(conditional_batch_norm_act, fullgraph=True, backend="eager")
    with use_backend("reference"):
        output = compiled(
            case.input, case.labels, case.weight, case.bias,
            case.running_mean, case.running_var, training=False,
        )  # fmt: skip
    assert output[2].isnan().all()
    assert output[[0, 1, 3]].isfinite().all()


@pytest.mark.filterwarnings("ignore:var_mean")  # of nothing, by the reference
def test_empty_batch(backend: str) -> None:
    case = make_case((4, 3, 5, 5))
    case.input, case.labels, case.grad = case.input[:0], case.labels[:0], case.grad[:0]
    got = case.results()
    assert got["output"].shape == got["input"].shape == (0, 3, 5, 5)
    assert not got["weight"].any()
    assert not got["bias"].any()
    assert torch.equal(got["running_mean"], case.running_mean)
    assert torch.equal(got["running_var"], case.running_var)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": torch.zeros(4, 3)}, ValueError, r"input must have shape \(N, C, H, W\)"),
        ({"input": torch.zeros(4, 3, 2, 2, dtype=torch.int32)}, TypeError, "input must be float32"),
        ({"labels": torch.zeros(4, dtype=torch.int32)}, TypeError, "labels must be int64"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, r"labels must have shape \(4,"),
        ({"weight": torch.ones(2, 4)}, ValueError, r"weight must have shape \(K, 3\).*\(2, 4\)"),
        ({"weight": torch.ones(2, 3).half()}, TypeError, "weight must be float32, got float16"),
        ({"bias": torch.ones(1, 3)}, ValueError, r"bias must have shape \(2, 3\), got \(1, 3\)"),
        ({"bias": torch.ones(2, 3, device="meta")}, ValueError, "bias must be on cpu like input"),
        ({"running_var": None}, ValueError, "got None for running_var"),
        ({"running_mean": torch.ones(4)}, ValueError, r"running_mean must have shape \(3,\)"),
        (
            {"running_mean": None, "running_var": None, "training": False},
            ValueError,
            "needed when training=False",
        ),
        ({"negative_slope": -0.1}, ValueError, "negative_slope must be at least 0, got -0.1"),
        (
            {"input": torch.zeros(1, 3, 1, 1), "labels": torch.zeros(1, dtype=torch.int64)},
            ValueError,
            "more than one value per channel",
        ),
    ],
)
def test_wrong_arguments_are_named(
    backend: str, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {
        "input": torch.zeros(4, 3, 2, 2),
        "labels": torch.zeros(4, dtype=torch.int64),
        "weight": torch.ones(2, 3),
        "bias": torch.zeros(2, 3),
        "running_mean": torch.zeros(3),
        "running_var": torch.ones(3),
    }
    with pytest.raises(error, match=message):
        conditional_batch_norm_act(**{**arguments, **changes})  # type: ignore[arg-type]
