"""``python -m bench.reference_gan``: the same GAN in plain PyTorch, to be measured against.

An independent program, written as people write one today: float32, eager, nn.BatchNorm2d and
nn.Embedding, F.binary_cross_entropy_with_logits, torch.optim, a DataLoader, ``.item()`` of the
losses at every step. It takes from the package the reader of the images, and nothing else. It can
start from the package's weights, so that a test holds the two trainings together.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from bench.reference_arguments import make_parser, parse
from bench.reference_images import Images
from bench.reference_networks import Discriminator, Generator
from bench.reference_objective import diff_augment, discriminator_loss, generator_loss
from bench.reference_settings import Settings, make_optimizer
from bench.reference_weights import State, discriminator_weights, generator_weights

if TYPE_CHECKING:
    from cxrgan_fast.data import ImageDataset

Network = Callable[[Tensor, Tensor], Tensor]


class ReferenceTraining:
    """The networks, their optimizers, the images, and one step of training as a call.

    Random numbers come from torch's global generators: seed them first.

    Args:
        settings: of the training.
        dataset: the package's images.
        device: where to train.
        amp: autocast, to bfloat16 or, where a GPU has none, float16 with loss scaling.
        channels_last: networks and images in that memory format.
        compile: torch.compile of both networks, but for the penalties: a compiled function has
            no second derivative.
        num_workers: processes of the DataLoader.

    Attributes:
        generator, discriminator, ema: the networks; ``ema`` is the generator's moving average.
        step: how many steps have been done.

    Raises:
        ValueError: there are fewer images than a batch has.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: ImageDataset,
        device: torch.device,
        *,
        amp: bool = False,
        channels_last: bool = False,
        compile: bool = False,
        num_workers: int = 2,
    ) -> None:
        if len(dataset) < settings.batch_size:
            raise ValueError(
                f"a batch of {settings.batch_size} images is more than the {len(dataset)} there are"
            )
        self.settings, self.device = settings, device
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        n_classes = len(dataset.class_names)
        to: dict[str, Any] = {"device": device, "memory_format": self.memory_format}
        self.generator = Generator(settings, n_classes).to(**to)
        self.discriminator = Discriminator(settings, n_classes).to(**to)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.run_generator: Network = self.generator
        self.run_discriminator: Network = self.discriminator
        if compile:
            mode = "max-autotune" if device.type == "cuda" else "default"
            self.run_generator = torch.compile(self.generator, mode=mode)
            self.run_discriminator = torch.compile(self.discriminator, mode=mode)
        self.g_optimizer = make_optimizer(settings, self.generator, settings.g_lr)
        self.d_optimizer = make_optimizer(settings, self.discriminator, settings.d_lr)

        bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if bf16 else torch.float16
        self.amp: dict[str, Any] = {"device_type": device.type, "dtype": dtype, "enabled": amp}
        self.g_scaler = torch.amp.GradScaler(device.type, enabled=amp and not bf16)
        self.d_scaler = torch.amp.GradScaler(device.type, enabled=amp and not bf16)

        self.labels = dataset.labels.to(device)
        self.loader = DataLoader(
            Images(dataset, settings.image_range, settings.mirror),
            settings.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            persistent_workers=num_workers > 0,
        )
        self.batches = self._endless()
        low, high = settings.image_range
        self.half_range = (high - low) / 2  # noise and penalties count in an image range of 2
        self.last_real_logits: Tensor | None = None
        self.step = 0

    def load_weights(self, generator: State, discriminator: State) -> None:
        """Start from the package's weights.

        Args:
            generator: state dict of the package's generator.
            discriminator: state dict of the package's discriminator.

        Raises:
            RuntimeError: of other networks than these.
        """
        for networks, weights in (
            ((self.generator, self.ema), generator_weights(generator, self.settings)),
            ((self.discriminator,), discriminator_weights(discriminator, self.settings)),
        ):
            for network in networks:
                counters = {
                    name: counter
                    for name, counter in network.state_dict().items()
                    if name.endswith("num_batches_tracked")
                }
                network.load_state_dict({**weights, **counters})

    def __call__(self) -> dict[str, float]:
        """Train for one step; its losses."""
        s = self.settings
        losses = {}
        paired = s.loss == "relativistic"
        for _ in range(s.discriminator_steps):
            real, real_labels = self._next_batch()
            latents, labels = self._draw_fakes()
            if paired:
                labels = real_labels
            nothing = None, None
            losses["d_loss"] = self.update_discriminator(
                real, real_labels, latents, labels,
                *self._draw_changes(2 * s.batch_size),
                *(self._draw_changes(s.batch_size) if self.penalizes(s.r1_gamma) else nothing),
                *(self._draw_changes(s.batch_size) if self.penalizes(s.r2_gamma) else nothing),
            )  # fmt: skip
        latents, labels = self._draw_fakes()
        own = None
        if paired and s.reuse_real_logits:
            labels = real_labels
        elif paired:
            own, labels = self._next_batch()
        changes = self._draw_changes(s.batch_size if own is None else 2 * s.batch_size)
        losses["g_loss"] = self.update_generator(latents, labels, *changes, own)
        self.finish_step()
        return losses

    def penalizes(self, gamma: float) -> bool:
        """Whether this step has a penalty of that weight."""
        return gamma > 0 and self.step % self.settings.r1_interval == 0

    def update_discriminator(
        self,
        real: Tensor,
        real_labels: Tensor,
        latents: Tensor,
        labels: Tensor,
        augment: Tensor,
        noise: Tensor | None = None,
        r1_augment: Tensor | None = None,
        r1_noise: Tensor | None = None,
        r2_augment: Tensor | None = None,
        r2_noise: Tensor | None = None,
    ) -> float:
        """One update from given random numbers.

        Args:
            real: (N, C, R, R) in the image range.
            real_labels: (N,).
            latents: (N, Z), of the generated images.
            labels: (N,), of the generated images.
            augment: (2N, P, 2), for :func:`diff_augment` of the real, then the generated images.
            noise: (2N, C, R, R), standard normal, added to them; none if None.
            r1_augment: (N, P, 2), for the real images of the R1 penalty.
            r1_noise: (N, C, R, R), for the same.
            r2_augment: (N, P, 2), for the generated images of the R2 penalty.
            r2_noise: (N, C, R, R), for the same.

        Returns:
            The adversarial loss.
        """
        s = self.settings
        real = real.to(memory_format=self.memory_format)
        with torch.no_grad(), torch.autocast(**self.amp):
            fake = self.run_generator(latents, labels)
        images = self._change(torch.cat([real, fake]), augment, noise)
        with torch.autocast(**self.amp):
            logits = self.run_discriminator(images, torch.cat([real_labels, labels]))
        real_logits, fake_logits = logits.chunk(2)
        self.last_real_logits = real_logits.detach()
        loss = discriminator_loss(real_logits, fake_logits, s.loss, s.label_smoothing)
        self.d_optimizer.zero_grad()
        self.d_scaler.scale(loss).backward()
        inputs, seen, classes, gammas = [], [], [], []
        for gamma, plain, their_labels, their_augment, their_noise in (
            (s.r1_gamma, real, real_labels, r1_augment, r1_noise),
            (s.r2_gamma, fake, labels, r2_augment, r2_noise),
        ):
            if self.penalizes(gamma):
                assert their_augment is not None
                inputs.append(plain.detach().requires_grad_())
                seen.append(self._change(inputs[-1], their_augment, their_noise))
                classes.append(their_labels)
                gammas.append(gamma)
        if inputs:
            with torch.autocast(**self.amp):
                logits = self.discriminator(torch.cat(seen), torch.cat(classes))
            gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
            penalty = torch.zeros((), device=self.device)
            for gamma, gradient in zip(gammas, gradients, strict=True):
                norm = (gradient * self.half_range).square().sum(dim=(1, 2, 3)).mean()
                penalty = penalty + s.r1_interval * gamma / 2 * norm
            # A backward pass of its own, after the other: a forward pass with spectral norm changes
            # buffers that the compiled one has kept for its backward pass.
            self.d_scaler.scale(penalty).backward()
        self.d_scaler.step(self.d_optimizer)
        self.d_scaler.update()
        return loss.item()

    def update_generator(
        self,
        latents: Tensor,
        labels: Tensor,
        augment: Tensor,
        noise: Tensor | None = None,
        real: Tensor | None = None,
    ) -> float:
        """One update from given random numbers, as in :meth:`update_discriminator`; its loss.

        With the relativistic loss ``real`` are images of these labels, and ``augment`` and
        ``noise`` are for them first; without ``real`` the discriminator's last logits are taken.
        """
        s = self.settings
        real_logits = self.last_real_logits if s.loss == "relativistic" else None
        self.discriminator.requires_grad_(False)
        with torch.autocast(**self.amp):
            fake = self.run_generator(latents, labels)
        if real is None:
            images = self._change(fake, augment, noise)
        else:
            images = self._change(torch.cat([real, fake]), augment, noise)
            shown, images = images.chunk(2)
            with torch.no_grad(), torch.autocast(**self.amp):
                real_logits = self.run_discriminator(shown, labels)
        with torch.autocast(**self.amp):
            logits = self.run_discriminator(images, labels)
        kind = "non_saturating" if self.step < s.early_steps else s.loss
        loss = generator_loss(logits, kind, real_logits)
        self.g_optimizer.zero_grad()
        self.g_scaler.scale(loss).backward()
        self.g_scaler.step(self.g_optimizer)
        self.g_scaler.update()
        self.discriminator.requires_grad_(True)
        return loss.item()

    @torch.no_grad()
    def finish_step(self) -> None:
        """Update the generator's moving average."""
        s = self.settings
        images = s.batch_size * s.discriminator_steps
        half_life = s.ema_half_life
        if s.ema_ramp:
            half_life = min(half_life, self.step * images * s.ema_ramp)
        decay = 0.5 ** (images / half_life) if half_life else 0.0
        for average, parameter in zip(
            self.ema.parameters(), self.generator.parameters(), strict=True
        ):
            average.mul_(decay).add_(parameter, alpha=1 - decay)
        for copied, buffer in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            copied.copy_(buffer)
        self.step += 1

    def _endless(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def _next_batch(self) -> tuple[Tensor, Tensor]:
        images, labels = next(self.batches)
        return (
            images.to(self.device, non_blocking=True),
            labels.to(self.device, non_blocking=True),
        )

    def _draw_fakes(self) -> tuple[Tensor, Tensor]:
        """Latents and labels of generated images, as frequent as in the data."""
        n = self.settings.batch_size
        chosen = torch.randint(len(self.labels), (n,), device=self.device)
        latents = torch.randn(n, self.settings.latent_size, device=self.device)
        return latents, self.labels[chosen]

    def _draw_changes(self, n: int) -> tuple[Tensor, Tensor | None]:
        """Random numbers for :meth:`_change` of n images."""
        s = self.settings
        noise = None
        if s.noise_std:
            size = (n, s.image_channels, s.resolution, s.resolution)
            noise = torch.randn(size, device=self.device)
        return torch.rand(n, len(s.augment), 2, device=self.device), noise

    def _change(self, images: Tensor, augment: Tensor, noise: Tensor | None) -> Tensor:
        """What the discriminator sees of the images."""
        s = self.settings
        images = diff_augment(images, s.augment, augment, s.image_range)
        if noise is not None:
            left = max(0.0, 1 - self.step / s.noise_decay_steps) if s.noise_decay_steps else 1.0
            images = images + s.noise_std * left * self.half_range * noise
        return images


def train(training: ReferenceTraining, steps: int) -> tuple[dict[str, float], list[float]]:
    """Train for some steps with a progress bar.

    Returns:
        The losses of the last step, and the seconds of each step.
    """
    losses: dict[str, float] = {}
    seconds = []
    with tqdm(range(steps), unit="step", disable=None) as bar:
        for _ in bar:
            start = time.perf_counter()
            losses = training()  # ends with .item(), and so with the device's work
            seconds.append(time.perf_counter() - start)
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
    return losses, seconds


def main() -> None:
    """Parse, train, print."""
    from cxrgan_fast.data import load_dataset
    from cxrgan_fast.errors import UserError  # what the reader raises

    parser = make_parser(__doc__)
    arguments = parse(parser)
    torch.manual_seed(arguments.seed)
    try:
        device = torch.device(arguments.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {arguments.device} cannot be used here: {error}")
    try:
        dataset = load_dataset(arguments.data, resolution=arguments.resolution)
        training = ReferenceTraining(
            Settings.of(vars(arguments)),
            dataset,
            device,
            amp=arguments.amp,
            channels_last=arguments.channels_last,
            compile=arguments.compile,
            num_workers=arguments.workers,
        )
    except (UserError, OSError, ValueError, RuntimeError, AssertionError) as error:
        parser.error(str(error))
    losses, seconds = train(training, arguments.steps)
    print(", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
    images = training.settings.batch_size * training.settings.discriminator_steps
    print(f"first step: {seconds[0]:.2f} s")  # with the start of the workers, or compilation
    if seconds[1:]:
        print(f"then: {images * len(seconds[1:]) / sum(seconds[1:]):.1f} images/s")


if __name__ == "__main__":
    main()
