"""What is particular to conditional_batch_norm_act: classes, running statistics, refusals.

Values and derivatives on every shape, dtype and layout are tested with those of the other ops.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrgan_fast.ops import conditional_batch_norm_act, use_backend
from op_cases import LAYOUTS, Shape, Target, batch_norm_case, relative_error


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_class_is_batch_norm(device: str, layout: str) -> None:
    case = batch_norm_case((6, 10, 7, 5), layout=layout, device=device, classes=1)
    got = case.results()
    variables = {name: each.double().requires_grad_() for name, each in case.variables.items()}
    state = {name: each.double() for name, each in case.state.items()}
    weight, bias = variables["weight"][0], variables["bias"][0]
    running = state["running_mean"], state["running_var"]
    output = F.batch_norm(variables["input"], *running, weight, bias, training=True)
    output = F.leaky_relu(output, 0.2)
    gradients = torch.autograd.grad(output, list(variables.values()), case.grad.double())
    names = [f"grad_{name}" for name in variables]
    expected = {"output": output, **dict(zip(names, gradients, strict=True)), **state}
    for name, value in got.items():
        assert relative_error(value, expected[name].detach()) < 1e-6, name


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_a_class_for_every_sample(device: str, training: bool, layout: str) -> None:
    """K = N with labels 0, 1, 2, …: per-sample γ and β."""
    case = batch_norm_case(
        (5, 10, 7, 5), layout=layout, device=device, classes=0, training=training
    )
    assert case.labels.tolist() == [0, 1, 2, 3, 4]
    got, truth = case.results(), case.truth()
    for name, value in got.items():
        assert relative_error(value, truth[name]) < 1e-6, name
    # Nothing but each sample's own pixels is in its rows' gradients.
    d = case.grad.double() * torch.where(truth["output"] > 0, 1.0, case.slope)
    assert relative_error(got["grad_bias"], d.sum((2, 3))) < 1e-6


def test_classes_without_samples_have_no_gradient(device: str) -> None:
    case = batch_norm_case((4, 10, 6, 6), device=device, classes=7)
    case.labels = torch.tensor([5, 1, 1, 5], device=device)
    got = case.results()
    for name in ("grad_weight", "grad_bias"):
        assert not got[name][[0, 2, 3, 4, 6]].any(), name
        assert got[name][[1, 5]].all(), name


@pytest.mark.parametrize("momentum", [0.3, 0.0, 1.0])
def test_running_statistics_are_those_of_batch_norm(device: str, momentum: float) -> None:
    module = nn.BatchNorm2d(6, momentum=momentum).to(device)
    running_mean, running_var = torch.zeros(6, device=device), torch.ones(6, device=device)
    labels = torch.zeros(4, dtype=torch.int64, device=device)
    weight, bias = torch.ones(1, 6, device=device), torch.zeros(1, 6, device=device)
    for training in (True, True, True, False):
        module.train(training)
        images = (torch.randn(4, 6, 5, 5) * 3 - 1).to(device)
        output = conditional_batch_norm_act(
            images, labels, weight, bias, running_mean, running_var,
            training=training, momentum=momentum, negative_slope=1.0,
        )  # fmt: skip
        torch.testing.assert_close(output, module(images))
        torch.testing.assert_close(running_mean, module.running_mean)
        torch.testing.assert_close(running_var, module.running_var)


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.0])
@pytest.mark.parametrize("training", [True, False])
def test_eps(device: str, training: bool, eps: float) -> None:
    case = batch_norm_case((4, 6, 5, 5), device=device, training=training)

    def output(variables: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
        return conditional_batch_norm_act(
            variables["input"], case.labels, variables["weight"], variables["bias"],
            state["running_mean"], state["running_var"],
            training=training, eps=eps, negative_slope=0.2,
        )  # fmt: skip

    got = case.results(function=output)
    with use_backend("reference"):
        truth = case.results(torch.float64, function=output)
    for name, value in got.items():
        assert relative_error(value, truth[name]) < 1e-6, name


@pytest.mark.parametrize("label", [-1, 3, 2**40])
@pytest.mark.parametrize("training", [True, False])
def test_label_out_of_range(target: Target, device: str, label: int, training: bool) -> None:
    case = batch_norm_case((4, 3, 5, 5), device=device, training=training)
    expected = case.results()["output"]
    case.labels[2] = label
    if target.checks_labels:
        with pytest.raises(IndexError, match=rf"labels\[2\] is {label}, expected 0 <= label < 3"):
            case.results()
    else:  # a look at the labels would wait for the device
        output = case.results()["output"]
        assert output[2].isnan().all()
        assert torch.equal(output[[0, 1, 3]], expected[[0, 1, 3]])


def test_label_out_of_range_is_nan_where_looking_would_wait() -> None:
    # As on a GPU: the compiled reference reads the labels without looking at them first.
    case = batch_norm_case((4, 3, 5, 5), training=False)
    case.labels[2] = 7
    compiled = torch.compile(conditional_batch_norm_act, fullgraph=True, backend="eager")
    with use_backend("reference"):
        output = compiled(
            case.variables["input"], case.labels, case.variables["weight"], case.variables["bias"],
            case.state["running_mean"], case.state["running_var"], training=False,
        )  # fmt: skip
    assert output[2].isnan().all()
    assert output[[0, 1, 3]].isfinite().all()


@pytest.mark.filterwarnings("ignore:var_mean")  # of nothing, by the reference
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(0, 3, 5, 5), (2, 3, 0, 5), (2, 3, 5, 0), (2, 0, 4, 4)], ids=str)
def test_no_values(device: str, shape: Shape, layout: str, training: bool) -> None:
    case = batch_norm_case(shape, layout=layout, device=device, training=training)
    got = case.results()
    assert got["output"].shape == got["grad_input"].shape == shape
    assert not got["grad_weight"].any()
    assert not got["grad_bias"].any()
    for name, value in case.state.items():
        assert torch.equal(got[name], value), name


def test_a_class_of_no_sample_does_no_harm(device: str) -> None:
    case = batch_norm_case((4, 6, 5, 5), device=device)
    case.labels.fill_(1)
    expected = case.results()
    case.variables["weight"][2] = float("inf")
    case.variables["bias"][0] = float("nan")
    for name, value in case.results().items():
        assert torch.equal(value, expected[name]), name


def test_views_of_negatives(device: str) -> None:
    case = batch_norm_case((4, 6, 5, 5), device=device)
    expected = case.results()
    for negated in ({"input"}, {"weight", "bias"}):
        case.variables.update({name: torch._neg_view(-case.variables[name]) for name in negated})
    case.grad = torch._neg_view(-case.grad)
    for name, value in case.results().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("shape", [(1, 3, 1, 1)], ids=str)
def test_a_single_value_per_channel(device: str, shape: Shape) -> None:
    """Refused in training as PyTorch does; nothing special in evaluation, or with more channels."""
    image = torch.ones(shape, device=device)
    labels = torch.zeros(1, dtype=torch.int64, device=device)
    table, running = torch.ones(2, 3, device=device), torch.ones(3, device=device)
    message = r"more than (1|one) value per channel.*\[?1, 3, 1, 1\]?"
    with pytest.raises(ValueError, match=message):
        F.batch_norm(image, running, running, training=True)
    with pytest.raises(ValueError, match=message):
        conditional_batch_norm_act(image, labels, table, table)
    case = batch_norm_case(shape, device=device, training=False)
    truth = case.truth()
    for name, value in case.results().items():
        torch.testing.assert_close(value.double(), truth[name].double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": torch.zeros(4, 3)}, ValueError, r"input must have shape \(N, C, H, W\)"),
        ({"input": torch.zeros(4, 3, 2, 2, dtype=torch.int32)}, TypeError, "input must be float32"),
        ({"labels": torch.zeros(4, dtype=torch.int32)}, TypeError, r"labels.*int64, got.*int32"),
        ({"labels": torch.zeros(4)}, TypeError, r"labels must be int64, got.*float32"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, r"labels must have shape \(4,"),
        (
            {"labels": torch.zeros(4, dtype=torch.int64, device="meta")},
            ValueError,
            "labels must be on (cpu|cuda:0) like input, got meta",
        ),
        ({"weight": torch.ones(2, 4)}, ValueError, r"weight must have shape \(K, 3\).*\(2, 4\)"),
        ({"weight": torch.ones(3)}, ValueError, r"weight must have shape \(K, 3\).*\(3,\)"),
        ({"weight": torch.ones(2, 3).half()}, TypeError, "weight must be float32, got float16"),
        ({"bias": torch.ones(1, 3)}, ValueError, r"bias must have shape \(2, 3\), got \(1, 3\)"),
        ({"bias": torch.ones(2, 3, device="meta")}, ValueError, "bias must be on (cpu|cuda:0)"),
        ({"running_var": None}, ValueError, "got None for running_var"),
        ({"running_mean": torch.ones(4)}, ValueError, r"running_mean must have shape \(3,\)"),
        (
            {"running_mean": None, "running_var": None, "training": False},
            ValueError,
            "needed when training=False",
        ),
        ({"negative_slope": -0.1}, ValueError, "negative_slope must be at least 0, got -0.1"),
        ({"negative_slope": float("nan")}, ValueError, "negative_slope must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(
    device: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "input": torch.zeros(4, 3, 2, 2),
        "labels": torch.zeros(4, dtype=torch.int64),
        "weight": torch.ones(2, 3),
        "bias": torch.zeros(2, 3),
        "running_mean": torch.zeros(3),
        "running_var": torch.ones(3),
    }
    arguments.update(changes)
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.device.type != "meta":
            arguments[name] = value.to(device)
    with pytest.raises(error, match=message):
        conditional_batch_norm_act(**arguments)


@pytest.mark.parametrize("name", ["labels", "weight", "bias", "running_mean"])
def test_arguments_on_another_device_than_the_input(device: str, name: str) -> None:
    case = batch_norm_case((4, 3, 2, 2), device=device)
    arguments: dict[str, Any] = {"labels": case.labels, **case.variables, **case.state}
    arguments[name] = arguments[name].to("cpu" if device == "cuda" else "meta")
    with pytest.raises(ValueError, match=f"{name} must be on {device}.* like input, got"):
        conditional_batch_norm_act(**arguments)
