"""Growing strands around the mean head: kernels on polylines [S, N, 3] of S strands with up to N points.

All are in metres of the canonical head frame; the points of a strand lie one step apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from flexavatar.render.numba_support import prepare_cache
from flexavatar.synthetic.body import CELL, CORNER

prepare_cache()

BOTTOM, ASIDE = -0.245, 0.25  # metres: the bust and the views end before
COLLAR = (-0.115, 0.04)  # metres: clothes begin below, at full thickness so much lower
FACE = -0.02  # metres: what lies in front of the face
SHOULDER = -0.075  # metres: the height where shoulders begin
SPREAD = (0.10, 0.075)  # metres to either side within which hair falls over chest and back
STRAIGHT, LONGEST = 0.93, 0.022  # cosine and metres up to which steps become one Gaussian
SHADE_CELL, SHADE_STEPS = 0.006, 7  # metres and number of steps that are looked outwards for shade


class Growth(NamedTuple):
    """How strands grow, the same for all strands of one call."""

    step: float  # metres
    lift_length: float  # metres over which hair stands off
    brush_length: float  # metres over which it keeps to where it was combed
    flow: float  # weight of the direction away from the parting
    gravity: float  # weight, reached after gravity_length
    gravity_length: float  # metres
    stiffness: float  # 0..1 share of a step's direction that is kept
    jitter: float  # random part of a step's direction
    open_face: float  # weight of the direction out of the face
    drift: tuple[float, float, float]  # weights of directions below the ears
    clothes: float  # metres over the skin of the torso
    split: float  # metres: hair before this depth falls over the chest, other hair over the back


class Tail(NamedTuple):
    """Strands along a line: cross-section of a ponytail, braid, twist, lock or bun."""

    lobes: int  # 1 a plain bundle, 2 twisted, 3 braided
    radius: float  # metres
    pitch: float  # metres a turn
    open: float  # metres over which it grows to its radius
    taper: float  # share of the radius that is lost to the end


@nb.njit(cache=True, error_model="numpy")
def sample(distance, x, y, z):
    """Distance to the skin and its unit gradient."""
    x = min(max((x - CORNER[0]) / CELL, 0.0), distance.shape[0] - 1.001)
    y = min(max((y - CORNER[1]) / CELL, 0.0), distance.shape[1] - 1.001)
    z = min(max((z - CORNER[2]) / CELL, 0.0), distance.shape[2] - 1.001)
    a, b, c = int(x), int(y), int(z)
    u, v, w = x - a, y - b, z - c
    d000, d001, d010, d011 = (
        distance[a, b, c], distance[a, b, c + 1], distance[a, b + 1, c], distance[a, b + 1, c + 1]
    )  # fmt: skip
    d100, d101, d110, d111 = (
        distance[a + 1, b, c], distance[a + 1, b, c + 1], distance[a + 1, b + 1, c], distance[a + 1, b + 1, c + 1]
    )  # fmt: skip
    d00, d01, d10, d11 = d000 + (d001 - d000) * w, d010 + (d011 - d010) * w, d100 + (d101 - d100) * w, 0.0
    d11 = d110 + (d111 - d110) * w
    d0, d1 = d00 + (d01 - d00) * v, d10 + (d11 - d10) * v
    gx = d1 - d0
    gy = (d01 - d00) * (1 - u) + (d11 - d10) * u
    gz = ((d001 - d000) * (1 - v) + (d011 - d010) * v) * (1 - u) + ((d101 - d100) * (1 - v) + (d111 - d110) * v) * u
    size = math.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9
    return d0 + gx * u, gx / size, gy / size, gz / size


@nb.njit(cache=True, error_model="numpy")
def _cover(y, clothes):
    return clothes * min(max((COLLAR[0] - y) / COLLAR[1], 0.0), 1.0)


@nb.njit(cache=True, error_model="numpy")
def grow(
    distance, seed, how, part, ties, root, normal, length, layer, lift, brush, fringe, hem, tie, points, count, arrived
):
    """Grow all strands from their roots [S, 3] until they are long enough, cut, or at their tie.

    `part` [2, 3] is the segment that hair flows away from; `layer` [S] how far over the skin a strand lies, `brush`
    [S, 3] where it is combed, `fringe` [S, 2] the height and the half width in which it is cut before the face,
    `hem` [S, 2] the heights at which it is cut in front and behind, `tie` [S] a row of `ties` [T, 3] or -1. Writes
    points, `count` [S] of them and whether the tie was reached.
    """
    np.random.seed(seed)
    ax, ay, az = part[0]
    ex, ey, ez = part[1, 0] - ax, part[1, 1] - ay, part[1, 2] - az
    span = ex * ex + ey * ey + ez * ez + 1e-9
    left = 0.0
    for i in range(len(root)):
        x, y, z = root[i, 0], root[i, 1], root[i, 2]
        dx, dy, dz = normal[i, 0], normal[i, 1], normal[i, 2]
        points[i, 0, 0], points[i, 0, 1], points[i, 0, 2] = x, y, z
        count[i], arrived[i] = 1, False
        tied = tie[i] >= 0
        away = 1.0 if x > part[0, 0] else -1.0
        for k in range(1, points.shape[1]):
            s = k * how.step
            left_over = length[i] - s + how.step
            if left_over < 0.3 * how.step and not tied and k > 1:
                break
            stride = how.step if tied else min(how.step, left_over)
            d, nx, ny, nz = sample(distance, x, y, z)
            if tied:
                cx, cy, cz = ties[tie[i], 0] - x, ties[tie[i], 1] - y, ties[tie[i], 2] - z
                left = math.sqrt(cx * cx + cy * cy + cz * cz)
                if left < 0.014:
                    arrived[i] = True
                    break
                cx, cy, cz = cx / left, cy / left, cz / left
            else:
                t = min(max(((x - ax) * ex + (y - ay) * ey + (z - az) * ez) / span, 0.0), 1.0)
                fx, fy, fz = x - ax - t * ex, y - ay - t * ey, z - az - t * ez
                size = math.sqrt(fx * fx + fy * fy + fz * fz) + 1e-4
                combed = math.exp(-s / how.brush_length)
                cx = brush[i, 0] * combed + how.flow * fx / size
                cy = brush[i, 1] * combed + how.flow * fy / size
                cz = brush[i, 2] * combed + how.flow * fz / size
            inward = cx * nx + cy * ny + cz * nz
            near = math.exp(-max(d, 0.0) / 0.03)
            wx, wy, wz = (cx - inward * nx) * near, (cy - inward * ny) * near, (cz - inward * nz) * near
            if tied:
                size = math.sqrt(wx * wx + wy * wy + wz * wz) + 1e-6
                wx, wy, wz = wx / size, wy / size, wz / size
                if left < 0.03:
                    wx, wy, wz = cx, cy, cz
                keep = 0.5
            else:
                up = lift[i] * math.exp(-s / how.lift_length)
                wx, wy, wz = wx + nx * up, wy + ny * up, wz + nz * up
                wy -= how.gravity * (1 - math.exp(-s / how.gravity_length))
                if z > -0.06 and y < 0.07 and abs(x) < 0.075:
                    inside = how.open_face * min((0.07 - y) / 0.03, 1.5)
                    wx += away * 2 * inside
                    wz -= 0.5 * inside
                if y < SHOULDER:
                    # Hair parts over the shoulder to the chest and the back instead of sliding off it.
                    before = z > how.split
                    lying = math.exp(-max(d - how.clothes, 0.0) / 0.03) * min((SHOULDER - y) / 0.03, 1.0)
                    beyond = min(max((abs(x) - SPREAD[0 if before else 1]) / 0.03, 0.0), 1.2)
                    wx = wx * (1 - 0.9 * lying) - beyond * (1.0 if x > 0 else -1.0)
                    wz += 1.2 * lying * (1.0 if before else -1.0)
                if y < -0.02:
                    if x * how.drift[0] < SPREAD[1] * abs(how.drift[0]):
                        wx += how.drift[0]
                    wy += how.drift[1]
                    wz += how.drift[2]
                keep = how.stiffness
            size = math.sqrt(wx * wx + wy * wy + wz * wz) + 1e-6
            dx = keep * dx + (1 - keep) * wx / size + how.jitter * np.random.normal()
            dy = keep * dy + (1 - keep) * wy / size + how.jitter * np.random.normal()
            dz = keep * dz + (1 - keep) * wz / size + how.jitter * np.random.normal()
            size = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            px, py, pz = x, y, z
            x, y, z = x + dx / size * stride, y + dy / size * stride, z + dz / size * stride
            least = min(layer[i], 0.8 * s)
            if tied:
                least = min(least, 0.4 * left)
            for _ in range(2):
                d, nx, ny, nz = sample(distance, x, y, z)
                lack = least + _cover(y, how.clothes) - d
                if lack > 0:
                    x, y, z = x + nx * lack, y + ny * lack, z + nz * lack
            dx, dy, dz = x - px, y - py, z - pz
            size = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            dx, dy, dz = dx / size, dy / size, dz / size
            share = min(max(-z / 0.15, 0.0), 1.0)
            if (
                y < BOTTOM
                or abs(x) > ASIDE
                or y < hem[i, 0] * (1 - share) + hem[i, 1] * share
                or (z > FACE and abs(x) < fringe[i, 1] and y < fringe[i, 0])
            ):
                break
            points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z
            count[i] = k + 1
        if tied and not arrived[i]:
            count[i] = 1


@nb.njit(cache=True, error_model="numpy")
def _across(tx, ty, tz, ux, uy, uz):
    """Two unit vectors across a way t that turn with it as little as can be: u carried along, and t x u."""
    size = math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
    tx, ty, tz = tx / size, ty / size, tz / size
    along = ux * tx + uy * ty + uz * tz
    ux, uy, uz = ux - along * tx, uy - along * ty, uz - along * tz
    size = math.sqrt(ux * ux + uy * uy + uz * uz) + 1e-9
    ux, uy, uz = ux / size, uy / size, uz / size
    return ux, uy, uz, ty * uz - tz * uy, tz * ux - tx * uz, tx * uy - ty * ux


@nb.njit(cache=True, error_model="numpy")
def follow(lines, ends, tail, step, owner, start, length, disc, lobe, points, count):
    """Append to each strand points along line `owner` [S] of `lines` [M, N, 3] with `ends` [M] points, from `start` on.

    `disc` [S, 2] is the strand's place in the cross-section (share of the radius, radians), `lobe` [S] its lock.
    """
    blend = 5
    for i in range(len(points)):
        if owner[i] < 0:
            continue
        m, first = owner[i], start[i]
        last = min(ends[m] - 1, first + int(length[i] / step))
        k = count[i] - 1
        bx, by, bz = points[i, k, 0], points[i, k, 1], points[i, k, 2]
        ux, uy, uz = 0.31, 0.17, 0.93
        for j in range(first + 1, last + 1):
            if k + 1 >= points.shape[1]:
                break
            tx = lines[m, j, 0] - lines[m, j - 1, 0]
            ty = lines[m, j, 1] - lines[m, j - 1, 1]
            tz = lines[m, j, 2] - lines[m, j - 1, 2]
            ux, uy, uz, vx, vy, vz = _across(tx, ty, tz, ux, uy, uz)
            s = j * step
            share = j / max(ends[m] - 1, 1)
            radius = tail.radius * min(0.35 + 0.65 * s / tail.open, 1.0) * (1 - tail.taper * share * share)
            turn = 2 * math.pi * (s / tail.pitch + lobe[i] / tail.lobes)
            if tail.lobes == 3:
                a, b, small = 0.45 * math.sin(turn), 0.3 * math.sin(2 * turn), 0.6
            elif tail.lobes == 2:
                a, b, small = 0.5 * math.cos(turn), 0.5 * math.sin(turn), 0.6
            else:
                a, b, small = 0.0, 0.0, 1.0
            angle = disc[i, 1] + (turn if tail.lobes == 1 else 0.0)
            a = radius * (a + small * disc[i, 0] * math.cos(angle))
            b = radius * (b + small * disc[i, 0] * math.sin(angle))
            x = lines[m, j, 0] + a * ux + b * vx
            y = lines[m, j, 1] + a * uy + b * vy
            z = lines[m, j, 2] + a * uz + b * vz
            w = min((j - first) / blend, 1.0)
            w = w * w * (3 - 2 * w)
            x = (bx + lines[m, j, 0] - lines[m, first, 0]) * (1 - w) + x * w
            y = (by + lines[m, j, 1] - lines[m, first, 1]) * (1 - w) + y * w
            z = (bz + lines[m, j, 2] - lines[m, first, 2]) * (1 - w) + z * w
            k += 1
            points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z
        count[i] = k + 1


@nb.njit(cache=True, error_model="numpy")
def clump(guide, strength, points, count):
    """Draw strands towards the strand `guide` [S] beside them, more so to the tips; `strength` [S] 0..1."""
    for i in range(len(points)):
        g = guide[i]
        if g == i:
            continue
        for k in range(1, min(count[i], count[g])):
            ox = points[i, k, 0] - points[g, k, 0]
            oy = points[i, k, 1] - points[g, k, 1]
            oz = points[i, k, 2] - points[g, k, 2]
            if ox * ox + oy * oy + oz * oz > 0.04**2:
                break
            pull = strength[i] * (k / (count[i] - 0.5)) ** 1.2
            points[i, k, 0] -= pull * ox
            points[i, k, 1] -= pull * oy
            points[i, k, 2] -= pull * oz


@nb.njit(cache=True, error_model="numpy")
def curl(distance, step, clothes, amplitude, wavelength, phase, flat, ramp, least, points, count):
    """Turn strands about their own way, from `ramp` metres from the root on; then out of the skin.

    Coils of `amplitude` [S] metres, the other way round where `wavelength` [S] is negative, waves where `flat` is 1.
    """
    for i in range(len(points)):
        n = count[i]
        px, py, pz = points[i, 0, 0], points[i, 0, 1], points[i, 0, 2]
        ux, uy, uz = 0.62, 0.31, 0.72
        for k in range(1, n):
            x, y, z = points[i, k, 0], points[i, k, 1], points[i, k, 2]
            tx, ty, tz = x - px, y - py, z - pz
            ux, uy, uz, vx, vy, vz = _across(tx, ty, tz, ux, uy, uz)
            px, py, pz = x, y, z
            s = k * step
            a = amplitude[i] * min(s / ramp, 1.0)
            angle = 2 * math.pi * s / wavelength[i] + phase[i]
            p, q = a * math.cos(angle), a * math.sin(angle) * (1 - 0.7 * flat)
            x, y, z = x + p * ux + q * vx, y + p * uy + q * vy, z + p * uz + q * vz
            d, nx, ny, nz = sample(distance, x, y, z)
            lack = min(least, 0.8 * s) + _cover(y, clothes) - d
            if lack > 0:
                x, y, z = x + nx * lack, y + ny * lack, z + nz * lack
            points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z


@nb.njit(cache=True, error_model="numpy")
def segments(points, count, limit, first, strand, along):
    """Where the Gaussians begin and end: at most `limit`, fewer where strands are straight.

    Writes for each the first and last point [limit, 2], its strand and where on it (0 root, 1 tip) its middle lies;
    returns their number. Strands that no longer fit are left out.
    """
    n = 0
    for i in range(len(points)):
        k = 0
        begun = n
        while k < count[i] - 1:
            m = k + 1
            ax, ay, az = (
                points[i, m, 0] - points[i, k, 0], points[i, m, 1] - points[i, k, 1], points[i, m, 2] - points[i, k, 2]
            )  # fmt: skip
            size = math.sqrt(ax * ax + ay * ay + az * az) + 1e-9
            ax, ay, az = ax / size, ay / size, az / size
            while m < count[i] - 1:
                bx, by, bz = (
                    points[i, m + 1, 0] - points[i, m, 0], points[i, m + 1, 1] - points[i, m, 1],
                    points[i, m + 1, 2] - points[i, m, 2],
                )  # fmt: skip
                more = math.sqrt(bx * bx + by * by + bz * bz) + 1e-9
                if size + more > LONGEST or (ax * bx + ay * by + az * bz) / more < STRAIGHT:
                    break
                size += more
                m += 1
            if n == limit:
                return begun
            first[n, 0], first[n, 1] = k, m
            strand[n] = i
            along[n] = 0.5 * (k + m) / (count[i] - 1)
            n += 1
            k = m
    return n


@nb.njit(cache=True, error_model="numpy")
def densities(means, area, grid):
    """Add to `grid` [X, Y, Z] the hairs' area [N] over that of a cell's face."""
    for i in range(len(means)):
        x = int((means[i, 0] - CORNER[0]) / SHADE_CELL)
        y = int((means[i, 1] - CORNER[1]) / SHADE_CELL)
        z = int((means[i, 2] - CORNER[2]) / SHADE_CELL)
        if min(x, y, z) >= 0 and x < grid.shape[0] and y < grid.shape[1] and z < grid.shape[2]:
            grid[x, y, z] += area[i] / SHADE_CELL**2


@nb.njit(cache=True, error_model="numpy")
def covers(grid, means, outward, cover):
    """How much hair lies outside of each of the means [N, 3], in layers."""
    for i in range(len(means)):
        total = 0.0
        for k in range(SHADE_STEPS):
            reach = (k + 0.75) * SHADE_CELL
            x = int((means[i, 0] + reach * outward[i, 0] - CORNER[0]) / SHADE_CELL)
            y = int((means[i, 1] + reach * outward[i, 1] - CORNER[1]) / SHADE_CELL)
            z = int((means[i, 2] + reach * outward[i, 2] - CORNER[2]) / SHADE_CELL)
            if min(x, y, z) >= 0 and x < grid.shape[0] and y < grid.shape[1] and z < grid.shape[2]:
                total += grid[x, y, z]
        cover[i] = total


@nb.njit(cache=True, error_model="numpy")
def outwards(distance, points, outward):
    """Unit directions [N, 3] away from the skin at points [N, 3]."""
    for i in range(len(points)):
        _, outward[i, 0], outward[i, 1], outward[i, 2] = sample(distance, points[i, 0], points[i, 1], points[i, 2])
