"""``python -m research.cxr_ssl_features``: train the extractor that is told no class.

A network learns from training images of the paediatric chest X-ray set (Kermany et al. 2018) by
VICReg (Bardes et al. 2022): two views of an image that differ by next to nothing are to be
described alike, while each number of the description has to vary between images, and no two may
tell the same. Views differ by little on purpose: a network that is to call an image and its mirror
image alike, or two exposures, is blind to a generator that confuses them. From images that it is
shown damaged it learns what was done to them, as ``research.cxr_features`` does. No class is used.
A third of the patients is kept out, for ``research.extractors`` to ask it about.

A last layer is then fitted to the images of the training patients. It turns the description to
its principal directions and scales these so that the leading ones do not drown the others.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from bench.command import check, parser_of, recorded
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.metrics.cxr_blocks import INPUT_SIZE, round_weights
from cxrgan_fast.metrics.cxr_ssl_network import DIMENSION, CxrSslNetwork, join
from cxrgan_fast.metrics.extractor import extractor_input
from research.cxr_features import (
    STRENGTH_WEIGHT,
    change_tone,
    epochs,
    half_weights,
    load,
    resize,
    split_patients,
    spoil,
)

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "cxrgan_fast" / "metrics" / "weights" / "cxr_ssl.safetensors"

HELD_OUT = 1 / 3  # share of the patients
SHIFTED = 1  # of 128 pixels, at most, by which a view is moved
TONE = 0.2  # of what `change_tone` does for research.cxr_features: a gamma of 1.08 at most
DAMAGED = 0.08  # share of images that each damage is done to
COVARIANCE_WEIGHT = 0.04  # to 1 for invariance and variance, as in the paper
FITTED_AT = (64, 128)  # resolutions of the images that `fit` is given
DIRECTIONS = 34.0  # the participation ratio of the features of training images


def variance_covariance(rows: Tensor) -> Tensor:
    """Penalize numbers that do not vary between rows, or that say what others say.

    Args:
        rows: (N, D) float32.

    Returns:
        The scalar of Bardes et al. 2022, eq. 1 and 3, weighted; 0 where all deviations are 1 or
        more and all covariances 0.
    """
    centered = rows - rows.mean(0)
    deviations = (centered.square().mean(0) + 1e-4).sqrt()
    covariance = centered.T @ centered / len(rows)
    apart = covariance - torch.diag(covariance.diagonal())
    return F.relu(1 - deviations).mean() + COVARIANCE_WEIGHT * apart.square().sum() / len(apart)


def vicreg(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the loss of two views' raw features, as `CxrSslNetwork.parts` gives them.

    The channels of the cells are compared over images and cells, each cell less its own mean: what
    the left and the right lung have in common stays, and features can see that it is missing.
    """
    loss = torch.zeros(())
    for one, other in zip(first[:2], second[:2], strict=True):
        loss = loss + F.mse_loss(one, other)
        for view in (one, other):
            rows = view - view.mean(0)
            rows = rows if rows.ndim == 2 else rows.permute(0, 2, 3, 1).flatten(0, 2)
            loss = loss + variance_covariance(rows) / 2
    return loss


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift images (N, 1, H, W) a little and change their tone a little.

    Nothing is interpolated: that blurs, and blur and compression would be called no difference.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, [SHIFTED] * 4, mode="replicate")[:, 0]
    starts = torch.randint(2 * SHIFTED + 1, (2, n, 1), generator=generator)
    rows, columns = starts[0] + torch.arange(height), starts[1] + torch.arange(width)
    which = torch.arange(n)[:, None, None]
    shifted = padded[which, rows[:, :, None], columns[:, None, :]][:, None]
    return change_tone(shifted, generator, TONE)


