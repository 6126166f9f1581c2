"""What images come from: a folder, a table, or a zip archive of either, all with one face."""

from cxrgan_fast.data.sources.class_names import check_class_names, check_folder_name, folder_names
from cxrgan_fast.data.sources.find import open_source, refuse_columns
from cxrgan_fast.data.sources.listing import (
    ImageFile,
    Unused,
    unused_lines,
)
from cxrgan_fast.data.sources.names import SPLITS
from cxrgan_fast.data.sources.selection import (
    Selection,
    check_split,
    classes_with_images,
    match_class,
    read_classes,
    select,
    split_names,
)
from cxrgan_fast.data.sources.source import Source
from cxrgan_fast.data.sources.table import Columns

__all__ = [
    "SPLITS",
    "Columns",
    "ImageFile",
    "Selection",
    "Source",
    "Unused",
    "check_class_names",
    "check_folder_name",
    "check_split",
    "classes_with_images",
    "folder_names",
    "match_class",
    "open_source",
    "read_classes",
    "refuse_columns",
    "select",
    "split_names",
    "unused_lines",
]
