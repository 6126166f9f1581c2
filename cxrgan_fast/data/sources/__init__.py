"""What images come from: a folder, a table, or a zip archive of either, all with one face."""

from cxrgan_fast.data.sources.layout import (
    SPLITS,
    ImageFile,
    Listing,
    choose_classes,
    match_class,
)
from cxrgan_fast.data.sources.source import Source, open_source

__all__ = [
    "SPLITS",
    "ImageFile",
    "Listing",
    "Source",
    "choose_classes",
    "match_class",
    "open_source",
]
