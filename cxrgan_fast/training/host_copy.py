"""Copies of a training's state in the CPU's memory, made without waiting for the GPU."""

import copy
from typing import Any

import torch
from torch import Tensor

_PLAIN = (int, float, str, bytes, torch.dtype, type(None))


class HostCopy:
    """A copy that may still be on its way from the GPU."""

    def __init__(self, state: Any, arrivals: list[torch.cuda.Event]) -> None:
        self._state, self._arrivals = state, arrivals

    def wait(self) -> Any:
        """Wait for the copy and return it. Meant for another thread than the one that trains."""
        for arrival in self._arrivals:
            arrival.synchronize()
        return self._state


def copy_to_host(state: Any) -> HostCopy:
    """Copy the tensors of nested dicts, lists and tuples to the CPU, as they are at this moment.

    What the caller does to them next is not in the copy, and the caller does not wait: a GPU
    clones them in the order of its current stream, and sends the clones to pinned memory on a
    stream of its own, beside the steps that follow. Tensors of the CPU are cloned.

    Memory: as much again as ``state`` takes, on the CPU until the copy is dropped (pinned memory,
    which PyTorch rounds up to powers of two and keeps for the next copy), and on a GPU until the
    clones are sent. In a run that saves faster than its disk writes, four copies can be alive:
    one is being written, two wait, and the training thread stands with the next.

    Args:
        state: Dicts (of any class, such as that of ``nn.Module.state_dict``), lists, tuples,
            tensors and plain values.

    Raises:
        TypeError: ``state`` holds something else, which could change while it is being saved.
    """
    sender = _Sender()
    copied = sender.copied(state)
    return HostCopy(copied, sender.send())


class _Sender:
    def __init__(self) -> None:
        self.clones: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}  # (clone, its target)

    def copied(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value.detach())
        if isinstance(value, dict):
            same_class = copy.copy(value)  # a module's has an attribute, the layout's version
            for key, item in value.items():
                same_class[key] = self.copied(item)
            return same_class
        if isinstance(value, list | tuple):
            return type(value)(map(self.copied, value))
        if isinstance(value, _PLAIN):
            return value
        raise TypeError(f"state: expected tensors and plain values, got {type(value).__name__}")

    def _tensor(self, tensor: Tensor) -> Tensor:
        if not tensor.is_cuda:
            return tensor.to("cpu", copy=True)
        target = torch.empty_like(tensor, device="cpu", pin_memory=True)
        self.clones.setdefault(tensor.device, []).append((tensor.clone(), target))
        return target

    def send(self) -> list[torch.cuda.Event]:
        """Start the transfers from each GPU; the events come when they are done."""
        arrivals = []
        for device, clones in self.clones.items():
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for clone, target in clones:
                    target.copy_(clone, non_blocking=True)
                    clone.record_stream(stream)  # it is dropped here, before it is sent
            # Blocking: who waits for it sleeps, instead of spinning on a core that a step needs.
            arrivals.append(stream.record_event(torch.cuda.Event(blocking=True)))
        self.clones.clear()
        return arrivals
