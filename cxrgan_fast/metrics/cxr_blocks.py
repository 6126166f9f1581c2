"""What the networks of both embedded extractors are built of, and how their weights are stored."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

INPUT_SIZE = 128
DAMAGES = ("blur", "noise", "occlusion", "contrast", "warping")

# Input to the networks: 0 and 1 come to about -2 and 2.
_MEAN, _DEVIATION = 0.5, 0.25

Network = TypeVar("Network", bound=nn.Module)


class Block(nn.Module):
    """Two 3x3 convolutions and a skip (He et al. 2016, "Deep Residual Learning", Fig. 2)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            pool = nn.AvgPool2d(stride) if stride != 1 else nn.Identity()
            conv = nn.Conv2d(c_in, c_out, 1, bias=False)
            self.skip = nn.Sequential(pool, conv, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


def conv(c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution, its batch norm and a ReLU."""
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def centered(images: Tensor) -> Tensor:
    """Return what the networks take of images from 0 to 1."""
    return (images - _MEAN) / _DEVIATION


@torch.no_grad()
def round_weights(network: Network) -> Network:
    """Round all weights to the float16 that they are stored in; return the network itself."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    return network


def fold_norms(module: nn.Module) -> None:
    """Merge each batch norm into the convolution before it: a third less time."""
    children = dict(module.named_children())
    for conv_name, norm_name in (("conv1", "norm1"), ("conv2", "norm2"), ("0", "1"), ("1", "2")):
        conv, norm = children.get(conv_name), children.get(norm_name)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    for child in children.values():
        fold_norms(child)
