"""Baking: an avatar as neutral Gaussians and sparse deltas, which animate without decoding."""

from __future__ import annotations

from flexavatar.baking.bake import bake
from flexavatar.baking.baked import BakedAvatar, SparseDeltas
from flexavatar.baking.bundle import read_bundle, write_bundle
from flexavatar.baking.measure import BakeReport, measure

__all__ = ["BakeReport", "BakedAvatar", "SparseDeltas", "bake", "measure", "read_bundle", "write_bundle"]
