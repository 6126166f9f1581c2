"""Soft tissue and air: body, lungs, heart, diaphragm, vessels, gut gas.

Each function returns fields of path length; `phantom_image` in the package adds them up.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from cxrgan_fast.data.phantom.frame import (
    Field,
    Frame,
    blurred,
    bump,
    capsule,
    cloud,
    curve,
    length,
    step,
    tube,
)

Point: TypeAlias = tuple[float, float]
Arms: TypeAlias = list[tuple[Point, Point]]
"""Shoulder joint and elbow of the right and the left arm, in (u, v)."""


@dataclass(frozen=True)
class Thorax:
    """The surfaces that the other parts refer to; each (H, W).

    Attributes:
        cage: half-width of the rib cage at this height, in units of u.
        diaphragm: the v of the diaphragm at this distance from the midline.
        lungs: 1 within the lung fields as they lie between wall, mediastinum and diaphragm.
    """

    cage: Field
    diaphragm: Field
    lungs: Field


def place_arms(rng: np.random.Generator) -> Arms:
    """Raise both arms beside the head, as children's mostly are held, or let them hang."""
    raised = rng.random() < 0.62
    arms: Arms = []
    for side in (-1, 1):
        joint = (side * rng.uniform(0.94, 1.04), rng.uniform(-0.10, 0.02))
        if raised:
            elbow = (side * rng.uniform(1.1, 1.5), rng.uniform(-0.75, -0.45))
        else:
            elbow = (side * rng.uniform(1.38, 1.7), rng.uniform(0.5, 0.9))
        arms.append((joint, elbow))
    return arms


def thorax(frame: Frame, rng: np.random.Generator) -> Thorax:
    """Shape the rib cage, the two domes of the diaphragm and the lung fields."""
    u, v, a = frame.u, frame.v, frame.a
    # An egg: half an ellipse above its widest height, nearly straight below it.
    widest, tall = np.float32(rng.uniform(0.88, 1.0)), np.float32(rng.uniform(1.10, 1.24))
    above = np.clip((widest - v) / tall, 0, 1)
    below = np.clip(v - widest, 0, None)
    cage = (
        np.sqrt(np.maximum(1 - above * above, np.float32(0.04)))
        - np.float32(0.10) * np.minimum(below, 1) ** 2
    )
    left = step(u, 0.05)  # 1 on the patient's left
    crown = np.float32(rng.uniform(0.40, 0.55))
    drop = np.float32(rng.uniform(0.15, 0.30))
    reach = np.clip((a - crown) / (1 - crown), -1.2, 1.2)
    dome = 1 + drop * reach**2 * np.where(reach > 0, np.float32(1), np.float32(0.22))
    dome = dome + left * np.float32(rng.normal(0.045, 0.025))
    dome += np.float32(0.012) * cloud(rng, frame, 1.6)
    inner = np.float32(rng.uniform(0.13, 0.17))
    apex = ((a - np.float32(0.40)) * np.float32(1 / 0.34)) ** 2 * np.float32(0.16)
    lungs = (
        step(cage - np.float32(0.01) - a, 0.022)
        * step(a - inner, 0.05)
        * step(dome - v, 0.013)
        * step(v - apex, 0.02)
    )
    return Thorax(cage, dome, lungs)


