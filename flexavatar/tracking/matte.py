"""Person mattes for head crops.

By default MediaPipe's selfie segmenter looks at a crop, and where it is unsure of more than a rim, rembg's small
U-2-Net ("u2netp") gives a second opinion; both are bundled. What both doubt is a patch of background and goes. What
only U-2-Net doubts stays, since it loses clothes and hair, and what is lost cannot be textured. docs/mattes.md has the
figures.

A network's outline is soft and a few pixels off, so alpha is solved for in closed form where it is unsure and a little
beyond.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from flexavatar.tracking.closed_form import closed_form_alpha, foreground
from flexavatar.tracking.segmentation import Segmenter, U2NetP, open_segmenter


@dataclass(frozen=True)
class MatteParams:
    """How confidences, 0 background to 1 person, become alpha. Lengths are pixels of a 512 px crop."""

    unsure: float = 0.05  # a confidence farther than this from 0 and 1 is unsure
    reach: float = 6.0  # alpha is solved for so far beyond what is unsure
    haze: float = 0.03  # of alpha: less is none, and all but this is one
    patch_width: float = 15.0  # what is unsure and wider is no rim, but may be a patch of background
    patch_area: float = 2000.0  # square pixels of such regions; for less no second opinion is asked
    margin: float = 10.0  # nothing goes within this distance of what the second opinion takes for the person
    head_lost: float = 0.12  # share of the sure head that a second opinion loses, above which it does not count
    person_lost: float = 0.12  # share of the sure person, above which it takes away only what is unsure


class PersonMatting:
    """Owns the segmentation networks, each created at the first use. Safe to share between threads."""

    def __init__(self, model: str = "selfie", params: MatteParams | None = None) -> None:
        """`model`: "selfie", or "rembg:" and the name of a model of rembg, which is loaded here and decides alone.

        Raises ValueError for another name, and ModelUnavailable for a model that rembg does not have or cannot get.
        """
        self.model = model
        self._params = params or MatteParams()
        self._lock = threading.Lock()
        self._segmenter = open_segmenter(model)
        self._second: Segmenter | None = U2NetP() if model == "selfie" else None

    def close(self) -> None:
        """Free the networks; a later call loads them again."""
        with self._lock:
            self._segmenter.close()
            if self._second is not None:
                self._second.close()

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
        scale = image.shape[0] / 512
        coarse = self._coarse(pixels, round(float(face[:, 1].max())) - int(rows[0]), scale)
        colors = pixels.astype(np.float32) / 255
        alpha[photo] = _refined(colors, coarse, scale, self._params)
        clean = image.copy()
        clean[photo] = np.where(
            (alpha[photo] > 0)[..., None], np.rint(foreground(colors, alpha[photo]) * 255).astype(np.uint8), pixels
        )
        return clean, _own_component(alpha * known, face)

    def _coarse(self, photo: np.ndarray, chin: int, scale: float) -> np.ndarray:
        """Confidence [H, W] of a photo uint8 [H, W, 3] in which the chin's row is `chin`."""
        with self._lock:
            first = self._segmenter(photo)
            if self._second is None:
                return first
            doubted = doubtful(first, scale, self._params)
            if doubted.sum() < self._params.patch_area * scale**2:
                return first
            second = self._second(photo)
        return np.where(patches(first, second, doubted, chin, scale, self._params), 0.0, first).astype(np.float32)


def doubtful(first: np.ndarray, scale: float, params: MatteParams) -> np.ndarray:
    """Where a confidence [H, W] is unsure beside the background, wider than an outline; bool [H, W]."""
    wide = _wide((first > params.unsure) & (first < 1 - params.unsure), scale, params)
    beside = cv2.dilate((first <= params.unsure).astype(np.uint8), _disc(3 * scale)) > 0
    return _touching(wide, beside)  # holes within clothes are none of the background's


def patches(
    first: np.ndarray, second: np.ndarray, doubted: np.ndarray, chin: int, scale: float, params: MatteParams
) -> np.ndarray:
    """Background that `first` [H, W] takes for the person, bool [H, W], on the word of `second` [H, W].

    `doubted` is what `doubtful` says of `first`. The second opinion has to know a person when it sees one: above the
    row `chin` of what `first` is sure of, it may lose only params.head_lost.
    """
    sure = first >= 1 - params.unsure
    lost = sure & (second < 0.5)
    head_lost, head = lost[: max(chin, 0)].sum(), sure[: max(chin, 0)].sum()
    if head_lost > params.head_lost * head:
        return np.zeros_like(doubted)
    background = cv2.dilate((second > params.unsure).astype(np.uint8), _disc(params.margin * scale)) == 0
    found = _wide(doubted & background, scale, params)
    if lost.sum() < params.person_lost * sure.sum():  # so good that it is believed about the middle of a patch, too
        found |= _touching(_wide((found | sure) & background, scale, params), found)
    return found


def _refined(photo: np.ndarray, coarse: np.ndarray, scale: float, params: MatteParams) -> np.ndarray:
    """Alpha [H, W] of a photo [H, W, 3] in 0..1: `coarse`, solved for around what that leaves open."""
    disc = _disc(params.reach * scale)
    person = cv2.erode((coarse > 1 - params.unsure).astype(np.uint8), disc) > 0
    background = cv2.dilate((coarse > params.unsure).astype(np.uint8), disc) == 0
    guess = np.where(person, 1.0, np.where(background, 0.0, coarse))
    alpha = closed_form_alpha(photo, guess, ~(person | background))
    return ((alpha - params.haze) / (1 - 2 * params.haze)).clip(0, 1)


def _disc(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _wide(mask: np.ndarray, scale: float, params: MatteParams) -> np.ndarray:
    """The parts of a mask [H, W] that are as wide as a patch; beyond the photo's border they may go on."""
    disc = _disc((params.patch_width - 1) / 2 * scale)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc, borderType=cv2.BORDER_REPLICATE) > 0


def _touching(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected parts of a mask [H, W] that share a pixel with `seeds` [H, W]."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    return mask & np.isin(labels, np.unique(labels[mask & seeds]))


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
