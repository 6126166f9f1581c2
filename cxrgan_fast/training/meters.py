"""Numbers that steps report, summed up on the device; what was not finite is remembered there."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Meters:
    """Means of numbers over the steps since they were last read.

    Nothing is read back from the device but by :meth:`read` and by whoever reads :meth:`flags`.

    Args:
        names: names of all numbers that steps may report.
        networks: networks by the names that messages give them; `flags` looks at their weights.
        device: where the numbers come from.
    """

    def __init__(
        self, names: Sequence[str], networks: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        self.names, self.networks = tuple(names), networks
        self.sums = torch.zeros(len(names), device=device)
        self.counts = torch.zeros(len(names), device=device)
        # The step at which each was first not finite, 0 while it has not been.
        self.first_bad = torch.zeros(len(names), dtype=torch.int64, device=device)
        # From the start: a captured step can take no value from the host.
        self._zero, self._one = torch.zeros((), device=device), torch.ones((), device=device)

    def record(self, numbers: Mapping[str, Tensor], step: Tensor) -> None:
        """Take the numbers of a step.

        Args:
            numbers: 0-dimensional float32 tensors by name; those that the step has computed.
            step: the number of the step, from 1: 0-dimensional int64.

        Raises:
            ValueError: a name that was not announced.
        """
        if unknown := numbers.keys() - set(self.names):
            raise ValueError(f"numbers must have names of {self.names}, got {sorted(unknown)}")
        values = torch.stack([numbers.get(name, self._zero) for name in self.names])
        self.sums += values
        self.counts += torch.stack([self._one if n in numbers else self._zero for n in self.names])
        is_first = ~torch.isfinite(values) & (self.first_bad == 0)
        self.first_bad += is_first * step

    def read(self) -> dict[str, float]:
        """Return the means since the last call, by name. Waits for the device."""
        means, counts = (self.sums / self.counts).tolist(), self.counts.tolist()
        self.sums.zero_()
        self.counts.zero_()
        return {name: m for name, m, n in zip(self.names, means, counts, strict=True) if n}

    def flags(self) -> Tensor:
        """Return what is not finite, as numbers on the device; see :meth:`describe`.

        Returns:
            (names + networks,) int64: the step at which each number was first not finite, or 0;
            then 1 for each network whose weights are not, in which an overflow of the last update
            would hide.
        """
        broken = []
        for network in self.networks.values():
            norms = torch.stack(torch._foreach_norm(list(network.parameters())))
            broken.append(~torch.isfinite(norms).all())
        return torch.cat((self.first_bad, torch.stack(broken).long()))

    def describe(self, flags: Tensor, step: int) -> tuple[int, str] | None:
        """Word what :meth:`flags` tell: the step and the name of what was not finite first.

        Args:
            flags: as they were after ``step`` steps; reading them waits for their device.
            step: the step that broken weights are blamed on.
        """
        n = len(self.names)
        first_bad, broken = flags[:n].tolist(), flags[n:].tolist()
        bad = [(at, name) for at, name in zip(first_bad, self.names, strict=True) if at]
        if bad:
            return min(bad, key=lambda item: item[0])
        for name, is_broken in zip(self.networks, broken, strict=True):
            if is_broken:
                return step, f"weights of the {name}"
        return None

    def state(self) -> list[Tensor]:
        """Return the tensors that :meth:`record` changes in place."""
        return [self.sums, self.counts, self.first_bad]
