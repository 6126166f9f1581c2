"""The kernels called directly, for what the shared tests of the ops do not reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import triton.testing
from cxrgan_fast.kernels import (
    adversarial_loss,
    bias_leaky_relu,
    conditional_batch_norm,
    launch,
    moments,
    tiles,
)
from torch import Tensor

from cxrgan_fast.ops import reference
from op_cases import LAYOUTS, relative_error

EPS, SLOPE = 1e-5, 0.2
Shape = tuple[int, int, int, int]


def norm_inputs(
    shape: Shape, layout: str, device: str, classes: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Images, labels, γ, β and a gradient that is 0 where forward could round to another sign."""
    memory_format = LAYOUTS[layout]
    image = (torch.randn(shape) * 1.5 + 0.5).to(memory_format=memory_format)
    labels = torch.randint(classes, shape[:1])
    weight, bias = torch.randn(2, classes, shape[1])
    z = reference.conditional_batch_norm_act(
        image.double(), labels, weight.double(), bias.double(), eps=EPS, negative_slope=1.0
    )
    grad = torch.randn(shape).masked_fill(z.abs() < 1e-4, 0).to(memory_format=memory_format)
    image, labels, weight, bias, grad = (
        each.to(device) for each in (image, labels, weight, bias, grad)
    )
    return image, labels, weight, bias, grad


def run_norm(
    image: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    output, statistics = conditional_batch_norm.forward(
        image, labels, weight, bias, None, None, EPS, SLOPE
    )
    grad_input, grad_weight, grad_bias = conditional_batch_norm.backward(
        grad, image, labels, weight, bias, statistics, EPS, SLOPE, True
    )
    return {
        "output": output,
        "mean": statistics[0],
        "var": statistics[1],
        "rstd": statistics[2],
        "grad_input": grad_input,
        "grad_weight": grad_weight,
        "grad_bias": grad_bias,
    }


def norm_truth(
    image: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    """The definition in float64."""
    variables = [each.double().requires_grad_() for each in (image, weight, bias)]
    mean, var = reference.batch_statistics(variables[0])
    output = reference.normalize_act(
        variables[0], labels, *variables[1:], mean, var, eps=EPS, negative_slope=SLOPE
    )
    gradients = torch.autograd.grad(output, variables, grad.double())
    names = ("grad_input", "grad_weight", "grad_bias")
    statistics = {"mean": mean, "var": var, "rstd": (var + EPS).rsqrt()}
    return {"output": output, **statistics, **dict(zip(names, gradients, strict=True))}


def assert_right(got: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    for name, value in got.items():
        assert relative_error(value, truth[name].detach()) < 1e-6, name


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(40, 3, 32, 32), (3, 5, 70, 65), (50, 70, 4, 4)], ids=str)
@pytest.mark.parametrize(("few", "most"), [(1, 64), (1, 3), (64, 2)])
def test_every_way_to_share_out_and_merge_parts(
    shape: Shape, layout: str, few: int, most: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many parts and their merging kernel, a few tiles for each, one part alone."""
    monkeypatch.setattr(moments, "_FEW_PARTS", {False: few, True: few})
    monkeypatch.setattr(moments, "_MOST_PARTS", most)
    monkeypatch.setattr(moments, "_FILLED", 1 << 30)
    monkeypatch.setattr(moments, "_A_LAUNCH", 0)
    monkeypatch.setattr(moments, "_MERGED", 16)  # and several steps to merge them in
    for name in ("REDUCTION_TILE", "PAIR_REDUCTION_TILE"):
        for module in (moments, conditional_batch_norm, bias_leaky_relu):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 2048)
    inputs = norm_inputs(shape, layout, device)
    assert_right(run_norm(*inputs), norm_truth(*inputs))
    image, _, _, bias, grad = inputs
    output = bias_leaky_relu.act(image, bias[0], SLOPE)
    grad_input, grad_bias = bias_leaky_relu.backward(grad, output, SLOPE)
    expected = torch.where(output > 0, grad, grad * SLOPE)
    assert torch.equal(grad_input, expected)
    assert relative_error(grad_bias, expected.double().sum((0, 2, 3))) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(64, 512, 4, 4), (64, 256, 8, 8)], ids=str)
def test_small_images_need_no_kernel_to_merge_their_parts(
    shape: Shape, dtype: torch.dtype, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tiles that a GPU has, wherever this runs."""
    monkeypatch.setattr(tiles, "LARGEST_TILE", 4096)
    monkeypatch.setattr(tiles, "PLANES_AT_ONCE", 1)
    image = torch.empty(shape, dtype=dtype).to(memory_format=LAYOUTS[layout])
    images = tiles.images_of(image)
    parts = moments.parts_of(images, 4096)
    assert parts.count <= moments.few_parts(images)
    assert parts.count * parts.tiles >= images.tiles(4096)


@pytest.mark.parametrize("channels", [1, 5, 700])
@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 1.0, 0])
@pytest.mark.parametrize("count", [0, 1, 2, 4096])
def test_running_statistics(count: int, momentum: float, channels: int, device: str) -> None:
    statistics = torch.rand(3, channels, device=device)
    running_mean, running_var = torch.randn(2, channels, device=device).unbind()
    expected = running_mean.clone(), running_var.clone()
    reference.update_running_statistics(
        *expected, statistics[0], statistics[1], count=count, momentum=momentum
    )
    before = running_mean._version
    conditional_batch_norm.update_running_statistics(
        running_mean, running_var, statistics, count, momentum
    )
    for got, value in zip((running_mean, running_var), expected, strict=True):
        torch.testing.assert_close(got, value, rtol=3e-7, atol=1e-7)
    if momentum == 1 and count:
        assert torch.equal(running_mean, statistics[0])
    assert (running_mean._version > before) == (count > 0)


