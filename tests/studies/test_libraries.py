"""Libraries of the study that are missing, or of another build, are said in a line."""

import builtins
import importlib

import pytest

from cxrgan_fast.errors import UserError
from cxrgan_fast.studies.augmentation.libraries import import_for_study


def test_what_is_installed_is_imported() -> None:
    assert import_for_study("scipy.stats").norm.cdf(0) == 0.5


@pytest.mark.parametrize(
    ("module", "message"),
    [("sklearn.metrics", r"needs scikit-learn \(.*\): pip install 'cxrgan_fast\[study\]'"),
     ("torchvision.models", r"needs torchvision .*cxrgan_fast\[torchvision\]'")],
)  # fmt: skip
def test_what_is_missing_is_named_with_its_extra(monkeypatch, module: str, message: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, module.partition(".")[0], None)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=message):
        import_for_study(module)


def test_a_torchvision_of_another_build_is_a_line_too(monkeypatch) -> None:
    def broken(name: str, *rest: object) -> object:
        if name.startswith("torchvision"):
            raise RuntimeError("operator torchvision::nms\ndoes not exist")
        return builtins.__import__(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match=r"torchvision does not import here \(operator .* exist\)"):
        import_for_study("torchvision.models")
