"""Which files are images: by their names, and where those do not tell by their first bytes."""

from cxrgan_fast.data.readers import IMAGE_SUFFIXES
from cxrgan_fast.data.sources.names import suffix
from cxrgan_fast.data.sources.store import Store
from cxrgan_fast.errors import UserError

HEAD_BYTES = 160
"""So many of a file's first bytes tell what it is."""

# Of these kinds whole sets have thousands, and none is ever an image.
_OTHER_SUFFIXES = frozenset(
    {
        *(".csv", ".db", ".gz", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log"),
        *(".md", ".npy", ".npz", ".pdf", ".pt", ".pth", ".py", ".pyc", ".safetensors", ".tar"),
        *(".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip"),
    }
)
_BEGINNINGS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",  # TIFF
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
)
_DICOM_GROUPS = (b"\x02\x00", b"\x08\x00")  # of the first element of a file without preamble


def has_image_name(name: str) -> bool:
    """Tell whether a file is an image by the suffix of its name; case does not matter."""
    return suffix(name) in IMAGE_SUFFIXES


def is_image_content(head: bytes) -> bool:
    """Tell whether a file's first bytes are those of an image format that can be read.

    Args:
        head: the first `HEAD_BYTES` bytes, or all of a shorter file.
    """
    if head.startswith(_BEGINNINGS) or head[128:132] == b"DICM":
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return True
    # Group 0002 or 0008, a small element number, and a value representation or a short length.
    element = int.from_bytes(head[2:4], "little")
    if len(head) < 16 or head[:2] not in _DICOM_GROUPS or element > 0x0100:
        return False
    return (head[4:6].isalpha() and head[4:6].isupper()) or (
        0 <= head[4] <= 64 and head[5:8] == bytes(3)
    )


def find_images(store: Store) -> set[str]:
    """Return the names of the files that are images, without reading more than is needed.

    Files of unknown or no suffix (`IM000001`, `1.2.840.10008.5`) are opened for their first bytes.
    """
    images = set()
    for name in store.tree.stamps:
        if has_image_name(name):
            images.add(name)
        elif suffix(name) not in _OTHER_SUFFIXES:
            try:
                if is_image_content(store.head(name, HEAD_BYTES)):
                    images.add(name)
            except UserError:  # it is counted among what is not used
                continue
    return images
