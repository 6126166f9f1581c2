"""The backends, and calls of the fused image ops, that the tests of the ops are parametrised over.

A new backend joins every test by a line in :data:`TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cuda_standin import building
from cxrgan_fast.ops import (
    available_backends,
    bias_leaky_relu,
    conditional_batch_norm_act,
    use_backend,
)


@dataclass(frozen=True)
class Target:
    """A backend and the device of the tensors that it gets."""

    backend: str
    device: str
    standin: str = ""
    """A path of the CUDA kernels (use_cuda_path) whose source is executed on the CPU."""

    def __str__(self) -> str:
        return f"{self.backend}-{f'standin-{self.standin}' if self.standin else self.device}"

    @property
    def emulated(self) -> bool:
        """Whether a CPU does slowly what a GPU would."""
        return bool(self.standin) or (self.backend == "triton" and self.device == "cpu")

    @property
    def checks_labels(self) -> bool:
        """Whether labels are looked at before anything runs: on a GPU that would have to wait."""
        return self.device == "cpu" and not self.emulated

    @property
    def why_not(self) -> str:
        """Why it cannot run here, or ""."""
        status = available_backends()[self.backend]
        if self.standin and building.why_not():
            return str(building.why_not())
        if self.device in status.runs_on:
            return ""
        return status.why_not.get(self.device, f"it does not run on {self.device} tensors")


NATIVE_CPU = Target("native", "cpu")
# tests/cuda_standin in place of a GPU. "auto" keeps images in shared memory where they fit.
STANDINS = tuple(Target("native", "cpu", path) for path in ("two_pass", "auto"))
TRITON_INTERPRETED = Target("triton", "cpu")
TARGETS = (
    NATIVE_CPU,
    Target("reference", "cpu"),
    *STANDINS,
    TRITON_INTERPRETED,
    Target("native", "cuda"),
    Target("triton", "cuda"),
    Target("reference", "cuda"),
)
NATIVE = tuple(target for target in TARGETS if target.backend == "native")
HARDWARE = tuple(target for target in TARGETS if not target.emulated)
# Those with kernels, and registered ops, of their own.
FUSED = tuple(target for target in TARGETS if target.backend != "reference")
REFERENCE = tuple(target for target in TARGETS if target.backend == "reference")

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Tensors = dict[str, Tensor]
Function = Callable[[Tensors, Tensors], Tensor]  # of variables and state


def relative_error(value: Tensor, truth: Tensor) -> float:
    """‖value − truth‖ / ‖truth‖, in float64."""
    return ((value.double() - truth.double()).norm() / truth.double().norm()).item()


AnyCase = TypeVar("AnyCase", bound="Case")


@dataclass
class Case:
    """One call of an op and the gradient that comes back to it."""

    variables: Tensors
    """What the op is differentiated by: "input", and "weight" and "bias" where it has them."""
    grad: Tensor
    slope: float
    state: Tensors = field(default_factory=dict)
    """What a call changes in place: the running statistics."""

    def call(self, variables: Tensors, state: Tensors) -> Tensor:
        """The op, on the backend in use."""
        raise NotImplementedError

    def eager(self, variables: Tensors, state: Tensors) -> Tensor:
        """What a user of PyTorch writes without it."""
        raise NotImplementedError

    def results(
        self,
        dtype: torch.dtype | None = None,
        function: Function | None = None,
    ) -> Tensors:
        """Output, gradients and state, by ``call`` (or another function), or all in ``dtype``."""
        variables = {
            name: each.detach().to(dtype or each.dtype).requires_grad_()
            for name, each in self.variables.items()
        }
        state = {name: each.to(dtype or each.dtype, copy=True) for name, each in self.state.items()}
        output = (function or self.call)(variables, state)
        gradients = torch.autograd.grad(
            output, list(variables.values()), self.grad.to(output.dtype)
        )
        names = [f"grad_{name}" for name in variables]
        return {"output": output.detach(), **dict(zip(names, gradients, strict=True)), **state}

    def truth(self) -> Tensors:
        """The definition in float64."""
        with use_backend("reference"):
            return self.results(torch.float64)

    def without_kink(self: AnyCase, margin: float) -> AnyCase:
        """The same, with no gradient coming back where |z| < margin.

        Two right implementations take different branches where |z| is within rounding of 0.
        Without a gradient there, everything else can be compared tightly.
        """
        z = replace(self, slope=1.0).truth()["output"]
        grad = self.grad.clone().masked_fill_(z.abs() < margin, 0)  # in place: keeps the layout
        return replace(self, grad=grad)


@dataclass
class ConditionalBatchNormCase(Case):
    """A call of conditional_batch_norm_act."""

    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    training: bool = True

    def call(self, variables: Tensors, state: Tensors) -> Tensor:
        """The op, on the backend in use."""
        return conditional_batch_norm_act(
            variables["input"], self.labels, variables["weight"], variables["bias"],
            state.get("running_mean"), state.get("running_var"),
            training=self.training, negative_slope=self.slope,
        )  # fmt: skip

    def eager(self, variables: Tensors, state: Tensors) -> Tensor:
        """F.batch_norm, γ and β by indexing, F.leaky_relu."""
        normal = F.batch_norm(
            variables["input"], state["running_mean"], state["running_var"], training=self.training
        )
        gamma = variables["weight"][self.labels][:, :, None, None]
        beta = variables["bias"][self.labels][:, :, None, None]
        return F.leaky_relu(gamma * normal + beta, self.slope).to(normal.dtype)


@dataclass
class BiasLeakyReluCase(Case):
    """A call of bias_leaky_relu."""

    gain: float = 1.0

    def call(self, variables: Tensors, state: Tensors) -> Tensor:
        """The op, on the backend in use."""
        return bias_leaky_relu(
            variables["input"], variables.get("bias"), negative_slope=self.slope, gain=self.gain
        )

    def eager(self, variables: Tensors, state: Tensors) -> Tensor:
        """The sum, in float32 for 16-bit images too, then F.leaky_relu."""
        input = variables["input"]
        z = input + variables["bias"][:, None, None] if "bias" in variables else input
        return (F.leaky_relu(z, self.slope) * self.gain).to(input.dtype)


Shape = tuple[int, int, int, int]


def batch_norm_case(
    shape: Shape,
    *,
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    device: str = "cpu",
    classes: int = 3,
    training: bool = True,
    slope: float = 0.2,
    mean: float = 0.5,
    kink_margin: float = 1e-4,
) -> ConditionalBatchNormCase:
    """A random call of conditional_batch_norm_act; with K = 0 classes, one row for each sample."""
    input, grad = _image_and_gradient(shape, dtype, layout, device, mean)
    samples, channels = shape[:2]
    labels = torch.randint(classes, (samples,)) if classes else torch.arange(samples)
    parameters = torch.randn(2, classes or samples, channels)
    statistics = torch.randn(channels) + mean, torch.rand(channels) + 0.5
    case = ConditionalBatchNormCase(
        variables={
            "input": input,
            "weight": parameters[0].to(device),
            "bias": parameters[1].to(device),
        },
        grad=grad,
        slope=slope,
        state={
            "running_mean": statistics[0].to(device),
            "running_var": statistics[1].to(device),
        },
        labels=labels.to(device),
        training=training,
    )
    return case.without_kink(kink_margin)


def bias_leaky_relu_case(
    shape: Shape,
    *,
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    device: str = "cpu",
    with_bias: bool = True,
    slope: float = 0.2,
    mean: float = 0.0,
    kink_margin: float = 1e-4,
) -> BiasLeakyReluCase:
    """A random call of bias_leaky_relu."""
    input, grad = _image_and_gradient(shape, dtype, layout, device, mean)
    bias = torch.randn(shape[1]).to(device)
    case = BiasLeakyReluCase(
        variables={"input": input, "bias": bias} if with_bias else {"input": input},
        grad=grad,
        slope=slope,
    )
    return case.without_kink(kink_margin)


def _image_and_gradient(
    shape: Shape, dtype: torch.dtype, layout: str, device: str, mean: float
) -> tuple[Tensor, Tensor]:
    """Drawn on the CPU, so that every device gets the same."""
    pair = torch.randn(shape) * 1.5 + mean, torch.randn(shape)
    input, grad = (each.to(dtype).to(memory_format=LAYOUTS[layout]).to(device) for each in pair)
    return input, grad


# Every fused image op, in each of its modes: makers of a Case from a shape and options.
CASES: dict[str, Callable[..., Case]] = {
    "conditional_batch_norm_act-training": batch_norm_case,
    "conditional_batch_norm_act-evaluation": partial(batch_norm_case, training=False),
    "bias_leaky_relu": bias_leaky_relu_case,
    "bias_leaky_relu-no_bias": partial(bias_leaky_relu_case, with_bias=False),
}
