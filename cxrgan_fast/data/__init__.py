"""Reading, preparing and drawing chest X-rays."""

from cxrgan_fast.data.dataset import ImageDataset, load_dataset
from cxrgan_fast.data.diffaugment import diff_augment
from cxrgan_fast.data.phantom import Phantom, phantom_image
from cxrgan_fast.data.pixels import to_float, to_uint8
from cxrgan_fast.data.resident import StepImages, step_images
from cxrgan_fast.data.sampler import BalancedOrder, EpochOrder, Order

__all__ = [
    "BalancedOrder",
    "EpochOrder",
    "ImageDataset",
    "Order",
    "Phantom",
    "StepImages",
    "diff_augment",
    "load_dataset",
    "phantom_image",
    "step_images",
    "to_float",
    "to_uint8",
]