def body(frame: Frame, shape: Thorax, arms: Arms, rng: np.random.Generator) -> Field:
    """Render the soft tissue of trunk, shoulders, neck, head and arms: its thickness, up to 1."""
    a, v = frame.a, frame.v
    fat = np.float32(rng.uniform(0.09, 0.20))
    flank = np.maximum(shape.cage, np.float32(0.74)) + fat
    flank = flank + np.float32(0.12) * step(np.float32(0.30) - v, 0.35)  # axilla and shoulder
    depth = np.sqrt(np.clip(1 - (a / flank) ** 2, 0, None))
    depth *= curve(v, [-0.5, -0.2, 0.05, 0.35, 0.7, 2], [0.38, 0.44, 0.58, 0.84, 1.0, 1.0])
    slope = np.float32(rng.uniform(0.14, 0.30))
    shoulder = -np.float32(rng.uniform(0.20, 0.30)) + slope * a**2
    trunk = depth * step(v - shoulder, 0.07)
    neck = np.float32(0.66) * np.sqrt(np.clip(1 - (a * np.float32(1 / 0.36)) ** 2, 0, None))
    whole = np.maximum(trunk, neck * step(0.1 - v, 0.25))
    for joint, elbow in arms:
        where, near = frame.window(u_range=(-9, -0.5) if joint[0] < 0 else (0.5, 9))
        distance, _ = capsule(near, joint, elbow)
        arm = np.float32(0.33) * tube(distance, rng.uniform(0.19, 0.27), 0)
        whole[where] = length(whole[where], arm)
    if rng.random() < 0.8:  # the chin, where the frame reaches so far
        chin = -rng.uniform(0.20, 0.44)
        where, near = frame.window(v_range=(-9, chin + 0.05))
        x = (near.u - np.float32(rng.normal(0, 0.06))) / np.float32(0.52)
        y = (near.v - np.float32(chin - 0.45)) / np.float32(0.45)
        radius = length(x, y)
        head = np.sqrt(np.clip(1 - radius * radius, 0, None))
        jaw = np.float32(0.22) * bump(radius - np.float32(0.90), 0.06)
        behind = whole[where]
        head = np.maximum(behind, np.float32(0.62) + np.float32(0.35) * head + jaw)
        whole[where] = behind + (head - behind) * step(1 - radius, 0.03)
    return whole


def heart(frame: Frame, rng: np.random.Generator) -> Field:
    """Render heart, great vessels and thymus: 1 inside the silhouette.

    The left ventricle reaches to the image's right; the right atrium just passes the spine.
    """
    total = np.zeros_like(frame.u)
    where, near = frame.window((-0.55, 0.85), (-0.5, 1.5))
    u, v = near.u, near.v
    size = rng.uniform(0.88, 1.14)
    tilt = rng.uniform(0.45, 0.85)
    shift = rng.normal(0, 0.02)

    def oval(cu: float, cv: float, ru: float, rv: float, angle: float) -> Field:
        x, y = u - np.float32(cu + shift), v - np.float32(cv)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return 1 - length((x * c + y * s) / np.float32(ru), (y * c - x * s) / np.float32(rv))

    bottom = rng.uniform(0.76, 0.84)
    ventricle = oval(0.18, bottom, 0.44 * size, 0.36 * size, tilt)
    atrium = oval(-0.09, bottom - 0.06, 0.20 * size, 0.34 * size, -0.1)
    trunk_width = rng.uniform(0.17, 0.25)  # a child's thymus may be wide
    vessels = oval(0.05, 0.32, trunk_width, 0.50, 0.12) * np.float32(0.8)
    silhouette = _join(_join(ventricle, atrium, 0.12), vessels, 0.35)
    total[where] = step(silhouette, rng.uniform(0.03, 0.07))
    return total


def _join(first: Field, second: Field, fillet: float) -> Field:
    """Unite two shapes given by depth below their surface, filling the crease between them."""
    gap = first - second
    return np.float32(0.5) * (first + second + np.sqrt(gap * gap + np.float32(fillet**2)))


def airways(frame: Frame, rng: np.random.Generator) -> Field:
    """Render trachea and main bronchi, the column of air over the upper spine."""
    carina = rng.uniform(0.30, 0.36)
    lean = rng.normal(-0.01, 0.02)
    total = np.zeros_like(frame.u)
    where, near = frame.window((-0.4, 0.4), (-9, 0.6))
    trachea, _ = capsule(near, (0.0, -0.6), (lean, carina))
    air = bump(trachea, 0.038)
    for side, fall, reach in ((-1, 0.12, 0.15), (1, 0.09, 0.20)):
        bronchus, along = capsule(near, (lean, carina), (lean + side * reach, carina + fall))
        air = np.maximum(air, bump(bronchus, 0.026) * (np.float32(0.9) - np.float32(0.6) * along))
    total[where] = air
    return total


