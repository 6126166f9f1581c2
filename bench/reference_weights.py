"""The package's weights under the names, and in the order, of the reference networks.

Where the two differ: the package orders features of 4×4 pixels as (h, w, c), and as a matrix a
convolution's weight as (out, (h, w, in)); its γ and β are tables (K, C), also for plain batch norm;
a bias that comes before an activation belongs there to the activation, here to the convolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from bench.reference_networks import NetworkSettings

State = Mapping[str, Tensor]


def generator_weights(state: State, settings: NetworkSettings) -> dict[str, Tensor]:
    """A generator's weights; all but the counters of nn.BatchNorm2d.

    Args:
        state: of the package's generator, as in its safetensors files.
        settings: of the networks.
    """
    translated = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if name == "input.linear.weight":
            translated["linear.weight"] = _channels_first(tensor.T, (4, 4)).T
        elif name == "input.embedding.weight":
            translated["embedding.weight"] = tensor
        elif f"{module}.running_mean" not in state:  # a convolution, or a bias in a norm's place
            translated[f"body.{name}"] = tensor
        elif settings.conditioning == "concat":  # plain batch norm: a table of one class
            translated[f"body.{name}"] = tensor.view(-1)
        else:
            part = {"weight": "gamma.weight", "bias": "beta.weight"}.get(kind, f"norm.{kind}")
            translated[f"body.{module}.{part}"] = tensor
    return translated


def discriminator_weights(state: State, settings: NetworkSettings) -> dict[str, Tensor]:
    """A discriminator's weights, with the singular vectors of its spectral norm.

    Args:
        state: of the package's discriminator, as in its safetensors files.
        settings: of the networks.
    """
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    translated = {}
    for name, tensor in state.items():
        module, kind = _split(name)
        weight = state.get(f"{module}.weight")
        if module in ("head.linear", "head.embedding"):
            module = {"head.linear": "linear", "head.embedding": "projection"}[module]
            if kind in ("weight", "v"):
                tensor = _channels_first(tensor, (4, 4))
        elif module == "input.embedding":
            module = "embedding"
        elif module == "act":
            module = f"body.{len(blocks)}"
        elif module.endswith(".act"):
            module = f"body.{module.removeprefix('blocks.').removesuffix('act')}conv1"
        elif module.startswith("layers.") and kind == "bias":
            module = f"body.{int(module.removeprefix('layers.')) - 1}"
        else:
            if kind == "v" and weight is not None:
                tensor = _channels_first(tensor, tuple(weight.shape[2:]))
            module = re.sub(r"^(blocks|layers)\.", "body.", module)
        if settings.spectral_norm and kind != "bias":
            kind = {"weight": "weight_orig", "u": "weight_u", "v": "weight_v"}[kind]
        translated[f"{module}.{kind}"] = tensor
    return translated


def _split(name: str) -> tuple[str, str]:
    """The module and what it is of it: weight, bias, or the singular vectors u and v."""
    module, _, kind = name.rpartition(".")
    return module.removesuffix(".spectral_norm"), kind


def _channels_first(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    """Reorder the last dimension, (h, w, c) flattened, to (c, h, w) flattened."""
    return tensor.unflatten(-1, (*size, -1)).movedim(-1, -3).flatten(-3)
