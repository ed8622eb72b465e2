"""The Live tab: an avatar in the viewer, moved by sliders, clips or the visitor's own face."""

from __future__ import annotations

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.panel import stage, staged
from flexavatar.app.roster import Roster
from flexavatar.app.studio import Studio
from flexavatar.app.work import PREVIEW

TAB = "live"
HINT = "Make an avatar in one of the other tabs, or take the example: it comes alive here."


def live_tab(studio: Studio, roster: Roster) -> None:
    """Build the tab in the current Blocks context."""
    avatar = roster.picker(TAB)
    view = stage("live-view", HINT, whole=True)

    @with_clear_errors
    def on_choose(chosen: list[str]) -> dict[str, str] | None:
        return staged(studio, chosen[0], whole=True) if chosen else None

    avatar.change(on_choose, avatar, view, **PREVIEW)
