"""The photo on the rig: unwrapping, completion of what the photo does not show, eyes and mouth."""

from flexavatar.texture.build import RigTexture, texture_from_photo, texture_from_views

__all__ = ["RigTexture", "texture_from_photo", "texture_from_views"]
