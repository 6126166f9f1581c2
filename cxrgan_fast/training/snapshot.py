"""A generator in one safetensors file, with all that is needed to build and to use it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from cxrgan_fast.data.sources import check_class_names
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import write_atomic
from cxrgan_fast.nn import NetworkConfig, build_generator

# The one entry of the safetensors header that is ours. One entry and not one for each field: the
# header's order is only fixed within an entry, and the same weights should give the same bytes.
_HEADER = "cxrgan_fast.generator"
_VERSION = 1


@dataclass(frozen=True)
class GeneratorSnapshot:
    """A generator as it was at one step, ready for use."""

    generator: nn.Module
    """In evaluation mode, without gradients; (latents, labels) -> images as `build_generator`'s."""
    network: NetworkConfig
    class_names: tuple[str, ...]
    """Label k is class_names[k]."""
    step: int
    images_seen: int
    extra: dict[str, str] = field(default_factory=dict)


def save_generator(
    path: Path,
    weights: Mapping[str, Tensor],
    network: NetworkConfig,
    class_names: Sequence[str],
    *,
    step: int,
    images_seen: int,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a generator to a safetensors file, atomically.

    Args:
        path: file to write.
        weights: `state_dict` of what `build_generator(network, len(class_names))` built; on any
            device.
        network: its configuration.
        class_names: name of each label.
        step: generator updates so far.
        images_seen: real images shown so far.
        extra: anything else worth keeping with it, such as the data set's fingerprint.

    Raises:
        UserError: when the file cannot be written.
    """
    header = {
        "version": _VERSION,
        "network": dataclasses.asdict(network),
        "class_names": list(class_names),
        "step": step,
        "images_seen": images_seen,
        "extra": dict(extra or {}),
    }
    tensors = {
        # safetensors knows one layout only; loading copies into the layout of the new module.
        name: tensor.detach().cpu().contiguous()
        for name, tensor in weights.items()
    }
    metadata = {_HEADER: json.dumps(header, sort_keys=True)}
    write_atomic(path, safetensors.torch.save(tensors, metadata))


def load_generator(path: Path, device: str | torch.device = "cpu") -> GeneratorSnapshot:
    """Read what `save_generator` wrote. Nothing in the file is executed.

    Args:
        path: safetensors file.
        device: where to put the generator.

    Raises:
        UserError: when there is no such file, or it is damaged, foreign, or of a newer version.
    """
    header, tensors = _read(path)
    generator = build_generator(header["network"], len(header["class_names"]))
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not hold the weights of the network that its header describes; "
            "choose another checkpoint"
        ) from error
    generator.requires_grad_(False).eval().to(device)
    return GeneratorSnapshot(generator=generator, **header)


def copy_generator(source: Path, target: Path, extra: Mapping[str, str]) -> None:
    """Write a generator file again, atomically, with more in its header's ``extra``.

    Raises:
        UserError: as :func:`load_generator` and :func:`save_generator`.
    """
    header, tensors = _read(source)
    header["extra"] |= extra
    save_generator(target, tensors, **header)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checked header of a generator file, and its tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({error}); choose another checkpoint"
        ) from error
    if _HEADER not in metadata:
        raise UserError(f"{path} is not a generator of cxrgan_fast: its header lacks {_HEADER!r}")
    return _parse_header(path, metadata[_HEADER]), tensors


def _parse_header(path: Path, text: str) -> dict[str, Any]:
    """Check every field: a file from elsewhere may hold anything."""
    try:
        header = json.loads(text)
        version = header.pop("version")
        if version != _VERSION:
            raise UserError(
                f"{path} is in format {version} of generator files and this version of "
                f"cxrgan_fast reads format {_VERSION}: install the version that wrote it"
            )
        return {
            "network": NetworkConfig(**header["network"]),
            "class_names": check_class_names(header["class_names"], f"{path} has a damaged header"),
            "step": int(header["step"]),
            "images_seen": int(header["images_seen"]),
            "extra": {str(key): str(value) for key, value in header["extra"].items()},
        }
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} has a damaged header: {error!r}") from error
