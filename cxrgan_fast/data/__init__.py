"""Reading, preparing and drawing chest X-rays."""

from cxrgan_fast.data.dataset import ImageDataset, load_dataset
from cxrgan_fast.data.diffaugment import diff_augment
from cxrgan_fast.data.phantom import Phantom, phantom_image
from cxrgan_fast.data.pixels import to_float, to_uint8
from cxrgan_fast.data.sampler import EpochSampler

__all__ = [
    "EpochSampler",
    "ImageDataset",
    "Phantom",
    "diff_augment",
    "load_dataset",
    "phantom_image",
    "to_float",
    "to_uint8",
]
