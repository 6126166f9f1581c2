"""The modules on top of the fused ops, as PyTorch's own tools handle modules."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.nn import ConditionalBatchNorm2d
from cxrgan_fast.nn.blocks import BiasAct

CHANNELS, CLASSES = 6, 3
MODULES: dict[str, Callable[[], nn.Module]] = {
    "ConditionalBatchNorm2d": lambda: ConditionalBatchNorm2d(CHANNELS, CLASSES, negative_slope=0.1),
    "BiasAct": lambda: BiasAct(CHANNELS, 0.1),
}
every_module = pytest.mark.parametrize("name", MODULES)


def trained(name: str, device: str) -> nn.Module:
    """Parameters and running statistics that are not those of a new module."""
    module = MODULES[name]().to(device)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    module(*batch(device))
    return module


def batch(device: str) -> tuple[Tensor, Tensor]:
    images = torch.randn(4, CHANNELS, 5, 7) * 2 + 1
    return images.to(device), torch.tensor([0, 2, 2, 1]).to(device)


def trains(module: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The output, the gradients and the buffers of a training step."""
    output = module(images, labels)
    gradients = torch.autograd.grad(output.square().sum(), list(module.parameters()))
    return [output.detach(), *gradients, *(each.clone() for each in module.buffers())]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    assert len(got) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


def by_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def by_torch_save(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state_dict(module: nn.Module) -> nn.Module:
    name = type(module).__name__
    other = MODULES[name]().to(next(module.parameters()).device)
    other.load_state_dict(module.state_dict())
    return other


@every_module
@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_torch_save, by_state_dict])
@pytest.mark.parametrize("training", [True, False])
def test_a_copy_does_the_same_and_is_its_own(
    device: str, training: bool, copied: Callable[[nn.Module], nn.Module], name: str
) -> None:
    module = trained(name, device).train(training)
    other = copied(module).train(training)
    images, labels = batch(device)
    expected = trains(copy.deepcopy(module), images, labels)
    assert_same(trains(other, images, labels), expected)
    with torch.no_grad():
        for each in (*other.parameters(), *other.buffers()):
            each.add_(1)
    assert_same(trains(module, images, labels), expected)


@every_module
@pytest.mark.parametrize("training", [True, False])
def test_functional_call(device: str, training: bool, name: str) -> None:
    """Other parameters and buffers for one call; the module keeps its own."""
    module, other = trained(name, device).train(training), trained(name, device).train(training)
    images, labels = batch(device)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    given = {key: value.clone() for key, value in other.state_dict().items()}
    output = torch.func.functional_call(module, given, (images, labels))
    assert torch.equal(output, other(images, labels))
    for key, value in other.state_dict().items():
        assert torch.equal(given[key], value), key  # the running statistics given are updated
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key
    parameters = {key: given[key].requires_grad_() for key, _ in module.named_parameters()}
    output = torch.func.functional_call(module, {**given, **parameters}, (images, labels))
    gradients = torch.autograd.grad(output.square().sum(), list(parameters.values()))
    expected = torch.autograd.grad(other(images, labels).square().sum(), list(other.parameters()))
    assert_same(list(gradients), list(expected))


@every_module
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_trains_after_use_without_autograd(device: str, mode: type, name: str) -> None:
    """Also where the module was left in training: its statistics move on in every mode."""
    module = trained(name, device)
    twin = copy.deepcopy(module)
    first, second = batch(device), batch(device)
    expected = twin(*first).detach()
    with mode():
        output = module(*first)
    assert not output.requires_grad
    assert torch.equal(output, expected)
    assert not any(each.is_inference() for each in module.state_dict().values())
    assert_same(trains(module, *second), trains(twin, *second))
    with mode():
        assert torch.equal(module.eval()(*first), twin.eval()(*first))


@every_module
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_parameters_and_statistics(
    device: str, dtype: torch.dtype, name: str
) -> None:
    module = trained(name, device)
    twin = copy.deepcopy(module)
    images, labels = batch(device)
    with torch.autocast(device, dtype=dtype):
        got = trains(module, images.to(dtype), labels)
    assert_same(got, trains(twin, images.to(dtype), labels))
    assert got[0].dtype == dtype
    assert all(each.dtype == torch.float32 for each in got[1:])


def batch_norm_to(norm: nn.BatchNorm2d, classes: int) -> dict[str, Tensor]:
    """The state of ``norm`` as a ConditionalBatchNorm2d has it: γ and β for every class."""
    state = norm.state_dict()
    del state["num_batches_tracked"]
    for name in ("weight", "bias"):
        state[name] = state[name].expand(classes, -1)
    return state


@pytest.mark.parametrize("classes", [1, CLASSES])
def test_takes_the_state_of_batch_norm(device: str, classes: int) -> None:
    norm = nn.BatchNorm2d(CHANNELS).to(device)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    images, labels = batch(device)
    norm(images)
    module = ConditionalBatchNorm2d(CHANNELS, classes).to(device)
    module.load_state_dict(batch_norm_to(norm, classes))
    labels = labels % classes
    for training in (False, True, False):
        module.train(training)
        norm.train(training)
        torch.testing.assert_close(module(images, labels), norm(images))
    torch.testing.assert_close(module.running_mean, norm.running_mean)
    torch.testing.assert_close(module.running_var, norm.running_var)


def test_one_class_gives_its_state_to_batch_norm(device: str) -> None:
    module = ConditionalBatchNorm2d(CHANNELS, 1).to(device)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    images, labels = batch(device)[0], torch.zeros(4, dtype=torch.int64, device=device)
    module(images, labels)
    norm = nn.BatchNorm2d(CHANNELS).to(device)
    state = module.state_dict()
    for name in ("weight", "bias"):
        state[name] = state[name].squeeze(0)
    norm.load_state_dict(state)
    for training in (False, True):
        module.train(training)
        norm.train(training)
        torch.testing.assert_close(module(images, labels), norm(images))


def test_the_state_of_batch_norm_as_it_is_is_refused() -> None:
    """Its γ is (C,): which classes it is for has to be said."""
    module = ConditionalBatchNorm2d(CHANNELS, 1)
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        module.load_state_dict(nn.BatchNorm2d(CHANNELS).state_dict(), strict=False)