def vessels(frame: Frame, shape: Thorax, rng: np.random.Generator) -> Field:
    """Render the pulmonary vessels, 0 to 1: trees from each hilum that thin out to the edge."""
    canvas = Image.new("L", (frame.width, frame.height))
    pen = ImageDraw.Draw(canvas)
    for side in (-1, 1):
        for angle in np.linspace(-1.2, 1.5, 8) + rng.normal(0, 0.15, 8):
            root_u, root_v = side * rng.uniform(0.14, 0.24), rng.uniform(0.38, 0.52)
            _branch(pen, frame, rng, root_u, root_v, side, angle, rng.uniform(2.2, 3.4))
    trees = np.asarray(canvas, np.float32) * np.float32(1 / 255)
    hila = np.zeros_like(trees)
    for side in (-1, 1):
        where, near = frame.window((side * 0.21 - 0.35, side * 0.21 + 0.35), (-0.1, 1.1))
        x, y = near.u - np.float32(side * 0.21), near.v - np.float32(0.47)
        hila[where] += bump(length(x, y * np.float32(0.6)), 0.085)
    texture = cloud(rng, frame, 11, 2)
    fade = np.clip(np.float32(1.2) - np.float32(0.9) * frame.a, np.float32(0.25), 1)
    soft = np.float32(0.75) * blurred(trees, 1.6) * fade
    return (
        soft
        + np.float32(0.36) * hila * (1 + np.float32(0.45) * texture)
        + (np.float32(0.075) * texture * fade)
    )


def _branch(
    pen: ImageDraw.ImageDraw,
    frame: Frame,
    rng: np.random.Generator,
    u: float,
    v: float,
    side: int,
    angle: float,
    width: float,
) -> None:
    """Render one vessel and, on its way, the two smaller ones that leave it."""
    bend = rng.normal(0, 0.10)
    stride = rng.uniform(0.05, 0.09)
    column, row = frame.origin
    while width > 0.8:
        next_u = u + side * stride * np.cos(angle)
        next_v = v + stride * np.sin(angle)
        points = [
            (column + u * frame.across, row + v * frame.down),
            (column + next_u * frame.across, row + next_v * frame.down),
        ]
        pen.line(points, fill=min(255, int(55 + 40 * width)), width=max(1, round(width)))
        u, v = next_u, next_v
        angle += bend + rng.normal(0, 0.12)
        width *= 0.80
        if width > 1.1 and rng.random() < 0.45:
            fork = rng.uniform(0.35, 0.7) * (1 if rng.random() < 0.5 else -1)
            _branch(pen, frame, rng, u, v, side, angle + fork, width * 0.75)


def gut_gas(frame: Frame, shape: Thorax, rng: np.random.Generator) -> Field:
    """Render gas in stomach and bowel below the left dome, 0 to 1; only some patients have it."""
    total = np.zeros_like(frame.u)
    where, near = frame.window((0.0, 1.1), (1.0, 1.7))
    if rng.random() > 0.65 or not near.u.size:
        return total
    center_u, center_v = rng.uniform(0.35, 0.68), rng.uniform(1.22, 1.36)
    x = (near.u - np.float32(center_u)) / np.float32(rng.uniform(0.14, 0.26))
    y = (near.v - np.float32(center_v)) / np.float32(rng.uniform(0.07, 0.14))
    edge = 1 - length(x, y) + np.float32(0.28) * cloud(rng, near, 5, 2)
    below = step(near.v - shape.diaphragm[where] - np.float32(0.05), 0.03)
    total[where] = step(edge, 0.3) * below * np.float32(rng.uniform(0.4, 1.0))
    return total
