"""The rig: a permissively licensed morphable head (DESIGN: shape basis, ARKit expressions, UV atlas)."""

from flexavatar.rig.rig import PART_NAMES, REGION_NAMES, Atlas, Rig

__all__ = ["PART_NAMES", "REGION_NAMES", "Atlas", "Rig"]
