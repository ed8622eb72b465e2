"""The UV atlas: seamless, stretch-minimised charts packed into one square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.ndimage import binary_closing
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from flexavatar.render.mesh import rasterize_mesh
from flexavatar.rig.anchors import ATLAS_SIZE, REGION_NAMES
from flexavatar.rig.build.source import EYEBALL_LIMIT
from flexavatar.rig.rig import PART_NAMES

# Rectangles (left, top, right, bottom) in texels. Two texels between charts keep bilinear reads apart.
RECTANGLES = {
    "skin": (0.0, 0.0, 256.0, 212.0),
    "eye_right": (1.0, 214.0, 43.0, 256.0),
    "eye_left": (45.0, 214.0, 87.0, 256.0),
    "tongue": (89.0, 214.0, 131.0, 256.0),
    "teeth_upper": (133.0, 214.0, 255.0, 234.0),
    "teeth_lower": (133.0, 236.0, 255.0, 256.0),
}
FACE_CENTER, FACE_RADIUS = np.array([0.0, -0.03, 0.02]), 0.085  # metres: the region to enlarge
EAR_CENTER, EAR_RADIUS = np.array([0.082, -0.004, -0.088]), 0.036
FACE_DENSITY, EAR_DENSITY, MOUTH_DENSITY, SOCKET_DENSITY, BUST_DENSITY = 2.8, 2.2, 0.6, 0.3, 0.65


@dataclass(frozen=True)
class AtlasBuild:
    """The atlas as it is built: UVs of the vertices, and for each of its texels the place on the mesh."""

    uv: np.ndarray  # [V, 2] in 0..1; NaN for vertices without a chart (lashes)
    triangle: np.ndarray  # [256, 256]
    barycentric: np.ndarray  # [256, 256, 3]
    region: np.ndarray  # [256, 256]
    angle_distortion: np.ndarray  # [F of the skin] ratio of singular values, 1 = conformal
    density: np.ndarray  # [F of the skin] texels per millimetre


def build_atlas(vertices: np.ndarray, triangles: np.ndarray, parts: np.ndarray, mirror: np.ndarray) -> AtlasBuild:
    """Lay out every part but the lashes. `vertices` is the mean head."""
    uv = np.full((len(vertices), 2), np.nan)
    hidden = hidden_triangles(vertices, triangles, parts)
    regions = np.full(len(triangles), -1)
    for part, rectangle in RECTANGLES.items():
        chosen = np.where(parts == PART_NAMES.index(part))[0]
        faces = triangles[chosen]
        used, local = np.unique(faces, return_inverse=True)
        local = local.reshape(-1, 3)
        if part.startswith("eye"):
            uv[used] = _eye(vertices[used], rectangle)
            regions[chosen] = REGION_NAMES.index(part)
            continue
        position = vertices[used]
        if part == "skin":
            own_mirror = np.searchsorted(used, mirror[used])
            density, region = _skin_density(position, local, hidden[chosen])
            regions[chosen] = region
            uv[used] = flatten(position, local, rectangle, density, own_mirror, rounds=300)
        else:
            regions[chosen] = REGION_NAMES.index(part)
            own_mirror = np.searchsorted(used, mirror[used])
            uv[used] = flatten(position, local, rectangle, np.ones(len(local)), own_mirror, rounds=60)
    uv /= ATLAS_SIZE

    flat = np.where(np.isfinite(uv), uv, -1.0) * ATLAS_SIZE
    mapped = np.where(parts != PART_NAMES.index("lashes"))[0]
    ids, barycentric, _ = rasterize_mesh(
        np.concatenate([flat, np.zeros((len(flat), 1))], 1), triangles[mapped], ATLAS_SIZE, ATLAS_SIZE
    )
    triangle = np.where(ids >= 0, mapped[ids], -1)
    region = np.where(triangle >= 0, regions[triangle], -1)
    # Single triangles of the closed mouth peek through the lips of the mean head; they belong to the cavity, too.
    cavity = binary_closing(region == REGION_NAMES.index("mouth"), np.ones((9, 9)))
    region[cavity & (region == REGION_NAMES.index("head"))] = REGION_NAMES.index("mouth")
    skin = triangles[parts == 0]
    large, small = singular_values(vertices[skin], uv[skin] * ATLAS_SIZE)
    return AtlasBuild(
        uv=uv,
        triangle=triangle,
        barycentric=barycentric,
        region=region,
        angle_distortion=large / np.maximum(small, 1e-12),
        density=1 / np.sqrt(large * small) / 1000,
    )


def flatten(vertices, triangles, rectangle, density, mirror, rounds: int) -> np.ndarray:
    """Map a disc onto a rectangle with little distortion, without flips; returns texels [V, 2].

    Starts from a Tutte embedding and minimises the symmetric Dirichlet energy (Smith and Schaefer 2015)
    of the map from each triangle, enlarged by its `density` [F], with L-BFGS preconditioned by the
    Laplacian. Border vertices slide along the rectangle's sides; its four corners stay.
    """
    loop = _boundary(triangles)
    left, top, right, bottom = rectangle
    size = np.array([right - left, bottom - top])
    border, sliding = _border(vertices[loop], *size)
    count = len(vertices)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    weights = np.ones(len(edges))
    adjacency = sp.csr_matrix((weights, (edges[:, 0], edges[:, 1])), (count, count))
    laplacian = (sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
    free = np.ones((count, 2), bool)
    free[loop] = False
    uv = np.zeros((count, 2))
    uv[loop] = border
    inner = free[:, 0]
    uv[inner] = splu(laplacian[inner][:, inner].tocsc()).solve(-(laplacian[inner][:, loop] @ border))

    free[loop] = sliding
    target = vertices[triangles] * density[:, None, None]
    area = _areas(target)
    scale = np.sqrt(size.prod() / area.sum())
    # Only shape matters here, so the average magnification is taken out.
    uv = _slim(target * scale, triangles, uv, free, rounds)
    if mirror is not None:
        reflected = np.stack([size[0] - uv[mirror, 0], uv[mirror, 1]], 1)
        uv = (uv + reflected) / 2
    return uv + [left, top]


def _slim(corners: np.ndarray, triangles: np.ndarray, uv: np.ndarray, free: np.ndarray, rounds: int) -> np.ndarray:
    """Scalable locally injective mapping (Rabinovich et al. 2017) with the symmetric Dirichlet energy."""
    p, q = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    length = np.maximum(np.linalg.norm(p, axis=1), 1e-9)
    height = np.maximum(np.linalg.norm(np.cross(p, q), axis=1) / length, 1e-3 * length)
    lean = (p * q).sum(1) / length
    inverse = np.zeros((len(p), 2, 2))
    inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1] = 1 / length, -lean / (length * height), 1 / height
    if np.median(np.linalg.det(_jacobian(uv, triangles, inverse))) < 0:
        inverse[:, :, 1] *= -1  # measure every triangle from its other side, so that unflipped means positive
    area = length * height / (length * height).sum()
    # The Jacobian is linear in the coordinates: d[f, axis, corner].
    d = np.stack([-inverse.sum(1), inverse[:, 0], inverse[:, 1]], -1)
    count, faces = len(uv), len(triangles)
    unknown = free.ravel()

    def energy(x: np.ndarray) -> float:
        jacobian = _jacobian(x, triangles, inverse)
        det = np.linalg.det(jacobian)
        if (det <= 0).any():
            return np.inf
        square = (jacobian**2).sum((1, 2))
        return float((area * (square + square / det**2)).sum())

    value = energy(uv)
    for _ in range(rounds):
        u, sigma, vt = np.linalg.svd(_jacobian(uv, triangles, inverse))
        sigma = np.maximum(sigma, 1e-4)
        ratio = np.where(np.abs(sigma - 1) < 1e-4, 4.0, (sigma - sigma**-3) / np.where(sigma == 1, 1e-9, sigma - 1))
        weight = (u * np.sqrt(ratio)[:, None, :]) @ u.transpose(0, 2, 1)
        goal = weight @ (u @ vt)
        root = np.sqrt(area)
        # Rows (f, r, a); entries for coordinate c of corner k: sqrt(area) W[r, c] d[a, k].
        entries = root[:, None, None, None, None] * weight[:, :, None, :, None] * d[:, None, :, None, :]
        rows = np.broadcast_to(np.arange(faces * 4).reshape(faces, 2, 2, 1, 1), entries.shape)
        columns = np.broadcast_to(
            (triangles[:, None, :] * 2 + np.arange(2)[None, :, None])[:, None, None], entries.shape
        )
        matrix = sp.csr_matrix((entries.ravel(), (rows.ravel(), columns.ravel())), (faces * 4, count * 2))
        residual = (root[:, None, None] * goal).ravel() - matrix @ uv.ravel()
        part = matrix[:, unknown]
        step = np.zeros(count * 2)
        step[unknown] = splu((part.T @ part + 1e-9 * sp.identity(part.shape[1])).tocsc()).solve(part.T @ residual)
        step = step.reshape(-1, 2)
        size, new = 1.0, energy(uv + step)
        while size > 1e-9 and not new < value:
            size *= 0.7
            new = energy(uv + size * step)
        if size <= 1e-9:
            break
        # Stop short of the nearest flip, or the next step cannot move.
        if size < 1.0 and (shorter := energy(uv + 0.8 * size * step)) < value:
            size, new = 0.8 * size, shorter
        uv = uv + size * step
        if value - new < 1e-6 * value:
            break
        value = new
    return uv


def _jacobian(uv: np.ndarray, triangles: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    t = triangles
    return np.stack([uv[t[:, 1]] - uv[t[:, 0]], uv[t[:, 2]] - uv[t[:, 0]]], -1) @ inverse


def singular_values(corners: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of the map from texture [F, 3, 2] to space [F, 3, 3]: metres per texel, large first."""
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)[:, None]
    p, q = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    du = (p * b[:, 1:] - q * a[:, 1:]) / area
    dv = (q * a[:, :1] - p * b[:, :1]) / area
    e, f, g = (du * du).sum(1), (du * dv).sum(1), (dv * dv).sum(1)
    root = np.sqrt((e - g) ** 2 + 4 * f**2)
    return np.sqrt((e + g + root) / 2), np.sqrt(np.maximum((e + g - root) / 2, 0))


