"""What a training step runs: a game, as its networks, its optimizers and its updates' losses.

The step (`cxrgan_fast.training.step`) owns optimizers, moving average, clock and state; a game
knows losses, and nothing of steps per second, files or graphs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from cxrgan_fast.gan.schedules import Progress
from cxrgan_fast.schedule import Schedule

Network = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Player:
    """A network that an optimizer moves.

    Attributes:
        network: its name among :attr:`Objective.networks`.
        optimizer: the name of its optimizer, under which a checkpoint keeps the state.
        learning_rate: learning rate of that optimizer; may be a schedule.
    """

    network: str
    optimizer: str
    learning_rate: float | Schedule


@dataclass(frozen=True)
class Update:
    """What one update of one network descends, and what is reported of it.

    Attributes:
        player: the player whose optimizer takes the step.
        loss: 0-dimensional float32, to be differentiated.
        numbers: 0-dimensional float32 tensors by name, detached; names of `Objective.numbers`.
    """

    player: Player
    loss: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)


class Objective(ABC):
    """A game between networks.

    Attributes:
        numbers: names of all that its updates may report, in the order in which a run keeps them.
        averaged: name of the network of which a moving average is kept.
        networks: the networks by name, in the order in which messages name them.
        players: the networks that are trained.
        run: what updates call for a network: itself, or what an executor has compiled from it.
    """

    numbers: ClassVar[tuple[str, ...]]
    averaged: ClassVar[str]
    networks: dict[str, nn.Module]
    players: tuple[Player, ...]
    run: dict[str, Network]

    @abstractmethod
    def kind(self, progress: Progress[float]) -> Hashable:
        """Give all that decides which kernels the next step runs: a CUDA graph holds one kind.

        Args:
            progress: how far the run is before it.
        """

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, beside the networks', that updates change in place, by name."""
        return {}

    @abstractmethod
    def updates(self, kind: Hashable, progress: Progress[Tensor]) -> Generator[Update, None, None]:
        """Yield a step's updates in order; each is computed after the one before has been done.

        Only queues work on the device, and draws all random numbers from one generator.

        Args:
            kind: what :meth:`kind` gave for this step.
            progress: how far the run is before the step, on the device.
        """


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Keep gradients from a network's parameters within the block; its inputs still get theirs.

    Those that took none before take none afterwards either: a layer that somebody has frozen stays
    frozen.
    """
    taking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in taking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:  # a capture that fails in here is followed by the same step, op by op
        for parameter in taking:
            parameter.requires_grad_(True)
