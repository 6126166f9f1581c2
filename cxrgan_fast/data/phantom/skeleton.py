"""Bone: ribs, spine, clavicles, shoulder blades, arms. Fields of path length, (H, W)."""

import numpy as np

from cxrgan_fast.data.phantom.frame import Field, Frame, bump, capsule, length, step, tube
from cxrgan_fast.data.phantom.organs import Arms, Thorax


def ribs(frame: Frame, shape: Thorax, rng: np.random.Generator) -> Field:
    """Render twelve pairs of ribs: posterior arcs from the spine, anterior ends to the middle.

    The arcs of all ribs are one family of curves, v = start + i·spacing + arc(|u|), so the rib
    a pixel lies on, and where in it, comes from solving for i.
    """
    u, v, a = frame.u, frame.v, frame.a
    spacing = np.float32(rng.uniform(0.130, 0.156))
    start = np.float32(rng.uniform(-0.08, -0.02))
    fall = np.float32(rng.uniform(0.26, 0.38))
    rise = np.float32(rng.uniform(0.02, 0.10))
    steeper = np.float32(rng.uniform(0.010, 0.018))  # each rib slopes more than the one above
    skew = np.float32(rng.normal(0, 0.012)) * np.sign(u)
    ratio = np.clip(a / shape.cage, 0, 1.05)
    around = np.sqrt(np.clip(1 - (ratio * np.float32(0.985)) ** 2, np.float32(0.03), None))
    arc = fall * (1 - around) - rise * ratio + skew
    index = (v - start - arc) / (spacing + steeper * ratio)
    # Seen edge-on at the side of the chest, a rib is several times thicker.
    edge_on = np.minimum(1 / around, 3)
    posterior = _bands(index, rng.uniform(0.40, 0.50), rng)
    posterior *= step(a - np.float32(0.10), 0.03) * (np.float32(0.62) + np.float32(0.38) * edge_on)
    # The front half of the same loop: on from the side, down and towards the middle.
    front = np.float32(rng.uniform(0.30, 0.48))
    index_front = (v - start - fall + rise - front * around) / (spacing + steeper)
    anterior = _bands(index_front, rng.uniform(0.44, 0.56), rng)
    anterior *= step(ratio - np.float32(rng.uniform(0.50, 0.64)), 0.14)
    anterior *= np.float32(rng.uniform(0.22, 0.45)) * (np.float32(0.5) + np.float32(0.5) * edge_on)
    place = index - np.floor(index)
    scallop = 8 * place * (1 - place) - 1  # the cage bulges at each rib
    edge = a - shape.cage - np.float32(0.012) * scallop
    rim = np.float32(1.5) * bump(edge - np.float32(0.002), 0.018)
    wall = step(np.float32(0.035) - edge, 0.03) * step(v + np.float32(0.08), 0.06)
    below = 1 - np.float32(0.45) * step(v - shape.diaphragm, 0.05)
    return (posterior + anterior + rim) * wall * below


def _bands(index: Field, thickness: float, rng: np.random.Generator) -> Field:
    """Cross-sections of ribs 0 to 11: dense shells, a little different in strength each."""
    number = np.floor(index)
    offset = index - number - np.float32(0.5)
    strengths = np.zeros(16, np.float32)
    strengths[1:13] = rng.uniform(0.8, 1.1, 12)
    which = np.clip(number + 1, 0, 15).astype(np.int8)
    return tube(offset, thickness / 2, 0.55) * strengths[which]


def spine(frame: Frame, rng: np.random.Generator) -> Field:
    """Render vertebral bodies with disc spaces, pedicles, and a row of spinous processes."""
    total = np.zeros_like(frame.u)
    where, near = frame.window(u_range=(-0.26, 0.26))
    u, v, a = near.u, near.v, near.a
    half = np.float32(rng.uniform(0.105, 0.135))
    height = np.float32(rng.uniform(0.098, 0.116))
    place = (v + np.float32(rng.uniform(0, 0.1))) / height
    place = place - np.floor(place) - np.float32(0.5)  # 0 in the middle of a vertebra
    disc = bump(np.abs(place) - np.float32(0.5), 0.085)
    waist = half * (1 + np.float32(0.5) * (place * place - np.float32(0.1)))
    bodies = step(waist - a, 0.014) * (1 - np.float32(0.42) * disc)
    bodies += np.float32(0.16) * bump(np.abs(place) - np.float32(0.40), 0.05) * step(half - a, 0.02)
    pedicles = bump(length((a - np.float32(0.68) * half), place * height * np.float32(0.8)), 0.020)
    process = bump(length(u * np.float32(1.3), (place - np.float32(0.3)) * height), 0.022)
    transverse = step(half + np.float32(0.06) - a, 0.03) * bump(place + np.float32(0.25), 0.13)
    bodies += np.float32(0.38) * pedicles
    bodies += np.float32(0.25) * process
    bodies += np.float32(0.30) * transverse
    total[where] = bodies
    return total


def shoulder_girdle(frame: Frame, arms: Arms, rng: np.random.Generator) -> Field:
    """Render clavicles, shoulder blades and upper arms."""
    total = np.zeros_like(frame.u)
    lift = rng.uniform(-0.10, 0.16)
    for side, (joint, elbow) in zip((-1, 1), arms, strict=True):
        where, near = frame.window(u_range=(-9, -0.05) if side < 0 else (0.05, 9))
        bones = _clavicle(near, side, lift, rng)
        tip = (side * rng.uniform(0.78, 0.86), rng.uniform(0.02, 0.08))
        blade, _ = capsule(near, tip, (side * rng.uniform(0.92, 1.12), rng.uniform(0.36, 0.50)))
        bones += np.float32(0.16) * step(np.float32(0.10) - blade, 0.05)
        bones += np.float32(0.25) * bump(blade - np.float32(0.10), 0.014)
        neck, _ = capsule(near, tip, (side * 0.95, rng.uniform(-0.04, 0.02)))
        bones += np.float32(0.30) * tube(neck, 0.05, 0.4)
        arm, place = capsule(near, joint, elbow)
        shaft = np.float32(0.060) * (1 + np.float32(0.7) * np.clip(1 - place * 5, 0, 1))
        bones += np.float32(0.85) * tube(arm, shaft, 0.55)
        total[where] = bones
    return total


def _clavicle(frame: Frame, side: int, lift: float, rng: np.random.Generator) -> Field:
    """Render the S from the breastbone out and up to the shoulder."""
    here = frame.u * np.float32(side)
    height = rng.normal(-0.01, 0.015)
    swing = np.float32(rng.uniform(0.02, 0.05))
    along = np.clip((here - np.float32(0.13)) / np.float32(0.67), 0, 1)
    line = np.float32(height) - np.float32(lift) * along - swing * np.sin(np.float32(5.6) * along)
    radius = np.float32(0.024) * (1 + np.float32(1.6) * (along - np.float32(0.5)) ** 2)
    within = step(here - np.float32(0.12), 0.02) * step(np.float32(0.80) - here, 0.02)
    return np.float32(0.9) * tube(frame.v - line, radius, 0.5) * within
