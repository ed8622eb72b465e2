"""What metric networks see in a picture: landmarks, identity, expression and pose of the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flexavatar.errors import FaceTooSmall, NoFaceFound
from flexavatar.evaluation.metrics import aed, akd, apd, csim
from flexavatar.tracking import FaceTracker
from flexavatar.tracking.fit import fit_landmarks
from flexavatar.tracking.identity import identity_net
from flexavatar.tracking.tracker import CROP, FaceCrop


@dataclass(frozen=True)
class SeenFace:
    """The largest face of a picture."""

    landmarks: np.ndarray  # [478, 2] pixels of the picture
    embedding: Tensor  # [128] unit length
    crop: FaceCrop


def see_face(tracker: FaceTracker, picture: np.ndarray) -> SeenFace | None:
    """The largest face of a picture uint8 [H, W, 3]; None where none is found, as on the back of a head."""
    try:
        found = tracker.crop_face(picture, "largest")
    except (NoFaceFound, FaceTooSmall):
        return None
    landmarks = found.face.landmarks[:, :2]
    return SeenFace(landmarks, identity_net().embed(picture, landmarks), found)


def compare_faces(rendered: SeenFace | None, target: SeenFace | None) -> dict[str, float]:
    """AKD and CSIM of two pictures taken by one camera; NaN unless both show a face."""
    if rendered is None or target is None:
        return {"akd": float("nan"), "csim": float("nan")}
    return {
        "akd": akd(rendered.landmarks, target.landmarks),
        "csim": csim(rendered.embedding, target.embedding),
    }


def compare_motion(tracker: FaceTracker, rendered: SeenFace | None, target: SeenFace | None) -> dict[str, float]:
    """AED and APD of two pictures, each tracked as a photo is; NaN unless both show a face."""
    if rendered is None or target is None:
        return {"aed": float("nan"), "apd": float("nan")}
    landmarks, scores = (
        torch.from_numpy(np.stack(values))
        for values in (
            [face.crop.landmarks for face in (rendered, target)],
            [face.crop.face.scores for face in (rendered, target)],
        )
    )
    fit = fit_landmarks(tracker.model, landmarks, scores, CROP)
    return {
        "aed": aed(fit.blendshapes[0], fit.blendshapes[1]),
        "apd": apd(fit.head_rotation[0], fit.head_rotation[1]),
    }


def as_pixels(rgb: Tensor) -> np.ndarray:
    """uint8 [H, W, 3] of a picture [3, H, W] in 0..1."""
    return (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
