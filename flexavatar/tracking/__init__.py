"""From photos and videos to tracked heads: crop, matte, landmarks, and the rig fitted to them."""

from flexavatar.tracking.tracker import FaceTracker, TrackedFace, track_image, track_images, track_video

__all__ = ["FaceTracker", "TrackedFace", "track_image", "track_images", "track_video"]