def hidden_triangles(vertices: np.ndarray, triangles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """True for triangles that no outside view sees: the mouth cavity and the eye sockets."""
    seen = np.zeros(len(triangles), bool)
    solid = parts != PART_NAMES.index("lashes")
    order = np.where(solid)[0]
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for pitch in (-60, -30, 0, 30, 60):
        for yaw in range(0, 360, 20):
            y, p = np.radians(yaw), np.radians(pitch)
            toward = np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
            right = np.array([np.cos(y), 0, -np.sin(y)])
            up = np.cross(toward, right)
            points = np.stack([vertices @ right, vertices @ up, -(vertices @ toward)], 1)
            points[:, :2] = (points[:, :2] - points[:, :2].min(0)) * 1500
            width, height = (points[:, :2].max(0) + 2).astype(int)
            ids, _, _ = rasterize_mesh(points, triangles[order], height, width)
            found, pixels = np.unique(ids[ids >= 0], return_counts=True)
            found = order[found[pixels > 1]]
            # Back faces are the inside of the head, seen through the open bust.
            seen[found[normals[found] @ toward > 0]] = True
    return ~seen


def _skin_density(vertices, triangles, hidden):
    center = vertices[triangles].mean(1)
    distance = np.linalg.norm((center - FACE_CENTER) / [0.9, 1.25, 1.0], axis=1) / FACE_RADIUS
    density = 1 + (FACE_DENSITY - 1) * np.clip(1.6 - distance, 0, 1)
    on_left = np.stack([np.abs(center[:, 0]), center[:, 1], center[:, 2]], 1)
    ear = (on_left[:, 0] > 0.072) & (np.linalg.norm(on_left - EAR_CENTER, axis=1) < EAR_RADIUS)
    density = np.where(ear, EAR_DENSITY, density)
    density = np.where(center[:, 1] < -0.16, BUST_DENSITY, density)
    region = np.full(len(triangles), REGION_NAMES.index("head"))
    chosen = np.where(hidden)[0]
    labels = _components(triangles[chosen], len(vertices))
    for label in np.unique(labels):
        group = chosen[labels == label]
        if len(group) < 60:
            continue
        middle = center[group].mean(0)
        name, value = ("mouth", MOUTH_DENSITY) if abs(middle[0]) < 0.01 else ("sockets", SOCKET_DENSITY)
        region[group], density[group] = REGION_NAMES.index(name), value
    return density, region


def _components(triangles: np.ndarray, count: int) -> np.ndarray:
    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1][triangles[:, 0]]


