"""The convolution floor: a training step's convolutions and matrix products, and nothing else.

Whatever is fused or replayed around them, a step cannot take less time than these take. They are
recorded from real steps as they are dispatched (forward, backward and the double backward of R1,
after autocast's casts) and repeated on tensors of the same shapes, strides and dtypes.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from bench import graphs
from bench.dispatched import Dispatched
from cxrgan_fast.training.step import TrainingStep

# Everything whose multiplications PyTorch counts, and the products with a vector, which it does
# not: spectral normalisation is made of them.
PRODUCTS = frozenset(flop_registry) | {torch.ops.aten.mv, torch.ops.aten.addmv}


@dataclass(frozen=True)
class TensorSpec:
    """All that the time of a product depends on, of one of its tensors."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> TensorSpec:
        """The specification of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)

    def make(self) -> Tensor:
        """A tensor like it, of normal numbers: a GPU draws less power, and is faster, on zeros."""
        extents = zip(self.shape, self.stride, strict=True)
        size = (
            1 + sum((extent - 1) * stride for extent, stride in extents) if all(self.shape) else 0
        )
        storage = torch.randn(size, device=self.device).to(self.dtype)
        return storage.as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Product:
    """One convolution or matrix product as it was dispatched."""

    op: Callable[..., Any]
    args: tuple[Any, ...]
    """With a `TensorSpec` for each tensor."""
    kwargs: dict[str, Any]


def _described(leaf: Any) -> Any:
    return TensorSpec.of(leaf) if isinstance(leaf, Tensor) else leaf


def record(step: Callable[[], object]) -> list[Product]:
    """The products that a call dispatches, in order; it runs uncompiled."""
    products: list[Product] = []

    def note(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if op.overloadpacket in PRODUCTS:
            products.append(Product(op, *tree_map(_described, (args, kwargs))))

    with Dispatched(note):
        step()
    return products


def record_cycle(step: TrainingStep) -> list[list[Product]]:
    """The products of each step from one with R1 or R2 to before the next.

    Args:
        step: fresh, and eager; it is called twice.
    """
    objective = step.config.objective
    if not objective.penalized:
        return [record(step)]
    with_r1 = record(step)
    if objective.r1_interval == 1:
        return [with_r1]
    return [with_r1] + [record(step)] * (objective.r1_interval - 1)


class ConvolutionFloor:
    """Repeats the products of a cycle of steps: each call is the next step.

    On a GPU each kind of step is a CUDA graph, or queued where it cannot be captured.

    Args:
        cycle: products of each step; what is the same object is captured once. Its tensors are
            made once for each specification: a floor may find them in a cache.
        device: where they are.
    """

    how: str
    """``called``, ``replayed as CUDA graphs`` or ``queued: REASON``."""

    def __init__(self, cycle: Sequence[list[Product]], device: torch.device) -> None:
        self._tensors: dict[tuple[TensorSpec, int], Tensor] = {}
        calls = {id(products): self._callable(products) for products in cycle}
        self.how = "called"
        if device.type == "cuda":
            try:
                capturer = graphs.Capturer()
                captured = {key: capturer.capture(call) for key, call in calls.items()}
                calls = {key: graph.replay for key, graph in captured.items()}
                self.how = "replayed as CUDA graphs"
            except RuntimeError as error:
                self.how = f"queued: {str(error).splitlines()[0]}"
        self._steps = itertools.cycle([calls[id(products)] for products in cycle])

    def __call__(self) -> None:
        """Repeat the products of the next step."""
        next(self._steps)()

    def _callable(self, products: Sequence[Product]) -> Callable[[], None]:
        calls = []
        for product in products:
            used = Counter[TensorSpec]()  # by this product, whose tensors are to be distinct
            made = partial(self._made, used=used)
            args, kwargs = tree_map(made, (product.args, product.kwargs))
            calls.append(partial(product.op, *args, **kwargs))
        return partial(_call_all, calls)

    def _made(self, leaf: Any, used: Counter[TensorSpec]) -> Any:
        if not isinstance(leaf, TensorSpec):
            return leaf
        key = leaf, used[leaf]
        used[leaf] += 1
        if key not in self._tensors:
            self._tensors[key] = leaf.make()
        return self._tensors[key]


@torch.no_grad()
def _call_all(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()
