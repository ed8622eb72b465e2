"""Networks that tell a person from the background: MediaPipe's selfie segmenter, U-2-Net, and every model of rembg.

All map a photo uint8 [H, W, 3] to the confidence that a pixel is the person, float32 [H, W] 0..1.
"""

from __future__ import annotations

import logging
import weakref
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
from PIL import Image

from flexavatar.errors import ModelUnavailable
from flexavatar.tracking.landmarks import model_path
from flexavatar.tracking.native_logs import quiet_native_logs

log = logging.getLogger(__name__)

REMBG = "rembg:"  # prefix of the names of rembg's models
_SIDE = 320  # pixels of what U-2-Net sees
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, as it was trained


class Segmenter(Protocol):
    """One network. Not safe to share between threads."""

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """The confidence [H, W] float32 0..1 that a pixel of a photo uint8 [H, W, 3] is the person."""
        ...

    def close(self) -> None:
        """Free the network; a later call loads it again."""
        ...


def open_segmenter(name: str) -> Segmenter:
    """The network of a name that `check_segmenter` lets pass. Raises what RembgModel raises, and ValueError."""
    check_segmenter(name)
    if not name.startswith(REMBG):
        return SelfieSegmenter()
    model = name.removeprefix(REMBG)
    return U2NetP() if model == "u2netp" else RembgModel(model)


def check_segmenter(name: str) -> str:
    """`name`, if it is "selfie" or "rembg:" and a model of rembg. Raises ValueError otherwise; loads nothing."""
    if name != "selfie" and (not name.startswith(REMBG) or name == REMBG):
        raise ValueError(f"{name!r} is no matte: take selfie, or rembg:MODEL, for instance rembg:birefnet-portrait.")
    return name


class SelfieSegmenter:
    """MediaPipe's selfie segmenter (256 px, bundled): 10 ms; quick to call things beside a person a person."""

    def __init__(self) -> None:
        self._network: Any = None
        self._finalizer: weakref.finalize | None = None

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        import mediapipe

        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(photo))
        with quiet_native_logs() if self._network is None else nullcontext():
            if self._network is None:
                self._network = _create_selfie_segmenter()
                self._finalizer = weakref.finalize(self, self._network.close)
            masks = self._network.segment(image).confidence_masks
        return masks[-1].numpy_view().reshape(photo.shape[:2]).astype(np.float32)

    def close(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._network, self._finalizer = None, None


class U2NetP:
    """The small U-2-Net that rembg calls "u2netp" (320 px, bundled): finds what is salient, clothes often are not.

    Run without rembg, whose import compiles PyMatting for minutes on a machine where it has not run before.
    """

    def __init__(self) -> None:
        self._session: Any = None

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        if self._session is None:
            import onnxruntime

            self._session = onnxruntime.InferenceSession(model_path("u2netp.onnx"), providers=["CPUExecutionProvider"])
        small = np.asarray(Image.fromarray(photo).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))
        pixels = (small / max(int(small.max()), 1) - _MEAN) / _DEVIATION
        given, wanted = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        found = self._session.run([wanted], {given: pixels.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
        found = (found - found.min()) / max(float(np.ptp(found)), 1e-6)
        mask = Image.fromarray((found * 255).astype(np.uint8)).resize(photo.shape[1::-1], Image.Resampling.LANCZOS)
        return np.asarray(mask, np.float32) / 255

    def close(self) -> None:
        self._session = None


class RembgModel:
    """A model of rembg by its name; rembg downloads it to its own folder at the first use on a machine."""

    def __init__(self, model: str) -> None:
        """Load `model`. Raises ModelUnavailable if rembg does not know the name or cannot download the model."""
        self._model = model
        self._session: Any = _rembg_session(model)

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        if self._session is None:
            self._session = _rembg_session(self._model)
        masks = self._session.predict(Image.fromarray(photo))  # one, or one for each kind of clothes
        return np.max([np.asarray(mask.convert("L"), np.float32) for mask in masks], axis=0) / 255

    def close(self) -> None:
        self._session = None


def _rembg_session(model: str) -> Any:
    log.info("loading rembg's model %s; the first time on a machine it is downloaded", model)
    from rembg import new_session
    from rembg.sessions import sessions

    local = sorted(name for name, kind in sessions.items() if kind.is_local())  # others send the photo to a service
    if model not in local:
        raise ModelUnavailable(f"rembg has no model {model!r} that runs on this machine. It has {', '.join(local)}.")
    try:
        return new_session(model)
    # rembg raises what requests, pooch and onnxruntime raise: no network, a wrong checksum, a damaged file, no memory.
    except Exception as error:
        raise ModelUnavailable(
            f"rembg's model {model!r} cannot be had ({error}). It is downloaded at its first use: check the network "
            "and the room on the disk, or leave the matte at its default, which needs neither."
        ) from error


def _create_selfie_segmenter() -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=model_path("selfie_segmentation.tflite")),
        output_confidence_masks=True,
        output_category_mask=False,
    )
    return vision.ImageSegmenter.create_from_options(options)