def test_nothing_is_measured_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """To wait for a kernel would break the capture: the first tile is taken."""
    calls: list[str] = []

    def do_bench(call: Callable[[], object], **options: object) -> list[float]:
        call()
        return [1.0, 1.0, 1.0]

    def measured() -> object:
        return launch._measure(lambda: calls.append("measured"), (0.5, 0.2, 0.8))

    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    for capturing in (True, False):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda now=capturing: now)
        assert len(measured()) == 3
        assert calls == ([] if capturing else ["measured"])


@pytest.mark.long
@pytest.mark.parametrize(("tune", "count"), [("0", 1), ("1", 3), ("", 3)])
def test_tuning_can_be_turned_off(tune: str, count: int) -> None:
    environment = {**os.environ, "CXRGAN_TRITON_TUNE": tune}
    environment.pop("TRITON_INTERPRET", None)
    program = "from cxrgan_fast.kernels.launch import TUNED_TILES as t; print(len(t), t[0])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{count} 2048\n"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("samples", [600, 5000])
def test_many_samples_of_a_class(samples: int, layout: str, device: str) -> None:
    """More than one chain of additions holds."""
    inputs = norm_inputs((samples, 5, 2, 1), layout, device, classes=2)
    assert_right(run_norm(*inputs), norm_truth(*inputs))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_few_samples_of_many_pixels(
    layout: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pixels are summed up in segments of several tiles."""
    monkeypatch.setattr(conditional_batch_norm, "PAIR_REDUCTION_TILE", 1024)
    monkeypatch.setattr(conditional_batch_norm, "_MOST_UNITS", 8)
    inputs = norm_inputs((2, 2, 90, 95), layout, device)
    assert_right(run_norm(*inputs), norm_truth(*inputs))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("label", [-1, 3, -(2**62), 2**62])
def test_a_label_that_is_no_class(label: int, training: bool, layout: str, device: str) -> None:
    image, labels, weight, bias, grad = norm_inputs((7, 6, 5, 6), layout, device)
    # The tables lie in the middle of others' numbers, which would show in a sum.
    tables = torch.full((2, 9, 6), 1e30, device=device)
    tables[0, 3:6], tables[1, 3:6] = weight, bias
    weight, bias = tables[:, 3:6]
    running = (None, None) if training else (torch.zeros(6).to(device), torch.ones(6).to(device))
    backward = (EPS, SLOPE, training)
    # What everybody else gets is as if the sample had a class, and no gradient.
    without = grad.clone()
    without[4] = 0
    expected, statistics = conditional_batch_norm.forward(
        image, labels, weight, bias, *running, EPS, SLOPE
    )
    expected_grads = conditional_batch_norm.backward(
        without, image, labels, weight, bias, statistics, *backward
    )
    labels[4] = label
    output, same_statistics = conditional_batch_norm.forward(
        image, labels, weight, bias, *running, EPS, SLOPE
    )
    grads = conditional_batch_norm.backward(
        grad, image, labels, weight, bias, same_statistics, *backward
    )
    assert torch.equal(same_statistics, statistics)
    others = [0, 1, 2, 3, 5, 6]
    for got, of_all in ((output, expected), (grads[0], expected_grads[0])):
        assert got[4].isnan().all()
        assert torch.equal(got[others], of_all[others])
    assert torch.equal(grads[1], expected_grads[1])
    assert torch.equal(grads[2], expected_grads[2])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_without_samples_has_gradients_of_0_whatever_the_images(
    layout: str, device: str
) -> None:
    image, labels, weight, bias, grad = norm_inputs((5, 6, 5, 6), layout, device)
    labels.fill_(2)
    image[0, :3] = float("nan")
    got = run_norm(image, labels, weight, bias, grad)
    assert torch.equal(got["grad_weight"][:2], torch.zeros_like(weight[:2]))
    assert torch.equal(got["grad_bias"][:2], torch.zeros_like(bias[:2]))
    assert got["grad_weight"][2, :3].isnan().all()
    assert got["grad_weight"][2, 3:].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (3, 4, 0, 3), (3, 0, 2, 2)], ids=str)
def test_no_images(shape: Shape, device: str) -> None:
    image = torch.empty(shape, device=device)
    labels = torch.zeros(shape[0], dtype=torch.int64, device=device)
    weight, bias = torch.randn(2, 3, shape[1], device=device)
    got = run_norm(image, labels, weight, bias, image)
    assert got["output"].shape == got["grad_input"].shape == shape
    for name, expected in {"mean": 0, "var": 0, "rstd": EPS**-0.5}.items():
        torch.testing.assert_close(got[name], torch.full_like(got[name], expected))
    for name in ("grad_weight", "grad_bias"):
        assert torch.equal(got[name], torch.zeros_like(weight)), name
    assert bias_leaky_relu.act(image, bias[0], SLOPE).shape == shape
    grad_input, grad_bias = bias_leaky_relu.backward(image, image, SLOPE)
    assert grad_input.shape == shape
    assert torch.equal(grad_bias, torch.zeros(shape[1], device=device))


KINDS = ("minimax", "non_saturating", "hinge", "least_squares", "wasserstein")


def losses(
    real: Tensor, fake: Tensor, kind: str, smoothing: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients, by the kernels and by the definition."""
    generator, of_generator = adversarial_loss.generator(fake.contiguous(), kind)
    loss, of_real, of_fake = adversarial_loss.discriminator(real, fake, kind, smoothing)
    got = [loss, of_real.expand_as(real), of_fake.expand_as(fake)]
    got += [generator, of_generator.expand_as(fake)]
    dtype = torch.float64 if real.isfinite().all() else torch.float32
    real, fake = (each.to(dtype).requires_grad_() for each in (real, fake))
    loss = reference.discriminator_loss(real, fake, kind=kind, label_smoothing=smoothing)
    generator = reference.generator_loss(fake, kind=kind)
    expected = [loss, *torch.autograd.grad(loss, (real, fake))]
    expected += [generator, *torch.autograd.grad(generator, fake)]
    return got, [each.detach() for each in expected]


# One program up to 4096 logits, then more; the two counts need not be alike.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("reals", "fakes"), [(1, 1), (64, 48), (4096, 1025), (4097, 3), (3, 9000), (10000, 20000)]
)
def test_losses_of_any_count(reals: int, fakes: int, kind: str, device: str) -> None:
    smoothing = 0.1 if kind in ("minimax", "non_saturating", "least_squares") else 0.0
    real, fake = torch.randn(reals) * 3 + 1, torch.randn(fakes) * 3 - 1
    for value, truth in zip(
        *losses(real.to(device), fake.to(device), kind, smoothing), strict=True
    ):
        assert value.dtype == torch.float32
        assert value.shape == truth.shape
        assert (value.double() - truth).norm() <= 1e-6 * truth.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 15.0, 80.0, 1e4])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_gradients_of_sure_and_unsure_logits(
    sign: float, size: float, kind: str, device: str
) -> None:
    """Each to float32's digits by itself, also those that are next to nothing."""
    logits = (sign * size * (1 + torch.rand(100))).to(device)
    got, expected = losses(logits, logits.clone(), kind, 0.0)
    for value, truth in zip(got, expected, strict=True):
        # Below the least normal float32 a GPU may round to 0.
        torch.testing.assert_close(value.double(), truth, rtol=1e-6, atol=2e-38)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_losses_of_no_numbers(number: float, kind: str, device: str) -> None:
    real, fake = torch.randn(2, 20).to(device)
    real[3] = fake[5] = number
    for value, truth in zip(*losses(real, fake, kind, 0.0), strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_no_logits(kind: str, device: str) -> None:
    none, some = torch.empty(0, device=device), torch.randn(3).to(device)
    assert adversarial_loss.generator(none, kind)[0].isnan()
    assert adversarial_loss.discriminator(none, some, kind, 0.0)[0].isnan()
    assert adversarial_loss.discriminator(some, none, kind, 0.0)[0].isnan()
