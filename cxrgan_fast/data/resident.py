"""Images where the training step finds them: on its device whole, or a step's worth ahead of it.

Both kinds keep their tensors at fixed addresses and tell the step which rows are next through a
tensor on the device, so that a step that was captured as a CUDA graph can be replayed for ever.
"""

import os
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.data.sampler import Order
from cxrgan_fast.threads import use_one_core

_ASSUMED_MEMORY = 8 << 30

# Row numbers that are sent to the device at a time, at most. The order of an epoch takes time even
# where it is short, and 65,536 rows are five thousand epochs of a set of twelve.
_ROWS_AHEAD = 1 << 16
_EPOCHS_AHEAD = 64


class StepImages(ABC):
    """The images and labels of the steps to come.

    Before each step :meth:`seek` is called; within it, :meth:`next_rows` once for each batch.

    Attributes:
        images: (M, C, R, R) uint8 on the device, contiguous.
        labels: (M,) int64 on the device, of `images`.
    """

    images: Tensor
    labels: Tensor

    @abstractmethod
    def seek(self, position: int) -> None:
        """Make the step ready that begins with the image at ``position``. Waits for nothing.

        Args:
            position: images shown before, of all steps; see `Order`.
        """

    @abstractmethod
    def next_rows(self) -> Tensor:
        """Return the rows of `images` of the next batch: (batch_size,) int64 on the device."""

    @abstractmethod
    def state(self) -> list[Tensor]:
        """Return the tensors that :meth:`next_rows` changes in place."""


class ResidentImages(StepImages):
    """The whole set on the device, and row numbers sent there for many steps at a time.

    Args:
        dataset: what to train on.
        order: the rows in the order of training.
        batch_size: rows of a batch.
        batches: batches of a step.
        device: where to put it.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        order: Order,
        batch_size: int,
        batches: int,
        device: torch.device,
    ) -> None:
        self.images = dataset.images.contiguous().to(device)
        self.labels = dataset.labels.to(device)
        self.order = order
        self.per_step = batch_size * batches
        ahead = min(_ROWS_AHEAD, _EPOCHS_AHEAD * len(self.labels))
        steps = max(1, ahead // self.per_step)
        self._ahead = torch.zeros(steps * self.per_step, dtype=torch.int64, device=device)
        self._cursor = torch.zeros((), dtype=torch.int64, device=device)
        self._within = torch.arange(batch_size, device=device)
        self._first, self._next = 0, -1  # position of the first row sent; of the step expected

    def seek(self, position: int) -> None:
        """See :meth:`StepImages.seek`."""
        if position != self._next or position - self._first == len(self._ahead):
            rows = self.order.rows(position, len(self._ahead))
            if self._ahead.is_cuda:
                rows = rows.pin_memory()  # which PyTorch keeps until the copy is done
            self._ahead.copy_(rows, non_blocking=True)
            self._cursor.zero_()
            self._first = position
        self._next = position + self.per_step

    def next_rows(self) -> Tensor:
        """See :meth:`StepImages.next_rows`."""
        rows = self._ahead.index_select(0, self._cursor + self._within)
        self._cursor += len(self._within)
        return rows

    def state(self) -> list[Tensor]:
        """See :meth:`StepImages.state`."""
        return [self._cursor]


class StreamedImages(StepImages):
    """One step's images on the device, and the next step's on their way there.

    For a set that the device's memory does not hold. A thread gathers the images of the next step
    in pinned memory and copies them on a stream of its own while the device computes the step
    before; `seek` then moves them to where the step reads, in the order of the step's stream.

    Args:
        dataset: what to train on; it stays in host memory.
        order: the rows in the order of training.
        batch_size: rows of a batch.
        batches: batches of a step.
        device: where the steps run.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        order: Order,
        batch_size: int,
        batches: int,
        device: torch.device,
    ) -> None:
        self.order, self.device = order, device
        self.per_step = batch_size * batches
        self._all = dataset.images.contiguous(), dataset.labels
        on_cuda = device.type == "cuda"

        def empty(like: Tensor, where: torch.device, pinned: bool = False) -> Tensor:
            shape = (self.per_step, *like.shape[1:])
            return torch.zeros(shape, dtype=like.dtype, device=where, pin_memory=pinned)

        self.images, self.labels = (empty(each, device) for each in self._all)
        host = torch.device("cpu")
        # What the thread fills: host memory, and on a GPU from there a copy on the device.
        self._gathered = [empty(each, host, on_cuda) for each in self._all]
        self._arrived = [empty(each, device) for each in self._all] if on_cuda else self._gathered
        self._stream = torch.cuda.Stream(device) if on_cuda else None
        if self._stream is not None:  # the first images may not come before the zeros
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._taken = torch.cuda.Event() if on_cuda else None  # when the step has what arrived
        self._cursor = torch.zeros((), dtype=torch.int64, device=device)
        self._within = torch.arange(batch_size, device=device)
        self._thread = ThreadPoolExecutor(1, "cxrgan-images", use_one_core)
        self._coming: tuple[int, Future[None]] | None = None

    def seek(self, position: int) -> None:
        """See :meth:`StepImages.seek`. Waits for the thread, if that is behind."""
        if self._coming is None or self._coming[0] != position:
            if self._coming is not None:
                self._coming[1].result()  # it writes to where the next one will
            self._coming = position, self._thread.submit(self._fetch, position)
        self._coming[1].result()
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)
        for target, arrived in zip((self.images, self.labels), self._arrived, strict=True):
            target.copy_(arrived, non_blocking=True)
        if self._taken is not None:
            self._taken.record(torch.cuda.current_stream(self.device))
        self._cursor.zero_()
        after = position + self.per_step
        self._coming = after, self._thread.submit(self._fetch, after)

    def _fetch(self, position: int) -> None:
        rows = self.order.rows(position, self.per_step)
        if self._stream is None or self._taken is None:
            for whole, gathered in zip(self._all, self._gathered, strict=True):
                torch.index_select(whole, 0, rows, out=gathered)
            return
        self._stream.synchronize()  # the copies before have read the pinned memory
        for whole, gathered in zip(self._all, self._gathered, strict=True):
            torch.index_select(whole, 0, rows, out=gathered)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._taken)
            for arrived, gathered in zip(self._arrived, self._gathered, strict=True):
                arrived.copy_(gathered, non_blocking=True)

    def next_rows(self) -> Tensor:
        """See :meth:`StepImages.next_rows`."""
        rows = self._cursor + self._within
        self._cursor += len(self._within)
        return rows

    def state(self) -> list[Tensor]:
        """See :meth:`StepImages.state`."""
        return [self._cursor]


def step_images(
    dataset: ImageDataset,
    order: Order,
    batch_size: int,
    batches: int,
    device: torch.device,
    share: float,
) -> StepImages:
    """Put the images of ``dataset`` where training steps read them.

    They are resident if they take no more than ``share`` of the memory, and streamed otherwise.

    Args:
        dataset: what to train on.
        order: the rows in the order of training.
        batch_size: rows of a batch.
        batches: batches of a step.
        device: where the steps run.
        share: share of the device's whole memory, from 0 (always streamed) to 1.
    """
    fits = dataset.images.nbytes <= share * _memory(device)
    kind = ResidentImages if fits else StreamedImages
    return kind(dataset, order, batch_size, batches, device)


def _memory(device: torch.device) -> int:
    """Bytes of memory that the device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except AttributeError:  # Windows does not say
        return _ASSUMED_MEMORY