def _eye(vertices: np.ndarray, rectangle) -> np.ndarray:
    center = (vertices.max(0) + vertices.min(0)) / 2
    center[2] = vertices[:, 2].max() - (vertices[:, 0].max() - vertices[:, 0].min()) / 2
    axis = vertices - center
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(axis[:, 2], -1, 1)))
    # The iris gets more texels than the white that the lids cover.
    radius = (angle / (EYEBALL_LIMIT + 8)) ** 0.8
    flat = np.hypot(axis[:, 0], axis[:, 1])
    direction = np.where(flat[:, None] > 1e-6, axis[:, :2] / np.maximum(flat, 1e-6)[:, None], 0)
    left, top, right, bottom = rectangle
    half = np.array([right - left, bottom - top]) / 2
    return np.array([left, top]) + half + direction * radius[:, None] * half * [1, -1]


def _boundary(triangles: np.ndarray) -> np.ndarray:
    directed = {(int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3)}
    following = {a: b for a, b in directed if (b, a) not in directed}
    start = min(following)
    loop = [start]
    while (nxt := following[loop[-1]]) != start:
        loop.append(nxt)
    if len(loop) != len(following):
        raise RuntimeError(f"A chart must be a disc with one border, found {len(following) - len(loop)} further edges.")
    return np.array(loop)