class Training:
    """The network, its optimizer and schedule, and one epoch as a call."""

    def __init__(self, images: Tensor, epochs: int, batch_size: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.images, self.batch_size = images, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        network = CxrSslNetwork()
        network.turn.requires_grad_(False)  # fitted afterwards, as the amplitudes are
        network.amplitudes.requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types leave memory_format out
        learnt = [each for each in network.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, 1e-3, weight_decay=0.02, fused=True)
        self.batches = len(images) // batch_size
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 3e-3, total_steps=epochs * self.batches
        )

    def epoch(self, title: str) -> float:
        """Train for an epoch; return the mean loss."""
        self.network.train()
        total = 0.0
        order = torch.randperm(len(self.images), generator=self.generator)
        rows = order[: self.batches * self.batch_size].split(self.batch_size)
        for chosen in tqdm(rows, desc=title, unit="step", disable=None, leave=False):
            loss = self._loss(extractor_input(self.images[chosen], None, 1))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item()
        return total / self.batches

    def _loss(self, images: Tensor) -> Tensor:
        views = [view(images, self.generator) for _ in range(2)]
        # The same is done to both: a damage is no difference between views.
        state = self.generator.get_state()
        first, strengths = spoil(views[0], self.generator, DAMAGED)
        self.generator.set_state(state)
        second, _ = spoil(views[1], self.generator, DAMAGED)
        both = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            parts = self.network.parts(both)
        seen = join(parts)
        wanted = strengths.repeat(2, 1)
        cells, whole, fine = (part.chunk(2) for part in parts)
        return (
            vicreg((cells[0], whole[0], fine[0]), (cells[1], whole[1], fine[1]))
            + F.binary_cross_entropy_with_logits(self.network.damage(seen), (wanted > 0).float())
            + STRENGTH_WEIGHT * F.mse_loss(self.network.strength(seen), wanted)
        )

    def state(self) -> dict[str, Any]:
        """Return all that an interrupted training goes on from."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])


@torch.inference_mode()
def raw_features(network: CxrSslNetwork, images: Tensor, resolution: int) -> Tensor:
    """Return the raw features of images that were of a lower resolution once.

    Args:
        network: trained.
        images: (N, 1, 128, 128) uint8.
        resolution: a side in pixels.

    Returns:
        (N, 480) float32.
    """
    network.eval()
    parts = []
    for batch in images.split(64):
        seen = resize(resize(extractor_input(batch, None, 1), resolution), INPUT_SIZE)
        parts.append(join(network.parts(seen.contiguous(memory_format=torch.channels_last))))
    return torch.cat(parts)


def fit(sets: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Fit what turns raw features to features.

    Principal directions of the raw features are brought to deviations of 1 and bounded by tanh. The
    direction whose variance was λ is then multiplied by c λ^p. The power p is the one, between 0
    (all directions count alike, which drowns a few that matter in many that do not) and 1/2 (as
    they are: a few drown all others), for which the participation ratio is `DIRECTIONS` in the set
    where it is least; the factor c makes the sum of the variances 100.

    Args:
        sets: (N, 480) each, of one resolution each. That these differ is in the directions, but not
            in the participation ratio: who compares images has them at one resolution.

    Returns:
        The weight (256, 480) and the bias (256,) of the directions, and their amplitudes (256,).
    """
    everything = torch.cat(list(sets)).double()
    mean, scatter = everything.mean(0), everything.T.cov()
    # In units of their own deviations; what hardly ever varies is not blown up.
    deviations = scatter.diagonal().sqrt()
    deviations = deviations.clamp(min=float(deviations.median()) / 10)
    values, vectors = torch.linalg.eigh(scatter / deviations / deviations[:, None])
    values, vectors = values.flip(0)[:DIMENSION], vectors.flip(1)[:, :DIMENSION]
    values = values.clamp(min=float(values[0]) * 1e-4)
    weight = (vectors.T / deviations / values.sqrt()[:, None]).half().double()  # as it is stored
    bias = -weight @ mean
    bounded = [torch.tanh(rows.double() @ weight.T + bias) for rows in sets]
    covariances = torch.stack([rows.T.cov() for rows in bounded])

    def scaled(power: float) -> Tensor:
        amplitudes = values**power
        total = (amplitudes.square() * covariances.mean(0).diagonal()).sum()
        return amplitudes * (100 / total).sqrt()

    low, high = 0.0, 0.5
    for _ in range(40):
        power = (low + high) / 2
        amplitudes = scaled(power)
        spread = amplitudes[:, None] * covariances * amplitudes
        totals = spread.diagonal(dim1=1, dim2=2).sum(1)
        if float((totals**2 / spread.square().sum((1, 2))).amin()) > DIRECTIONS:
            low = power
        else:
            high = power
    return weight.float(), bias.float(), scaled(low).float()


def train(images: Tensor, options: argparse.Namespace) -> tuple[CxrSslNetwork, float]:
    """Train, or go on with what was interrupted, and fit the last layer.

    Returns:
        The network, and the processor seconds of its epochs.
    """
    training = Training(images, options.epochs, options.batch_size, options.seed)
    settings = [options.epochs, options.batch_size, options.seed, len(images)]
    unfinished = options.out.with_suffix(".unfinished.pt")
    seconds = 0.0
    for epoch, loss, seconds in epochs(training, options.epochs, settings, unfinished):
        print(f"epoch {epoch}: loss {loss:.3f}, {seconds:.0f} s", flush=True)
    network = training.network
    weight, bias, amplitudes = fit([raw_features(network, images, size) for size in FITTED_AT])
    with torch.no_grad():
        network.turn.weight.copy_(weight)
        network.turn.bias.copy_(bias)
        network.amplitudes.copy_(amplitudes)
    return round_weights(network).eval(), seconds


def main() -> None:
    """Train and write the weights."""
    parser = parser_of("research.cxr_ssl_features", __doc__)
    parser.add_argument("--data", required=True, help="the published set: its train folder")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="safetensors file to write")
    parser.add_argument("--record", type=Path, help="JSON file of how it was trained")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    check(
        options,
        least={"epochs": 1, "batch_size": 2},
        most={"epochs": 10**6, "batch_size": 10**6},
        out="record",
    )
    dataset = load(options.data, "train")
    rows, held_out = split_patients(dataset, options.seed, HELD_OUT)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    network, seconds = train(dataset.images[rows], options)
    content = half_weights(network)
    options.out.write_bytes(content)
    measurements = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "training_images": len(rows),
        "held_out_images": len(held_out),
        "training_cpu_seconds": round(seconds, 1),
    }
    if options.record:
        command = recorded("research.cxr_ssl_features", hidden=("--out", "--record"))
        write_result(options.record, command, measurements)
    print(measurements)
    options.out.with_suffix(".unfinished.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
