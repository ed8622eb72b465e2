"""Text that a person or a script types, turned into values: shared by the command line and the app's API."""

from __future__ import annotations

from flexavatar.expression import Expression

COLORS = {"white": "#ffffff", "black": "#000000", "grey": "#808080", "gray": "#808080"}


def parse_expression(text: str) -> Expression:
    """A preset's name ("smile"), or ARKit weights ("jawOpen=0.5, mouthSmileLeft=1"). Raises ValueError."""
    text = text.strip()
    if not text:
        return Expression.neutral()
    if "=" not in text:
        return Expression.of(text)
    weights: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise ValueError(f"{part!r} is not of the form name=weight, for example jawOpen=0.5.") from None
    return Expression.of(weights)


def parse_color(text: str) -> tuple[float, float, float]:
    """RGB in 0..1 of "white", "black", "grey" or "#rrggbb". Raises ValueError."""
    code = COLORS.get(text.strip().lower(), text.strip()).removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(code)
    except ValueError:
        raise ValueError(f"{text!r} is not a colour such as white or #ffcc00.") from None
    return red / 255, green / 255, blue / 255
