"""Errors that a user can act on. Every message says what happened and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class FlexAvatarError(Exception):
    """Base of every error that the package raises on purpose; its text is meant for the user."""


class UnreadableImage(FlexAvatarError):
    """The file is no image, is damaged, or is outside the accepted size."""


class UnreadableVideo(FlexAvatarError):
    """The file holds no video stream that can be decoded."""


class NoFaceFound(FlexAvatarError):
    """No face was detected."""


class FaceTooSmall(FlexAvatarError):
    """A face was detected, but it covers too few pixels to make an avatar of it."""


class SeveralFacesFound(FlexAvatarError):
    """More than one face was detected and the caller did not say which to take.

    `boxes` holds (left, top, right, bottom) in pixels of the upright image, largest face first; pass
    one index as `face=` or `face="largest"`.
    """

    def __init__(self, message: str, boxes: Sequence[tuple[float, float, float, float]]) -> None:
        super().__init__(message)
        self.boxes = list(boxes)


class BadAvatarFile(FlexAvatarError):
    """The file is no `.flexavatar`, is damaged, or was written by a newer version."""


class BadSplatFile(FlexAvatarError):
    """The file is not a Gaussian splat file that can be read."""


class BadMotionFile(FlexAvatarError):
    """The file holds no motion that can be read; the message names line and column."""


class BadBundle(FlexAvatarError):
    """The file is no `.flexbundle`, is damaged, or was written by a newer version."""


class CannotWrite(FlexAvatarError):
    """The output could not be written (folder missing or read-only, disk full)."""


class ModelUnavailable(FlexAvatarError):
    """The network is not on this machine and could not be had."""


class RendererUnavailable(FlexAvatarError):
    """The requested renderer cannot run on this machine."""


class Cancelled(FlexAvatarError):
    """The caller's `Progress` asked to stop before there was a result; nothing was written."""