def _border(points: np.ndarray, width: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Place a border loop on a rectangle by arc length; returns places [N, 2] and which coordinate may slide [N, 2].

    The middle of the front lies at the middle of the bottom side. Where the loop runs up a seam (the skin),
    the seam's lower end is the lower corner of the rectangle.
    """
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.roll(points, -1, 0) - points, axis=1))])
    total = length[-1]
    middle = np.where(np.abs(points[:, 0]) < 1e-4)[0]
    if len(middle) < 2:
        middle = np.argsort(np.abs(points[:, 0]))[:4]
    front = middle[(points[middle, 2] - 0.2 * points[middle, 1]).argmax()]
    walked = ((length[:-1] - length[front]) % total) / total
    # The loop leaves the front towards the subject's left (right in the atlas) or the other way.
    side = 1.0 if points[(front + 1) % len(points), 0] > points[front, 0] else -1.0
    seam = len(middle) > 6
    on_seam = np.abs(points[:, 0]) < 1e-4
    on_seam[front] = False
    if seam:
        # Bottom side = rim of the bust; the seam's two banks = the sides and the halves of the top.
        order = np.argsort(walked)
        first = walked[order[on_seam[order]][0]]
        last = walked[order[on_seam[order]][-1]]
        half = width / 2 + height + width / 2
        near, far = walked <= first, walked >= last
        distance = np.where(
            near, walked / first * width / 2,
            np.where(far, 2 * half - (1 - walked) / (1 - last) * width / 2,
                     width / 2 + (walked - first) / (last - first) * (2 * half - width)),
        )  # fmt: skip
    else:
        # A strictly convex border, since whole triangles of the coarse inner charts lie on it.
        angle = 2 * np.pi * walked
        x, y = np.sin(angle), np.cos(angle)
        bulge = (x**4 + y**4) ** 0.25
        place = np.stack([side * x / bulge, y / bulge], 1)
        return (place + 1) / 2 * [width, height], np.zeros((len(points), 2), bool)
    corners = np.cumsum([width / 2, height, width, height])
    for corner in corners:
        distance[np.abs(distance - corner).argmin()] = corner
    k = np.searchsorted(corners, distance, side="left")
    starts = np.concatenate([[0], corners])
    along = distance - starts[k]
    x = np.choose(k, [width / 2 + along, np.full_like(along, width), width - along, np.zeros_like(along), along])
    y = np.choose(
        k, [np.full_like(along, height), height - along, np.zeros_like(along), along, np.full_like(along, height)]
    )
    fixed = np.isin(distance, corners) | (np.arange(len(points)) == front)
    upright = (k == 1) | (k == 3)
    sliding = np.stack([~upright & ~fixed, upright & ~fixed], 1)
    if side < 0:
        x = width - x
    return np.stack([x, y], 1), sliding


def _areas(corners: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
