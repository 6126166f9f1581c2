"""Labelled sets of generated images: class folders of PNGs and a manifest."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from cxrgan_fast.data import to_uint8
from cxrgan_fast.data.sources import folder_names
from cxrgan_fast.errors import UserError
from cxrgan_fast.files import made_whole, write_atomic
from cxrgan_fast.sampling.class_sources import ClassSource

# Images pass through the network in groups of this size and of no other. The last bit of a
# convolution may depend on how many images it is given and on where in the batch an image stands;
# so image i always stands at place i % 16 of a group of 16, whatever else is generated.
GROUP = 16

MOST_IMAGES = 10**7  # of a class: a file each, and all of them in one folder


def generate_images(source: ClassSource, latents: Tensor, labels: Tensor) -> Tensor:
    """Generate images whose bytes do not depend on how many there are.

    Image i depends on latent i, label i and i % 16 alone.

    Args:
        source: the generator.
        latents: (N, latent_size) float32.
        labels: (N,) int64, or class weights (N, K) float32.

    Returns:
        (N, C, R, R) uint8 on the CPU.

    Raises:
        UserError: the generator produces values that are not numbers.
    """
    snapshot = source.snapshot
    device = next(snapshot.generator.parameters()).device
    latents, labels = latents.to(device), labels.to(device)
    image_range = snapshot.network.image_range
    pixels = run_generator(snapshot.generator, latents, labels, image_range, source.checkpoint)
    return pixels.cpu()


def run_generator(
    generator: nn.Module,
    latents: Tensor,
    labels: Tensor,
    image_range: tuple[float, float],
    name: str,
) -> Tensor:
    """Generate images with a network as it is, as `generate_images` does with one from a file.

    Within `torch.autocast` the network runs in that precision. The network should be in evaluation
    mode; it is not changed.

    Args:
        generator: (latents, labels) -> images.
        latents: (N, latent_size) float32 on its device; N at least 1.
        labels: (N,) int64, or class weights (N, K) float32, on its device.
        image_range: what becomes 0 and 255.
        name: what an error calls the generator.

    Returns:
        (N, C, R, R) uint8 on its device.

    Raises:
        UserError: the generator produces values that are not numbers.
    """
    missing = -len(latents) % GROUP
    latents = torch.cat([latents, latents[:1].expand(missing, -1)])
    labels = torch.cat([labels, labels[:1].expand(missing, *labels.shape[1:])])
    groups = zip(latents.split(GROUP), labels.split(GROUP), strict=True)
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        images = torch.cat([generator(*group) for group in groups])
        finite = images.isfinite().all()
        pixels = to_uint8(images, image_range)
    if not finite:
        raise UserError(f"{name} produces values that are not numbers; use an older one")
    return pixels[: len(pixels) - missing]


def generate_to_folder(
    sources: Sequence[ClassSource],
    out: Path,
    *,
    n_per_class: int,
    seed: int = 0,
    batch_size: int = 64,
    folders: Mapping[str, str] | None = None,
    sheets: Mapping[str, Callable[[Path], object]] | None = None,
    progress: bool = True,
) -> None:
    """Write a labelled set of generated images.

    `out` gets `CLASS/CLASS_seedS_00000.png` and so on, and, when all of them are there,
    `manifest.csv` with the columns file, class, seed and checkpoint, and truncation where sources
    have one. It is a table that is a source by itself. Where a class's name is no safe name of a
    folder, folder and files have the one that `folder_names` gives, and the manifest the class's
    own. The same seed gives the same bytes whatever the batch size, and image i is the same however
    many are asked for: on one machine with the same versions; elsewhere convolutions may round
    differently. After a failure or Ctrl-C nothing is left in `out`: half a set would look like a
    whole one. After a kill the next call for `out` removes what is there and begins anew.

    Args:
        sources: from `load_sources`.
        out: folder; missing or empty.
        n_per_class: images of each class; with `sheets` it may be 0, for those alone.
        seed: random seed of the latents.
        batch_size: images generated between two rounds of writing, in whole groups of 16. It bounds
            the memory in use and changes no image.
        folders: the folders of classes, where it is not as above; several may share one.
        sheets: other files of the set, each with the function that writes it to a path: those of
            `interpolation_sheets`. The set is whole only with them.
        progress: show a bar on stderr, if that is a terminal.

    Raises:
        UserError: a number that cannot work; `out` is not empty or cannot be written; a generator
            produces values that are not numbers.
    """
    sheets = sheets or {}
    least = 0 if sheets else 1
    for flag, value, fewest in (
        ("--n-per-class", n_per_class, least),
        ("--batch-size", batch_size, 1),
    ):
        if value < fewest:
            raise UserError(f"{flag} {value}: expected {fewest} or more")
        if value > MOST_IMAGES:
            raise UserError(f"{flag} {value}: expected {MOST_IMAGES} or fewer")
    total = n_per_class * len(sources)
    safe = folder_names(source.class_name for source in sources)
    folder_of = {**safe, **(folders or {})}
    names = [*folder_of.values(), "manifest.csv"] if n_per_class else []
    with made_whole(out, [*names, *sheets]):
        if n_per_class:
            with tqdm(total=total, unit="img", disable=None if progress else True) as bar:
                rows = []
                for source in sources:
                    folder, name = out / folder_of[source.class_name], safe[source.class_name]
                    folder.mkdir(exist_ok=True)  # another class may go into it
                    for indices in _batches(n_per_class, batch_size):
                        paths = [folder / f"{name}_seed{seed}_{i:05d}.png" for i in indices]
                        _generate_files(source, paths, indices, seed)
                        bar.update(len(paths))
                        files = (path.relative_to(out).as_posix() for path in paths)
                        rows += [(f, source, seed) for f in files]
            write_atomic(out / "manifest.csv", _manifest(rows))
        for file, write in sheets.items():
            write(out / file)


def _batches(n: int, batch_size: int) -> Iterator[range]:
    step = GROUP * math.ceil(batch_size / GROUP)  # so that every image keeps its place in a group
    for start in range(0, n, step):
        yield range(start, min(start + step, n))


def _generate_files(source: ClassSource, paths: Sequence[Path], indices: range, seed: int) -> None:
    """Generate the images of these indices, each into its file."""
    latents = source.latents(seed, indices)
    pixels = generate_images(source, latents, torch.full((len(indices),), source.label))
    with ThreadPoolExecutor(4) as pool:  # zlib works without the GIL
        list(pool.map(_write_png, paths, pixels))  # the list raises what a thread raised


def _write_png(path: Path, pixels: Tensor) -> None:
    array = pixels.permute(1, 2, 0).numpy()  # (H, W, C)
    png = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(png, "PNG")
    path.write_bytes(png.getvalue())


def _manifest(rows: Sequence[tuple[str, ClassSource, int]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    truncated = any(source.truncation is not None for _, source, _ in rows)
    writer.writerow(
        ("file", "class", "seed", "checkpoint", *(("truncation",) if truncated else ()))
    )
    for file, source, seed in rows:
        named = (source.truncation,) if truncated else ()
        writer.writerow((file, source.class_name, seed, source.checkpoint, *named))
    return text.getvalue().encode()
