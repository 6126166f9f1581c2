"""The libraries of the study, which an extra brings: imported late, where they are needed."""

import importlib
from types import ModuleType

from cxrgan_fast.errors import UserError

_PACKAGES = {
    "matplotlib": "matplotlib",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "torchvision": "torchvision",
}
_EXTRAS = {"torchvision": "torchvision"}


def import_for_study(module: str) -> ModuleType:
    """Import a module of a library that a plain installation does not have.

    Args:
        module: its full name, in scipy, sklearn, statsmodels, matplotlib or torchvision.

    Raises:
        UserError: it is not installed, or does not import.
    """
    top = module.partition(".")[0]
    package, extra = _PACKAGES[top], _EXTRAS.get(top, "study")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the study needs {package} ({error}): pip install 'cxrgan_fast[{extra}]'"
        ) from None
    except Exception as error:  # a torchvision of another build of torch raises RuntimeError
        reason = " ".join(str(error).split())
        raise UserError(
            f"{package} does not import here ({reason}): install one of the same build as torch, "
            f"by pip install 'cxrgan_fast[{extra}]' in a new environment"
        ) from None
