"""Folders inside a source that hold no data of it: what this package wrote, thumbnails, deleted."""

from cxrgan_fast.data.sources.names import base, no_data, parent
from cxrgan_fast.data.sources.store import Store
from cxrgan_fast.errors import UserError

_PICTURES = {"evaluation.json": "samples.png", "checkpoints.json": "checkpoints.png"}
SUBSET_MARK = "subset.json"
"""The file that tells a subset's folder."""

_GENERATED = b"file,class,seed,checkpoint"  # how the manifest of generated images begins


def left_out_folders(store: Store) -> dict[str, str]:
    """Find the folders to leave out, and what each is.

    Args:
        store: listed.

    Returns:
        Of each such folder its kind, in words. "" is the source itself.
    """
    stamps = store.tree.stamps
    found = {
        folder: kind for folder in store.tree.folders if (kind := no_data(base(folder))) is not None
    }
    for name in stamps:
        folder, file = parent(name), base(name)
        inside = f"{folder}/" if folder else ""
        if file == "generator.safetensors" or (
            file == "config.yaml" and f"{inside}dataset.json" in stamps
        ):
            found[folder] = "a run's folder"
        elif file == "set.json" and f"{inside}images.npy" in stamps:
            found[folder] = "a packed set"
        elif f"{inside}{_PICTURES.get(file)}" in stamps:
            found[folder] = "an evaluation"
        elif file == "pyvenv.cfg":
            found[folder] = "a Python environment"
        elif file == "manifest.csv" and folder:
            kind = _of_manifest(store, name, f"{inside}{SUBSET_MARK}" in stamps)
            if kind:
                found[folder] = kind
    return found


def _of_manifest(store: Store, name: str, is_subset: bool) -> str | None:
    if is_subset:
        return "a subset of other images"
    try:
        head = store.head(name, len(_GENERATED))
    except UserError:
        return None
    return "generated images" if head == _GENERATED else None
