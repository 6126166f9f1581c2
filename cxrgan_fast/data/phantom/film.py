"""What the detector and its processing make of the chest: exposure, noise, borders, marker."""

import numpy as np
from PIL import Image, ImageDraw

from cxrgan_fast.data.phantom.frame import Field, Frame, blurred, cloud, step

Box = tuple[int, int, int, int]


def develop(absorption: Field, frame: Frame, rng: np.random.Generator) -> Field:
    """Turn absorption into brightness, 0 (air) to 1, as a digital system displays it.

    Contrast saturates towards dense parts; wide-area equalisation and a window differ from
    image to image, as does the noise, which is quantum noise: strongest where little passes.
    """
    mean = blurred(absorption, 0.5 * frame.across)
    absorption = absorption - np.float32(rng.uniform(0.05, 0.28)) * (mean - mean.mean())
    scatter = rng.uniform(0.8, 1.9)
    toned = (1 - np.exp(np.float32(-scatter) * np.clip(absorption, 0, None))) / np.float32(
        1 - np.exp(-scatter * 1.25)
    )
    grain = cloud(rng, frame, frame.across / 2.2)
    toned += np.float32(rng.uniform(0.004, 0.014)) * grain * (np.float32(0.5) + toned)
    fine = blurred(toned, 1.5)
    toned = toned + np.float32(rng.uniform(-0.6, 0.3)) * (toned - fine)
    gain, base = rng.uniform(0.74, 0.97), rng.uniform(-0.02, 0.05)
    # The window, then a bend like a gamma's that leaves black and white where they are.
    toned = np.clip(toned, 0, 1)
    toned = toned + np.float32(rng.uniform(-0.25, 0.22)) * toned * (1 - toned)
    return np.float32(base) + np.float32(gain) * toned


def collimate(image: Field, frame: Frame, rng: np.random.Generator) -> Field:
    """Darken what lies outside the beam's rectangle, where it is seen at all."""
    shade = np.ones_like(image)
    x = np.arange(frame.width, dtype=np.float32)[None, :]
    y = np.arange(frame.height, dtype=np.float32)[:, None]
    slant = np.float32(rng.normal(0, 0.012))
    for inset in (x - slant * y, frame.width - 1 - x + slant * y, y + slant * x):
        if rng.random() < 0.14:
            edge = np.float32(rng.uniform(0.01, 0.06) * frame.width)
            shade = shade * (1 - np.float32(rng.uniform(0.85, 1)) * step(edge - inset, 1.2))
    return image * shade


def burn_marker(image: Field, frame: Frame, rng: np.random.Generator) -> tuple[Field, Box]:
    """Write the letter R beside the patient's right shoulder, as radiographers do.

    Returns:
        The image with the letter, and the letter's box: left, top, right, bottom in pixels,
        right and bottom exclusive. Nothing outside the box is changed.
    """
    size = max(9, round(frame.width * rng.uniform(0.042, 0.072)))
    width = round(size * 0.66)
    left = round(rng.uniform(0.01, 0.15) * frame.width)
    top = round(rng.uniform(0.015, 0.42) * frame.height)
    if left > 0.07 * frame.width:  # over the chest it would hide anatomy
        top = round(rng.uniform(0.012, 0.06) * frame.height)
    letter = _letter_r(width, size, bold=rng.uniform(0.13, 0.20))
    bright = np.float32(rng.uniform(0.86, 1.0))
    marked = image.copy()
    spot = marked[top : top + size, left : left + width]
    spot += letter[: spot.shape[0], : spot.shape[1]] * (bright - spot)
    return marked, (left, top, left + spot.shape[1], top + spot.shape[0])


def _letter_r(width: int, height: int, bold: float) -> Field:
    """Render an R that fills its box, antialiased, 0 to 1; no font is involved."""
    scale = 4
    w, h = width * scale - 1, height * scale - 1
    pen_width = max(1, round(bold * h))
    canvas = Image.new("L", (width * scale, height * scale))
    pen = ImageDraw.Draw(canvas)
    waist = round(h * 0.54)
    for inset, ink in ((0, 255), (pen_width, 0)):  # the bowl, then the hole in it
        right, bottom = w - inset, waist - inset
        round_part = bottom - inset
        pen.rectangle((0, inset, right - round_part // 2, bottom), fill=ink)
        pen.ellipse((right - round_part, inset, right, bottom), fill=ink)
    pen.rectangle((0, 0, pen_width, h), fill=255)
    knee, heel = w * 0.34, w - pen_width * 1.3
    pen.polygon([(knee, waist), (knee + pen_width * 1.3, waist), (w, h), (heel, h)], fill=255)
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) * np.float32(1 / 255)
