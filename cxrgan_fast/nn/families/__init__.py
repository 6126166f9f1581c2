"""The families of networks, one file each, which registers it."""

from cxrgan_fast.nn.families import dcgan, r3, resnet
from cxrgan_fast.nn.family import FAMILIES

__all__ = ["FAMILIES", "dcgan", "r3", "resnet"]
