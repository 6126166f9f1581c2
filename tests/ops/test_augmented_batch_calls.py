"""How augmented_batch may be called: compiled, transformed, captured; what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from augmented_batch_cases import InputCase, input_case
from cxrgan_fast import ops
from cxrgan_fast.ops import augmented_batch
from op_cases import FUSED, Target

fused = pytest.mark.parametrize("target", FUSED, indirect=True, ids=str)


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def fake_of(case: InputCase) -> Tensor:
    """The generated images, with a gradient to come."""
    assert case.fake is not None
    return case.fake.detach().requires_grad_()


def penalized(case: InputCase, fake: Tensor) -> Tensor:
    """Something that has the op in it, and between other things."""
    return case.call(fake * 2).pow(3) + 1


def gradients(function: Callable[[InputCase, Tensor], Tensor], case: InputCase) -> list[Tensor]:
    fake = fake_of(case)
    output = function(case, fake)
    (gradient,) = torch.autograd.grad(output, fake, output.detach().cos())
    return [output.detach(), gradient]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    for value, same in zip(got, expected, strict=True):
        assert value.stride() == same.stride()
        torch.testing.assert_close(value, same)


@pytest.mark.first_tier(1)
@fused
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("without", ["", "stored", "translation", "noise"])
def test_opcheck(backend: str, device: str, without: str, channels: int) -> None:
    case = input_case((channels, 6, 5), stored=2, fakes=3).on(device)
    absent: dict[str, Any] = {without: None} if without else {}
    if without == "stored":
        case = input_case((channels, 6, 5), stored=None, fakes=3).on(device)
    if without == "noise":
        absent["noise_std"] = None
    case = replace(case, **absent)
    suffix = "_triton" if backend == "triton" else ""
    ops = {
        name: getattr(torch.ops.cxrgan_fast, f"augmented_batch{name}{suffix}").default
        for name in ("", "_linear", "_backward")
    }
    fake, stored = fake_of(case), 0 if case.rows is None else 2
    uniform = case.translation, case.cutout
    images = fake, case.stored, case.rows, case.mirror
    noise = case.noise, case.noise_std
    torch.library.opcheck(ops[""], (*images, *uniform, *noise, -1.0, 1.0, "float32"))
    torch.library.opcheck(ops["_linear"], (fake, *uniform, stored, "bfloat16"))
    grad = torch.randn(stored + 3, channels, 6, 5).to(device).requires_grad_()
    for channels_last in (False, True):
        arguments = grad, *uniform, stored, "float32", channels_last
        torch.library.opcheck(ops["_backward"], arguments)


@fused
def test_only_uniform_numbers_are_saved(device: str) -> None:
    case, saved = input_case((3, 8, 8)).on(device), list[Tensor]()

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        case.call(fake_of(case))
    assert [each.shape for each in saved] == [(7, 2), (7, 2)]


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_whole(device: str, channels: int, dtype: torch.dtype) -> None:
    # aot_eager traces forward and backward as the default does, and compiles no C++.
    case = input_case((channels, 8, 7), fake_dtype=dtype, dtype=torch.float32).on(device)
    compiled = torch.compile(penalized, fullgraph=True, backend="aot_eager")
    assert_same(gradients(compiled, case), gradients(penalized, case))


@pytest.mark.first_tier(3)
def test_stored_images_alone_compiled_whole(device: str) -> None:
    case = input_case((1, 8, 7), fakes=None).on(device)
    compiled = torch.compile(InputCase.call, fullgraph=True, backend="aot_eager")
    assert_same([compiled(case)], [case.call()])


@fused
def test_compiled_by_inductor(device: str) -> None:
    case = input_case((3, 8, 8)).on(device)
    compiled = torch.compile(penalized, fullgraph=True)
    assert_same(gradients(compiled, case), gradients(penalized, case))


@pytest.mark.first_tier(1)
def test_one_graph_for_many_batches(device: str) -> None:
    def function(fake: Tensor, stored: Tensor, rows: Tensor, pairs: Tensor) -> Tensor:
        return augmented_batch(
            stored, rows, fake, value_range=(-1, 1), translation=pairs[:, 0], cutout=pairs[:, 1]
        ).square()

    def arguments(stored: int, fakes: int) -> list[Tensor]:
        tensors = (
            torch.randn(fakes, 1, 8, 8),
            torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8),
            torch.randint(9, (stored,)),
            torch.rand(stored + fakes, 2, 2),
        )
        return [each.to(device) for each in tensors]

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    first = arguments(4, 5)
    assert_same([compiled(*first)], [function(*first)])
    with torch.compiler.set_stance("fail_on_recompile"):
        for sizes in ((3, 6), (7, 2)):
            more = arguments(*sizes)
            assert_same([compiled(*more)], [function(*more)])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_autograd(device: str, mode: type) -> None:
    case = input_case().on(device)
    expected, fake = case.call(), fake_of(case)
    with mode():
        got = case.call(fake)
    assert not got.requires_grad
    assert torch.equal(got, expected)


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing(device: str, autocast: torch.dtype) -> None:
    case = input_case().on(device)
    expected = gradients(penalized, case)
    with torch.autocast(device, dtype=autocast):
        got = gradients(penalized, case)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_functional_transforms(device: str) -> None:
    case = input_case((3, 6, 5)).on(device)
    fake = fake_of(case).detach()

    def loss(fake: Tensor) -> Tensor:
        return case.call(fake).pow(3).sum()

    def penalty(fake: Tensor) -> Tensor:
        return torch.func.grad(loss)(fake).square().sum()

    of_autograd = fake.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(of_autograd), of_autograd, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), of_autograd)
    torch.testing.assert_close(torch.func.grad(loss)(fake), first.detach())
    torch.testing.assert_close(torch.func.grad(penalty)(fake), second)


def test_noise_has_no_gradient(device: str) -> None:
    case = input_case().on(device)
    assert case.noise is not None
    noise = case.noise.requires_grad_()
    case.call(fake_of(case)).sum().backward()
    assert noise.grad is None


@pytest.mark.parametrize(
    "target", [each for each in FUSED if each.device == "cuda"], indirect=True, ids=str
)
def test_a_replayed_graph_is_a_call(target: Target, device: str) -> None:
    case = input_case((1, 64, 64), stored=32, fakes=32).on(device)
    gradients(penalized, case)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = gradients(penalized, case)
    for tensor in (case.rows, case.fake, case.translation, case.cutout, case.noise):
        assert tensor is not None
        tensor.copy_(tensor.flip(0))
    graph.replay()
    expected = gradients(penalized, case)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


STORED, ROWS = torch.zeros(4, 1, 8, 6, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
FAKE, PAIRS = torch.zeros(3, 1, 8, 6), torch.zeros(5, 2)
NOISE, STD = torch.zeros(5, 1, 8, 6), torch.tensor(0.1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stored": None, "rows": None, "fake": None}, ValueError, "stored or fake must be given"),
        ({"rows": None}, ValueError, "stored and rows go together, got None for rows"),
        ({"stored": None}, ValueError, "stored and rows go together, got None for stored"),
        ({"stored": [0]}, TypeError, "stored must be a Tensor, got list"),
        ({"stored": STORED.float()}, TypeError, "stored must be uint8, got float32"),
        ({"stored": STORED[0]}, ValueError, r"stored must have shape \(M, C, H, W\).*\(1, 8, 6\)"),
        ({"stored": STORED[:, :, ::2]}, ValueError, "stored must be contiguous, got strides"),
        ({"rows": ROWS.int()}, TypeError, "rows must be int64, got int32"),
        ({"rows": ROWS[None]}, ValueError, r"rows must have shape \(N,\), got \(1, 2\)"),
        ({"rows": ROWS.to("meta")}, ValueError, "rows must be on .* like stored, got meta"),
        ({"fake": FAKE.long()}, TypeError, "fake must be float32.*int64"),
        (
            {"fake": FAKE[:, :, 1:]},
            ValueError,
            r"fake must have shape \(F, 1, 8, 6\).*\(3, 1, 7, 6",
        ),
        ({"fake": FAKE.to("meta")}, ValueError, "fake must be on .* like stored, got meta"),
        ({"mirror": ROWS}, TypeError, "mirror must be bool, got int64"),
        ({"mirror": PAIRS[:, 0] > 0}, ValueError, r"mirror must have shape \(2,\), got \(5,\)"),
        ({"translation": PAIRS[1:]}, ValueError, r"translation must have shape \(5, 2\).*\(4, 2\)"),
        ({"translation": PAIRS.double()}, TypeError, "translation must be float32, got float64"),
        ({"cutout": PAIRS[:, :1]}, ValueError, r"cutout must have shape \(5, 2\), got \(5, 1\)"),
        ({"cutout": PAIRS.to("meta")}, ValueError, "cutout must be on .* like fake, got meta"),
        (
            {"noise_std": None},
            ValueError,
            "noise and noise_std go together, got None for noise_std",
        ),
        ({"noise": NOISE[1:]}, ValueError, r"noise must have shape \(5, 1, 8, 6\)"),
        ({"noise": NOISE.half()}, TypeError, "noise must be float32, got float16"),
        ({"noise_std": 0.1}, TypeError, "noise_std must be a Tensor, got float"),
        ({"noise_std": STD[None]}, ValueError, r"noise_std must have shape \(\), got \(1,\)"),
        ({"value_range": (1, 1)}, ValueError, "value_range must be .* low < high, got .1, 1."),
        ({"dtype": torch.int32}, TypeError, "dtype must be float32.*int32"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    device: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {
        "stored": STORED,
        "rows": ROWS,
        "fake": FAKE,
        "value_range": (-1.0, 1.0),
        "translation": PAIRS,
        "cutout": PAIRS,
        "noise": NOISE,
        "noise_std": STD,
        **changes,
    }
    moved: dict[str, Any] = {
        name: each.to(device) if isinstance(each, Tensor) and not each.is_meta else each
        for name, each in arguments.items()
    }
    with pytest.raises(error, match=message):
        augmented_batch(moved.pop("stored"), moved.pop("rows"), moved.pop("fake"), **moved)


def test_the_former_name_is_the_same_function() -> None:
    assert ops.discriminator_input is augmented_batch
