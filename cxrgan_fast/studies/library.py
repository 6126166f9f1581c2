"""Optuna, which an extra brings: imported late, and silent where its lines would stand among ours.

Every module of this room that needs it at run time takes it from :func:`load_optuna`.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from cxrgan_fast.errors import UserError

INSTALL = "pip install 'cxrgan_fast[sweep]'"


def load_optuna() -> Any:
    """Import Optuna, without its own log lines.

    Raises:
        UserError: it, or what it needs, is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise UserError(f"a sweep needs Optuna, which is missing ({error}): {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # That an interface may change one day is of no use to who runs a command.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
