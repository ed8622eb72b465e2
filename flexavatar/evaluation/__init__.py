"""Measuring avatars: who they look like."""
