"""From photos and videos to tracked heads: crop, matte, landmarks, and the rig fitted to them."""

from flexavatar.tracking.tracker import FaceTracker, TrackedFace

__all__ = ["FaceTracker", "TrackedFace"]
