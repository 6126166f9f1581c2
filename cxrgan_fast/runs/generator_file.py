"""A generator in one safetensors file, with all that is needed to build and to use it."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from cxrgan_fast.data.sources import check_class_names
from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.files import read_error, write_atomic
from cxrgan_fast.nn import NetworkConfig, build_generator
from cxrgan_fast.nn.family import FAMILIES, FamilySettings, own_settings

# The one entry of the safetensors header that is ours. One entry and not one for each field: the
# header's order is only fixed within an entry, and the same weights should give the same bytes.
_HEADER = "cxrgan_fast.generator"
_VERSION = 3
# Versions that are still read: the first has no digest, and both have the settings of all families
# side by side.
_WITHOUT_DIGEST, _FLAT = 1, (1, 2)

_MOST_HEADER_BYTES = 16 << 20
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Header(BaseModel):
    """What the header's entry holds: the schema of a file that may come from anywhere."""

    model_config = ConfigDict(strict=True, extra="forbid")

    version: int
    network: dict[str, Any]  # checked field by field
    class_names: list[Any]  # checked one by one
    step: _Count
    images_seen: _Count
    extra: dict[str, str]
    sha256: str = ""  # of the rest of the header and of the tensors; version 1 has none


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
    header["sha256"] = _digest(header, tensors)
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
    network, n_classes = header["network"], len(header["class_names"])
    generator = build_generator(network, n_classes)
    generator.load_state_dict(tensors)
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
        if not path.exists():
            raise UserError(f"{path}: there is no such file")
        if not path.is_file():  # opening a pipe would wait for ever
            raise UserError(f"cannot read {path}: it is not a file; name a generator.safetensors")
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _MOST_HEADER_BYTES:
                raise UserError(f"{path} is damaged or not a safetensors file: its header is huge")
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except OSError as error:
        raise read_error(path, error) from error
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()))
        raise UserError(
            f"{path} is damaged or not a safetensors file ({reason}); choose another checkpoint"
        ) from error
    if _HEADER not in metadata:
        raise UserError(f"{path} is not a generator of cxrgan_fast: its header lacks {_HEADER!r}")
    return _parse_header(path, metadata[_HEADER], tensors), tensors


def _parse_header(path: Path, text: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Check every field, and the digest: a file from elsewhere may hold anything."""
    try:
        raw = json.loads(text)
        if isinstance(raw, dict) and isinstance(raw.get("version"), int):
            _check_version(path, raw["version"])
        header = _Header.model_validate(raw)
        network = _network(_with_own(header.network) if header.version in _FLAT else header.network)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        reason = printable(f"{where}: {first['msg']}")
        raise UserError(f"{path} has a damaged header: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} has a damaged header: {printable(str(error))}") from error
    names = check_class_names(header.class_names, f"{path} has a damaged header")
    # On no device: a header of a few bytes may ask for a network that fits no memory.
    with torch.device("meta"):
        _check_weights(path, build_generator(network, len(names)), tensors)
    fields = {name: value for name, value in raw.items() if name != "sha256"}
    # Last, so that whoever edited a file hears what is wrong with it. Without a digest is only
    # version 1.
    if (header.sha256 or header.version != _WITHOUT_DIGEST) and header.sha256 != _digest(
        fields, tensors
    ):
        raise UserError(f"{path} is damaged: its checksum differs; choose another checkpoint")
    return {
        "network": network,
        "class_names": names,
        "step": header.step,
        "images_seen": header.images_seen,
        "extra": header.extra,
    }


def _check_version(path: Path, version: int) -> None:
    if version not in (*_FLAT, _VERSION):
        raise UserError(
            f"{path} is in format {version} of generator files and this version of "
            f"cxrgan_fast reads format {_VERSION}: install the version that wrote it"
        )


def _network(fields: Mapping[str, Any]) -> NetworkConfig:
    """A network's configuration from plain values, each of which is checked.

    Raises:
        ValueError: A field is unknown or of another type, or no network can be built from them.
    """
    _check_fields("network", NetworkConfig, {**fields, "own": FamilySettings()})
    own = fields.get("own", {})
    if not isinstance(own, dict):
        raise ValueError(f"network.own: expected settings by name, got {own!r:.100}")
    settings = FAMILIES[fields["family"]].settings if fields.get("family") in FAMILIES else None
    if settings is not None:  # else NetworkConfig says what families there are
        _check_fields("network.own", settings, own)
    try:
        return NetworkConfig(**{**fields, "own": settings(**own) if settings else FamilySettings()})
    except UserError as error:
        raise ValueError(f"network: {error}") from None


def _check_fields(where: str, settings: type, fields: Mapping[str, Any]) -> None:
    types = get_type_hints(settings)
    for name, value in fields.items():
        if name not in types:
            raise ValueError(f"{where}: there is no setting {name!r}")
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise ValueError(f"{where}.{name}: {error.errors()[0]['msg']}") from None


def _with_own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of version 1 or 2 as they are now; other families' are left out if unused."""
    family = fields.get("family", NetworkConfig.family)
    own = own_settings(family) if isinstance(family, str) else {}
    unused = {name: value for each in FAMILIES for name, value in own_settings(each).items()}
    common = {name: value for name, value in fields.items() if name not in own}
    return {
        "family": family,
        **{
            name: value
            for name, value in common.items()
            if name not in unused or value != unused[name]
        },
        "own": {name: fields[name] for name in own if name in fields},
    }


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that a file says: the header's other fields, and every tensor."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_weights(path: Path, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of a network."""
    expected = {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}
    if {name: (t.shape, t.dtype) for name, t in tensors.items()} != expected:
        raise UserError(
            f"{path} does not hold the weights of the network that its header describes; "
            "choose another checkpoint"
        )
