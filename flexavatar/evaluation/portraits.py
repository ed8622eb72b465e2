"""Photos of people of whom only one view exists: how well the avatar shows it, keeps who it is, and moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from flexavatar.errors import FlexAvatarError, NoFaceFound
from flexavatar.evaluation.close_up import front_alpha
from flexavatar.evaluation.faces import as_pixels, compare_motion, see_face
from flexavatar.evaluation.metrics import csim, detail, perceptual, shows_through
from flexavatar.evaluation.table import Maker, Measured, Row
from flexavatar.io.images import read_image
from flexavatar.metrics import psnr, ssim
from flexavatar.progress import Progress
from flexavatar.reconstruction.held_out import MEASURED_SIZE, draw_view, expression_of, over_white
from flexavatar.reconstruction.observation import observe_face
from flexavatar.rig import Rig

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.tracking import FaceTracker, TrackedFace

YAWS = (0, 30, -30, 45, -45)  # degrees of the views whose identity is compared with the photo's
INPUT, BUST, CLOSE, REENACTED = "input view", "input view, bust", "close-up", "cross-reenactment"
DETAIL_SIZE = 512  # pixels: of the tracked photo


def evaluate_portraits(
    make: Maker, tracker: FaceTracker, photos: Sequence[Path], progress: Progress | None = None
) -> Measured:
    """Measure a way of making avatars on portraits; rows are told apart by "view".

    "input view": the photo's camera and expression, over white at 256 px; PSNR and SSIM inside the photo's matte.
    "input view, bust" leaves out what lies below the rig's bust, where no avatar reaches, and at the photo's border.
    Both also at 512 px, where detail counts. "close-up": how much of the face, from near, its front does not cover.
    "0 degrees" and so on: the neutral face; CSIM to the photo, 0 if the render shows no face. "cross-reenactment": the
    avatar with expression, head rotation and camera of the next portrait (the last takes the first); AED and APD
    between the render and that portrait. "faces" is the share of renders in which a face is found.

    Raises NoFaceFound if no portrait can be tracked; some that cannot are left out.
    """
    progress = progress or Progress()
    tracked: dict[str, TrackedFace] = {}
    left_out: list[str] = []
    for i, path in enumerate(photos):
        progress("tracking portraits", 0.3 * i / len(photos))
        try:
            tracked[path.name] = tracker.track_image(read_image(path), "largest")
        except FlexAvatarError as error:
            left_out.append(f"{path.name}: {error}")
    if not tracked:
        raise NoFaceFound(
            "None of the portraits can be used. " + " ".join(left_out or ["The folder holds no picture."])
        )
    names, rows, sheet = list(tracked), [], []
    for i, name in enumerate(names):
        progress("portraits", 0.3 + 0.7 * i / len(names))
        photo, driver = tracked[name], tracked[names[(i + 1) % len(names)]]
        avatar = make(photo)
        measured, shown = _portrait(avatar, photo, driver, tracker)
        rows += [{"portrait": name, **row} for row in measured]
        sheet.append(np.concatenate(shown, 1))
    return Measured(tuple(rows), "view", np.concatenate(sheet, 0), tuple(left_out))


def _portrait(
    avatar: Avatar, photo: TrackedFace, driver: TrackedFace, tracker: FaceTracker
) -> tuple[list[Row], list[np.ndarray]]:
    (target, own, rows), (_, _, fine) = (_input_views(avatar, photo, size) for size in (MEASURED_SIZE, DETAIL_SIZE))
    front = front_alpha(avatar.gaussians(), Rig.load().pose(avatar.shape, avatar.neutral_blendshapes))
    rows += [*fine, {"view": CLOSE, "through": shows_through(*front)}]
    shown = [as_pixels(target), as_pixels(own)]
    person = see_face(tracker, photo.image)
    for yaw in YAWS:
        picture = avatar.render(yaw=yaw, size=MEASURED_SIZE, device="cpu")
        face = see_face(tracker, picture)
        likeness = csim(face.embedding, person.embedding) if face is not None and person is not None else 0.0
        name = f"+-{abs(yaw)} degrees" if yaw else "0 degrees"
        rows.append({"view": name, "csim": likeness, "faces": float(face is not None)})
        shown.append(picture)
    drawn = as_pixels(draw_view(avatar, driver, expression_of(avatar, driver)))
    face = see_face(tracker, drawn)
    moved = compare_motion(tracker, face, see_face(tracker, driver.image))
    rows.append({"view": REENACTED, **moved, "faces": float(face is not None)})
    return rows, [*shown, as_pixels(over_white(driver)[0]), drawn]


def _input_views(avatar: Avatar, photo: TrackedFace, size: int) -> tuple[Tensor, Tensor, list[Row]]:
    """Photo and avatar over white [3, size, size], and how they compare inside the matte and above the bust's rim."""
    target, matte = over_white(photo, size)
    own = draw_view(avatar, photo, size=size)
    rows: list[Row] = []
    for view, inside in (
        (INPUT, matte),
        (BUST, matte * observe_face(photo, avatar.neutral_blendshapes, size).weight[0]),
    ):
        row: Row = {"view": view, "psnr": psnr(own, target, inside), "ssim": ssim(own, target, inside)}
        if size == DETAIL_SIZE:
            row["view"] = f"{view}, {size} px"
            row |= {"perceptual": perceptual(own, target, inside), **detail(own, target, inside)}
        rows.append(row)
    return target, own, rows
