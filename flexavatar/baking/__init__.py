"""Baking: an avatar as neutral Gaussians and sparse deltas, which animate without decoding."""

from __future__ import annotations

from flexavatar.baking.bake import bake
from flexavatar.baking.baked import BakedAvatar, SparseDeltas
from flexavatar.baking.bundle import read_bundle, write_bundle
from flexavatar.baking.error import BakeReport, bake_error

__all__ = ["BakeReport", "BakedAvatar", "SparseDeltas", "bake", "bake_error", "read_bundle", "write_bundle"]
