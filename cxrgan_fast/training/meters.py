"""Losses and accuracies summed up on the device, and what was not finite remembered there."""

import torch
from torch import Tensor, nn

METRICS = ("d_loss", "d_real_accuracy", "d_fake_accuracy", "g_loss", "r1")


class Meters:
    """Means of METRICS over the steps since they were last read.

    A step hands over its values as one vector, in the order of METRICS, which ends before ``r1``
    where the step computes none. Nothing is read back from the device but by :meth:`read` and by
    whoever reads :meth:`flags`.

    Args:
        networks: by the names that messages give them; their weights are looked at by `flags`.
        device: where the values come from.
    """

    def __init__(self, networks: dict[str, nn.Module], device: torch.device) -> None:
        self.networks = networks
        self.sums = torch.zeros(len(METRICS), device=device)
        self.counts = torch.zeros(len(METRICS), device=device)
        # The step at which each was first not finite, 0 while it has not been.
        self.first_bad = torch.zeros(len(METRICS), dtype=torch.int64, device=device)

    def record(self, values: Tensor, step: Tensor) -> None:
        """Take the values of a step.

        Args:
            values: (len(METRICS),) or, without r1, one less; float32.
            step: the number of the step, from 1: 0-dimensional int64.
        """
        n = len(values)
        self.sums[:n] += values
        self.counts[:n] += 1
        first_bad = self.first_bad[:n]
        is_first = ~torch.isfinite(values) & (first_bad == 0)
        first_bad += is_first * step

    def read(self) -> dict[str, float]:
        """Means since the last call. Waits for the device."""
        means, counts = (self.sums / self.counts).tolist(), self.counts.tolist()
        self.sums.zero_()
        self.counts.zero_()
        return {name: m for name, m, n in zip(METRICS, means, counts, strict=True) if n}

    def flags(self) -> Tensor:
        """What is not finite, as numbers on the device: see :meth:`describe`.

        Returns:
            (len(METRICS) + networks,) int64: the step at which each metric was first not finite, or
            0; then 1 for each network whose weights are not, in which an overflow of the last
            update would hide.
        """
        broken = []
        for network in self.networks.values():
            norms = torch.stack(torch._foreach_norm(list(network.parameters())))
            broken.append(~torch.isfinite(norms).all())
        return torch.cat((self.first_bad, torch.stack(broken).long()))

    def describe(self, flags: Tensor, step: int) -> tuple[int, str] | None:
        """What :meth:`flags` tell: the step and the name of the first thing that was not finite.

        Args:
            flags: as they were after ``step`` steps; reading them waits for their device.
            step: the step that broken weights are blamed on.
        """
        first_bad, broken = flags[: len(METRICS)].tolist(), flags[len(METRICS) :].tolist()
        bad = [(at, name) for at, name in zip(first_bad, METRICS, strict=True) if at]
        if bad:
            return min(bad, key=lambda item: item[0])
        for name, is_broken in zip(self.networks, broken, strict=True):
            if is_broken:
                return step, f"weights of the {name}"
        return None

    def state(self) -> list[Tensor]:
        """Tensors that :meth:`record` changes in place."""
        return [self.sums, self.counts, self.first_bad]
