"""The cases that ``bench.kernels`` and ``pytest --benchmark-only`` time, and the ways to run each.

A case is an op at a shape, layout and dtype. What is timed is a forward and a backward pass through
autograd. ``eager`` is the op as one writes it in PyTorch in that dtype, ``compiled`` is
``torch.compile(eager, dynamic=False)``, on a GPU in mode ``max-autotune-no-cudagraphs``, and
``fused`` is the public function of ``cxrgan_fast.ops``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cxrgan_fast import ops
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS

BATCH = 64
SHAPES = (
    (BATCH, 512, 4, 4),
    (BATCH, 256, 8, 8),
    (BATCH, 128, 16, 16),
    (BATCH, 64, 32, 32),
    (BATCH, 32, 64, 64),
    (BATCH, 32, 128, 128),
)
"""The images of a generator for 128 pixels, from its first block to its last."""
CUDA_SHAPES = (*SHAPES, (BATCH, 64, 128, 128), (128, 256, 16, 16), (256, 1024, 4, 4))
"""On a GPU also wider blocks, and the larger batches that it takes to fill one."""

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEASURED_DTYPES = ("float32", "bfloat16")
IMAGE_OPS = ("conditional_batch_norm_act", "bias_leaky_relu")
LOSSES = ("discriminator_loss", "generator_loss")
OPS = (*IMAGE_OPS, *LOSSES)
BASELINES = ("eager", "compiled")
# On a GPU inductor's best: it tries every configuration of its kernels. Without CUDA graphs of its
# own, so that launches are compared to launches, and replays to replays.
COMPILE_MODES = {"cpu": None, "cuda": "max-autotune-no-cudagraphs"}

CLASSES = 2
SLOPE = 0.2

Step = Callable[[], Any]
"""A forward and a backward pass, or a copy."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One op on one kind of input."""

    op: str
    shape: tuple[int, ...]
    """(N, C, H, W) of images, (N,) of logits."""
    dtype: str = "float32"
    layout: str = "contiguous"
    kind: str = ""
    """The kind of a loss."""

    @property
    def of_images(self) -> bool:
        """Whether the op passes over images, so that its memory traffic counts."""
        return self.op in IMAGE_OPS

    @property
    def image_bytes(self) -> int:
        """Bytes of one pass over the image tensor."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def shape_name(self) -> str:
        """The shape as one word, such as ``64x512x4x4``."""
        return "x".join(map(str, self.shape))

    def __str__(self) -> str:
        parts = [self.op, self.kind, self.shape_name, self.dtype]
        return ", ".join(filter(None, [*parts, self.layout if self.of_images else ""]))


def all_cases(
    names: Iterable[str] = OPS,
    shapes: Iterable[tuple[int, ...]] = SHAPES,
    dtypes: Iterable[str] = MEASURED_DTYPES,
    layouts: Iterable[str] = tuple(LAYOUTS),
) -> list[Case]:
    """Every combination; a loss has one shape, N = 64 logits, and its kinds instead."""
    shapes, dtypes, layouts = tuple(shapes), tuple(dtypes), tuple(layouts)
    cases = []
    for op in names:
        if op in IMAGE_OPS:
            grid = itertools.product(layouts, dtypes, shapes)
            cases += [Case(op, shape, dtype, layout) for layout, dtype, shape in grid]
        else:
            pairs = itertools.product(dtypes, LOSS_KINDS)
            cases += [Case(op, (BATCH,), dtype, kind=kind) for dtype, kind in pairs]
    return cases


def steps(
    case: Case, baselines: Iterable[str] = BASELINES, device: torch.device | str = "cpu"
) -> dict[str, Step]:
    """Every variant of a case on the same inputs, ready to be called; nothing is compiled yet.

    Args:
        case: the case.
        baselines: which of eager and compiled to have beside fused.
        device: where the tensors are.

    Returns:
        eager, compiled (as asked) and fused; for images also ``copy``, of one image tensor onto
        another. Each returns what it has computed, the gradients of all inputs that have one.
    """
    arguments, grad = inputs(case, device)
    variants: dict[str, Step] = {
        name: forward_backward(function, arguments, grad)
        for name, function in functions(case, baselines, device).items()
    }
    if grad is not None:
        target = torch.empty_like(grad)
        variants["copy"] = lambda: target.copy_(grad)
    return variants


def functions(
    case: Case, baselines: Iterable[str], device: torch.device | str
) -> dict[str, Callable[..., Tensor]]:
    """Give a case's op by the names of its variants, for the arguments of `inputs`."""
    found: dict[str, Callable[..., Tensor]] = {}
    if "eager" in baselines:
        found["eager"] = eager(case)
    if "compiled" in baselines:
        found["compiled"] = compiled(case, device)
    return {**found, "fused": fused(case)}


