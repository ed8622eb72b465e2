"""Held-out synthetic heads: the truth of every view and expression is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from flexavatar.avatar.drawing import draw
from flexavatar.camera import Camera
from flexavatar.evaluation.faces import as_pixels, compare_faces, see_face
from flexavatar.evaluation.metrics import matte_iou
from flexavatar.evaluation.table import Maker, Measured, Row
from flexavatar.metrics import psnr, ssim
from flexavatar.progress import Progress
from flexavatar.synthetic import HeadAssets, SyntheticHeads, sample_expression, tracked_face

if TYPE_CHECKING:
    from flexavatar.tracking import FaceTracker

SIZE = 256  # pixels


def evaluate_synthetic(
    make: Maker,
    tracker: FaceTracker,
    assets: HeadAssets,
    numbers: Iterable[int] = range(32),
    progress: Progress | None = None,
) -> Measured:
    """Measure a way of making avatars on heads of the "eval" split, which share no hair style and no face with "train".

    The input is a frontal picture of a sampled expression, as `tracked_face` reports it without error, so that
    completing is measured and not tracking. Targets are 15, 45, 90 and 180 degrees from the front, on a side that is
    drawn by chance, each with an expression of its own; 256 px over white. PSNR and SSIM are over the whole picture,
    so that hair that is missing counts. AKD and CSIM are those of faces found in both pictures; "faces" is the share
    of target views with a face in which the avatar's view has one, too.
    """
    progress = progress or Progress()
    heads = SyntheticHeads(assets, "eval")
    rows, sheet, todo = [], [], list(numbers)
    for done, number in enumerate(todo):
        progress("synthetic heads", done / len(todo))
        head, generator = heads[number], heads.generator(number, "evaluation")
        photo = tracked_face(head, sample_expression(generator))
        avatar = make(photo)
        shown = [_small(photo.image)]
        for angle in (15, 45, 90, 180):  # degrees to either side
            side = 1 if float(torch.rand((), generator=generator)) < 0.5 else -1
            expression, camera = sample_expression(generator), Camera.orbit(side * angle, 0, SIZE)
            with torch.inference_mode():
                truth = head.render(camera, expression)
            drawn = draw(avatar, expression, camera)
            row: Row = {"head": number, "angle": angle, **_pictures(drawn.rgb, truth.rgb)}
            row["iou"] = matte_iou(drawn.alpha[0], truth.alpha[0])
            pictures = as_pixels(truth.rgb), as_pixels(drawn.rgb)
            real, rendered = (see_face(tracker, picture) for picture in pictures)
            rows.append(row | compare_faces(rendered, real) | {"faces": _found(rendered, real)})
            shown += pictures
        sheet.append(np.concatenate(shown, 1))
    return Measured(tuple(rows), "angle", np.concatenate(sheet, 0))


def _pictures(drawn: Tensor, truth: Tensor) -> Row:
    drawn, truth = drawn.clamp(0, 1), truth.clamp(0, 1)
    return {"psnr": psnr(drawn, truth), "ssim": ssim(drawn, truth)}


def _found(rendered: object | None, real: object | None) -> float:
    return float("nan") if real is None else float(rendered is not None)


def _small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
