"""Right calls of every registered op, and their arguments spoilt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

N, F, C, H, W, K = 3, 2, 4, 6, 5, 2  # no two of them alike by chance alone
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8)
A_NUMBER = 0.25  # that every op takes for any of its numbers
Arguments = dict[str, Any]


def batch_norm(training: bool) -> Arguments:
    statistics = {"running_mean": torch.zeros(C), "running_var": torch.ones(C)}
    return {
        "input": torch.randn(N, C, H, W),
        "labels": torch.tensor([0, 1, 1]),
        "weight": torch.randn(K, C),
        "bias": torch.randn(K, C),
        **(dict.fromkeys(statistics) if training else statistics),
    }


def batch_norm_backward() -> Arguments:
    forward = batch_norm(training=True)
    return {
        "grad": torch.randn(N, C, H, W),
        **{name: forward[name] for name in ("input", "labels", "weight", "bias")},
        "statistics": torch.ones(3, C),
        "training": True,
    }


def batch_norm_steps() -> dict[str, tuple[str, Arguments]]:
    whole = batch_norm_backward()
    given = {name: whole[name] for name in ("input", "labels", "weight", "bias", "statistics")}
    grad = {"grad": whole["grad"]}
    sums = {"grad_weight": torch.randn(K, C), "grad_bias": torch.randn(K, C), "count": N * H * W}
    return {
        "apply": ("conditional_batch_norm_apply", given),
        "backward_reduce": ("conditional_batch_norm_backward_reduce", {**grad, **given}),
        "backward_apply": ("conditional_batch_norm_backward_apply", {**grad, **given, **sums}),
    }


def augmented(stored: bool) -> Arguments:
    samples = N + F if stored else F
    data = {
        "stored": torch.zeros(K, C, H, W, dtype=torch.uint8),
        "rows": torch.zeros(N, dtype=torch.int64),
        "mirror": torch.tensor([True, False, True]),
    }
    return {
        "fake": torch.randn(F, C, H, W),
        **(data if stored else dict.fromkeys(data)),
        "translation": torch.rand(samples, 2),
        "cutout": torch.rand(samples, 2),
        "noise": torch.randn(samples, C, H, W),
        "noise_std": torch.tensor(0.1),
        "low": -1.0,
        "high": 1.0,
        "dtype": "float32",
    }


def calls() -> dict[str, tuple[str, Arguments]]:
    """Right calls: the op and its arguments, as its schema names and orders them."""
    return {name: (op, _completed(op, given)) for name, (op, given) in _given().items()}


def _completed(op: str, given: Arguments) -> Arguments:
    """The arguments of a call, with A_NUMBER for every number of which nothing is said."""
    schema = getattr(torch.ops.cxrgan_fast, op).default._schema
    kinds = {argument.name: str(argument.type) for argument in schema.arguments}
    assert given.keys() <= kinds.keys()
    assert all(kinds[name] == "float" for name in kinds.keys() - given.keys())
    return {name: given.get(name, A_NUMBER) for name in kinds}


def _given() -> dict[str, tuple[str, Arguments]]:
    """Of each call the op, and what any call like it must say."""
    image = torch.randn(N, C, H, W)
    logits = {"real_logits": torch.randn(7), "fake_logits": torch.randn(7)}
    pairs = {name: torch.rand(N + F, 2) for name in ("translation", "cutout")}
    return {
        "training": ("conditional_batch_norm_act", batch_norm(training=True)),
        "evaluation": ("conditional_batch_norm_act", batch_norm(training=False)),
        "norm_backward": ("conditional_batch_norm_backward", batch_norm_backward()),
        "statistics": ("conditional_batch_norm_statistics", {"input": image}),
        **batch_norm_steps(),
        "act": ("bias_leaky_relu", {"input": image, "bias": torch.randn(C)}),
        "gate": (
            "bias_leaky_relu_gate",
            {"grad": image, "bias": torch.randn(C), "output": image.clone()},
        ),
        "act_backward": ("bias_leaky_relu_backward", {"grad": image, "output": image.clone()}),
        "discriminator_loss": ("discriminator_loss", {**logits, "kind": "non_saturating"}),
        "generator_loss": (
            "generator_loss",
            {"fake_logits": torch.randn(7), "kind": "non_saturating"},
        ),
        "input": ("augmented_batch", augmented(stored=True)),
        "input_without_stored": ("augmented_batch", augmented(stored=False)),
        "linear": (
            "augmented_batch_linear",
            {"tangent": torch.randn(F, C, H, W), **pairs, "stored": N, "dtype": "float32"},
        ),
        "input_backward": (
            "augmented_batch_backward",
            {
                "grad": torch.randn(N + F, C, H, W),
                **pairs,
                "stored": N,
                "dtype": "float32",
                "channels_last": True,
            },
        ),
    }


def spoilt(value: Any, device: str) -> Iterator[tuple[str, Any]]:
    """What could come in a value's place, and a word for it."""
    if isinstance(value, Tensor):
        for dim, size in enumerate(value.shape):
            yield f"dim {dim}", value.narrow(dim, 0, size - 1)
        yield "more dims", value[None]
        if value.dim():
            yield "fewer dims", value[0]
            yield "one value", value.flatten()[0]
        for dtype in DTYPES:
            if dtype != value.dtype:
                yield str(dtype).removeprefix("torch."), value.to(dtype)
        yield "meta", value.to("meta")
        if device != "cpu":
            yield "cpu", value.cpu()
    elif isinstance(value, str):
        yield "unknown", "bogus"
    elif isinstance(value, int) and not isinstance(value, bool):
        yield "less", value - 1
        yield "more", value + 1
        yield "negative", -1
