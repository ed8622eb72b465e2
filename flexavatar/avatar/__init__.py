"""An avatar: the value, what photos know beyond its model, and its file."""

from flexavatar.avatar.avatar import (
    AVATAR_SUFFIXES,
    MOST_REST,
    RESTING_SHAPES,
    THUMBNAIL_SIZE,
    Avatar,
    Device,
    NetworkCode,
    above_rest,
    create_rig_avatar,
    head_motion,
    resting_face,
    torch_device,
)

__all__ = [
    "AVATAR_SUFFIXES",
    "MOST_REST",
    "RESTING_SHAPES",
    "THUMBNAIL_SIZE",
    "Avatar",
    "Device",
    "NetworkCode",
    "above_rest",
    "create_rig_avatar",
    "head_motion",
    "resting_face",
    "torch_device",
]
