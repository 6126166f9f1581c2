"""The extractors whose networks are in the package: their weights, and what is made of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics import embedded as embedded_module
from cxrgan_fast.metrics.cxr import Cxr
from cxrgan_fast.metrics.cxr_blocks import round_weights
from cxrgan_fast.metrics.cxr_network import CxrNetwork
from cxrgan_fast.metrics.cxr_ssl import CxrSsl
from cxrgan_fast.metrics.cxr_ssl_network import CxrSslNetwork
from cxrgan_fast.metrics.embedded import Embedded

ROOT = Path(embedded_module.__file__).parents[2]
WEIGHTS = Path(embedded_module.__file__).parent / "weights"

BOTH = pytest.mark.parametrize(("kind", "network"), [(Cxr, CxrNetwork), (CxrSsl, CxrSslNetwork)])


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 1, 128, 128, generator=torch.Generator().manual_seed(0))


def record(kind: type[Embedded[Any]]) -> dict[str, Any]:
    """How the weights were made."""
    file = ROOT / "bench" / "results" / f"{kind.name}_features.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@BOTH
def test_the_weights_in_the_package_are_those_that_the_record_is_of(
    kind: type[Embedded[Any]], network: type[nn.Module]
) -> None:
    file = WEIGHTS / kind.weights
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == record(kind)["sha256"]
    assert kind().version == digest[:8]  # type: ignore[call-arg]  # both take nothing
    assert file.stat().st_size == record(kind)["bytes"] <= 4_000_000
    assert load_file(file).keys() == network().state_dict().keys()


@BOTH
def test_folded_norms_change_nothing(
    kind: type[Embedded[Any]], network: type[CxrNetwork | CxrSslNetwork]
) -> None:
    expected = network()
    expected.load_state_dict(load_file(WEIGHTS / kind.weights))
    with torch.no_grad():
        vectors = expected.eval().features(images())
    extractor = kind()  # type: ignore[call-arg]  # both take nothing
    found = extractor.extract(images())
    torch.testing.assert_close(found.vectors, vectors, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in extractor._network.modules())


@pytest.mark.parametrize("network", [CxrNetwork, CxrSslNetwork])
def test_weights_are_rounded_to_what_a_file_holds(network: type[nn.Module]) -> None:
    made = network()
    assert round_weights(made) is made
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            assert torch.equal(tensor, tensor.half().float())


@BOTH
def test_a_damaged_package_says_so(
    kind: type[Embedded[Any]],
    network: type[nn.Module],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(embedded_module.resources, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match="install the package anew"):
        kind()  # type: ignore[call-arg]  # both take nothing
    (tmp_path / "weights" / kind.weights).write_bytes(b"nothing")
    with pytest.raises(UserError, match="install the package anew"):
        kind()  # type: ignore[call-arg]  # both take nothing


@BOTH
def test_cudnn_stays_on(
    kind: type[Embedded[Any]], network: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cudnn.flags` turns it off unless told otherwise; convolutions are slow without."""
    extractor, seen = kind(), []  # type: ignore[call-arg]  # both take nothing
    features = extractor._network.features

    def watched(images: Tensor) -> Tensor:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        found: Tensor = features(images)
        return found

    monkeypatch.setattr(extractor._network, "features", watched)
    extractor.extract(images(2))
    assert seen == [(True, False)]


def test_cxr_tells_the_classes_apart_at_every_resolution() -> None:
    for size in ("32", "64", "128"):
        assert record(Cxr)["test"]["classes"][size]["auc_normal_pneumonia"] >= 0.95
