"""Copies of an image under another name, also re-encoded, resized or of other brightness.

Chest radiographs look alike, so a perceptual hash alone pairs thousands of patients. Here it only
proposes: pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions",
2010), 64 signs of the lowest frequencies of a 32 x 32 thumbnail. What differs in few of them is
compared by the correlation of the thumbnails. In the published paediatric set copies correlate
beyond 0.999 and different images below 0.976, with nothing between. Copies that were cropped by
more than about a hundredth of their width are not found.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32
HASH_BITS = 64
MOST_BITS_APART = 10
LEAST_CORRELATION = 0.985

_BLOCK = 2048  # images that are looked at at once, at most
_CELLS = 1 << 24  # pairs that are compared at once: what bounds the memory


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Shrink an image of any shape to 32 x 32 pixels, uint8."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def perceptual_hashes(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Compute the pHash of each thumbnail.

    Args:
        thumbnails: uint8, (N, 32, 32).

    Returns:
        bool, (N, 64): which of the 64 lowest frequencies but the mean are above their median.
    """
    place = np.arange(SIDE)
    waves = np.cos(np.pi * (2 * place + 1) * place[:9, None] / (2 * SIDE)).astype(np.float32)
    # About its mean an image of one tone is 0, and so is its spectrum, not what rounding leaves.
    about_mean = thumbnails - thumbnails.mean((1, 2), keepdims=True)
    spectrum = waves @ about_mean.astype(np.float32) @ waves.T  # (N, 9, 9)
    # Along diagonals from the lowest frequency, the first of which is the mean.
    order = sorted((i + j, i, j) for i in range(9) for j in range(9))[1 : HASH_BITS + 1]
    lowest = np.stack([spectrum[:, i, j] for _, i, j in order], axis=1)
    above: npt.NDArray[np.bool_] = lowest > np.median(lowest, axis=1, keepdims=True)
    return above


def near_duplicates(thumbnails: npt.NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """Find the pairs that connect images that are copies of each other.

    Images with copies in common are copies: a group of n is told by n - 1 pairs, not by all
    n (n - 1) / 2, of which 500 copies of each of 200 images have 25 million. All pairs are looked
    at, a block of images against all, but for those that are connected already: the time grows
    with N², the memory with N.

    Args:
        thumbnails: uint8, (N, 32, 32).

    Returns:
        (first, second, correlation) of each pair, first < second, in that order: the first pairs
        in it that connect what was not connected before.
    """
    # Of thumbnails that are equal to the bit, the first stands for all.
    first_of: dict[bytes, int] = {}
    pairs: list[tuple[int, int, float]] = []
    for place, content in enumerate(thumbnails):
        first = first_of.setdefault(content.tobytes(), place)
        if first != place:
            pairs.append((first, place, 1.0))
    places = list(first_of.values())
    for one, other, correlation in _connections(thumbnails[places]):
        pairs.append((places[one], places[other], correlation))
    return sorted(pairs)


def _connections(thumbnails: npt.NDArray[np.uint8]) -> list[tuple[int, int, float]]:
    """Pairs that connect copies among thumbnails that all differ."""
    signs = np.empty((len(thumbnails), HASH_BITS), np.float32)
    for start in range(0, len(signs), _BLOCK):
        above = perceptual_hashes(thumbnails[start : start + _BLOCK])
        signs[start : start + _BLOCK] = np.where(above, 1, -1)
    pairs: list[tuple[int, int, float]] = []
    connected = Connected(len(signs))
    rows = max(1, min(_BLOCK, _CELLS // max(1, len(signs))))
    for start in range(0, len(signs), rows):
        block = signs[start : start + rows]
        agreement = block @ signs[start:].T
        firsts, seconds = np.nonzero(agreement >= HASH_BITS - 2 * MOST_BITS_APART)
        later = firsts < seconds
        firsts, seconds = firsts[later] + start, seconds[later] + start
        while len(firsts):
            # Copies of many are soon connected: most of their pairs need no second look.
            apart = connected.leaders[firsts] != connected.leaders[seconds]
            firsts, seconds = firsts[apart], seconds[apart]
            if not len(firsts):
                break
            i, j = firsts[:_BLOCK], seconds[:_BLOCK]
            firsts, seconds = firsts[_BLOCK:], seconds[_BLOCK:]
            correlations = _correlations(thumbnails[i], thumbnails[j])
            same = correlations >= LEAST_CORRELATION
            found = zip(
                i[same].tolist(), j[same].tolist(), correlations[same].tolist(), strict=True
            )
            pairs += [pair for pair in found if connected.join(pair[0], pair[1])]
    return pairs


class Connected:
    """Which of N things are connected, in groups that are joined.

    Attributes:
        leaders: int64, (N,): the lowest of each one's group.
    """

    def __init__(self, count: int) -> None:
        """Begin with each on its own."""
        self.leaders = np.arange(count)
        self._members: dict[int, list[int]] = {}

    def join(self, first: int, second: int) -> bool:
        """Connect two; give whether they were not connected before."""
        low, high = sorted((int(self.leaders[first]), int(self.leaders[second])))
        if low == high:
            return False
        moved = self._members.pop(high, [high])
        self.leaders[moved] = low
        self._members.setdefault(low, [low]).extend(moved)
        return True


def groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group the images that pairs connect; each group is sorted."""
    leader: dict[int, int] = {}

    def find(place: int) -> int:
        while leader.setdefault(place, place) != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for first, second in pairs:
        leader[max(find(first), find(second))] = min(find(first), find(second))
    members: dict[int, list[int]] = {}
    for place in sorted(leader):
        members.setdefault(find(place), []).append(place)
    return list(members.values())


def _correlations(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Pearson's of each pair; of images of one tone, 1 with each other and 0 with others."""
    a, b = (each.reshape(len(each), -1).astype(np.float64) for each in (first, second))
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    flat = (a == 0).all(1) & (b == 0).all(1)
    found = np.where(lengths > 0, (a * b).sum(1) / np.where(lengths > 0, lengths, 1), 0.0)
    return np.where(flat, 1.0, found)
