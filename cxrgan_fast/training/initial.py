"""Weights of another run that a training begins with, instead of random ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrgan_fast.errors import UserError, printable
from cxrgan_fast.nn import ConditionalBatchNorm2d
from cxrgan_fast.nn.layers import ClassEmbedding
from cxrgan_fast.runs.checkpoint import load_newest_checkpoint
from cxrgan_fast.runs.generator_file import load_generator
from cxrgan_fast.runs.generators import find_generators

_SHOWN = 3  # names in a line


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a run, or of a generator file, on the CPU.

    Attributes:
        path: the checkpoint or the generator file.
        sha256: SHA-256 of that file.
        step: generator updates that they have seen.
        family: family of the networks.
        class_names: classes that the networks know; label k is class_names[k].
        networks: state of each network by name, "ema" for the averaged generator. Of a generator
            file, which holds no more, its weights are both.
    """

    path: Path
    sha256: str
    step: int
    family: str
    class_names: tuple[str, ...]
    networks: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Transfer:
    """What a network has taken over.

    Attributes:
        taken: names of the tensors taken.
        left: names of those that stay as they were, since the other network has none of this name
            and shape.
    """

    taken: list[str]
    left: list[str]


def read_initial(source: Path, family: str) -> InitialWeights:
    """Read the weights of a run's newest whole checkpoint, or of a generator file.

    Args:
        source: run folder (of a run with --per-class, the folder of a class), or generator file.
        family: family of the networks that are to begin with them.

    Raises:
        UserError: there is no such run or file, it is damaged, it holds several generators, or
            its networks are of another family.
    """
    try:
        files = find_generators(source)
    except UserError as error:
        raise UserError(f"--init-from: {error}") from None
    if len(files) > 1:
        raise UserError(
            f"--init-from {source}: it holds a GAN of each class; name the folder of one, such as "
            f"{files[0].parent}"
        )
    snapshot = load_generator(files[0])
    if snapshot.network.family != family:
        raise UserError(
            f"--init-from {source}: its networks are of --family {snapshot.network.family}, got "
            f"--family {family}, which has other layers; give the same"
        )
    if source.is_file():
        path, step, weights = source, snapshot.step, dict(snapshot.generator.state_dict())
        networks = {"generator": weights, "ema": weights}
    else:
        found = load_newest_checkpoint(source, torch.device("cpu"), purpose="begin with")
        path, training = found.path, found.state.get("training")
        training = training if isinstance(training, dict) else {}
        networks = {
            name: _weights(path, training, name) for name in ("generator", "discriminator", "ema")
        }
        step = _steps(path, training)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return InitialWeights(path, digest, step, family, snapshot.class_names, networks)


def _steps(path: Path, training: dict[str, Any]) -> int:
    steps = training.get("step")
    if not isinstance(steps, int):
        raise UserError(f"--init-from: {path} does not say how many steps its weights have seen")
    return steps


def _weights(path: Path, training: dict[str, Any], name: str) -> dict[str, Tensor]:
    found = training.get(name)
    if not isinstance(found, dict) or not all(
        isinstance(each, Tensor) and each.layout == torch.strided for each in found.values()
    ):
        raise UserError(f"--init-from: {path} does not hold the weights of a {name}")
    return found


@torch.no_grad()
def transfer(
    network: nn.Module,
    class_names: Sequence[str],
    weights: Mapping[str, Tensor],
    their_class_names: Sequence[str],
) -> Transfer:
    """Take over every tensor of the same name and shape, and of each class its own.

    What a network has learned of a class goes to the class of that name. A class that the other
    network does not know begins as the mean of those that it knows.

    Args:
        network: takes them over in place; on the meta device it only says what it would take.
        class_names: its classes.
        weights: the other network's state.
        their_class_names: the other network's classes.
    """
    ours, of_classes = network.state_dict(), _tables_of_classes(network)
    n_ours, n_theirs = len(class_names), len(their_class_names)
    same_classes = tuple(class_names) == tuple(their_class_names)
    taken, left = [], []
    for name, tensor in ours.items():
        other = weights.get(name)
        if other is None or other.dtype != tensor.dtype or other.dim() != tensor.dim():
            left.append(name)
        elif (
            name in of_classes
            and not same_classes
            and (
                (len(tensor), len(other))
                == (n_ours + of_classes[name], n_theirs + of_classes[name])
                and tensor.shape[1:] == other.shape[1:]
            )
        ):
            mean = other[:n_theirs].mean(0)
            rows = [
                other[their_class_names.index(each)] if each in their_class_names else mean
                for each in class_names
            ]
            tensor.copy_(torch.stack([*rows, *other[n_theirs:]]))
            taken.append(name)
        elif tensor.shape == other.shape:
            tensor.copy_(other)
            taken.append(name)
        else:
            left.append(name)
    return Transfer(taken, left)


def _tables_of_classes(network: nn.Module) -> dict[str, int]:
    """Names of the parameters that have a row for each class, and how many rows follow these."""
    return {
        f"{prefix}.{name}" if prefix else name: getattr(module, "latent_rows", 0)
        for prefix, module in network.named_modules()
        if isinstance(module, ConditionalBatchNorm2d | ClassEmbedding)
        for name, _ in module.named_parameters(recurse=False)
    }


def take_over(
    networks: Mapping[str, nn.Module], class_names: Sequence[str], initial: InitialWeights
) -> dict[str, Transfer]:
    """Let each network take over what it can.

    Args:
        networks: by name, as in :attr:`InitialWeights.networks`; others stay as they are.
        class_names: their classes.
        initial: the weights.

    Raises:
        UserError: the generator can take nothing but biases and the like.
    """
    done = {
        name: transfer(network, class_names, initial.networks[name], initial.class_names)
        for name, network in networks.items()
        if name in initial.networks
    }
    shapes = networks["generator"].state_dict()
    if all(shapes[name].dim() < 2 for name in done["generator"].taken):  # a bias is no beginning
        raise UserError(
            f"--init-from {initial.path}: no weight of its generator has the shape that these "
            "settings ask for; train with its --resolution, --base-channels and --latent-size"
        )
    return done


def transfer_lines(
    initial: InitialWeights, done: Mapping[str, Transfer], class_names: Sequence[str]
) -> list[str]:
    """Say for people what was taken, and what was not."""
    lines = [f"begins with the weights of {printable(str(initial.path))} (step {initial.step})"]
    for name in ("generator", "discriminator"):
        if name not in done:
            lines.append(f"  {name}: random weights; the file holds a generator only")
            continue
        taken, left = done[name].taken, done[name].left
        rest = ""
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            rest = f"; not {', '.join(left[:_SHOWN])}{more}, which begin at random"
        lines.append(f"  {name}: {len(taken)} of {len(taken) + len(left)} tensors{rest}")
    known = [name for name in class_names if name in initial.class_names]
    new = [name for name in class_names if name not in initial.class_names]
    lines.append(f"  classes: {printable(', '.join(known)) or 'none of these'}")
    if new:
        them = printable(", ".join(initial.class_names))
        lines[-1] += f"; {printable(', '.join(new))} begins as the mean of {them}"
    return lines


def transfer_record(initial: InitialWeights, done: Mapping[str, Transfer]) -> dict[str, Any]:
    """Return the same as plain values, for the record of a run's calls."""
    return {
        "path": str(initial.path.absolute()),
        "sha256": initial.sha256,
        "step": initial.step,
        "class_names": list(initial.class_names),
        **{f"{name}_taken": len(each.taken) for name, each in done.items()},
        **{f"{name}_left": each.left for name, each in done.items()},
    }
