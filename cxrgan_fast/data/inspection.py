"""What is to be known of a set before it is trusted."""

import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrgan_fast.data.depth import Brightest, UnknownWhiteError, shown_notes, whites_of
from cxrgan_fast.data.duplicates import groups, near_duplicates, thumbnail
from cxrgan_fast.data.patients import patient_warnings, settle_patients
from cxrgan_fast.data.readers import Decoded, Whites, look_at
from cxrgan_fast.data.reading import in_threads
from cxrgan_fast.data.sources import SPLITS, ImageFile, Source, Unused
from cxrgan_fast.data.sources.store import SourceChangedError
from cxrgan_fast.data.splits import split_warnings
from cxrgan_fast.errors import UserError, printable

_LEAST = 256  # pixels a side at which brightness is measured, at least
_FAR = 4.0  # robust standard deviations: brightness beyond is worth a look


@dataclass(frozen=True)
class Seen:
    """What was seen of an image."""

    file: ImageFile
    patient: str
    width: int
    height: int
    kind: str
    size: int
    sha256: str
    mean: float
    low: float
    high: float
    black: float
    white: float
    notes: tuple[str, ...]


@dataclass
class Inspection:
    """What was found in a set.

    Attributes:
        name: name of the set.
        images: what was seen of each image that can be read, sorted by name.
        thumbnails: uint8, (N, 32, 32), of the same.
        unusable: (name, reason) of files that cannot be read or used.
        unused: all other files that were listed.
        notes: what a user should know of what is used and what is not.
        exact: groups of files with the same bytes.
        near: groups of images that look the same, of which not all have the same bytes.
        correlations: (row, row, correlation) of each pair of images that look the same.
        has_splits: whether the set tells train, test and val apart.
        whites: which values are white in images whose headers do not say.
    """

    name: str
    images: list[Seen]
    thumbnails: npt.NDArray[np.uint8]
    unusable: list[tuple[str, str]]
    unused: list[Unused]
    notes: list[str]
    has_splits: bool
    whites: Whites
    exact: list[list[int]] = field(default_factory=list)
    near: list[list[int]] = field(default_factory=list)
    correlations: list[tuple[int, int, float]] = field(default_factory=list)

    def conflicts(self) -> list[list[int]]:
        """Return the groups of copies that differ in class."""
        return [g for g in self._copies() if len({self.images[i].file.class_name for i in g}) > 1]

    def across_splits(self) -> list[list[int]]:
        """Return the groups of copies that lie in several splits."""
        return [g for g in self._copies() if len({self.images[i].file.split for i in g}) > 1]

    def of_other_patients(self) -> list[list[int]]:
        """Return the groups of copies that are assigned to several patients."""
        return [g for g in self._copies() if len({self.images[i].patient for i in g}) > 1]

    def unusual(self) -> list[int]:
        """Return images far brighter or darker than the others (by median absolute deviation)."""
        if not self.images:
            return []
        means = np.array([seen.mean for seen in self.images])
        deviation = 1.4826 * np.median(np.abs(means - np.median(means)))
        return np.flatnonzero(np.abs(means - np.median(means)) > _FAR * max(deviation, 1)).tolist()

    def patients_of_several_classes(self) -> list[str]:
        """Return the patients with images of more than one class."""
        classes: dict[str, set[str]] = {}
        for seen in self.images:
            classes.setdefault(seen.patient, set()).add(seen.file.class_name)
        return sorted(patient for patient, names in classes.items() if len(names) > 1)

    def _copies(self) -> list[list[int]]:
        pairs = [(g[0], other) for g in (*self.exact, *self.near) for other in g[1:]]
        return groups(pairs)


