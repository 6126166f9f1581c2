"""``python -m research.cxr_features``: train the network of the extractor ``cxr``.

It learns from the training images of the paediatric chest X-ray set (Kermany et al. 2018) which
class an image is of, and from images that it is shown damaged what was done to them. Patients are
split: a tenth of them is kept to watch the training by, and the set's own test folder is looked at
once, at the end. Nothing is selected: the weights are those of the last epoch.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.data import ImageDataset, load_dataset
from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.cxr_blocks import DAMAGES, INPUT_SIZE, round_weights
from cxrgan_fast.metrics.cxr_network import CLASS_NAMES, CxrNetwork
from cxrgan_fast.metrics.extractor import extractor_input
from research.damage import KINDS, damage

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "cxrgan_fast" / "metrics" / "weights" / "cxr.safetensors"

# Images come to the extractor at any resolution: it is to know them all.
RESOLUTIONS = (32, 64, 128)
DAMAGED = 0.15  # share of images that each damage is done to, whatever else is
WEAKEST = 0.05
VALIDATION = 0.1  # share of the patients
STRENGTH_WEIGHT = 5.0  # squared errors of strengths are small numbers


@dataclass(frozen=True)
class Labeled:
    """Images as bytes with their classes."""

    images: Tensor  # (N, 1, 128, 128) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.images)


def split_patients(
    dataset: ImageDataset, seed: int, share: float = VALIDATION
) -> tuple[Tensor, Tensor]:
    """Rows for training and for validation; no patient has images in both.

    Args:
        dataset: the images.
        seed: of the patients' order.
        share: of the patients, kept for validation; a larger one keeps those of a smaller as well.
    """
    patients = np.unique(dataset.patients)
    np.random.default_rng(seed).shuffle(patients)
    kept = set(patients[: round(share * len(patients))])
    validation = torch.tensor([patient in kept for patient in dataset.patients])
    return torch.nonzero(~validation).flatten(), torch.nonzero(validation).flatten()


def move(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, turn and stretch most of the images, and change the tone of all.

    Images are stretched to the square, and in the published set the classes differ in how wide
    they were: without the stretching here the network takes shape for disease, which does not
    carry over to the test folder. Most only: the interpolation blurs a little, which is not to be
    taken for how X-rays are.
    """
    n = len(images)
    turn, wide, high, x, y, chosen = torch.rand(6, n, generator=generator)
    turn = (2 * turn - 1) * 0.17  # radians
    wide, high = 1 + (2 * wide - 1) * 0.25, 1 + (2 * high - 1) * 0.25
    shift_x, shift_y = (2 * x - 1) * 0.1, (2 * y - 1) * 0.1  # of half a side
    cos, sin = torch.cos(turn), torch.sin(turn)
    matrices = torch.stack([cos * wide, -sin * high, shift_x, sin * wide, cos * high, shift_y], 1)
    grid = F.affine_grid(matrices.view(n, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = torch.where((chosen < 0.7)[:, None, None, None], moved, images)
    return change_tone(images, generator)


def change_tone(images: Tensor, generator: torch.Generator, amount: float = 1.0) -> Tensor:
    """Change what differs between devices: gamma, brightness and an uneven field.

    Args:
        images: (N, 1, H, W) float32, 0 to 1.
        generator: on the CPU.
        amount: of every change; 0 makes none.
    """
    n = len(images)
    tones = (2 * torch.rand(5, n, 1, 1, 1, generator=generator) - 1) * amount
    gamma, gain, offset, across, down = tones
    ramp = torch.linspace(-1, 1, images.shape[-1])
    field = 1 + 0.15 * (across * ramp + down * ramp[:, None])
    images = images.clamp(min=1e-4) ** torch.exp(0.4 * gamma)
    return (images * field * (1 + 0.15 * gain) + 0.08 * offset).clamp(0, 1)


def spoil(
    images: Tensor, generator: torch.Generator, share: float = DAMAGED
) -> tuple[Tensor, Tensor]:
    """Bring images to one of the resolutions, damage some, and bring them to the network's size.

    Args:
        images: (N, 1, H, W) float32, 0 to 1.
        generator: on the CPU; the same state does the same to other images.
        share: of the images that each damage is done to, whatever else is.

    Returns:
        The images, and the strength of each damage, 0 where it was not done: (N, 5).
    """
    n = len(images)
    done = torch.rand(n, len(KINDS), generator=generator) < share
    strengths = WEAKEST + (1 - WEAKEST) * torch.rand(n, len(KINDS), generator=generator)
    strengths = strengths * done
    parts = []
    # The sources are shuffled: thirds of a batch are as good as a draw for each image.
    for size, part, wanted in zip(
        RESOLUTIONS, images.chunk(len(RESOLUTIONS)), strengths.chunk(len(RESOLUTIONS)), strict=False
    ):
        seen = resize(part, size)
        for column in torch.randperm(len(KINDS), generator=generator).tolist():
            rows = torch.nonzero(wanted[:, column]).flatten()
            if len(rows):
                spoilt = damage(seen[rows], KINDS[column], wanted[rows, column], generator)
                seen = seen.index_copy(0, rows, spoilt)
        parts.append(resize(seen, INPUT_SIZE))
    return torch.cat(parts), strengths


def resize(images: Tensor, size: int) -> Tensor:
    """As `prepare` does for an extractor."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


class Training:
    """The network, its optimizer and schedule, and one epoch as a call."""

    def __init__(self, data: Labeled, epochs: int, batch_size: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.data, self.batch_size = data, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        network = CxrNetwork()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types leave memory_format out
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), 1e-3, weight_decay=0.02, fused=True
        )
        self.batches = len(data) // batch_size
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 3e-3, total_steps=epochs * self.batches
        )

    def epoch(self, title: str) -> float:
        """Train for an epoch; the mean loss."""
        self.network.train()
        total = 0.0
        order = torch.randperm(len(self.data), generator=self.generator)
        rows = order[: self.batches * self.batch_size].split(self.batch_size)
        for chosen in tqdm(rows, desc=title, unit="step", disable=None, leave=False):
            images = extractor_input(self.data.images[chosen], None, 1)
            images, strengths = spoil(move(images, self.generator), self.generator)
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                disease, done, strength = self.network(images)
            loss = (
                F.cross_entropy(disease.float(), self.data.labels[chosen], label_smoothing=0.05)
                + F.binary_cross_entropy_with_logits(done.float(), (strengths > 0).float())
                + STRENGTH_WEIGHT * F.mse_loss(strength.float(), strengths)
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item()
        return total / self.batches

    def state(self) -> dict[str, Any]:
        """All that an interrupted training goes on from."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])


@torch.inference_mode()
def predict(network: CxrNetwork, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of the classes and of the damages, and strengths, of (N, 1, 128, 128)."""
    network.eval()
    parts = [network(batch) for batch in images.split(64)]
    disease, done, strength = (torch.cat(part) for part in zip(*parts, strict=True))
    return disease.softmax(1), done.sigmoid(), strength


def scores(network: CxrNetwork, data: Labeled, seed: int) -> dict[str, Any]:
    """How well the network tells classes and damages of images that it was not trained on.

    The classes at each resolution; the damages on images each of which was damaged in one way or
    in none, at random strengths, at 64 pixels: area under the curve of each, and the correlation
    of the strengths told with those done.
    """
    from sklearn.metrics import roc_auc_score

    labels = data.labels.numpy()
    images = extractor_input(data.images, None, 1)
    classes = {}
    for size in RESOLUTIONS:
        told = predict(network, resize(resize(images, size), INPUT_SIZE))[0].numpy()
        classes[str(size)] = {
            "auc_normal_pneumonia": float(roc_auc_score(labels > 0, 1 - told[:, 0])),
            "auc_bacterial_viral": float(
                roc_auc_score(labels[labels > 0] == 1, (told[:, 1] - told[:, 2])[labels > 0])
            ),
            "accuracy": float((told.argmax(1) == labels).mean()),
        }
    generator = torch.Generator().manual_seed(seed)
    small = resize(images, 64)
    shares, done, strengths = list[Tensor](), list[int](), list[float]()  # of the damages
    for column, kind in enumerate((None, *KINDS)):
        strength = WEAKEST + (1 - WEAKEST) * torch.rand(len(small), generator=generator)
        seen = small if kind is None else damage(small, kind, strength, generator)
        _, probability, told_strength = predict(network, resize(seen, INPUT_SIZE))
        shares.append(probability)
        done += [column] * len(small)
        if kind is not None:
            pair = torch.stack([strength, told_strength[:, column - 1]])
            strengths.append(float(pair.corrcoef()[0, 1]))
    which, probabilities = np.array(done), torch.cat(shares).numpy()
    damages = {
        kind: {
            "auc": float(roc_auc_score(which == column, probabilities[:, column - 1])),
            "strength_correlation": strengths[column - 1],
        }
        for column, kind in enumerate(KINDS, 1)
    }
    return {"images": len(data), "classes": classes, "damages": damages}


def load(data: str, split: str) -> ImageDataset:
    """The three classes at the network's size."""
    return load_dataset(data, resolution=INPUT_SIZE, classes=CLASS_NAMES, split=split)  # type: ignore[arg-type]


class Resumable(Protocol):
    """What `epochs` trains."""

    def epoch(self, title: str) -> float:
        """Train for an epoch; return the mean loss."""

    def state(self) -> dict[str, Any]:
        """Return all that an interrupted training goes on from."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""


def epochs(
    training: Resumable, count: int, settings: list[int], unfinished: Path
) -> Iterator[tuple[int, float, float]]:
    """Train, or go on with what was interrupted.

    Args:
        training: what is trained.
        count: epochs in all.
        settings: what an interrupted training has to have been started with.
        unfinished: the file in which it goes on.

    Yields:
        After each epoch, and after an interruption for the last one before it: its number, its mean
        loss, and the processor seconds of all until then.

    Raises:
        UserError: the file is of other settings.
    """
    first, seconds = 0, 0.0
    if unfinished.exists():
        state = torch.load(unfinished, weights_only=True)
        if state["settings"] != settings:
            raise UserError(f"{unfinished} is of other settings: delete it, or give those again")
        training.restore(state["training"])
        first, seconds = state["epochs"], state["seconds"]
        print(f"going on after epoch {first}")
        yield first, state["loss"], seconds
    for epoch in range(first, count):
        start = time.process_time()
        loss = training.epoch(f"epoch {epoch + 1}/{count}")
        seconds += time.process_time() - start
        about = {"settings": settings, "epochs": epoch + 1, "loss": loss, "seconds": seconds}
        state = {**about, "training": training.state()}
        beside = unfinished.with_suffix(".tmp")
        torch.save(state, beside)
        os.replace(beside, unfinished)
        yield epoch + 1, loss, seconds


def train(data: Labeled, validation: Labeled, options: argparse.Namespace) -> CxrNetwork:
    """Train, or go on with what was interrupted."""
    training = Training(data, options.epochs, options.batch_size, options.seed)
    settings = [options.epochs, options.batch_size, options.seed, len(data)]
    unfinished = options.out.with_suffix(".unfinished.pt")
    for epoch, loss, _ in epochs(training, options.epochs, settings, unfinished):
        told = predict(training.network, extractor_input(validation.images, None, 1))[0]
        accuracy = float((told.argmax(1) == validation.labels).float().mean())
        print(f"epoch {epoch}: loss {loss:.3f}, validation accuracy {accuracy:.3f}", flush=True)
    return round_weights(training.network).eval()


def half_weights(network: nn.Module) -> bytes:
    """Return the file of a network's weights, in float16."""
    tensors = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    return safetensors.torch.save(tensors)


def main() -> None:
    """Train, write the weights, and what they are worth."""
    parser = parser_of("research.cxr_features", __doc__)
    parser.add_argument("--data", required=True, help="the published set: train and test folders")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="safetensors file to write")
    parser.add_argument("--record", type=Path, help="JSON file of the scores")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    check(options, least={"epochs": 1, "batch_size": 1}, out="record")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    dataset, test_set = load(options.data, "train"), load(options.data, "test")
    rows, held_out = split_patients(dataset, options.seed)
    data, validation = (Labeled(dataset.images[r], dataset.labels[r]) for r in (rows, held_out))
    start = time.perf_counter()
    network = train(data, validation, options)
    seconds = time.perf_counter() - start
    content = half_weights(network)
    options.out.write_bytes(content)
    measurements = {
        "classes": list(CLASS_NAMES),
        "damages": list(DAMAGES),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "training_images": len(data),
        "training_seconds": round(seconds, 1),
        "validation": scores(network, validation, options.seed),
        "test": scores(network, Labeled(test_set.images, test_set.labels), options.seed),
    }
    if options.record:
        command = recorded("research.cxr_features", hidden=("--out", "--record"))
        write_result(options.record, command, measurements)
    for name in ("validation", "test"):
        print(name, measurements[name])
    options.out.with_suffix(".unfinished.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
