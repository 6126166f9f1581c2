"""The reference against torch.nn and against formulas written out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from cxrgan_fast.ops import reference

F64 = torch.float64


@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_one_class_is_batch_norm_then_leaky_relu(momentum: float) -> None:
    x = torch.randn(4, 3, 5, 6, dtype=F64)
    norm = torch.nn.BatchNorm2d(3, momentum=momentum, dtype=F64)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    running_mean, running_var = norm.running_mean.clone(), norm.running_var.clone()
    arguments = (
        x,
        torch.zeros(4, dtype=torch.int64),
        norm.weight.detach()[None],
        norm.bias.detach()[None],
        running_mean,
        running_var,
    )
    y = reference.conditional_batch_norm_act(*arguments, momentum=momentum)
    torch.testing.assert_close(y, F.leaky_relu(norm(x), 0.2))
    torch.testing.assert_close(running_mean, norm.running_mean)
    torch.testing.assert_close(running_var, norm.running_var)

    y = reference.conditional_batch_norm_act(*arguments, training=False)
    torch.testing.assert_close(y, F.leaky_relu(norm.eval()(x), 0.2))


def test_each_sample_takes_its_own_class() -> None:
    x = torch.randn(5, 2, 3, 3, dtype=F64)
    labels = torch.tensor([2, 0, 1, 2, 2])
    weight, bias = torch.randn(2, 3, 2, dtype=F64)
    mean, var = reference.batch_statistics(x)
    y = reference.conditional_batch_norm_act(x, labels, weight, bias, negative_slope=1.0)
    for n, c in ((0, 1), (1, 0), (2, 1)):
        gamma, beta = weight[labels[n], c], bias[labels[n], c]
        expected = gamma * (x[n, c] - mean[c]) / (var[c] + 1e-5).sqrt() + beta
        torch.testing.assert_close(y[n, c], expected)


def test_batch_statistics_of_half_precision_images_are_float32() -> None:
    x = (torch.randn(8, 3, 16, 16) + 100).bfloat16()
    mean, var = reference.batch_statistics(x)
    assert mean.dtype == var.dtype == torch.float32
    expected = x.double().var(dim=(0, 2, 3), correction=0).float()
    torch.testing.assert_close(var, expected, rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:var_mean")  # of the empty batch
def test_running_statistics_survive_an_empty_batch_and_a_single_value() -> None:
    mean, var = torch.zeros(2), torch.ones(2)
    table = torch.ones(1, 2)
    for shape in ((0, 2, 4, 4), (1, 2, 1, 1)):
        labels = torch.zeros(shape[0], dtype=torch.int64)
        reference.conditional_batch_norm_act(torch.ones(shape), labels, table, table, mean, var)
    torch.testing.assert_close(mean, torch.full((2,), 0.1))  # only the single value counted
    torch.testing.assert_close(var, torch.full((2,), 0.9))


def test_evaluation_without_running_statistics_is_refused() -> None:
    table = torch.ones(1, 2)
    with pytest.raises(ValueError, match="running_mean and running_var"):
        reference.conditional_batch_norm_act(
            torch.ones(1, 2, 4, 4), torch.zeros(1, dtype=torch.int64), table, table, training=False
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_images_keep_dtype_and_layout(dtype: torch.dtype) -> None:
    x = torch.randn(2, 8, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    table = torch.ones(1, 8)
    labels = torch.zeros(2, dtype=torch.int64)
    for y in (
        reference.conditional_batch_norm_act(x, labels, table, table),
        reference.bias_leaky_relu(x, torch.ones(8)),
    ):
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_losses_by_hand() -> None:
    real, fake, s = torch.tensor([2.0, -1.0], dtype=F64), torch.tensor([0.5], dtype=F64), 0.1

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    saturating = (softplus(-2) + softplus(1) + s * (2 - 1)) / 2 + softplus(0.5)
    expected = {
        "minimax": (saturating, -softplus(0.5)),
        "non_saturating": (saturating, softplus(-0.5)),
        "hinge": ((0 + 2) / 2 + 1.5, -0.5),
        "least_squares": ((1.1**2 + 1.9**2) / 4 + 0.125, 0.125),
        "wasserstein": (0.5 - 0.5, -0.5),
    }
    for kind, (discriminator, generator) in expected.items():
        loss = reference.discriminator_loss(real, fake, kind=kind, label_smoothing=s)
        assert loss.item() == pytest.approx(discriminator, abs=1e-12), kind
        assert reference.generator_loss(fake, kind=kind).item() == pytest.approx(generator), kind


@pytest.mark.parametrize("loss", [reference.discriminator_loss, reference.generator_loss])
def test_unknown_loss_is_refused(loss) -> None:
    logits = [torch.zeros(2)] * (2 if loss is reference.discriminator_loss else 1)
    with pytest.raises(ValueError, match="'logistic'"):
        loss(*logits, kind="logistic")
