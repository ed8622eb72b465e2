"""Motion: expressions and head rotations over time, from videos, files and clips."""

from __future__ import annotations

from flexavatar.motion.files import CLIP_NAMES, MOTION_SUFFIXES, load_clip, read_motion, write_motion
from flexavatar.motion.motion import Motion
from flexavatar.motion.record import motion_from_tracked, motion_from_video
from flexavatar.motion.transfer import Transfer, transferred

__all__ = [
    "CLIP_NAMES",
    "MOTION_SUFFIXES",
    "Motion",
    "Transfer",
    "load_clip",
    "motion_from_tracked",
    "motion_from_video",
    "read_motion",
    "transferred",
    "write_motion",
]
