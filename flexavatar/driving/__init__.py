"""Driving: a motion moves an avatar; mixing and morphing people."""

from __future__ import annotations

from flexavatar.driving.drive import Driven, animate, drive, driver_motion

__all__ = ["Driven", "animate", "drive", "driver_motion"]
