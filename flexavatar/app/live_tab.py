"""The Live tab: an avatar in the viewer, moved by sliders, clips or the visitor's own face."""

from __future__ import annotations

from typing import Any

import gradio as gr

from flexavatar.app.messages import with_clear_errors
from flexavatar.app.panel import avatar_actions, stage, staged
from flexavatar.app.roster import Roster
from flexavatar.app.share_box import Sharing
from flexavatar.app.work import PREVIEW
from flexavatar.expression import Expression
from flexavatar.rotations import rotation_from_angles

TAB = "live"
HINT = "Make an avatar in one of the other tabs, or take the example: it comes alive here."
# The viewer knows what it shows, be it from its sliders, a clip or the webcam; null until it has loaded.
_POSE = """(format, chosen, which) => [format, chosen, which,
    document.querySelector("#live-view iframe")?.contentWindow?.flexavatar?.pose() ?? null]"""


def live_tab(sharing: Sharing, roster: Roster) -> None:
    """Build the tab in the current Blocks context."""
    avatar = roster.picker(TAB)
    view = stage("live-view", HINT, whole=True)
    with gr.Row(visible=False, equal_height=False) as actions:
        downloads = avatar_actions(sharing, TAB, avatar, with_expression=True)

    @with_clear_errors
    def on_choose(chosen: list[str]) -> tuple[str, gr.Row]:
        return staged(chosen[0] if chosen else None, HINT, whole=True), gr.Row(visible=bool(chosen))

    avatar.change(on_choose, avatar, [view, actions], **PREVIEW)
    downloads.wire(sharing.studio, avatar, [gr.JSON(visible=False)], _expression, _POSE)


def _expression(values: tuple[Any, ...]) -> Expression:
    """The expression in what _POSE returned: weights by name, and the head's angles in degrees."""
    pose = values[0] or {"weights": {}, "head": {}}
    return Expression.of(pose["weights"], rotation_from_angles(**pose["head"]))
