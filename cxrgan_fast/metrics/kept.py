"""Tensors that follow from real images, kept in files so that they are computed once.

A file's name is the hash of everything that its content depends on, so nothing has to be
invalidated: other content gives another name.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import cache_folder, write_atomic, write_error


def kept(
    kind: str,
    content: object,
    compute: Callable[[], dict[str, Tensor]],
    fits: Callable[[dict[str, Tensor]], bool],
) -> dict[str, Tensor]:
    """Return tensors from their file, or compute them and write it.

    A file that is damaged or holds something else is computed anew and replaced. That the cache
    cannot be written is a line on standard error and no failure.

    Args:
        kind: what is kept, in the plural: begins the file's name.
        content: everything that the tensors depend on; its `repr` is hashed.
        compute: gives the tensors.
        fits: whether tensors of a whole file of this name are those that are expected.

    Raises:
        Whatever `compute` raises.
    """
    key = hashlib.sha256(repr(content).encode()).hexdigest()
    path = cache_folder() / f"{kind}-{key}.safetensors"
    found = _read(path, key)
    if found is not None and fits(found):
        return found
    tensors = compute()
    try:
        _write(path, key, tensors)
    except UserError as error:
        print(f"{kind} are not kept: {error} (CXRGAN_CACHE names it)", file=sys.stderr)
    return tensors


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """What the file holds, if it is whole and of this key."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if file.metadata() != {"key": key, "sha256": _digest(tensors)}:
                return None
    except (OSError, safetensors.SafetensorError):
        return None
    return tensors


def _write(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(on_cpu, {"key": key, "sha256": _digest(on_cpu)})
    # By a name of this process's own: two programs may come to the same tensors at once.
    own = path.with_name(f"{path.stem}-{os.getpid()}.safetensors")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(own, content)
        own.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)
        raise write_error(path, error) from error


def _digest(tensors: dict[str, Tensor]) -> str:
    """Of the numbers themselves: the format has no checksum, and a bit may have fallen over."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
