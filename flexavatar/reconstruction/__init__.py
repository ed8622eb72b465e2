"""Views of a person -> avatar: frames are chosen, people compared, views tracked together, merged, encoded, refined."""

from flexavatar.reconstruction.capture import Capture, Recipe, capture
from flexavatar.reconstruction.frames import CaptureSettings, estimate_seconds
from flexavatar.reconstruction.views import NothingUsable, Observations, View, best_frame, observe_photos, observe_video
from flexavatar.tracking.people import DifferentPeople

__all__ = [
    "Capture",
    "CaptureSettings",
    "DifferentPeople",
    "NothingUsable",
    "Observations",
    "Recipe",
    "View",
    "best_frame",
    "capture",
    "estimate_seconds",
    "observe_photos",
    "observe_video",
]
