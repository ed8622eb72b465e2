"""An avatar: the value, what photos know beyond its model, and its file."""

from flexavatar.avatar.avatar import AVATAR_SUFFIXES, THUMBNAIL_SIZE, Avatar, AvatarCode

__all__ = ["AVATAR_SUFFIXES", "THUMBNAIL_SIZE", "Avatar", "AvatarCode"]
