"""Driving: a video, a recording or a clip moves an avatar."""

from __future__ import annotations

from flexavatar.driving.clips import CLIP_NAMES, load_clip
from flexavatar.driving.drive import Driven, animate, drive, driver_motion
from flexavatar.driving.files import MOTION_SUFFIXES, read_motion, write_motion
from flexavatar.driving.motion import Motion
from flexavatar.driving.record import motion_from_tracked, motion_from_video
from flexavatar.driving.transfer import Transfer, transferred

__all__ = [
    "CLIP_NAMES",
    "Driven",
    "MOTION_SUFFIXES",
    "Motion",
    "Transfer",
    "animate",
    "drive",
    "driver_motion",
    "load_clip",
    "motion_from_tracked",
    "motion_from_video",
    "read_motion",
    "transferred",
    "write_motion",
]
