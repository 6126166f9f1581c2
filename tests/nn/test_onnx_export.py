"""Networks exported to ONNX compute in onnxruntime what they compute in PyTorch."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.nn.families.dcgan import DCGANSettings
from cxrgan_fast.nn.families.r3 import R3Settings
from cxrgan_fast.nn.family import FamilySettings
from cxrgan_fast.ops import available_backends, conv2d_downsample, upsample_conv2d, use_backend

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")  # which torch.onnx.export(dynamo=True) writes with

OWN = {"resnet": FamilySettings, "r3": R3Settings}
HINTS = get_type_hints(NetworkConfig) | get_type_hints(DCGANSettings)
CONFIGS = [
    each
    for each in itertools.product(
        *(
            get_args(HINTS[name])
            for name in ("family", "upsampling", "conditioning", "generator_norm")
        )
    )
    if (each[0] == "dcgan" or each[1] == "resize")  # the others have no such setting
    and (each[0] != "r3" or each[3] == "batch")
    and each[2:] != ("projection", "none")
]
# Every network by the old exporter, in half a second each; by the new one, in several, those that
# have every layer between them.
NEW = [
    ("resnet", "resize", "projection", "batch"),
    ("dcgan", "transposed", "concat", "none"),
    ("r3", "resize", "projection", "batch"),
]
EXPORTS = [
    *((*config, False) for config in CONFIGS),
    *((*config, True) for config in NEW),
    *(
        pytest.param(*config, True, marks=pytest.mark.slow)
        for config in CONFIGS
        if config not in NEW
    ),
]


def exported(module: nn.Module, inputs: dict[str, Tensor], path: Path, *, dynamo: bool) -> Any:
    """A session of the module as exported with a free batch size."""
    batch = torch.export.Dim("batch")
    free: dict[str, Any] = (
        {"dynamic_shapes": tuple({0: batch} for _ in inputs)}
        if dynamo
        else {"dynamic_axes": {name: {0: "batch"} for name in (*inputs, "output")}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of and by the exporters
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            dynamo=dynamo,
            input_names=list(inputs),
            output_names=["output"],
            **free,
        )
    return onnxruntime.InferenceSession(path)


def check(
    module: nn.Module,
    inputs: dict[str, Tensor],
    others: dict[str, Tensor],
    path: Path,
    dynamo: bool,
) -> None:
    """On the inputs that it was exported with, and on others of another batch size."""
    session = exported(module, inputs, path, dynamo=dynamo)
    for each in (inputs, others):
        with torch.no_grad():
            expected = module(*each.values())
        (got,) = session.run(None, {name: value.numpy() for name, value in each.items()})
        assert expected.abs().max() > 0.1  # 1e-4 of something
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=1e-4)


def trained(module: nn.Module) -> nn.Module:
    """With no parameter or buffer at a value, such as 0 or 1, that would hide what it does."""
    with torch.no_grad():
        for each in (*module.parameters(), *module.buffers()):
            if each.is_floating_point():
                each.mul_(torch.rand_like(each) * 0.2 + 0.9).add_(torch.randn_like(each) * 0.02)
    return module.eval()


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(("family", "upsampling", "conditioning", "norm", "dynamo"), EXPORTS)
def test_networks(
    family: Any, upsampling: Any, conditioning: Any, norm: Any, dynamo: bool, tmp_path: Path
) -> None:
    config = NetworkConfig(
        family=family,
        own=DCGANSettings(upsampling) if family == "dcgan" else OWN[family](),
        conditioning=conditioning,
        generator_norm=norm,
        resolution=32,
        base_channels=8,
        latent_size=16,
    )
    generator = trained(build_generator(config, 3))
    discriminator = trained(build_discriminator(config, 3))
    labels = torch.tensor([0, 2, 1, 2]), torch.tensor([1, 0])
    latents = [{"latents": torch.randn(len(each), 16), "labels": each} for each in labels]
    check(generator, *latents, tmp_path / "generator.onnx", dynamo)
    images = [{"images": torch.rand(len(each), 1, 32, 32), "labels": each} for each in labels]
    check(discriminator, *images, tmp_path / "discriminator.onnx", dynamo)


class Resampling(nn.Module):
    """The two convolutions that resample, down and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(5, 3, 3, 3))
        self.up = nn.Parameter(torch.randn(2, 5, 3, 3))

    def forward(self, input: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2, H, W)."""
        return upsample_conv2d(conv2d_downsample(input, self.down), self.up)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_resampling_convolutions(dynamo: bool, tmp_path: Path) -> None:
    images = [{"images": torch.randn(samples, 3, 6, 8) / 9} for samples in (4, 2)]
    check(Resampling(), *images, tmp_path / "resampling.onnx", dynamo)


@pytest.mark.first_tier(1)
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_a_backend_asked_for_by_name_is_not_replaced(dynamo: bool, tmp_path: Path) -> None:
    config = NetworkConfig(resolution=32, base_channels=8, latent_size=16)
    inputs = {"latents": torch.randn(2, 16), "labels": torch.tensor([0, 1])}
    generator = build_generator(config, 2).eval()
    if "cpu" not in available_backends()["native"].runs_on:
        pytest.skip("the extension is not built")
    with use_backend("native"), pytest.raises(Exception, match="cxrgan_fast"):
        exported(generator, inputs, tmp_path / "generator.onnx", dynamo=dynamo)
