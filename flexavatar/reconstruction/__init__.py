"""Several photos or a video -> one avatar: frames are chosen, people compared, views tracked together and merged."""

from flexavatar.reconstruction.capture import Capture, capture
from flexavatar.reconstruction.rig_avatar import create_capture_avatar
from flexavatar.reconstruction.settings import CaptureSettings, estimate_seconds
from flexavatar.reconstruction.views import NothingUsable, Observations, View, observe_photos, observe_video
from flexavatar.settings import Quality
from flexavatar.tracking.people import DifferentPeople

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
