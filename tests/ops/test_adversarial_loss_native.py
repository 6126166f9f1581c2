"""What only the kernels of the adversarial losses have to show, the native ones above all."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cxrgan_fast.ops import discriminator_loss, generator_loss, use_backend
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS, SMOOTHED_KINDS
from cxrgan_fast.ops.backend import native
from op_cases import FUSED, NATIVE_CPU, Target

CASES = [(kind, 0.0) for kind in LOSS_KINDS] + [(kind, 0.1) for kind in SMOOTHED_KINDS]


def on(*targets: Target) -> pytest.MarkDecorator:
    """Run a test on these targets; it takes ``device``."""
    return pytest.mark.parametrize("target", targets, indirect=True, ids=str)


on_the_cpu = on(NATIVE_CPU)
native_everywhere = on(*(each for each in FUSED if str(each) in ("native-cpu", "native-cuda")))
# Neither Triton's interpreter nor what stands in for a GPU is quick, or takes several threads.
at_full_speed = on(*(each for each in FUSED if each == NATIVE_CPU or each.device == "cuda"))


def everything(real: Tensor, fake: Tensor, kind: str, smoothing: float) -> list[Tensor]:
    """Both losses and their gradients."""
    real, fake = (each.detach().requires_grad_() for each in (real, fake))
    d = discriminator_loss(real, fake, kind=kind, label_smoothing=smoothing)
    g = generator_loss(fake, kind=kind)
    return [d.detach(), g.detach(), *torch.autograd.grad(d, (real, fake)),
            *torch.autograd.grad(g, fake)]  # fmt: skip


@at_full_speed
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_same_bits_on_every_run_and_thread_count(
    device, kind, smoothing, dtype, set_threads
) -> None:
    real, fake = torch.randn(64, 1, 30, 30).to(device, dtype), torch.randn(3, 77777)
    fake = fake.to(device, dtype)
    set_threads(1)
    expected = everything(real, fake, kind, smoothing)
    for threads in (1, 2, 3, 2):
        set_threads(threads)
        for value, true in zip(everything(real, fake, kind, smoothing), expected, strict=True):
            assert torch.equal(value, true)


@at_full_speed
def test_calls_from_several_python_threads(device) -> None:
    logits = [torch.randn(2, 1000 + i).to(device) for i in range(16)]
    expected = [everything(*each, "non_saturating", 0.0) for each in logits]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda each: everything(*each, "non_saturating", 0.0), logits * 4))
    for values, trues in zip(runs, expected * 4, strict=True):
        assert all(torch.equal(value, true) for value, true in zip(values, trues, strict=True))


@on(*FUSED)
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_every_element_is_written(device, kind, smoothing) -> None:
    real, fake = torch.randn(13, 7).to(device), torch.randn(20001).to(device)
    # Fills every torch.empty with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        values = everything(real, fake, kind, smoothing)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in values)


@on(*FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_only_the_gradients_are_saved(device, kind, dtype) -> None:
    real = torch.randn(3, 5).to(device, dtype).requires_grad_()
    fake = torch.randn(7).to(device, dtype).requires_grad_()
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = (
            (discriminator_loss(real, fake, kind=kind), (real, fake)),
            (generator_loss(fake, kind=kind), (fake,)),
        )
    gradients = [each for loss, logits in losses for each in torch.autograd.grad(loss, logits)]
    assert len(saved) == len(gradients) == 3
    for kept, gradient in zip(saved, gradients, strict=True):
        assert kept.dtype == torch.float32
        assert kept.numel() in (1, gradient.numel())  # one number for a plain mean
        assert torch.equal(kept.to(dtype).expand_as(gradient), gradient)


@on(*FUSED)
def test_logits_may_change_after_the_loss(device) -> None:
    real, fake = torch.randn(2, 9).to(device).requires_grad_()
    _, _, *expected = everything(real, fake, "hinge", 0.0)
    copies = [real.clone(), fake.clone()]
    loss = discriminator_loss(*copies, kind="hinge")
    for each in copies:
        each.detach().zero_()
    for got, true in zip(torch.autograd.grad(loss, (real, fake)), expected[:2], strict=True):
        assert torch.equal(got, true)


@pytest.mark.first_tier(1)
@native_everywhere
@pytest.mark.parametrize(("kind", "smoothing"), CASES)
def test_registered_as_torch_library_wants_it(device, kind, smoothing) -> None:
    ops = torch.ops.cxrgan_fast
    pairs = (
        (torch.randn(4, 3), torch.randn(5)),
        (torch.randn(6, 4).bfloat16().t(), torch.randn(2).expand(3, 2)),
        (torch.randn(()).half(), torch.randn(1, 2)),  # opcheck finds NaN unequal: none empty
    )
    for logits in pairs:
        real, fake = (each.to(device) for each in logits)
        arguments = (real.requires_grad_(), fake.requires_grad_(), kind, smoothing)
        torch.library.opcheck(ops.discriminator_loss.default, arguments)
        for each in (real, fake):
            torch.library.opcheck(ops.generator_loss.default, (each, kind))


@on_the_cpu
@pytest.mark.usefixtures("target")
def test_softplus_and_sigmoid_are_right_to_a_few_units_in_the_last_place() -> None:
    bits = torch.arange(-(2**31), 2**31, 8191).to(torch.int32)  # floats of every size and sign
    logits = bits.view(torch.float32)
    logits = torch.cat((logits[logits.isfinite()], torch.linspace(-104, 104, 200_000)))
    gradient = torch.autograd.grad(generator_loss(logits.requires_grad_()), logits)[0]
    sigmoid, count = (-logits.detach().double()).sigmoid(), logits.numel()
    small = 1e-37 * count  # gradients below are subnormal
    error = (-gradient.double() * count - sigmoid).abs() / sigmoid.clamp(min=small)
    assert error.max() <= 4 * 2**-23
    for x in logits.detach()[::5000]:
        softplus = generator_loss(-x).double()
        true = torch.nn.functional.softplus(x.double(), threshold=700)
        assert abs(softplus - true) <= 3 * 2**-23 * true + 1e-44


CHECK_A_LEVEL = """
import torch
from cxrgan_fast.ops import discriminator_loss, generator_loss, use_backend
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS
from cxrgan_fast.ops.backend import native

