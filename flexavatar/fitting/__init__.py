"""Refining an avatar code against its observations."""
