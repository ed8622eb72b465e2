"""Eyes, teeth, tongue and mouth cavity: painted, with colours taken from the photo where it shows them."""

from __future__ import annotations

import numpy as np

from flexavatar.rig import REGION_NAMES, Rig
from flexavatar.rig.regions import Regions, smooth_step
from flexavatar.texture.unwrap import Unwrapped

IRIS_RADIUS = 0.0059  # metres; nearly the same for every adult
MOUTH_CORNERS = (61, 291)  # MediaPipe's landmarks
PUPIL = 0.42  # of the iris radius
SCLERA = np.array([0.88, 0.85, 0.83])
BROWN = np.array([0.28, 0.18, 0.11])


def paint_eyes(color: np.ndarray, rig: Rig, photo: Unwrapped) -> np.ndarray:
    """Both eyeballs: sclera, limbus, iris and pupil around the gaze axis, brightness and iris from the photo."""
    region = rig.atlas.region.numpy()
    position = np.zeros((*region.shape, 3), np.float32)
    position[rig.atlas.valid.numpy()] = rig.anchors.positions(rig.mean).numpy()
    eyes = {}
    for name in ("eye_left", "eye_right"):
        own = region == REGION_NAMES.index(name)
        eyes[name] = _iris_and_white(position[own], photo.color[own], photo.weight[own])
    # Both eyes of one person share their colours; the better seen one decides.
    best = max(eyes.values(), key=lambda seen: seen[2])
    painted = color.copy()
    for name in ("eye_left", "eye_right"):
        own = region == REGION_NAMES.index(name)
        iris, white = best[0], best[1]
        radius, around = _polar(position[own])
        limit = np.arcsin(IRIS_RADIUS / _eye_radius(position[own]))
        r = radius / limit
        spokes = 1 + 0.10 * np.sin(13 * around) * np.sin(7 * around + 1.0) - 0.12 * np.cos(np.pi * r.clip(0, 1))
        tone = iris * spokes[:, None]
        tone = _blend(tone, iris * 0.35, smooth_step(r, 0.84, 1.0))
        tone = _blend(np.broadcast_to(iris * 0.08, tone.shape), tone, smooth_step(r, PUPIL - 0.10, PUPIL + 0.06))
        edge = white * (1 - 0.25 * smooth_step(radius, 0.75, 1.4))[:, None] * [1.0, 0.97, 0.96]
        eye = _blend(tone, edge, smooth_step(r, 0.94, 1.10))
        painted[own] = eye.clip(0, 1)
    return painted


def paint_mouth(color: np.ndarray, rig: Rig, skin: np.ndarray) -> np.ndarray:
    """Teeth, tongue and cavity, as bright as the skin is lit, darker towards the throat."""
    region = rig.atlas.region.numpy()
    depth = np.zeros(region.shape, np.float32)
    depth[rig.atlas.valid.numpy()] = rig.anchors.positions(rig.mean)[:, 2].numpy()
    light = float(np.clip(skin @ [0.3, 0.6, 0.1] / 0.58, 0.55, 1.1))
    painted = color.copy()
    tones = {
        "teeth_upper": ((0.84, 0.80, 0.73), -0.022, 0.016),
        "teeth_lower": ((0.78, 0.74, 0.67), -0.022, 0.014),
        "tongue": ((0.68, 0.36, 0.35), -0.022, 0.016),
        "mouth": ((0.42, 0.17, 0.16), -0.012, 0.026),
    }
    for name, (tone, back, front) in tones.items():
        own = region == REGION_NAMES.index(name)
        shade = 0.16 + 0.84 * smooth_step(depth[own], back, front)
        painted[own] = (np.array(tone) * light * shade[:, None]).clip(0, 1)
    painted[region == REGION_NAMES.index("sockets")] = 0.35 * skin
    return painted


def visible_inner(regions: Regions, rig: Rig) -> np.ndarray:
    """Opacity [256, 256] that hides what would pierce the face.

    The back teeth, since the rig's arch is wider than a narrow jaw, and the cavity's walls where they start at the
    corners of the mouth: there they stick out of closed lips.
    """
    aside = np.abs(regions.position[..., 0])
    upper = np.where(regions.named("teeth_upper"), 1 - smooth_step(aside, 0.022, 0.027), 1.0)
    lower = np.where(regions.named("teeth_lower"), 1 - smooth_step(aside, 0.013, 0.018), 1.0)
    corners = rig.landmarks(rig.mean)[list(MOUTH_CORNERS)].numpy()
    near = np.linalg.norm(regions.position[:, :, None] - corners, axis=-1).min(-1)
    walls = np.where(regions.named("mouth"), smooth_step(near, 0.006, 0.009), 1.0)
    return (upper * lower * walls).astype(np.float32)


def _iris_and_white(position, color, weight):
    """Iris colour, brightness of the white and the number of texels they rest on."""
    angle, _ = _polar(position)
    limit = np.arcsin(IRIS_RADIUS / _eye_radius(position))
    seen = weight > 0.3
    ring = color[seen & (angle > (PUPIL + 0.12) * limit) & (angle < 0.85 * limit)]
    white = color[seen & (angle > 1.15 * limit) & (angle < 2.0 * limit)]
    luma = np.array([0.3, 0.6, 0.1])
    if len(ring) >= 8:
        # The darkest are lashes, the brightest the reflection of the light.
        order = np.argsort(ring @ luma)
        iris = ring[order[len(order) // 5 : max(len(order) * 3 // 5, len(order) // 5 + 1)]].mean(0)
    else:
        iris = BROWN
    bright = SCLERA
    if len(white) >= 8:
        measured = np.percentile(white, 75, axis=0)
        level = np.clip(measured @ luma / (SCLERA @ luma), 0.45, 1.05)
        tint = measured / max(measured @ luma, 1e-3)
        bright = SCLERA * level * (0.7 + 0.3 * tint / (SCLERA / (SCLERA @ luma)))
    return iris.clip(0.04, 0.7), bright.clip(0.2, 0.95), int(len(ring) + len(white))


def _eye_radius(position: np.ndarray) -> float:
    return float(position[:, 0].max() - position[:, 0].min()) / 2


def _polar(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angle from the gaze axis and around it, radians [N]."""
    radius = _eye_radius(position)
    center = (position.max(0) + position.min(0)) / 2
    center[2] = position[:, 2].max() - radius
    d = (position - center) / radius
    return np.arctan2(np.hypot(d[:, 0], d[:, 1]), d[:, 2]), np.arctan2(d[:, 1], d[:, 0])


def _blend(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a + (b - a) * share[:, None]
