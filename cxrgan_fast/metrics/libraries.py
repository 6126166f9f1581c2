"""Importing the libraries that only some extractors need, and saying why one cannot be had."""

import importlib
from types import ModuleType

from cxrgan_fast.errors import UserError


def import_library(module: str, library: str, features: str, extra: str) -> ModuleType:
    """Import a library that a plain installation does not have.

    Args:
        module: what to import.
        library: name under which it is installed, for messages.
        features: the extractor that needs it, as ``--features`` names it.
        extra: the extra of this package that installs it.

    Raises:
        UserError: it is not installed, or does not import.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--features {features} needs {library} ({error}): pip install 'cxrgan_fast[{extra}]'"
        ) from None
    except Exception as error:  # a torchvision of another build of torch raises RuntimeError
        reason = " ".join(str(error).split())
        raise UserError(
            f"--features {features}: {library} does not import here ({reason}): install a "
            "torchvision of the same build as torch, or use --features cxr"
        ) from None
