"""The features and the FID of the Inception network beside torch-fidelity's own program."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxrgan_fast.metrics.extractor import extract_features
from cxrgan_fast.metrics.fid import fid
from cxrgan_fast.metrics.registry import load_extractor

CPU = torch.device("cpu")

try:
    import torch_fidelity
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
except Exception as error:  # a torchvision of another build of torch raises RuntimeError
    pytest.skip(
        f"needs torch-fidelity and a torchvision of the build of torch: {error}",
        allow_module_level=True,
    )


def write_weights(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in the form of the published file, which is 95 MB and not here."""
    torch.save({}, path)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        )
    rng = torch.Generator().manual_seed(0)
    weights = network.state_dict()
    for name, tensor in weights.items():
        if tensor.ndim > 1:
            scale = (2 / tensor[0].numel()) ** 0.5
            weights[name] = torch.randn(tensor.shape, generator=rng) * scale
        elif name.endswith("running_var"):
            weights[name] = torch.ones_like(tensor)
    torch.save(weights, path)
    return path


@pytest.mark.slow
def test_the_features_and_the_fid_are_those_of_torch_fidelity(tmp_path, monkeypatch):
    weights = write_weights(tmp_path / "weights.pth", monkeypatch)
    rng = np.random.default_rng(0)
    sets = []
    for name, spread in (("one", 256), ("other", 128)):
        (tmp_path / name).mkdir()
        # At the network's own size: nobody's way of resizing is in it.
        pixels = rng.integers(0, spread, (10, 299, 299, 3), dtype=np.uint8)
        for place, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{place:02d}.png")
        sets.append(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    extractor = load_extractor("inception", CPU, inception_weights=weights)
    features = [extract_features(extractor, images, CPU).vectors for images in sets]
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "one"),
        input2=str(tmp_path / "other"),
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        feature_extractor_weights_path=str(weights),
    )["frechet_inception_distance"]
    assert theirs > 1e-3
    assert fid(*features).value == pytest.approx(theirs, rel=1e-4)