def inspect_source(
    source: Source, *, workers: int | None = None, progress: bool = True
) -> Inspection:
    """Look at every image of a source.

    What is kept of an image in memory is its thumbnail and a few numbers. Brightness is measured
    on images made smaller, but to no less than 256 pixels a side.

    Args:
        source: opened.
        workers: threads; None for one a core.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        SourceChangedError: the source changed meanwhile.
        UserError: no image can be read.
    """
    files = source.files
    seen: dict[int, tuple[Seen, npt.NDArray[np.uint8]]] = {}
    unusable = source.problems + source.without_kind(list(source.classes), None)

    def see_all(places: Sequence[int], whites: Whites) -> dict[int, Brightest]:
        """Look at images; give those that wait for the others to say what is white."""

        def work(index: int) -> tuple[Seen, npt.NDArray[np.uint8]] | Brightest | str:
            return _see(source, files[places[index]], whites)

        waiting = {}
        results = in_threads(work, len(places), "looking", workers=workers, progress=progress)
        for place, result in zip(places, results, strict=True):
            if isinstance(result, str):
                unusable.append((files[place].name, result))
            elif isinstance(result, Brightest):
                waiting[place] = result
            else:
                seen[place] = result
        return waiting

    waiting = see_all(range(len(files)), {})
    whites = whites_of(list(waiting.values()))
    see_all(list(waiting), whites)
    images = [seen[place][0] for place in sorted(seen)]
    patients = settle_patients(
        [each.file for each in images], [each.patient or None for each in images]
    )
    images = [
        replace(each, patient=patient) for each, patient in zip(images, patients, strict=True)
    ]
    thumbnails = [seen[place][1] for place in sorted(seen)]
    if not images:
        name, reason = min(unusable)
        raise UserError(
            f"{source.where}: none of its {len(files)} images can be read (first problem: "
            f"{printable(name)}: {reason})"
        )
    found = Inspection(
        name=source.name,
        images=images,
        thumbnails=np.stack(thumbnails),
        unusable=sorted(unusable),
        unused=source.unused,
        notes=source.notes(),
        has_splits=source.has_splits,
        whites=whites,
    )
    _find_copies(found)
    return found


def _see(
    source: Source, file: ImageFile, whites: Whites
) -> tuple[Seen, npt.NDArray[np.uint8]] | Brightest | str:
    """Look at an image; give why not where it cannot be read."""

    def seen(content: bytes, found: Decoded) -> tuple[Seen, npt.NDArray[np.uint8]]:
        counts = np.array(found.image.histogram(), np.float64)
        shares = counts / counts.sum()
        low, high = np.searchsorted(np.cumsum(shares), (0.01, 0.99)).tolist()
        about = Seen(
            file=file,
            patient=found.patient or "",
            width=found.width,
            height=found.height,
            kind=found.kind,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            mean=float(shares @ np.arange(256)),
            low=float(low),
            high=float(high),
            black=float(shares[0]),
            white=float(shares[255]),
            notes=found.notes,
        )
        return about, thumbnail(found.image)

    try:
        with source.held(file) as content:
            return look_at(content, _LEAST, whites, functools.partial(seen, content))
    except SourceChangedError:
        raise
    except UnknownWhiteError as error:
        return error.brightest
    except UserError as error:
        return str(error).removeprefix(f"{printable(file.name)}: ")


def _find_copies(found: Inspection) -> None:
    by_content: dict[str, list[int]] = {}
    for place, seen in enumerate(found.images):
        by_content.setdefault(seen.sha256, []).append(place)
    found.exact = [group for group in by_content.values() if len(group) > 1]
    pairs = near_duplicates(found.thumbnails)
    digest = [seen.sha256 for seen in found.images]
    found.correlations = [pair for pair in pairs if digest[pair[0]] != digest[pair[1]]]
    connected = groups([(first, second) for first, second, _ in pairs])
    found.near = [g for g in connected if len({digest[place] for place in g}) > 1]


def as_json(found: Inspection) -> dict[str, Any]:
    """Return everything that was found, with the names of all files concerned, as plain data."""

    def names(group: Sequence[int]) -> list[str]:
        return [found.images[place].file.name for place in group]

    def spread(values: Sequence[float]) -> dict[str, float]:
        low, median, high = np.percentile(values, (0, 50, 100)).tolist()
        return {"min": round(low, 3), "median": round(median, 3), "max": round(high, 3)}

    images = found.images
    sizes = Counter((seen.width, seen.height) for seen in images)
    per_patient = Counter(seen.patient for seen in images)
    by_class: dict[str, Any] = {}
    for name in dict.fromkeys(seen.file.class_name for seen in images):
        of_class = [seen for seen in images if seen.file.class_name == name]
        splits = Counter(seen.file.split for seen in of_class)
        by_class[name] = {
            "images": len(of_class),
            "patients": len({seen.patient for seen in of_class}),
            "splits": {split: splits[split] for split in SPLITS if splits[split]},
            "mean_brightness": spread([seen.mean for seen in of_class]),
            "aspect_ratio": spread([seen.width / seen.height for seen in of_class]),
        }
    return {
        "name": found.name,
        "images": len(images),
        "classes": by_class,
        "patients": len(per_patient),
        "images_per_patient": spread(list(per_patient.values())),
        "has_splits": found.has_splits,
        "patient_warnings": patient_warnings([seen.patient for seen in images]),
        "split_warnings": split_warnings(
            [seen.patient for seen in images], [seen.file.split for seen in images]
        ),
        "kinds": dict(Counter(seen.kind for seen in images).most_common()),
        "notes": dict(Counter(note for seen in images for note in seen.notes).most_common()),
        "width": spread([seen.width for seen in images]),
        "height": spread([seen.height for seen in images]),
        "aspect_ratio": spread([seen.width / seen.height for seen in images]),
        "bytes": spread([seen.size for seen in images]),
        "most_common_sizes": [
            {"width": width, "height": height, "images": n}
            for (width, height), n in sizes.most_common(10)
        ],
        "brightness": {
            "mean": spread([seen.mean for seen in images]),
            "1st_percentile": spread([seen.low for seen in images]),
            "99th_percentile": spread([seen.high for seen in images]),
            "share_of_black": spread([seen.black for seen in images]),
            "share_of_white": spread([seen.white for seen in images]),
        },
        "unusual_brightness": names(found.unusual()),
        "exact_duplicates": [names(group) for group in found.exact],
        "near_duplicates": [names(group) for group in found.near],
        "near_duplicate_pairs": [
            [*names((first, second)), round(correlation, 4)]
            for first, second, correlation in found.correlations
        ],
        "label_conflicts": [names(group) for group in found.conflicts()],
        "duplicates_across_splits": [names(group) for group in found.across_splits()],
        "duplicates_of_other_patients": [names(group) for group in found.of_other_patients()],
        "patients_of_several_classes": found.patients_of_several_classes(),
        "unusable": [list(each) for each in found.unusable],
        "unused": [asdict(each) for each in found.unused],
        "source_notes": found.notes,
    }


