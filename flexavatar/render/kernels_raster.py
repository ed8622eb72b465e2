"""Numba kernels from image-plane ellipses to pixels, forward and backward.

An image is cut into tiles of 16 x 16 pixels, each with a list of the ellipses that touch it, nearest first. A tile
is worked on in blocks of 8 x 2 pixels, so that small ellipses skip what they miss and still fill the
vector lanes. All values of a block lie in one array row, part after part, because inner loops of constant
length over a single view are what LLVM vectorises.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from flexavatar.render.kernels_projection import (
    BLUE,
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    DEPTH,
    GREEN,
    OPACITY,
    RED,
    X,
    Y,
)
from flexavatar.render.numba_support import fast_exp, finish_item, take_item

_OPTIONS = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nnan", "ninf", "nsz", "arcp", "reassoc"},
}
_f32 = np.float32
_ZERO, _HALF, _ONE, _TWO = _f32(0), _f32(0.5), _f32(1), _f32(2)
_MIN_ALPHA, _MAX_ALPHA, _MIN_TRANSMITTANCE = _f32(1 / 255), _f32(0.999), _f32(1e-4)
MIN_WEIGHT = _f32(1e-10)  # a pixel's alpha is at least 1/255 or it is 0, so this only avoids 0/0

TILE = 16
_WIDE, _HIGH = 8, 2  # pixels of a block
_CELLS = _WIDE * _HIGH
_STRIPS, _BLOCKS = TILE // _WIDE, TILE // _HIGH  # blocks of a tile, across and down
_CHECK = 16  # ellipses between two looks at which blocks are still open

# Parts of a block. OPEN is the transmittance, or 0 once the pixel is finished; CLEAR never drops to 0.
_OPEN = 0
_CLEAR, _RED, _GREEN, _BLUE, _DEPTH = (i * _CELLS for i in range(1, 6))
_FORWARD_PARTS = 6 * _CELLS
# Backward: REST is the gradient-weighted colour behind the current ellipse, G_ are the pixel gradients,
# D_SIGMA and WEIGHT belong to the current ellipse.
_REST, _G_RED, _G_GREEN, _G_BLUE, _G_DEPTH, _D_SIGMA, _WEIGHT = (i * _CELLS for i in range(1, 8))
_BACKWARD_PARTS = 8 * _CELLS
# Sums of one ellipse over the blocks of a strip, cell by cell.
_SUM, _SUM_Y, _SUM_YY, _SUM_RED, _SUM_GREEN, _SUM_BLUE, _SUM_DEPTH = (i * _CELLS for i in range(7))
_SUM_PARTS = 7 * _CELLS


@njit(nogil=True, cache=True, error_model="numpy")
def bin_and_sort(bits, boxes, columns, tiles, record):
    """Lists of ellipses per tile, by depth.

    `bits` [G, 10] is the uint32 view of the splats. Returns `offsets` [tiles + 1] and `ids` [P]: those of
    tile t, nearest first, are ids[offsets[t]:offsets[t + 1]]. With `record`, also the way back, for the
    backward pass: Gaussian n is at places[starts[n]:starts[n + 1]] of `ids` (`places` [P], `starts` [G + 1]).
    """
    total = boxes.shape[0]
    keys = np.empty(total, np.uint32)
    order = np.empty(total, np.int32)
    starts = np.zeros(total + 1 if record else 0, np.int32)
    offsets = np.zeros(tiles + 1, np.int32)
    histogram = np.zeros((3, 2048), np.int32)
    visible = 0
    pairs = 0
    for n in range(total):
        if boxes[n, 2] > boxes[n, 0]:
            key = bits[n, DEPTH]  # positive floats sort like their bits
            keys[visible] = key
            order[visible] = n
            visible += 1
            histogram[0, key & 2047] += 1
            histogram[1, (key >> 11) & 2047] += 1
            histogram[2, key >> 22] += 1
            for row in range(boxes[n, 1] // TILE, (boxes[n, 3] + TILE - 1) // TILE):
                for column in range(boxes[n, 0] // TILE, (boxes[n, 2] + TILE - 1) // TILE):
                    offsets[row * columns + column + 1] += 1
                    pairs += 1
        if record:
            starts[n + 1] = pairs
    for tile in range(tiles):
        offsets[tile + 1] += offsets[tile]

    other_keys = np.empty(visible, np.uint32)
    other_order = np.empty(visible, np.int32)
    for digit in range(3):
        position = 0
        for bucket in range(2048):
            count = histogram[digit, bucket]
            histogram[digit, bucket] = position
            position += count
        shift = np.uint32(11 * digit)
        for i in range(visible):
            bucket = (keys[i] >> shift) & np.uint32(2047)
            target = histogram[digit, bucket]
            histogram[digit, bucket] = target + 1
            other_keys[target] = keys[i]
            other_order[target] = order[i]
        keys, other_keys = other_keys, keys
        order, other_order = other_order, order

    cursor = offsets[:-1].copy()
    ids = np.empty(pairs, np.int32)
    places = np.empty(pairs if record else 0, np.int32)
    for i in range(visible):
        n = order[i]
        own = starts[n] if record else 0
        for row in range(boxes[n, 1] // TILE, (boxes[n, 3] + TILE - 1) // TILE):
            for column in range(boxes[n, 0] // TILE, (boxes[n, 2] + TILE - 1) // TILE):
                target = cursor[row * columns + column]
                cursor[row * columns + column] = target + 1
                ids[target] = n
                if record:
                    places[own] = target
                    own += 1
    return offsets, ids, places, starts


@njit(**_OPTIONS)
def _find_open_blocks(state, is_open):
    """Refresh which blocks still have an unfinished pixel; False when none has."""
    found = False
    for strip in range(_STRIPS):
        for block in range(_BLOCKS):
            cells = state[strip, block]
            most = _ZERO
            for i in range(_CELLS):
                most = max(most, cells[_OPEN + i])
            is_open[strip, block] = most > _ZERO
            found |= most > _ZERO
    return found


@njit(**_OPTIONS)
def _composite(first, last, ids, splats, boxes, left, top, state, is_open):
    """Blend the ellipses of one tile, nearest first, into its blocks."""
    for k in range(first, last):
        if (k - first) % _CHECK == 0 and not _find_open_blocks(state, is_open):
            return
        n = ids[k]
        center_x, center_y = splats[n, X], splats[n, Y]
        a, b, c = _HALF * splats[n, CONIC_XX], splats[n, CONIC_XY], _HALF * splats[n, CONIC_YY]
        opacity, z = splats[n, OPACITY], splats[n, DEPTH]
        red, green, blue = splats[n, RED], splats[n, GREEN], splats[n, BLUE]
        block0, block1 = max(boxes[n, 1] - top, 0) // _HIGH, (min(boxes[n, 3] - top, TILE) + _HIGH - 1) // _HIGH
        for strip in range(_STRIPS):
            edge = left + strip * _WIDE
            if boxes[n, 0] >= edge + _WIDE or boxes[n, 2] <= edge:
                continue
            from_x = _f32(edge) + _HALF - center_x
            for block in range(block0, block1):
                if not is_open[strip, block]:
                    continue
                cells = state[strip, block]
                from_y = _f32(top + block * _HIGH) + _HALF - center_y
                for i in range(_CELLS):
                    dx, dy = from_x + _f32(i % _WIDE), from_y + _f32(i // _WIDE)
                    sigma = max((a * dx + b * dy) * dx + c * dy * dy, _ZERO)
                    alpha = min(opacity * fast_exp(-sigma), _MAX_ALPHA)
                    before = cells[_OPEN + i]
                    after = before * (_ONE - alpha)
                    counts = alpha >= _MIN_ALPHA
                    stays = after > _MIN_TRANSMITTANCE
                    weight = alpha * before if (counts and stays) else _ZERO
                    cells[_OPEN + i] = (after if stays else _ZERO) if counts else before
                    cells[_CLEAR + i] = after if (counts and stays) else cells[_CLEAR + i]
                    cells[_RED + i] += weight * red
                    cells[_GREEN + i] += weight * green
                    cells[_BLUE + i] += weight * blue
                    cells[_DEPTH + i] += weight * z


@njit(**_OPTIONS)
def rasterize(counters, columns, offsets, ids, splats, boxes, background, rgb, alpha, depth):
    """Fill `rgb` [3, H, W], `alpha` and `depth` [H, W] of one image; `background` [3]."""
    height, width = alpha.shape
    tiles = offsets.shape[0] - 1
    state = np.empty((_STRIPS, _BLOCKS, _FORWARD_PARTS), np.float32)
    is_open = np.empty((_STRIPS, _BLOCKS), np.bool_)
    while True:
        tile = take_item(counters)
        if tile >= tiles:
            return
        top, left = tile // columns * TILE, tile % columns * TILE
        rows, across = min(TILE, height - top), min(TILE, width - left)
        state[:] = _ZERO  # pixels outside the image start finished
        for y in range(rows):
            for x in range(across):
                cells, i = state[x // _WIDE, y // _HIGH], y % _HIGH * _WIDE + x % _WIDE
                cells[_OPEN + i] = cells[_CLEAR + i] = _ONE
        _composite(offsets[tile], offsets[tile + 1], ids, splats, boxes, left, top, state, is_open)
        for y in range(rows):
            for x in range(across):
                cells, i = state[x // _WIDE, y // _HIGH], y % _HIGH * _WIDE + x % _WIDE
                clear = cells[_CLEAR + i]
                rgb[0, top + y, left + x] = cells[_RED + i] + clear * background[0]
                rgb[1, top + y, left + x] = cells[_GREEN + i] + clear * background[1]
                rgb[2, top + y, left + x] = cells[_BLUE + i] + clear * background[2]
                alpha[top + y, left + x] = _ONE - clear
                depth[top + y, left + x] = cells[_DEPTH + i] / max(_ONE - clear, MIN_WEIGHT)
        finish_item(counters)


@njit(**_OPTIONS)
def _composite_backward(first, last, ids, splats, boxes, left, top, state, is_open, sums, pair_grads):
    """Walk the ellipses of one tile again, nearest first, and write the gradients of every pair."""
    for k in range(first, last):
        if (k - first) % _CHECK == 0 and not _find_open_blocks(state, is_open):
            pair_grads[k:last] = _ZERO
            return
        n = ids[k]
        center_x, center_y = splats[n, X], splats[n, Y]
        a, b, c = _HALF * splats[n, CONIC_XX], splats[n, CONIC_XY], _HALF * splats[n, CONIC_YY]
        opacity, z = splats[n, OPACITY], splats[n, DEPTH]
        red, green, blue = splats[n, RED], splats[n, GREEN], splats[n, BLUE]
        block0, block1 = max(boxes[n, 1] - top, 0) // _HIGH, (min(boxes[n, 3] - top, TILE) + _HIGH - 1) // _HIGH
        total = total_x = total_xx = total_y = total_xy = total_yy = _ZERO
        total_red = total_green = total_blue = total_depth = _ZERO
        for i in range(_STRIPS * _SUM_PARTS):
            sums[i] = _ZERO
        for strip in range(_STRIPS):
            edge = left + strip * _WIDE
            if boxes[n, 0] >= edge + _WIDE or boxes[n, 2] <= edge:
                continue
            from_x = _f32(edge) + _HALF - center_x
            strip_sums = sums[strip * _SUM_PARTS : (strip + 1) * _SUM_PARTS]
            for block in range(block0, block1):
                if not is_open[strip, block]:
                    continue
                cells = state[strip, block]
                from_y = _f32(top + block * _HIGH) + _HALF - center_y
                for i in range(_CELLS):
                    dx, dy = from_x + _f32(i % _WIDE), from_y + _f32(i // _WIDE)
                    sigma = max((a * dx + b * dy) * dx + c * dy * dy, _ZERO)
                    unclamped = opacity * fast_exp(-sigma)
                    alpha = min(unclamped, _MAX_ALPHA)
                    before = cells[_OPEN + i]
                    passes = _ONE - alpha
                    after = before * passes
                    counts = alpha >= _MIN_ALPHA
                    stays = after > _MIN_TRANSMITTANCE
                    weight = alpha * before if (counts & stays) else _ZERO
                    cells[_OPEN + i] = (after if stays else _ZERO) if counts else before
                    own = (
                        red * cells[_G_RED + i]
                        + green * cells[_G_GREEN + i]
                        + blue * cells[_G_BLUE + i]
                        + z * cells[_G_DEPTH + i]
                    )
                    rest = cells[_REST + i] - weight * own
                    cells[_REST + i] = rest
                    d_sigma = alpha * (rest / passes - before * own)
                    cells[_D_SIGMA + i] = d_sigma if (counts & stays & (unclamped <= _MAX_ALPHA)) else _ZERO
                    cells[_WEIGHT + i] = weight
                for i in range(_CELLS):  # apart from the loop above, which would not vectorise with `sums` in it
                    dy = from_y + _f32(i // _WIDE)
                    d_sigma, weight = cells[_D_SIGMA + i], cells[_WEIGHT + i]
                    strip_sums[_SUM + i] += d_sigma
                    strip_sums[_SUM_Y + i] += d_sigma * dy
                    strip_sums[_SUM_YY + i] += d_sigma * dy * dy
                    strip_sums[_SUM_RED + i] += weight * cells[_G_RED + i]
                    strip_sums[_SUM_GREEN + i] += weight * cells[_G_GREEN + i]
                    strip_sums[_SUM_BLUE + i] += weight * cells[_G_BLUE + i]
                    strip_sums[_SUM_DEPTH + i] += weight * cells[_G_DEPTH + i]
        from_left = _f32(left) + _HALF - center_x
        for i in range(_CELLS):
            dx0 = from_left + _f32(i % _WIDE)
            dx1 = dx0 + _f32(_WIDE)
            sigma0, sigma1 = sums[_SUM + i], sums[_SUM_PARTS + _SUM + i]
            sigma_y0, sigma_y1 = sums[_SUM_Y + i], sums[_SUM_PARTS + _SUM_Y + i]
            total += sigma0 + sigma1
            total_x += sigma0 * dx0 + sigma1 * dx1
            total_xx += sigma0 * dx0 * dx0 + sigma1 * dx1 * dx1
            total_y += sigma_y0 + sigma_y1
            total_xy += sigma_y0 * dx0 + sigma_y1 * dx1
            total_yy += sums[_SUM_YY + i] + sums[_SUM_PARTS + _SUM_YY + i]
            total_red += sums[_SUM_RED + i] + sums[_SUM_PARTS + _SUM_RED + i]
            total_green += sums[_SUM_GREEN + i] + sums[_SUM_PARTS + _SUM_GREEN + i]
            total_blue += sums[_SUM_BLUE + i] + sums[_SUM_PARTS + _SUM_BLUE + i]
            total_depth += sums[_SUM_DEPTH + i] + sums[_SUM_PARTS + _SUM_DEPTH + i]
        grad = pair_grads[k]
        grad[X] = -(_TWO * a * total_x + b * total_y)
        grad[Y] = -(b * total_x + _TWO * c * total_y)
        grad[CONIC_XX], grad[CONIC_XY], grad[CONIC_YY] = _HALF * total_xx, total_xy, _HALF * total_yy
        grad[OPACITY] = -total / opacity
        grad[RED], grad[GREEN], grad[BLUE], grad[DEPTH] = total_red, total_green, total_blue, total_depth


@njit(**_OPTIONS)
def rasterize_backward(
    counters, columns, offsets, ids, splats, boxes, rgb, alpha, depth, g_rgb, g_alpha, g_depth, pair_grads
):  # fmt: skip
    """Fill `pair_grads` [P, 10] from the image gradients; arguments otherwise as in the forward pass."""
    height, width = alpha.shape
    tiles = offsets.shape[0] - 1
    state = np.empty((_STRIPS, _BLOCKS, _BACKWARD_PARTS), np.float32)
    is_open = np.empty((_STRIPS, _BLOCKS), np.bool_)
    sums = np.empty(_STRIPS * _SUM_PARTS, np.float32)
    while True:
        tile = take_item(counters)
        if tile >= tiles:
            return
        top, left = tile // columns * TILE, tile % columns * TILE
        state[:] = _ZERO
        for y in range(min(TILE, height - top)):
            for x in range(min(TILE, width - left)):
                r, s = top + y, left + x
                weight = max(alpha[r, s], MIN_WEIGHT)
                d_depth = g_depth[r, s] / weight  # with respect to the sum of weighted depths
                d_alpha = g_alpha[r, s] - d_depth * depth[r, s]
                cells, i = state[x // _WIDE, y // _HIGH], y % _HIGH * _WIDE + x % _WIDE
                cells[_OPEN + i] = _ONE
                cells[_G_RED + i] = g_rgb[0, r, s]
                cells[_G_GREEN + i] = g_rgb[1, r, s]
                cells[_G_BLUE + i] = g_rgb[2, r, s]
                cells[_G_DEPTH + i] = d_depth
                cells[_REST + i] = (
                    rgb[0, r, s] * g_rgb[0, r, s]
                    + rgb[1, r, s] * g_rgb[1, r, s]
                    + rgb[2, r, s] * g_rgb[2, r, s]
                    + depth[r, s] * weight * d_depth
                    - (_ONE - alpha[r, s]) * d_alpha
                )
        _composite_backward(
            offsets[tile], offsets[tile + 1], ids, splats, boxes, left, top, state, is_open, sums, pair_grads
        )
        finish_item(counters)
