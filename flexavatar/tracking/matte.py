"""Person mattes for head crops.

Two models, both bundled: "selfie", MediaPipe's selfie segmenter, and "u2netp", rembg's small U-2-Net. Their outline is
soft and a few pixels off, so alpha is solved for in closed form where they are unsure and a little beyond.
On 30 validation portraits laid over magenta "selfie" keeps patches of background beside 3 people; "u2netp" loses
shoulders, clothes or hair of 11. What is lost cannot be textured, and "u2netp" takes ten times as long, so "selfie" is
the default.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from flexavatar.tracking.closed_form import closed_form_alpha, foreground
from flexavatar.tracking.landmarks import model_path

MatteModel = Literal["selfie", "u2netp"]
_UNSURE, _REACH = 0.05, 6  # confidence of the network from 0 or 1, and pixels of a 512 px crop beyond
_HAZE = 0.03  # of alpha: less is none, and all but this is one


class Matter:
    """Owns the segmentation network, created at the first use. Safe to share between threads."""

    def __init__(self, model: MatteModel = "selfie") -> None:
        self.model = model
        self._lock = threading.Lock()
        self._network: Any = None
        self._finalizer: weakref.finalize | None = None

    def close(self) -> None:
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._network, self._finalizer = None, None

    def cut_out(self, image: np.ndarray, known: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut the person whose landmarks are `face` [N, 2] out of a crop uint8 [S, S, 3].

        Returns the crop with the person's own colours where these were mixed with the background's, uint8 [S, S, 3],
        and alpha [S, S] float32 0..1. `known` [S, S] is 1 where the crop shows the photo; alpha is 0 elsewhere. Other
        people who do not touch this one are removed.
        """
        rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
        alpha = np.zeros(image.shape[:2], np.float32)
        if not len(rows):
            return image, alpha
        # Only the photo itself: the white around it is no background that the networks know.
        photo = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixels = np.ascontiguousarray(image[photo])
        with self._lock:
            coarse = self._selfie(pixels) if self.model == "selfie" else self._u2netp(pixels)
        colors = pixels.astype(np.float32) / 255
        alpha[photo] = _refined(colors, coarse, max(1, round(_REACH * image.shape[0] / 512)))
        clean = image.copy()
        clean[photo] = np.where(
            (alpha[photo] > 0)[..., None], np.rint(foreground(colors, alpha[photo]) * 255).astype(np.uint8), pixels
        )
        return clean, _own_component(alpha * known, face)

    def _selfie(self, image: np.ndarray) -> np.ndarray:
        import mediapipe

        if self._network is None:
            self._network = _create_segmenter()
            self._finalizer = weakref.finalize(self, self._network.close)
        result = self._network.segment(
            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        )
        return result.confidence_masks[-1].numpy_view().reshape(image.shape[:2]).astype(np.float32)

    def _u2netp(self, image: np.ndarray) -> np.ndarray:
        if self._network is None:
            # rembg looks for U2NET_HOME/u2netp.onnx; pointing it at the bundled model avoids its download.
            os.environ.setdefault("U2NET_HOME", str(Path(model_path("u2netp.onnx")).parent))
            from rembg import new_session

            self._network = new_session("u2netp")
        from rembg import remove

        mask = remove(image, session=self._network, only_mask=True)
        return np.asarray(mask, np.float32) / 255


def _refined(photo: np.ndarray, coarse: np.ndarray, reach: int) -> np.ndarray:
    """Alpha [H, W] of a photo [H, W, 3] in 0..1: `coarse`, solved for `reach` pixels around what that leaves open."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    person = cv2.erode((coarse > 1 - _UNSURE).astype(np.uint8), disc) > 0
    background = cv2.dilate((coarse > _UNSURE).astype(np.uint8), disc) == 0
    guess = np.where(person, 1.0, np.where(background, 0.0, coarse))
    alpha = closed_form_alpha(photo, guess, ~(person | background))
    return ((alpha - _HAZE) / (1 - 2 * _HAZE)).clip(0, 1)


def _create_segmenter() -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=model_path("selfie_segmentation.tflite")),
        output_confidence_masks=True,
        output_category_mask=False,
    )
    return vision.ImageSegmenter.create_from_options(options)


def _own_component(alpha: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Alpha without the connected parts that do not touch the face [N, 2]."""
    count, labels = cv2.connectedComponents((alpha > 0.1).astype(np.uint8))
    if count <= 2:
        return alpha
    at = np.round(face).astype(int).clip(0, alpha.shape[0] - 1)
    touched = labels[at[:, 1], at[:, 0]]
    touched = touched[touched > 0]
    if not len(touched):
        return alpha
    own = labels == np.bincount(touched).argmax()
    # The soft rim below the threshold belongs to whichever part it surrounds.
    rim = cv2.dilate(own.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return np.where(rim & ((labels == 0) | own), alpha, 0.0).astype(np.float32)
