"""Self-reenactment: an avatar made of the first frame of a clip moves as the rest of the clip does."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flexavatar.errors import NoFaceFound
from flexavatar.evaluation.faces import as_pixels, compare_faces, compare_motion, see_face
from flexavatar.evaluation.table import Maker, Measured, Row
from flexavatar.io.videos import read_video_frames, read_video_info
from flexavatar.metrics import psnr, ssim
from flexavatar.motion import motion_from_tracked, transferred
from flexavatar.motion.record import driver_fps
from flexavatar.progress import Progress
from flexavatar.reconstruction.held_out import draw_view, over_white

if TYPE_CHECKING:
    from flexavatar.avatar import Avatar
    from flexavatar.tracking import FaceTracker, TrackedFace

SHEET_FRAMES = 8  # frames on the sheet


def self_reenactment(
    video: str | Path,
    make: Maker,
    tracker: FaceTracker,
    avatar: Avatar | None = None,
    frames: int = 60,
    progress: Progress | None = None,
) -> Measured:
    """Measure an avatar against `frames` frames spread evenly over a clip of the same person.

    Without `avatar`, it is made of frame 0 alone, which is then not measured; nothing of the other frames reaches it
    but their blendshapes and cameras, which are tracked with the avatar's shape. Expressions are transferred as they
    are (`transferred(..., "absolute")`), and each frame's own camera is rendered. Pictures are compared at 256 px over
    white: PSNR and SSIM inside the matte of the frame, AKD and CSIM between the faces found in both, AED and APD
    between both as our tracker sees them (NaN where no face is found). Frames are counted at the rate they are taken.

    Raises UnreadableVideo, and NoFaceFound if no frame, or not the first one, shows a face.
    """
    progress = progress or Progress()
    info = read_video_info(video)
    fps = driver_fps(video)
    wanted = frames + (avatar is None)
    if info.duration > 0:
        fps = min(fps, wanted / info.duration)
    pictures = islice(read_video_frames(video, fps), wanted)
    if avatar is None:
        first = next(pictures)
        progress("creating the avatar", 0.0)
        avatar = make(tracker.track_image(first, "largest"))
        start = 1
    else:
        start = 0
    views: list[TrackedFace | None] = []
    for found in tracker.follow(pictures):
        views.append(tracker.track_crops([found], shape=avatar.shape)[0] if found is not None else None)
        progress("tracking the clip", 0.1 + 0.4 * len(views) / wanted)
    if not any(views):
        raise NoFaceFound("No frame of the clip shows a face to compare with. Use a longer clip that shows the face.")
    motion = transferred(motion_from_tracked(views, fps), avatar.neutral_blendshapes, "absolute", smooth=False)
    rows, shown = [], []
    for i, (view, expression) in enumerate(zip(views, motion.expressions(), strict=True)):
        if view is None:
            continue
        progress("comparing", 0.5 + 0.5 * i / len(views))
        target, matte = over_white(view)
        drawn = draw_view(avatar, view, expression)
        rendered, real = see_face(tracker, as_pixels(drawn)), see_face(tracker, as_pixels(target))
        row: Row = {"clip": Path(video).name, "frame": start + i, "second": round((start + i) / fps, 3)}
        row |= {"psnr": psnr(drawn, target, matte), "ssim": ssim(drawn, target, matte)}
        rows.append(row | compare_faces(rendered, real) | compare_motion(tracker, rendered, real))
        shown.append(torch.cat([target, drawn], 1))
    step = max(len(shown) // SHEET_FRAMES, 1)
    lost = tuple(f"frame {start + i}: no face" for i, view in enumerate(views) if view is None)
    return Measured(tuple(rows), "clip", as_pixels(torch.cat(shown[::step][:SHEET_FRAMES], 2)), lost)
