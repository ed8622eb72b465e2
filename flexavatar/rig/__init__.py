"""The rig: a permissively licensed morphable head (DESIGN: shape basis, ARKit expressions, UV atlas)."""

from flexavatar.rig.anchors import REGION_NAMES, Atlas
from flexavatar.rig.rig import PART_NAMES, Appearance, Rig, head_motion

__all__ = ["PART_NAMES", "REGION_NAMES", "Appearance", "Atlas", "Rig", "head_motion"]
