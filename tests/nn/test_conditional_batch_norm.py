"""The module ConditionalBatchNorm2d; the op has tests of its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cxrgan_fast.nn import ConditionalBatchNorm2d
from cxrgan_fast.nn.labels import class_rows


def trained(slope: float = 1.0) -> ConditionalBatchNorm2d:
    torch.manual_seed(0)
    module = ConditionalBatchNorm2d(3, 2, negative_slope=slope)
    torch.nn.init.normal_(module.weight)
    torch.nn.init.normal_(module.bias)
    return module


def test_a_fresh_module_is_batch_norm() -> None:
    module, norm = ConditionalBatchNorm2d(3, 2), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5) * 2 + 1
        torch.testing.assert_close(module(x, torch.tensor([0, 1, 1, 0])), norm(x))
    torch.testing.assert_close(module.running_mean, norm.running_mean)
    torch.testing.assert_close(module.running_var, norm.running_var)
    x = torch.randn(4, 3, 5, 5)
    expected = norm.eval()(x)
    torch.testing.assert_close(module.eval()(x, torch.tensor([0, 1, 1, 0])), expected)
    torch.testing.assert_close(module.running_mean, norm.running_mean)


def averaging() -> ConditionalBatchNorm2d:
    return ConditionalBatchNorm2d(3, 2, momentum=None)


@pytest.mark.first_tier(3)
@pytest.mark.filterwarnings("ignore:var_mean")
def test_without_momentum_it_averages_over_all_batches(device: str) -> None:
    module, norm = averaging().to(device), torch.nn.BatchNorm2d(3, momentum=None).to(device)
    labels = torch.tensor([0, 1, 1, 0], device=device)
    module(torch.zeros(0, 3, 5, 5, device=device), labels[:0])  # which counts for nothing
    for scale in (1.0, 2.0, 5.0):
        x = torch.randn(4, 3, 5, 5).to(device) * scale + scale
        torch.testing.assert_close(module(x, labels), norm(x))
        torch.testing.assert_close(module.running_mean, norm.running_mean)
        torch.testing.assert_close(module.running_var, norm.running_var)
    assert module.num_batches_tracked is not None
    assert module.num_batches_tracked.item() == norm.num_batches_tracked.item() == 3
    x = torch.randn(4, 3, 5, 5).to(device)
    torch.testing.assert_close(module.eval()(x, labels), norm.eval()(x))
    assert module.num_batches_tracked.item() == 3
    twin = averaging().to(device)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin.eval()(x, labels), module(x, labels))


@pytest.mark.first_tier(2)
def test_averaging_compiles_and_waits_for_nothing(device: str) -> None:
    module, twin = averaging().to(device), averaging().to(device)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    labels = torch.tensor([0, 1, 1, 0], device=device)
    for scale in (1.0, 2.0):
        x = torch.randn(4, 3, 5, 5).to(device) * scale
        torch.testing.assert_close(compiled(x, labels), twin(x, labels))
    for name, each in module.named_buffers():
        torch.testing.assert_close(each, twin.get_buffer(name))


def test_generators_saved_before_still_fit() -> None:
    assert set(trained().state_dict()) == {"weight", "bias", "running_mean", "running_var"}
    assert set(averaging().state_dict()) - set(trained().state_dict()) == {"num_batches_tracked"}


def test_activation_follows() -> None:
    x, labels = torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    expected = F.leaky_relu(trained()(x, labels), 0.2)
    torch.testing.assert_close(trained(slope=0.2)(x, labels), expected)


def test_class_weights_mix_classes() -> None:
    module = trained().eval()
    x, labels = torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    whole = module(x, labels)
    torch.testing.assert_close(module(x, F.one_hot(labels, 2).float()), whole)
    # Without an activation the output is linear in γ and β, so a mixture is the mean of outputs.
    half = module(x, torch.full((4, 2), 0.5))
    torch.testing.assert_close(half, (whole + module(x, 1 - labels)) / 2)


def test_class_weights_train_both_classes() -> None:
    module = trained()
    module(torch.randn(2, 3, 4, 4), torch.tensor([[0.3, 0.7], [1.0, 0.0]])).sum().backward()
    torch.testing.assert_close(
        module.bias.grad, torch.tensor([1.3 * 16, 0.7 * 16])[:, None].expand(2, 3)
    )


def test_class_rows_refuses_what_does_not_fit() -> None:
    table = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"class weights must have shape \(N, 3\), got \(2, 2\)"):
        class_rows(table, torch.ones(2, 2))
    with pytest.raises(IndexError):
        class_rows(table, torch.tensor([3]))


def test_class_rows_keeps_float32_under_autocast() -> None:
    table = torch.randn(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = class_rows(table, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(mixed, (0.25 * table[0] + 0.75 * table[1])[None])