def forward_backward(
    function: Callable[..., Tensor], arguments: tuple[Tensor, ...], grad: Tensor | None
) -> Step:
    """One training step of a function: its output, then the gradients of its arguments."""
    wanted = [each for each in arguments if each.requires_grad]
    return lambda: torch.autograd.grad(function(*arguments), wanted, grad)


def inputs(
    case: Case, device: torch.device | str = "cpu"
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The arguments of a case's functions, and the gradient of their output (None for a loss)."""
    random = torch.Generator(device).manual_seed(0)
    dtype = DTYPES[case.dtype]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=device)

    if not case.of_images:
        count = 2 if case.op == "discriminator_loss" else 1
        logits = [normal(*case.shape).to(dtype).requires_grad_() for _ in range(count)]
        return tuple(logits), None

    def image() -> Tensor:
        return normal(*case.shape).to(dtype).contiguous(memory_format=LAYOUTS[case.layout])

    x, grad = image().requires_grad_(), image()  # (N, C, H, W)
    samples, channels = case.shape[:2]
    if case.op == "bias_leaky_relu":
        return (x, normal(channels).requires_grad_()), grad
    labels = torch.randint(CLASSES, (samples,), generator=random, device=device)  # (N,)
    weight = (1 + normal(CLASSES, channels) / 10).requires_grad_()  # (K, C)
    bias = (normal(CLASSES, channels) / 10).requires_grad_()  # (K, C)
    running = torch.zeros(channels, device=device), torch.ones(channels, device=device)
    return (x, labels, weight, bias, *running), grad


def fused(case: Case) -> Callable[..., Tensor]:
    """The public function of a case's op, for the arguments of ``inputs``."""
    function: Callable[..., Tensor] = getattr(ops, case.op)
    settings: dict[str, Any] = {"negative_slope": SLOPE} if case.of_images else {"kind": case.kind}
    return lambda *arguments: function(*arguments, **settings)


def compiled(case: Case, device: torch.device | str) -> Callable[..., Tensor]:
    """What torch.compile makes of a case's op in plain PyTorch; compiles when it is called."""
    torch.compiler.reset()  # a case is a fresh program, not a recompilation of the last one
    mode = COMPILE_MODES[torch.device(device).type]
    return torch.compile(eager(case), dynamic=False, mode=mode)


def eager(case: Case) -> Callable[..., Tensor]:
    """A case's op in plain PyTorch, for the arguments of ``inputs``."""
    if case.op == "conditional_batch_norm_act":
        return _conditional_batch_norm_act
    if case.op == "bias_leaky_relu":
        return _bias_leaky_relu
    return (_DISCRIMINATOR if case.op == "discriminator_loss" else _GENERATOR)[case.kind]


def _conditional_batch_norm_act(
    x: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
) -> Tensor:
    normalized = F.batch_norm(x, running_mean, running_var, training=True)
    # As nn.Embedding does it: the gradient of plain indexing costs 0.2 ms at C = 512.
    gamma = F.embedding(labels, weight).to(x.dtype)[:, :, None, None]  # (N, C, 1, 1)
    beta = F.embedding(labels, bias).to(x.dtype)[:, :, None, None]
    return F.leaky_relu(gamma * normalized + beta, SLOPE)


def _bias_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    # x is what a convolution without bias gives.
    return F.leaky_relu(x + bias.to(x.dtype).view(1, -1, 1, 1), SLOPE)


def _logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


_DISCRIMINATOR: dict[str, Callable[..., Tensor]] = {
    "minimax": _logistic_discriminator,
    "non_saturating": _logistic_discriminator,
    "hinge": lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
    "least_squares": lambda real, fake: (real - 1).square().mean() / 2 + fake.square().mean() / 2,
    "wasserstein": lambda real, fake: fake.mean() - real.mean(),
}
_GENERATOR: dict[str, Callable[..., Tensor]] = {
    "minimax": lambda fake: -F.softplus(fake).mean(),
    "non_saturating": lambda fake: F.softplus(-fake).mean(),
    "hinge": lambda fake: -fake.mean(),
    "least_squares": lambda fake: (fake - 1).square().mean() / 2,
    "wasserstein": lambda fake: -fake.mean(),
}
