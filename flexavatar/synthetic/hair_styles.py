"""Families of hair styles, each with its ranges: what a style is made of, drawn at random from one of them.

Lengths are metres, places those of the mean head in the canonical head frame (+x subject's left, +y up from the eyes,
+z out of the face): the hairline is at y 0.07 in front and -0.06 at the nape, the top at 0.116, the back at z -0.177.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from numpy.random import Generator

HELD_OUT_FAMILIES = (
    "fade_mid", "side_part_left", "tonsure", "bob_chin", "long_wavy", "curtain_fringe", "afro_medium", "box_braids",
    "ponytail_high", "bun_low",
)  # fmt: skip
NEAR_THE_SCALP = (
    "buzz",
    "crew_cut",
    "crop",
    "fade_low",
    "fade_mid",
    "receding",
    "thinning_crown",
    "tonsure",
)  # under hats

Value = TypeVar("Value")
Vector = tuple[float, float, float]
FORWARD, UP_AND_BACK, BACK, DOWN = (0.0, -0.2, 1.0), (0.0, 0.7, -0.7), (0.0, 0.1, -1.0), (0.0, -1.0, 0.0)
NOWHERE = (0.0, 0.0, 0.0)
WHORL = ((0.008, 0.098, -0.130), (0.008, 0.098, -0.130))


def everywhere(value: Value) -> tuple[Value, Value, Value, Value]:
    """The same for front, top, side and back."""
    return value, value, value, value


@dataclass(frozen=True)
class Tie:
    """Where hair is gathered, and what becomes of it there."""

    place: Vector
    kind: Literal["tail", "braid", "bun", "loose"]
    radius: float  # metres, of the bundle
    length: float  # metres, beyond the tie
    above: float = -1.0  # metres: hair that is rooted lower hangs free
    before: float = -1.0  # metres: and so does what is rooted further back
    stand_off: float = 0.5  # how far a tail swings out before it falls


@dataclass(frozen=True)
class Tubes:
    """Hair in many locks, twists or braids."""

    count: int
    radius: float  # metres
    lobes: Literal[1, 2, 3]  # a lock, a twist, a braid
    pitch: float  # metres a turn
    rows: int = 0  # cornrows: that many rows from the forehead to the nape


@dataclass(frozen=True)
class HairStyle:
    """One style. Brushes are directions for front, top, side and back; their x is mirrored at side and back."""

    lengths: tuple[float, float, float, float, float, float]  # metres at front, top, crown, side, back, nape
    uneven: float = 0.12  # spread of the lengths
    part: tuple[Vector, Vector] = WHORL  # the segment that hair flows away from
    flow: float = 1.0
    brush: tuple[Vector, Vector, Vector, Vector] = everywhere(NOWHERE)
    brush_length: float = 0.06
    lift: tuple[float, float, float, float] = (0.35, 0.35, 0.3, 0.3)  # how much front, top, side, back stand off
    lift_length: float = 0.05
    gravity: float = 1.0
    gravity_length: float = 0.06
    stiffness: float = 0.7
    jitter: float = 0.03
    layer: tuple[float, float] = (0.001, 0.014)  # metres over the skin, innermost and outermost
    fringe: float | None = None  # metres: height at which hair before the face is cut
    hem: tuple[float, float] | None = None  # metres: height at which all is cut, in front and behind
    ragged: float = 0.006  # metres, spread of fringe and hem
    open_face: float = 0.5
    drift: Vector = NOWHERE
    split: float = -0.095  # metres: hair before this depth falls over the chest, other hair over the back
    locks: int = 500  # number of clumps
    clump: float = 0.5  # 0..1
    curl: tuple[float, float] = (0.0, 0.06)  # metres: amplitude, length of a turn
    flat: float = 0.5  # 0 coils, 1 waves
    together: float = 0.8  # 0..1: do neighbours curl together
    ramp: float = 0.05  # metres until curls are full
    recede: float = 0.0  # metres that the temples' corners are bare
    hairline: float = 0.0  # metres that the forehead is higher
    thin_crown: float = 0.0  # metres, radius of a thin place at the crown
    bald_above: float | None = None  # metres: bare above this height
    strip: float | None = None  # metres: half the width of what is kept, a mohawk's
    fade: tuple[float, float] | None = None  # metres: heights from where and up to which sides get longer
    shortest: float = 0.002  # metres, below the fade, beside the strip
    ties: tuple[Tie, ...] = ()
    tubes: Tubes | None = None
    dense: float = 1.0


Family = Callable[[Generator], HairStyle]


def draw_style(family: str, r: Generator) -> HairStyle:
    """One style of a family of FAMILIES."""
    return FAMILIES[family](r)


def _lengths(r: Generator, front: float, top: float, side: float, back: float, nape: float | None = None):
    vary = lambda value: float(value * r.uniform(0.9, 1.1))  # noqa: E731
    return vary(front), vary(top), vary(top), vary(side), vary(back), vary(back if nape is None else nape)


def _parting(x: float, length: float = 0.16) -> tuple[Vector, Vector]:
    """From before the hairline towards the crown."""
    return (x, 0.09, 0.06), (0.6 * x, 0.106, 0.04 - length)


def _side(r: Generator) -> float:
    return 1.0 if r.random() < 0.5 else -1.0


def _texture(r: Generator, wave: float = 0.0) -> dict:
    """Straight to wavy; `wave` 0..1 moves towards the second."""
    amount = r.uniform(0, 1) ** 2 * (1 - wave) + wave
    return dict(
        curl=(0.005 * amount, r.uniform(0.03, 0.08)), flat=r.uniform(0.3, 1), locks=int(r.uniform(250, 900)),
        clump=r.uniform(0.3, 0.8), jitter=r.uniform(0.008, 0.025), together=r.uniform(0.6, 0.95),
    )  # fmt: skip


def _short(r: Generator, top: float, side: float, **fields) -> HairStyle:
    """Cut hair that stands off and lies as it grows."""
    made = HairStyle(
        lengths=_lengths(r, top, top, side, side, 0.8 * side), lift=(0.8, 0.8, 0.5, 0.5), lift_length=0.03,
        gravity=0.2, gravity_length=0.04, layer=(0.001, min(0.5 * top, 0.012)), open_face=0.0, ramp=0.02, **_texture(r),
    )  # fmt: skip
    return replace(made, **{"hairline": r.uniform(-0.004, 0.010), "recede": r.uniform(0, 0.012), **fields})


def _faded(r: Generator, low: float, high: float, top: float) -> HairStyle:
    """Tight sides that grow longer upwards."""
    kind = r.integers(4)
    lift = r.uniform(0.3, 0.9)
    sweep = _side(r) * r.uniform(0.3, 1)
    brush = {
        0: (FORWARD, FORWARD, DOWN, DOWN),
        1: ((sweep, 0.3, 0.2), (sweep, 0.2, -0.2), DOWN, DOWN),
        2: (UP_AND_BACK, BACK, BACK, DOWN),
        3: everywhere(NOWHERE),
    }[int(kind)]
    made = _short(
        r, top, r.uniform(0.010, 0.025), brush=brush, fade=(low, high), shortest=r.uniform(0.0006, 0.003),
        lift=(lift, lift, 0.3, 0.3), gravity=0.5,
    )  # fmt: skip
    if kind == 3:
        coils = (r.uniform(0.003, 0.006), r.uniform(0.010, 0.02))
        made = replace(made, curl=coils, flat=0.0, together=0.7, lift=(1.5, 1.5, 0.6, 0.6), locks=700, ramp=0.01)
    return made


def _side_part(r: Generator, side: float) -> HairStyle:
    top = r.uniform(0.06, 0.11)
    sides = r.uniform(0.012, 0.045)
    faded = (r.uniform(-0.05, -0.02), r.uniform(0.0, 0.04)) if r.random() < 0.5 else None
    return _short(
        r, top, sides, part=_parting(side * r.uniform(0.025, 0.042), 0.13), fade=faded,
        brush=((-side, 0.25, r.uniform(-0.3, 0.4)), (-side * 0.8, 0.0, -0.3), (0, -0.6, -0.6), DOWN), brush_length=0.10,
        lift=(0.6, 0.3, 0.1, 0.1), layer=(0.002, r.uniform(0.008, 0.018)), gravity=0.7, gravity_length=0.07,
        fringe=0.05,
    )  # fmt: skip


def _combed_back(r: Generator, height: float, top: float, side: float, **fields) -> HairStyle:
    """Off the forehead: `height` is how much the front rises first."""
    made = _short(
        r, top, side, brush=((r.uniform(-0.4, 0.4), 0.6, -1.8), (0.0, 0.0, -2.0), (0.0, -0.15, -1.6), DOWN),
        brush_length=0.2,
        flow=0.15, lift=(height, 0.25 * height, 0.15, 0.15), lift_length=0.02 + 0.006 * height, gravity=0.4,
        gravity_length=0.12, layer=(0.002, r.uniform(0.008, 0.016)),
    )  # fmt: skip
    return replace(made, **fields)


def _hanging(r: Generator, length: float, wave: float = 0.0, part: float | None = None, **fields) -> HairStyle:
    """Hair that falls from a parting."""
    place = r.choice([0.0, 0.0, -0.03, 0.03, 0.045, -0.045]) + r.normal(0, 0.003) if part is None else part
    behind = r.uniform(-0.25, 0.3)
    made = HairStyle(
        lengths=_lengths(r, 0.95 * length, length, length, length), part=_parting(float(place)),
        brush=((0, 0, -0.3), (0, 0, -0.2), (0, -0.5, -0.4), DOWN), brush_length=r.uniform(0.04, 0.10), flow=1.0,
        lift=(r.uniform(0.2, 0.7), r.uniform(0.1, 0.4), 0.2, 0.2), layer=(0.002, r.uniform(0.010, 0.026)),
        gravity=1.2, gravity_length=0.05, open_face=r.uniform(0.5, 0.9), drift=(0.0, 0.0, behind),
        split=r.uniform(-0.15, -0.05), uneven=0.1,
        **_texture(r, wave),
    )  # fmt: skip
    return replace(made, **fields)


def _bob(r: Generator, hem: float) -> HairStyle:
    """Cut at one height; slightly longer in front or behind."""
    front = hem + r.uniform(-0.02, 0.01)
    fringe = r.uniform(0.02, 0.04) if r.random() < 0.3 else None
    made = _hanging(
        r, 0.34, wave=0.15 * float(r.random()), hem=(front, hem), ragged=r.uniform(0.002, 0.010), drift=(0, 0, 0),
        uneven=0.05,
    )  # fmt: skip
    return replace(made, fringe=fringe) if fringe is None else _with_fringe(r, made, fringe)


def _with_fringe(r: Generator, made: HairStyle, height: float) -> HairStyle:
    """Hair combed over the forehead and cut at a height."""
    front, *others = made.lengths
    brush = (r.normal(0, 0.15), -0.6, 1.4), *made.brush[1:]
    part = (0.0, 0.106, -0.03), made.part[1]
    return replace(
        made, fringe=height, lengths=(0.14, *others), brush=brush, part=part, open_face=0.0, ragged=r.uniform(0.002,
        0.008),
        lift=(0.35, *made.lift[1:]),
    )  # fmt: skip


def _afro(r: Generator, length: float) -> HairStyle:
    return HairStyle(
        lengths=_lengths(r, 0.9 * length, length, 0.9 * length, 0.9 * length, 0.6 * length), flow=0.0,
        lift=everywhere(3.0), lift_length=1.0, gravity=r.uniform(0.0, 0.25), gravity_length=0.08, stiffness=0.75,
        jitter=r.uniform(0.1, 0.3), layer=(0.001, 0.3 * length), open_face=0.0, locks=int(r.uniform(500, 1500)),
        clump=r.uniform(0.1, 0.5), curl=(r.uniform(0.002, 0.004), r.uniform(0.010, 0.018)), flat=0.0, together=0.4,
        ramp=0.01, uneven=r.uniform(0.05, 0.12), hairline=r.uniform(-0.002, 0.008), fringe=r.uniform(0.05, 0.06),
        fade=(-0.05, r.uniform(-0.02, 0.05)) if r.random() < 0.4 else None, shortest=0.006,
    )  # fmt: skip


def _curly(r: Generator, length: float, coil: tuple[float, float], **fields) -> HairStyle:
    made = _hanging(
        r, length, lift=(r.uniform(0.5, 1.0),) * 2 + (0.6, 0.6), layer=(0.002, r.uniform(0.02, 0.035)), curl=coil,
        flat=r.uniform(0, 0.4), together=r.uniform(0.75, 0.95), locks=int(r.uniform(250, 600)), uneven=0.2,
        clump=r.uniform(0.6, 0.9), ramp=0.03, gravity=0.8,
    )  # fmt: skip
    return replace(made, **fields)


def _tubes(r: Generator, length: float, tubes: Tubes, **fields) -> HairStyle:
    part = r.choice([0.0, -0.03, 0.03])
    made = HairStyle(
        lengths=_lengths(r, length, length, length, length), part=_parting(float(part)), tubes=tubes,
        brush=((0, 0, -0.4), (0, 0, -0.2), (0, -0.5, -0.4), DOWN), lift=(0.5, 0.4, 0.4, 0.4), lift_length=0.03,
        layer=(tubes.radius, tubes.radius + r.uniform(0.004, 0.02)), jitter=0.03, uneven=0.1, open_face=0.9,
        drift=(0, 0, r.uniform(-0.2, 0.2)), split=r.uniform(-0.15, -0.06), clump=0.0, curl=(r.uniform(0, 0.002), 0.05),
    )  # fmt: skip
    return replace(made, **fields)


def _gathered(r: Generator, *ties: Tie, **fields) -> HairStyle:
    made = HairStyle(
        lengths=_lengths(r, 0.3, 0.3, 0.3, 0.3), ties=ties, layer=(0.0015, r.uniform(0.005, 0.010)),
        clump=r.uniform(0, 0.3),
        **{k: v for k, v in _texture(r).items() if k in ("curl", "flat", "together")}, ramp=0.25,
        hairline=r.uniform(0, 0.006),
        jitter=0.02, lift=(0.1, 0.1, 0.05, 0.05),
    )  # fmt: skip
    return replace(made, **fields)


def _tail(r: Generator, y: float, z: float, x: float = 0.0) -> Tie:
    kind = "braid" if r.random() < 0.15 else "tail"
    length = r.uniform(0.12, 0.35)
    radius = r.uniform(0.012, 0.02) if kind == "braid" else r.uniform(0.02, 0.04)
    return Tie((x, y, z), kind, radius, length, stand_off=r.uniform(0.3, 1.2))


def _bun(r: Generator, y: float, z: float, small: bool = False) -> Tie:
    radius = r.uniform(0.021, 0.029) if small else r.uniform(0.026, 0.042)
    return Tie((0.0, y, z), "bun", radius, r.uniform(0.15, 0.25))


def _pigtails(r: Generator, kind: Literal["tail", "braid"]) -> HairStyle:
    y, z = r.uniform(-0.04, 0.06), r.uniform(-0.14, -0.09)
    length, radius = r.uniform(0.12, 0.28), r.uniform(0.012, 0.022)
    ties = [Tie((side * 0.085, y, z), kind, radius, length, stand_off=r.uniform(0.2, 0.8)) for side in (1, -1)]
    return _gathered(r, *ties)


FAMILIES: dict[str, Family] = {
    "buzz": lambda r: _short(r, 0.006 * r.uniform(0.5, 1.6), 0.005 * r.uniform(0.4, 1.4), lift=everywhere(1.5)),
    "crew_cut": lambda r: _short(
        r, r.uniform(0.015, 0.03), r.uniform(0.006, 0.014), lift=(1.2, 1.2, 0.6, 0.6), fade=(-0.05, r.uniform(0.0,
        0.04))
    ),
    "fade_low": lambda r: _faded(r, -0.06, r.uniform(-0.03, 0.0), r.uniform(0.02, 0.06)),
    "fade_mid": lambda r: _faded(r, -0.02, r.uniform(0.03, 0.05), r.uniform(0.02, 0.06)),
    "fade_high": lambda r: _faded(r, 0.02, r.uniform(0.06, 0.075), r.uniform(0.02, 0.07)),
    "crop": lambda r: _short(
        r, r.uniform(0.03, 0.05), r.uniform(0.01, 0.025), brush=(FORWARD, FORWARD, (0, -0.5, 0.6), DOWN), fringe=0.045
    ),
    "textured_crop": lambda r: _short(
        r, r.uniform(0.045, 0.07), r.uniform(0.01, 0.02), brush=((r.normal(0, 0.3), 0, 0.8), FORWARD, DOWN, DOWN),
        fade=(-0.03, r.uniform(0.02, 0.05)), clump=0.9, locks=int(r.uniform(120, 250)), lift=(1.1, 1.1, 0.5, 0.5),
        jitter=0.07, fringe=r.uniform(0.03, 0.05), ragged=0.012,
    ),
    "side_part_left": lambda r: _side_part(r, 1.0),
    "side_part_right": lambda r: _side_part(r, -1.0),
    "quiff": lambda r: _combed_back(
        r, r.uniform(0.9, 1.7), r.uniform(0.06, 0.09), r.uniform(0.01, 0.02), fade=(-0.04, r.uniform(0.01, 0.05)),
        gravity=0.3
    ),
    "pompadour": lambda r: _combed_back(
        r, r.uniform(1.5, 2.6), r.uniform(0.10, 0.14), r.uniform(0.02, 0.04), layer=(0.004, r.uniform(0.02, 0.032)),
        clump=0.3
    ),
    "slicked_back": lambda r: _combed_back(r, r.uniform(0.2, 0.7), r.uniform(0.12, 0.18), r.uniform(0.08, 0.14)),
    "spiky": lambda r: _short(
        r, r.uniform(0.035, 0.06), r.uniform(0.012, 0.025), lift=(2.0, 2.0, 1.0, 0.8), lift_length=0.2, clump=0.95,
        locks=int(r.uniform(60, 120)), gravity=0.05, jitter=0.015,
    ),
    "mop_top": lambda r: _short(
        r, r.uniform(0.09, 0.13), r.uniform(0.06, 0.09), layer=(0.002, 0.022), gravity=0.5, fringe=r.uniform(0.02,
        0.035),
        ragged=0.012, **{k: v for k, v in _texture(r, 0.7).items() if k == "curl"}, clump=0.8, locks=250,
    ),
    "curly_short": lambda r: _short(
        r, r.uniform(0.05, 0.10), r.uniform(0.02, 0.06), layer=(0.002, 0.022), curl=(r.uniform(0.005, 0.009),
        r.uniform(0.02, 0.035)),
        flat=0.1, together=0.85, locks=int(r.uniform(200, 450)), clump=0.8, ramp=0.015, fringe=r.uniform(0.03, 0.05),
        lift=(1.3, 1.3, 1.0, 0.9), gravity=0.3,
    ),
    "bowl": lambda r: _short(
        r, 0.16, 0.14, hem=(y := r.uniform(-0.01, 0.03), y - 0.01), fringe=max(y, 0.018), layer=(0.002, 0.010),
        gravity=1.2,
        ragged=0.003, lift=everywhere(0.3), uneven=0.03,
    ),
    "pixie": lambda r: _short(
        r, r.uniform(0.06, 0.10), r.uniform(0.035, 0.055), brush=((_side(r) * 0.9, 0, 0.7), (0, 0, 0.6), (0, -0.7,
        0.3), DOWN),
        fringe=r.uniform(0.022, 0.05), ragged=0.012, layer=(0.002, 0.014), gravity=0.6,
    ),
    "mullet": lambda r: replace(
        _short(r, r.uniform(0.04, 0.08), r.uniform(0.015, 0.03), fringe=0.04, gravity=0.7, layer=(0.002, 0.012)),
        lengths=(0.05, 0.07, 0.10, r.uniform(0.01, 0.03), 0.15, r.uniform(0.10, 0.16)),
    ),
    "bob_short": lambda r: _bob(r, r.uniform(-0.065, -0.045)),
    "bob_chin": lambda r: _bob(r, r.uniform(-0.115, -0.085)),
    "bob_long": lambda r: _bob(r, r.uniform(-0.165, -0.135)),
    "layered": lambda r: _hanging(
        r, r.uniform(0.17, 0.26), 0.3, lengths=(r.uniform(0.10, 0.16), 0.14, 0.17, 0.19, 0.23, 0.26), uneven=0.25,
        ragged=0.01
    ),
    "shag": lambda r: _with_fringe(
        r, _hanging(r, 0.2, 0.6, lengths=(0.1, 0.10, 0.13, 0.16, 0.2, 0.24), uneven=0.3, locks=250, clump=0.8),
        r.uniform(0.015, 0.03)
    ),
    "shoulder_straight": lambda r: _hanging(r, 0.36, hem=(r.uniform(-0.20, -0.15), r.uniform(-0.20, -0.16))),
    "shoulder_wavy": lambda r: _hanging(r, r.uniform(0.24, 0.30), r.uniform(0.7, 1.3)),
    "long_straight": lambda r: _hanging(r, r.uniform(0.36, 0.5)),
    "long_wavy": lambda r: _hanging(r, r.uniform(0.36, 0.5), r.uniform(0.8, 1.8)),
    "long_curly": lambda r: _curly(r, r.uniform(0.30, 0.42), (r.uniform(0.006, 0.011), r.uniform(0.03, 0.05))),
    "long_coily": lambda r: _curly(r, r.uniform(0.20, 0.32), (r.uniform(0.004, 0.006), r.uniform(0.014, 0.022)),
    jitter=0.08),
    "curly_bob": lambda r: _curly(
        r, r.uniform(0.15, 0.21), (r.uniform(0.005, 0.010), r.uniform(0.022, 0.04)), drift=(0, 0, 0), gravity=0.6
    ),
    "afro_small": lambda r: _afro(r, r.uniform(0.018, 0.035)),
    "afro_medium": lambda r: _afro(r, r.uniform(0.045, 0.065)),
    "afro_large": lambda r: _afro(r, r.uniform(0.08, 0.11)),
    "locs_short": lambda r: _tubes(
        r, r.uniform(0.08, 0.13), Tubes(int(r.uniform(90, 150)), r.uniform(0.004, 0.006), 1, 0.03),
        lift=everywhere(1.0),
        gravity=0.7, open_face=0.4, fringe=0.03,
    ),
    "locs_long": lambda r: _tubes(r, r.uniform(0.26, 0.42), Tubes(int(r.uniform(100, 150)), r.uniform(0.005, 0.0075),
    1, 0.03)),
    "twists": lambda r: _tubes(
        r, r.uniform(0.10, 0.24), Tubes(int(r.uniform(80, 130)), r.uniform(0.004, 0.006), 2, r.uniform(0.012, 0.02)),
        fringe=0.03
    ),
    "box_braids": lambda r: _tubes(
        r, r.uniform(0.28, 0.42), Tubes(int(r.uniform(110, 180)), r.uniform(0.004, 0.0055), 3, r.uniform(0.015, 0.025))
    ),
    "cornrows": lambda r: _tubes(
        r, r.uniform(0.27, 0.40), Tubes(0, r.uniform(0.004, 0.006), 3, 0.016, rows=int(r.uniform(9, 15))),
        part=((0.09, 0.05, 0.06), (-0.09, 0.05, 0.06)), layer=(0.0025, 0.003), lift=everywhere(0.0),
        brush=everywhere(NOWHERE),
        gravity=0.8, gravity_length=0.25, open_face=0.0, curl=(0.0, 0.05), uneven=0.03, jitter=0.0,
    ),
    "ponytail_high": lambda r: _gathered(r, _tail(r, r.uniform(0.06, 0.10), -0.15)),
    "ponytail_low": lambda r: _gathered(r, _tail(r, r.uniform(-0.05, 0.0), -0.17)),
    "ponytail_side": lambda r: _gathered(r, _tail(r, r.uniform(-0.04, 0.04), -0.12, _side(r) * 0.07)),
    "braid_back": lambda r: _gathered(r, Tie((0, r.uniform(-0.06, 0.0), -0.16), "braid", r.uniform(0.014, 0.022), 0.3)),
    "bun_high": lambda r: _gathered(r, _bun(r, r.uniform(0.07, 0.10), r.uniform(-0.16, -0.13))),
    "bun_low": lambda r: _gathered(r, _bun(r, r.uniform(-0.04, 0.01), -0.17)),
    "top_knot": lambda r: _gathered(
        r, _bun(r, 0.12, r.uniform(-0.11, -0.07), True), fade=(0.03, 0.045) if r.random() < 0.4 else None
    ),
    "pigtails": lambda r: _pigtails(r, "tail"),
    "pigtail_braids": lambda r: _pigtails(r, "braid"),
    "half_up": lambda r: replace(
        _hanging(r, r.uniform(0.26, 0.42), r.uniform(0, 0.8)),
        ties=(Tie((0, r.uniform(0.04, 0.08), -0.165), "tail", 0.022, r.uniform(0.15, 0.3), above=r.uniform(0.04,
        0.06), stand_off=0.0),),
    ),
    "undercut": lambda r: _combed_back(
        r, r.uniform(0.5, 1.4), r.uniform(0.09, 0.13), 0.06, fade=(y := r.uniform(0.04, 0.06), y + 0.006),
        shortest=r.uniform(0.001, 0.004)
    ),
    "mohawk": lambda r: _short(
        r, r.uniform(0.04, 0.10), 0.05, strip=r.uniform(0.018, 0.03), lift=everywhere(3.0), lift_length=0.3,
        gravity=0.0,
        flow=0.2,
        shortest=r.uniform(0.0004, 0.004), clump=0.8, locks=150, recede=0.0, jitter=0.03, layer=(0.001, 0.003),
        stiffness=0.8,
    ),
    "receding": lambda r: _short(
        r, r.uniform(0.015, 0.05), r.uniform(0.008, 0.03), recede=r.uniform(0.025, 0.045), hairline=r.uniform(0.005,
        0.018),
        dense=0.75, brush=(BACK, BACK, DOWN, DOWN) if r.random() < 0.5 else everywhere(NOWHERE),
    ),
    "thinning_crown": lambda r: _short(
        r, r.uniform(0.010, 0.028), r.uniform(0.008, 0.025), thin_crown=r.uniform(0.035, 0.065),
        recede=r.uniform(0.01, 0.035),
        dense=0.75,
    ),
    "tonsure": lambda r: _short(
        r, 0.02, r.uniform(0.006, 0.025), bald_above=r.uniform(0.045, 0.07), recede=0.03, dense=0.8,
        lift=everywhere(0.12), gravity=0.6
    ),
    "straight_fringe": lambda r: _with_fringe(r, _hanging(r, r.uniform(0.3, 0.45), hem=None), r.uniform(0.016, 0.032)),
    "side_fringe": lambda r: _hanging(
        r, r.uniform(0.25, 0.45), r.uniform(0, 0.6), part=(x := _side(r) * r.uniform(0.035, 0.05)), open_face=0.15,
        brush=((-3 * x / abs(x), -0.3, 1.2), (0, 0, -0.2), (0, -0.5, -0.3), DOWN), fringe=r.uniform(0.012, 0.03),
        ragged=0.012,
    ),
    "curtain_fringe": lambda r: _hanging(
        r, r.uniform(0.25, 0.42), r.uniform(0.1, 0.6), part=r.normal(0, 0.006), lengths=(r.uniform(0.13, 0.18), 0.3,
        0.33, 0.33, 0.36, 0.38),
        lift=(r.uniform(0.8, 1.3), 0.3, 0.2, 0.2), uneven=0.2, open_face=0.55, fringe=0.0,
    ),
    "tucked": lambda r: _hanging(
        r, r.uniform(0.22, 0.42), drift=(0, 0, -0.1), open_face=1.0, layer=(0.002, 0.014),
        ties=tuple(
            Tie((s * 0.08, 0.012, -0.105), "loose", r.uniform(0.008, 0.016), r.uniform(0.14, 0.3), before=-0.085,
            stand_off=0.05)
            for s in (1, -1)
        ),
    ),
    "one_shoulder": lambda r: _hanging(
        r, r.uniform(0.32, 0.45), r.uniform(0, 0.8), part=-0.04 * (side := _side(r)), gravity=1.2,
        brush=((0.4 * side, 0, -0.3), (0.6 * side, 0, -0.2), (0, -0.5, -0.6), DOWN),
        drift=(1.8 * side, 0.0, r.uniform(0.2, 0.5)), split=-0.16,
    ),
}  # fmt: skip
