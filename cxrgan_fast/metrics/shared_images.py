"""What metrics take of images, alone or in pairs, computed once for several comparisons.

The floor of a metric is the mean over many divisions of the same training images, of all classes
and of each. What is computed of one image, such as its spectrum, or of a pair, such as its
structural similarity, is the same in all of them. Images are told by their bytes, so that a
comparison may hold any part of the sets, in any order.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

MOST_IMAGES = 4096
"""Images of a set of whose pairs numbers are kept: 64 MB for two such sets, in float32."""

OfEach = Callable[[Tensor], Tensor]
"""Computes something of each of N images: (N, C, H, W) uint8 -> (N, ...)."""

OfPairs = Callable[[Tensor, Tensor], Tensor]
"""Computes something of all pairs of N and M images, the same of (a, b) as of (b, a): (N, M)."""

_ROWS = 512  # of a matrix of one set with itself that are computed at a time


@contextlib.contextmanager
def shared_images(*sets: Tensor) -> Iterator[None]:
    """Compute what is asked of these images, and of pairs of them, once, as long as this lasts.

    Of sets with more than `MOST_IMAGES` nothing is kept of pairs; all else is computed as ever.

    Args:
        sets: (N, C, H, W) uint8 each, which nobody writes to meanwhile.
    """
    before = _shared.set(_Shared([_Set(images) for images in sets if len(images)]))
    try:
        yield
    finally:
        _shared.reset(before)


def of_each(compute: OfEach, images: Tensor) -> Tensor:
    """Compute something of each image, or look it up where `shared_images` names them.

    Args:
        compute: what; the same function always.
        images: (N, C, H, W) uint8.

    Returns:
        (N, ...), as `compute` gives it.
    """
    shared = _shared.get()
    found = None if shared is None else shared.find(images)
    if found is None:
        return compute(images)
    known, rows = found
    return known.of_each(compute, rows)


def of_pairs(compute: OfPairs, first: Tensor, second: Tensor) -> Tensor | None:
    """Look up something of all pairs of images, computed once, where `shared_images` names them.

    Args:
        compute: what; the same function always.
        first: (N, C, H, W) uint8.
        second: (M, C, H, W) uint8.

    Returns:
        (N, M), to within the rounding of `compute` in blocks of another size; None where the images
        are not named, or are of sets too large to keep.
    """
    shared = _shared.get()
    if shared is None:
        return None
    one, other = shared.find(first), shared.find(second)
    if one is None or other is None:
        return None
    (left, rows), (right, columns) = one, other
    if max(len(left.images), len(right.images)) > MOST_IMAGES:
        return None
    return shared.matrix(compute, left, right)[rows][:, columns]


class _Set:
    """Images, their rows by their bytes, and what has been computed of each of them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self._tables: dict[OfEach, Tensor] = {}
        self._there: dict[OfEach, Tensor] = {}

    @functools.cached_property
    def rows(self) -> dict[bytes, int]:
        return {digest: row for row, digest in enumerate(_digests(self.images))}

    def of_each(self, compute: OfEach, rows: Tensor) -> Tensor:
        """What is computed of the images of some rows, computed of those that are new."""
        if compute not in self._there:
            self._there[compute] = torch.zeros(len(self.images), dtype=torch.bool)
        there = self._there[compute]
        missing = rows.cpu().unique()
        missing = missing[~there[missing]].to(rows.device)
        if compute not in self._tables or len(missing):
            values = compute(self.images[missing])
            table = self._tables.setdefault(
                compute, values.new_empty(len(self.images), *values.shape[1:])
            )
            table[missing] = values
            there[missing.cpu()] = True
        return self._tables[compute][rows]


class _Shared:
    """A few sets, and what has been computed of pairs of their images."""

    def __init__(self, sets: Sequence[_Set]) -> None:
        self.sets = sets
        self.matrices: dict[tuple[OfPairs, _Set, _Set], Tensor] = {}
        # One comparison asks for the same few tensors again and again.
        self._last: dict[int, tuple[Tensor, tuple[_Set, Tensor] | None]] = {}

    def find(self, images: Tensor) -> tuple[_Set, Tensor] | None:
        """The set that holds all of these images, and their rows (N,); None where none does."""
        if id(images) in self._last:
            return self._last[id(images)][1]
        digests = _digests(images)
        found = None
        for known in self.sets:
            if known.images.shape[1:] == images.shape[1:] and known.rows.keys() >= set(digests):
                rows = torch.tensor([known.rows[digest] for digest in digests], dtype=torch.int64)
                found = known, rows.to(known.images.device)
                break
        if len(self._last) >= _REMEMBERED:
            self._last.pop(next(iter(self._last)))
        self._last[id(images)] = images, found  # with the tensor, whose number is then not reused
        return found

    def matrix(self, compute: OfPairs, left: _Set, right: _Set) -> Tensor:
        """What is computed of all pairs of two sets, (N, M)."""
        key = compute, left, right
        if key in self.matrices:
            return self.matrices[key]
        if (compute, right, left) in self.matrices:
            return self.matrices[compute, right, left].T
        a, b = left.images, right.images
        if left is right:
            self.matrices[key] = _of_one_set(compute, a)
        else:
            self.matrices[key] = compute(a, b)
        return self.matrices[key]


_REMEMBERED = 8  # tensors whose rows are remembered


def _of_one_set(compute: OfPairs, images: Tensor) -> Tensor:
    """The matrix of a set with itself, of which one half is computed."""
    whole = torch.empty(0)
    for start in range(0, len(images), _ROWS):
        stop = min(start + _ROWS, len(images))
        block = compute(images[start:stop], images[start:])  # (rows, N - start)
        if not start:
            whole = block.new_empty(len(images), len(images))
        whole[start:stop, start:] = block
        whole[stop:, start:stop] = block[:, stop - start :].T
    return whole


def _digests(images: Tensor) -> list[bytes]:
    array = images.contiguous().cpu().numpy()
    return [hashlib.blake2b(each, digest_size=16).digest() for each in array]


# Of each thread its own: a training may evaluate while another thread does.
_shared: ContextVar[_Shared | None] = ContextVar("shared images", default=None)
