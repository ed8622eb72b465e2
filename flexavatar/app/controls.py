"""Controls that tabs share: HTML that listens, uploads, quality, presets, blendshape sliders, the head's rotation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from flexavatar.expression import ARKIT_BLENDSHAPES, PRESETS, Expression
from flexavatar.rotations import rotation_from_angles

GROUPS: dict[str, tuple[str, ...]] = {  # tab -> prefixes of blendshape names
    "Mouth": ("mouth",),
    "Jaw": ("jaw", "tongue"),
    "Eyes": ("eye",),
    "Brows": ("brow",),
    "Cheeks": ("cheek", "nose"),
}
HEAD_TURNS = ("Turn (to the subject's left)", "Nod (down)", "Tilt (to the right shoulder)")
MAX_TURN = 45.0  # degrees
MATTE_CHOICES = {  # what cuts people out; all but the first are downloaded by rembg when they are asked for
    "Usual, at once": "selfie",
    "U-2-Net for people, 170 MB": "rembg:u2net_human_seg",
    "ISNet, 170 MB": "rembg:isnet-general-use",
    "BiRefNet for portraits, 930 MB, slow": "rembg:birefnet-portrait",
}
STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class ExpressionControls:
    """The components that show an expression, and change it."""

    preset: gr.Radio
    blendshapes: list[gr.Slider]  # in the order of ARKIT_BLENDSHAPES
    turns: list[gr.Slider]  # in the order of HEAD_TURNS

    @property
    def sliders(self) -> list[gr.Slider]:
        """The inputs from which `expression_of` makes an Expression."""
        return [*self.blendshapes, *self.turns]


def quality_choice(instant: bool, **settings: Any) -> gr.Radio:
    """The choice of a `Quality`; "instant" is offered if `instant` is true. `settings` are passed on to gr.Radio."""
    names = (*(["instant"] if instant else []), "fast", "balanced", "best")
    choices = [(name.capitalize(), name) for name in names]
    return gr.Radio(choices, value="balanced", label="Quality", elem_classes="pills", **settings)


def active_html(script: str, value: Any, markup: str, **settings: Any) -> gr.HTML:
    """HTML that shows `markup` and runs `script`, a file of STATIC; the component's value is what was clicked.

    Updates are `gr.HTML(value=..., markup=...)`: they have to replace both. Settings are those of gr.HTML.
    """
    # gradio's templates do not escape; with this one, all that they get is escaped already.
    template = "${markup}"
    js = (STATIC / script).read_text(encoding="utf-8")
    return gr.HTML(value, html_template=template, markup=markup, js_on_load=js, **settings)


def hand_over_untouched(upload: Any) -> None:
    """Let callbacks of a gr.Image or gr.Video get the path of the very file that was uploaded or recorded.

    The package reads more formats than gradio and explains what is wrong; gradio would convert the file first.
    """
    upload.preprocess = lambda payload: payload and payload.path


def matte_choice(tab: str) -> gr.Dropdown:
    """The choice of what cuts the person out, in a folded section, in the current Blocks context."""
    with gr.Accordion("Advanced", open=False):
        return gr.Dropdown(
            [*MATTE_CHOICES.items()],
            value="selfie",
            label="Cut out by",
            info="Others may help where the background becomes part of the head. The server downloads them once.",
            elem_id=f"{tab}-matte",
        )


def expression_controls() -> ExpressionControls:
    """Lay out the controls in the current Blocks context."""
    preset = gr.Radio([*PRESETS], value="neutral", label="Expression", elem_classes="pills")
    by_name: dict[str, gr.Slider] = {}
    with gr.Tabs():
        for title, prefixes in GROUPS.items():
            with gr.Tab(title), gr.Row(elem_classes="sliders"):
                for name in ARKIT_BLENDSHAPES:
                    if name.startswith(prefixes):
                        by_name[name] = gr.Slider(0, 1, value=0, step=0.01, label=_label(name), buttons=[])
        with gr.Tab("Head turn"), gr.Row(elem_classes="sliders"):
            turns = [gr.Slider(-MAX_TURN, MAX_TURN, 0, step=1, label=t, buttons=[]) for t in HEAD_TURNS]
    return ExpressionControls(preset, [by_name[name] for name in ARKIT_BLENDSHAPES], turns)


def expression_of(values: tuple[float, ...]) -> Expression:
    """The expression that the values of `ExpressionControls.sliders` describe."""
    count = len(ARKIT_BLENDSHAPES)
    weights = dict(zip(ARKIT_BLENDSHAPES, values[:count], strict=True))
    yaw, pitch, roll = values[count:]
    return Expression.of(weights, rotation_from_angles(yaw, pitch, roll))


def slider_values(preset: str) -> list[float]:
    """Values of `ExpressionControls.sliders` for a preset; the head looks straight ahead."""
    return [*(round(w, 4) for w in Expression.of(preset).blendshapes.tolist()), *(0.0 for _ in HEAD_TURNS)]


def _label(name: str) -> str:
    """ "eyeBlinkLeft" -> "Blink left"; "jawOpen" -> "Open"."""
    words = re.findall(r"[A-Z]?[a-z]+", name)
    keep = words[1:] if words[0] in ("mouth", "jaw", "eye", "brow") else words
    return " ".join(keep).lower().capitalize()
