"""The photo on the rig: unwrapping, completion of what the photo does not show, eyes and mouth."""

from flexavatar.texture.build import RigTexture, rig_texture

__all__ = ["RigTexture", "rig_texture"]
