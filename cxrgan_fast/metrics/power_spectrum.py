"""Power-spectrum distance: how much detail of each size images have, and how far that is off.

Of an image of gray levels x from 0 to 1, of H × W pixels and without its mean, with its discrete
Fourier transform F, the power at a frequency is |F|²/HW: its mean over all frequencies is the
variance of the image. Averaged over rings of about equal frequency |f| (in cycles a pixel, rings
1/max(H, W) wide) it is the radial spectrum; ten times its decimal logarithm is in decibels. The
spectrum of a set is the mean of these logarithms over its images, and

    distance = root of the mean over rings of the squared difference of both spectra, in dB

the log-spectral distance of speech processing (Gray and Markel, "Distance measures for speech
processing", IEEE Trans. ASSP 1976), of the radial spectra by which generated images are told from
real ones (Durall, Keuper and Keuper, "Watch your up-convolution", CVPR 2020; Dzanic, Shah and
Witherden, "Fourier spectrum discrepancies in deep network generated images", NeurIPS 2020). As in
theirs, rings reach into the corners of the spectrum, beyond half a cycle a pixel, where the pattern
of a transposed convolution lies. The mean (frequency 0) is left out. Images are compared as they
are, without a window, so that their borders count alike in both sets.

To the power of each ring that of rounding to 256 levels is added, 1/(12·255²): the logarithm of an
image without detail is finite, and detail below the rounding weighs little.

It is of the images, no features: one decibel is a difference of power of 26 %. Two sets of one
distribution are a little above 0, by chance: look at the floor.
"""

import torch
from torch import Tensor

from cxrgan_fast.errors import UserError
from cxrgan_fast.metrics.estimate import Estimate, Resamples, standard_error
from cxrgan_fast.metrics.metric import Metric, Sets, register
from cxrgan_fast.metrics.shared_images import of_each

_ROUNDING = 1 / (12 * 255**2)  # the variance of an error spread evenly over one gray level
_IMAGES_AT_ONCE = 64


def power_spectrum_distance(
    real: Tensor, fake: Tensor, *, resamples: Resamples | None = None
) -> Estimate:
    """Compute the root mean square difference of two radial spectra, in decibels.

    Args:
        real: (N, C, H, W) uint8; colors are averaged.
        fake: (M, C, H, W) uint8, of the same H and W.
        resamples: for the standard error.

    Returns:
        The distance. `details`: `frequencies` of the rings, in cycles a pixel; `difference` in each
        of them, the generated images' less the real ones', in dB: above 0 where they have too much
        detail; `worst_frequency`, where it is largest.

    Raises:
        UserError: a set is empty, or images have one pixel only.
        ValueError: the images are of different sizes.
    """
    if real.ndim != 4 or fake.ndim != 4 or real.shape[2:] != fake.shape[2:]:
        raise ValueError(
            f"real, fake: expected (N, C, H, W) and (M, C, H, W), got {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )
    if not len(real) or not len(fake):
        raise UserError(
            f"power spectrum: expected images in both sets, got {len(real)} real and {len(fake)} "
            "generated; give more images"
        )
    height, width = real.shape[2:]
    if height * width < 2:
        raise UserError(
            f"power spectrum: expected images of more than one pixel, got {height} x {width}"
        )
    of_real, of_fake = of_each(radial_spectra, real), of_each(radial_spectra, fake)
    difference = of_fake.mean(0) - of_real.mean(0)  # (rings,)
    value = float(difference.square().mean().sqrt())
    error = None
    if resamples is not None:
        spectra = [
            counts.to(of_real) @ rows / counts.to(of_real).sum(1, keepdim=True)
            for counts, rows in ((resamples.real, of_real), (resamples.fake, of_fake))
        ]
        error = standard_error((spectra[1] - spectra[0]).square().mean(1).sqrt())
    frequencies = ring_frequencies(height, width)
    details = {
        "frequencies": frequencies,
        "difference": difference.tolist(),
        "worst_frequency": frequencies[int(difference.abs().argmax())],
    }
    return Estimate(value, len(real), len(fake), error, details)


def radial_spectra(images: Tensor) -> Tensor:
    """Return the radial spectrum of each image, (N, rings) float64, in decibels."""
    height, width = images.shape[2:]
    ring, weights = _rings(height, width, images.device)
    sizes = torch.bincount(ring, weights)
    kept = _kept(sizes)
    spectra = []
    for part in images.split(_IMAGES_AT_ONCE):
        gray = part.double().mean(1) / 255
        transform = torch.fft.rfft2(gray - gray.mean((1, 2), keepdim=True))
        power = transform.real.square() + transform.imag.square()  # `abs` takes a root before
        flat = power.flatten(1) * weights / (height * width)
        sums = flat.new_zeros(len(part), len(sizes)).index_add_(1, ring, flat)
        spectra.append(10 * torch.log10(sums[:, kept] / sizes[kept] + _ROUNDING))
    return torch.cat(spectra)


def ring_frequencies(height: int, width: int) -> list[float]:
    """Return the frequency of each ring, in cycles a pixel."""
    kept = _kept(torch.bincount(*_rings(height, width, torch.device("cpu"))))
    return [ring / max(height, width) for ring in kept.tolist()]


def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each number of `rfft2`, flattened: its ring, and for how many frequencies it stands."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64, device=device)
    columns = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)
    radius = (rows[:, None].square() + columns.square()).sqrt()  # (H, W/2 + 1), cycles a pixel
    # Half of the spectrum is the mirror image of the other: what is not on its edge counts twice.
    twice = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64, device=device)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    ring = (radius * max(height, width)).round().long()
    return ring.flatten(), twice.expand(height, -1).flatten()


def _kept(sizes: Tensor) -> Tensor:
    return sizes.nonzero().flatten()[1:]  # without the mean


def _of_sets(sets: Sets) -> Estimate:
    assert sets.images is not None  # else the record's `takes` has refused
    return power_spectrum_distance(sets.images.real, sets.images.fake, resamples=sets.resamples)


register(
    Metric(
        name="power_spectrum",
        title="power spectrum (dB)",
        better="lower",
        takes="images",
        function=_of_sets,
        place=115,
    )
)
