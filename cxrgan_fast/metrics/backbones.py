"""The weights of networks that others have trained: where they come from, and what they are."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cxrgan_fast.errors import UserError
from cxrgan_fast.files import read_error

DOWNLOAD = "download"
"""What is said in place of a folder or file for weights that are to be downloaded."""

_BLOCK = 1 << 20  # bytes read at a time


def require_weights(weights: str | None, features: str, what: str, source: str) -> str:
    """Refuse an extractor whose weights are named nowhere: nothing is downloaded unasked.

    Args:
        weights: what ``--features-weights`` names, if anything.
        features: the extractor, as ``--features`` names it.
        what: "FOLDER" or "FILE", in which its weights are.
        source: where a download would come from.

    Returns:
        The same, which is there.

    Raises:
        UserError: nothing is named.
    """
    if not weights:
        raise UserError(
            f"--features {features} needs weights: name them with --features-weights {what}, or "
            f"download them from {source} with --features-weights {DOWNLOAD}"
        )
    return weights


def digest_of(files: Sequence[Path]) -> str:
    """Compute the first digits of the SHA-256 of files, one after the other.

    Raises:
        UserError: one cannot be read.
    """
    digest = hashlib.sha256()
    path = Path()
    try:
        for path in files:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    except OSError as error:
        raise read_error(path, error) from None
    return digest.hexdigest()[:8]
