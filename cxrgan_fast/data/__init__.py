"""Reading, preparing and sampling chest X-rays."""

from cxrgan_fast.data.dataset import ImageDataset
from cxrgan_fast.data.load import load_dataset, open_data
from cxrgan_fast.data.packed import PackedSet, open_packed
from cxrgan_fast.data.phantom import Phantom, phantom_image
from cxrgan_fast.data.phantom.source import PhantomSource
from cxrgan_fast.data.pixels import to_float, to_uint8
from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, prepare_set
from cxrgan_fast.data.resident import StepImages, step_images
from cxrgan_fast.data.sampler import BalancedOrder, EpochOrder, Order
from cxrgan_fast.data.sources import Selection, Source, open_source, select

__all__ = [
    "BalancedOrder",
    "Division",
    "EpochOrder",
    "ImageDataset",
    "Order",
    "PackedSet",
    "Phantom",
    "PhantomSource",
    "Preparation",
    "Selection",
    "Source",
    "StepImages",
    "load_dataset",
    "open_data",
    "open_packed",
    "open_source",
    "phantom_image",
    "prepare_set",
    "select",
    "step_images",
    "to_float",
    "to_uint8",
]
