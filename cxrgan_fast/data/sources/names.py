"""What the names of folders and files tell: splits, masks, wrappers, patients."""

import re
from functools import lru_cache

SPLITS = ("train", "test", "val")

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("holdout", "hold-out", "hold_out"), "test"),
}
_SPLIT_PART = re.compile(
    r"(?<![a-z])(train|training|test|testing|val|valid|validation)(?![a-z])", re.IGNORECASE
)
_AFTER_SPLIT = re.compile(r"[ _-]?(?:set|data|images|imgs|split)$")

_MASK_WORDS = frozenset(
    {
        *("label", "labels", "annotation", "annotations", "seg", "segs", "gt", "groundtruth"),
        *("segmentation", "segmentations", "contour", "contours", "roi", "rois", "bbox", "bboxes"),
        *("overlay", "overlays", "heatmap", "heatmaps", "gradcam", "saliency"),
    }
)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # of leftMask
_MASK_WORD = (
    r"(?:masks?|segs?|segmentations?|labels?|annotations?|gt|ground[ _-]?truth|contours?|rois?"
    r"|overlays?|heatmaps?)"
)
_MASK_FILE = re.compile(
    rf"^{_MASK_WORD}[ ._-]+|[ ._-]+\(?(?:(?:lungs?|left|right|infection|heart)[ ._-]*)?{_MASK_WORD}"
    r"\d*\)?$|(?<=\d)masks?$",
    re.IGNORECASE,
)

# Folders that hold images of a kind, and neither a class nor a patient.
_CONTAINERS = frozenset(
    {
        *("image", "images", "img", "imgs", "picture", "pictures", "data", "dataset", "datasets"),
        *("archive", "files", "input", "inputs", "raw", "original", "originals"),
        *("xray", "xrays", "x-ray", "x-rays", "cxr", "cxrs", "frontal", "lateral", "pa", "ap"),
        *("png", "pngs", "jpg", "jpgs", "jpeg", "jpegs", "dicom", "dicoms", "dcm"),
    }
)
_PARTS = frozenset(
    {
        *("batch", "part", "fold", "set", "series", "study", "group", "year"),
        *("site", "hospital", "center", "centre", "clinic", "device", "scanner"),
    }
)
_NUMBER_AFTER = re.compile(r"[ _-]?\d+$")

_NO_DATA = {
    **dict.fromkeys(("@eadir", "thumbnails", "thumbnail", "thumbs"), "thumbnails"),
    **dict.fromkeys(("#recycle", "$recycle.bin", "recycler"), "deleted files"),
    **dict.fromkeys(("#snapshot", "lost+found", "system volume information"), "of the file system"),
    "__pycache__": "of Python",
}

# In this order; each is anchored at the beginning of the file's name.
_PATIENT_FILES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(person\d+)_",  # Kermany et al.: person1_bacteria_2.jpeg
        r"((?:NORMAL\d*-)?IM-\d+)-",  # and IM-0115-0001.jpeg, NORMAL2-IM-0429-0001.jpeg
        r"(\d{8})_\d{3}(?:[._]|$)",  # NIH ChestX-ray14: 00000013_005.png
        r"((?:patient|subject|sub|case)[ _-]?\d+)[ _-]",
    )
)
_PATIENT_FOLDER = re.compile(
    r"(?:(?:patient|person|subject|sub|case|pat|pt)[ _-]?\d+|p\d{5,})", re.IGNORECASE
)


@lru_cache(maxsize=1 << 16)
def split_of(name: str) -> str | None:
    """Return the split that a folder's or a column's name means, in any case; None if none."""
    word = name.strip().casefold()
    return _SPLIT_WORDS.get(word) or _SPLIT_WORDS.get(_AFTER_SPLIT.sub("", word))


@lru_cache(maxsize=1 << 16)
def split_and_rest(name: str) -> tuple[str, str] | None:
    """Return the split that a part of a folder's name means, and what else the name says.

    Digits do not count: of 01_train and 02_test the rest is the same.
    """
    found = _SPLIT_PART.findall(name)
    if len(found) != 1:
        return None
    rest = re.sub(r"[\W\d_]+", " ", _SPLIT_PART.sub(" ", name)).casefold().strip()
    return _SPLIT_WORDS[found[0].casefold()], rest


@lru_cache(maxsize=1 << 16)
def is_mask_folder(name: str) -> bool:
    """Tell whether a folder's name speaks of masks, labels or segmentations."""
    plain = re.sub(r"ground[ _-]truth", "groundtruth", _HUMP.sub(" ", name).casefold())
    words = set(re.split(r"[^a-z]+", plain))
    return bool(_MASK_WORDS & words) or any(word.endswith(("mask", "masks")) for word in words)


def without_mask_word(stem: str) -> str:
    """Return the name of the image that a mask is of: IM1 for IM1_mask, and for mask_IM1."""
    return _MASK_FILE.sub("", stem)


@lru_cache(maxsize=1 << 16)
def is_container(name: str) -> bool:
    """Tell whether a folder's name (images, PA, png) names neither a class nor a patient."""
    return name.strip().casefold() in _CONTAINERS


def is_wrapper(name: str) -> bool:
    """Tell whether a folder's name is that of a container, perhaps numbered (images_001)."""
    return is_container(name) or is_container(_NUMBER_AFTER.sub("", name.strip()))


def is_part(name: str) -> bool:
    """Tell whether a folder's name is that of a part of a set: batch2, fold_0, hospital 3."""
    word = name.strip().casefold()
    return word not in _PARTS and _NUMBER_AFTER.sub("", word) in _PARTS


def no_data(name: str) -> str | None:
    """Return what a folder holds that by its name is never data, in words; None if it may be."""
    return _NO_DATA.get(name.casefold())


def patient_of_file(name: str) -> str | None:
    """Return the patient that a file's name tells by the patterns of published sets."""
    base = name.rpartition("/")[2]
    for pattern in _PATIENT_FILES:
        match = pattern.match(base)
        if match:
            return match[1]
    return None


def is_patient_folder(name: str) -> bool:
    """Tell whether a folder is named as published sets name patients: patient00001, p10000032."""
    return _PATIENT_FOLDER.fullmatch(name) is not None


def base(path: str) -> str:
    """Return the last part of a "/"-separated path."""
    return path.rpartition("/")[2]


def parent(path: str) -> str:
    """Return all but the last part of a "/"-separated path; "" for one part."""
    return path.rpartition("/")[0]


def suffix(path: str) -> str:
    """Return a file's suffix in lower case, or "no suffix"."""
    return split_suffix(base(path))[1].lower() or "no suffix"


def split_suffix(name: str) -> tuple[str, str]:
    """Return a file's name without its suffix, and the suffix with its dot or ""."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
