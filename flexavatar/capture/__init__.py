"""Several photos or a video -> one avatar: frames are chosen, people compared, views tracked together and merged."""

from flexavatar.capture.avatar import create_capture_avatar
from flexavatar.capture.capture import Capture, capture
from flexavatar.capture.observe import NothingUsable, Observations, View, observe_photos, observe_video
from flexavatar.capture.people import DifferentPeople
from flexavatar.capture.settings import CaptureSettings, Quality, estimate_seconds

__all__ = [
    "Capture",
    "CaptureSettings",
    "DifferentPeople",
    "NothingUsable",
    "Observations",
    "Quality",
    "View",
    "capture",
    "create_capture_avatar",
    "estimate_seconds",
    "observe_photos",
    "observe_video",
]