torch.manual_seed(0)
print(native().simd_level())
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    real, fake = (3 * torch.randn(2, 20011)).to(dtype).requires_grad_().unbind()
    for kind in LOSS_KINDS:
        def run(backend):
            with use_backend(backend):
                d, g = discriminator_loss(real, fake, kind=kind), generator_loss(fake, kind=kind)
                return [d, g, *torch.autograd.grad(d, (real, fake), retain_graph=True),
                        *torch.autograd.grad(g, fake, retain_graph=True)]
        for value, true in zip(run("native"), run("reference")):
            torch.testing.assert_close(value, true, rtol=2e-6 if dtype == torch.float32 else 1e-3,
                                       atol=1e-6 if value.dim() == 0 else 1e-7)
"""


@pytest.mark.long
@on_the_cpu
@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_lower_instruction_sets(level: str) -> None:
    if level not in native().build_info()["simd_levels"]:
        pytest.skip(f"{level} is not built for this processor")
    run = subprocess.run(
        [sys.executable, "-c", CHECK_A_LEVEL],
        env={**os.environ, "CXRGAN_SIMD": level},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in (level, "baseline")  # where the processor has no AVX2


@on_the_cpu
@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_tensors_that_outlive_a_functional_transform(mode) -> None:
    logits, kept = torch.randn(5), []
    torch.func.grad(lambda x: kept.append(x) or x.sum())(logits)
    with mode():
        assert torch.equal(generator_loss(kept[0]), generator_loss(logits))


@on_the_cpu
@pytest.mark.usefixtures("target")
def test_kinds_are_those_of_the_extension() -> None:
    assert tuple(native().LOSS_KINDS) == LOSS_KINDS


# --- What auto takes --------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """Counts the calls of this package's registered ops."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func.namespace == "cxrgan_fast"
        return func(*args, **(kwargs or {}))


LOSSES = {
    "discriminator": lambda logits, kind: discriminator_loss(logits, logits + 1, kind=kind),
    "generator": lambda logits, kind: generator_loss(logits, kind=kind),
}
# Plain means: PyTorch has those of few logits sooner than a kernel could be called.
MEANS = [("discriminator", "wasserstein"), ("generator", "wasserstein"), ("generator", "hinge")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("count", [1, 64, 1024, 1025])
@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("loss", LOSSES)
@on_the_cpu
def test_auto_decides_by_kind_and_count(
    device: str, loss: str, kind: str, count: int, dtype: torch.dtype
) -> None:
    results, calls = [], []
    for backend in ("auto", "native", "reference"):
        torch.manual_seed(0)
        logits = torch.randn(count).to(dtype).requires_grad_()
        with use_backend(backend), Recorder() as recorder:
            value = LOSSES[loss](logits, kind)
        results.append((value, *torch.autograd.grad(value, logits)))
        calls.append(recorder.calls)
    by_pytorch = (loss, kind) in MEANS and count <= 1024
    assert calls == [0 if by_pytorch else 1, 1, 0]
    for each in results[1:]:
        assert each[0].dtype == torch.float32
        for value, expected in zip(results[0], each, strict=True):
            torch.testing.assert_close(value, expected)