def as_table(found: Inspection) -> str:
    """Format what was found for a terminal: counts, ranges, and warnings with what to do."""
    record = as_json(found)
    lines = [
        f"{printable(found.name)}: {record['images']} images of {record['patients']} patients "
        f"(a patient has {_range(record['images_per_patient'])})",
        "",
        f"{'class':<16}{'images':>8}{'patients':>10}{'train':>8}{'test':>8}{'val':>8}"
        f"{'brightness':>18}{'aspect':>22}",
    ]
    for name, about in record["classes"].items():
        counts = "".join(f"{about['splits'].get(split, 0):>8}" for split in SPLITS)
        lines.append(
            f"{printable(name):<16}{about['images']:>8}{about['patients']:>10}{counts}"
            f"{_range(about['mean_brightness'], 0):>18}{_range(about['aspect_ratio'], 2):>22}"
        )
    kinds = ", ".join(f"{n} {kind}" for kind, n in record["kinds"].items())
    common = ", ".join(
        f"{each['images']} of {each['width']} x {each['height']}"
        for each in record["most_common_sizes"][:3]
    )
    lines += [
        "",
        f"formats   {kinds}",
        f"sizes     {_range(record['width'], 0)} x {_range(record['height'], 0)}; mostly {common}",
        f"bytes     {_range(record['bytes'], 0)} a file",
        "(ranges: smallest – median – largest)",
        "",
    ]
    lines += [printable(note) for note in found.notes]
    lines += shown_notes(record["notes"])
    warnings = _warnings(record)
    lines += [f"warning: {warning}" for warning in warnings] or ["nothing to warn of"]
    return "\n".join(lines)


def _range(spread: dict[str, float], digits: int = 0) -> str:
    return " – ".join(f"{spread[key]:.{digits}f}" for key in ("min", "median", "max"))


def _warnings(record: dict[str, Any]) -> list[str]:
    found = [printable(each) for each in (*record["patient_warnings"], *record["split_warnings"])]

    def add(key: str, what: str, then: str) -> None:
        listed = record[key]
        if not listed:
            return
        first = listed[0]
        shown = first if isinstance(first, str) else ", ".join(map(str, first[:3]))
        found.append(f"{what}: {len(listed)} (such as {printable(shown)}); {then}")

    add(
        "unusable", "files that cannot be used", "repair or remove them, or prepare with --skip-bad"
    )
    add("label_conflicts", "groups of copies of several classes", "find out which is right")
    add(
        "duplicates_across_splits",
        "groups of copies in several splits",
        "what is tested was trained on; remove them",
    )
    add(
        "duplicates_of_other_patients",
        "groups of copies under several patients' names",
        "a division by patient may separate them; remove them",
    )
    add(
        "exact_duplicates", "groups of files that are the same, byte for byte", "remove all but one"
    )
    add("near_duplicates", "groups of images that look the same", "remove all but one")
    add(
        "patients_of_several_classes",
        "patients with images of several classes",
        "right where a disease comes or goes, or where names are used twice",
    )
    add("unusual_brightness", "images far brighter or darker than the rest", "look at them")
    return found
