"""Where MediaPipe's 478 landmarks lie on the rig: found by detecting them on renders of the textured mean head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from flexavatar.camera import Camera
from flexavatar.render.mesh import rasterize_mesh, vertex_normals
from flexavatar.rig.rig import PART_NAMES

SKINS = (
    "young_lightskinned_male_diffuse.png",
    "young_lightskinned_female_diffuse.png",
    "middleage_lightskinned_male_diffuse.png",
    "young_darkskinned_female_diffuse.png",
)
YAWS = (-24, -16, -8, 0, 8, 16, 24)
SIZE = 640
MOUTH_CENTER = (0.0, -0.072, 0.028)  # metres
MOUTH_RADIUS = (0.034, 0.020, 0.035)
FIRST_IRIS = 468  # landmarks 468..472 lie on the subject's right eye, 473..477 on the left


def bind_landmarks(vertices, opened, triangles, parts, skin_texture, skins: Path, model: Path):
    """Bind every landmark to a point of a triangle.

    `opened` are the vertices with the mouth ajar: the landmarks around it are bound there, since on closed lips nothing
    tells those of the lower from those of the upper one.

    Returns vertex ids [478, 3], barycentric coordinates [478, 3], weights [478] in 0..1 and the spread
    [478] over all renders in metres.
    """
    ids, barycentric, spread = _bound(vertices, triangles, parts, skin_texture, skins, model)
    position = (vertices[ids] * barycentric[..., None]).sum(1)
    mouth = np.linalg.norm((position - MOUTH_CENTER) / MOUTH_RADIUS, axis=1) < 1
    for own, of_open in zip(
        (ids, barycentric, spread), _bound(opened, triangles, parts, skin_texture, skins, model), strict=True
    ):
        own[mouth] = of_open[mouth]
    return ids, barycentric, 1 / (1 + (spread / 0.002) ** 2), spread


def _bound(vertices, triangles, parts, skin_texture, skins: Path, model: Path):
    """Vertex ids [478, 3], barycentric coordinates [478, 3] and spread [478] in metres on one posed mesh."""
    visible = parts != PART_NAMES.index("lashes")
    faces, texture, part = triangles[visible], skin_texture[visible], parts[visible]
    found: list[list[np.ndarray]] = [[] for _ in range(478)]
    with _detector(model) as detector:
        for skin in SKINS:
            pixels = np.asarray(Image.open(skins / skin).convert("RGB"), np.float32)
            for yaw in YAWS:
                picture, ids, barycentric = _picture(vertices, faces, texture, part, pixels, yaw)
                for i, (x, y) in enumerate(_detect(detector, picture)):
                    column, row = int(x), int(y)
                    if 0 <= column < SIZE and 0 <= row < SIZE and ids[row, column] >= 0:
                        corner = vertices[faces[ids[row, column]]]
                        found[i].append((barycentric[row, column][:, None] * corner).sum(0))
    if min(len(points) for points in found) < 3:
        raise RuntimeError("Landmarks were not detected on the renders; check the skins and the camera.")
    points = np.stack([np.median(p, axis=0) for p in found])
    spread = np.array([_spread(np.stack(p)) for p in found])

    ids = np.zeros((478, 3), int)
    barycentric = np.zeros((478, 3))
    iris = np.arange(478) >= FIRST_IRIS
    left = np.arange(478) >= FIRST_IRIS + 5
    groups = ((~iris, "skin"), (iris & ~left, "eye_right"), (iris & left, "eye_left"))
    for chosen, name in groups:
        own = triangles[parts == PART_NAMES.index(name)]
        mesh = trimesh.Trimesh(vertices, own, process=False)
        nearest, _, face = trimesh.proximity.closest_point(mesh, points[chosen])
        ids[chosen] = own[face]
        barycentric[chosen] = trimesh.triangles.points_to_barycentric(mesh.triangles[face], nearest)
    return ids, barycentric.clip(0, 1), spread


def _spread(points: np.ndarray) -> float:
    """Standard deviation of points [N, 3] without the fifth of them that lies farthest from the median."""
    distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    kept = points[distance <= np.quantile(distance, 0.8)]
    return float(np.linalg.norm(np.std(kept, axis=0)))


def _picture(vertices, faces, texture, part, skin, yaw):
    import torch

    camera = Camera.orbit(yaw, 0, SIZE, view_height=0.36, center=(0.0, -0.03, -0.05))
    uv, depth = camera.project(torch.as_tensor(vertices, dtype=torch.float32))
    points = np.concatenate([uv.numpy(), depth.numpy()[:, None]], 1)
    ids, barycentric, _ = rasterize_mesh(points, faces, SIZE, SIZE)
    normals = vertex_normals(vertices, faces)
    normal = (normals[faces[ids]] * barycentric[..., None]).sum(2)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    light = np.array([0.2, 0.35, 0.9])
    shade = 0.55 + 0.45 * (normal @ (light / np.linalg.norm(light))).clip(0, 1)

    coordinates = np.nan_to_num((texture[ids] * barycentric[..., None]).sum(2))
    height, width = skin.shape[:2]
    color = skin[
        ((1 - coordinates[..., 1]) * height).astype(int).clip(0, height - 1),
        (coordinates[..., 0] * width).astype(int).clip(0, width - 1),
    ]
    position = (vertices[faces[ids]] * barycentric[..., None]).sum(2)
    for name in ("eye_left", "eye_right"):
        own = part == PART_NAMES.index(name)
        eye = vertices[np.unique(faces[own])]
        center = (eye.max(0) + eye.min(0)) / 2
        radius = (eye[:, 0].max() - eye[:, 0].min()) / 2
        center[2] = eye[:, 2].max() - radius
        angle = np.degrees(np.arccos(((position - center)[..., 2] / radius).clip(-1, 1)))[..., None]
        painted = np.where(angle < 12, [10, 8, 8], np.where(angle < 27, [90, 60, 35], [235, 230, 228]))
        color = np.where(own[ids][..., None], painted, color)
    for name, tone in (("teeth_upper", 225), ("teeth_lower", 215)):
        color = np.where((part == PART_NAMES.index(name))[ids][..., None], tone, color)
    picture = (color * shade[..., None]).clip(0, 255)
    picture[ids < 0] = 200
    return picture.astype(np.uint8), ids, barycentric


def _detector(model: Path):
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(model)), num_faces=1)
    return vision.FaceLandmarker.create_from_options(options)


def _detect(detector, picture: np.ndarray) -> list[tuple[float, float]]:
    import mediapipe as mp

    result = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture)))
    return [(p.x * SIZE, p.y * SIZE) for face in result.face_landmarks[:1] for p in face]
