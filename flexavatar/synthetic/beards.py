"""Beards and moustaches, grown as the hair of the scalp is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from flexavatar.rig.regions import smooth_step
from flexavatar.synthetic.hair import NO_CUT, Ground, Strands, grow_on
from flexavatar.synthetic.hair_styles import DOWN, HairStyle, everywhere

LIMIT = 20_000  # Gaussians


@dataclass(frozen=True)
class Beard:
    """Metres that hair grows by place, 0 for none, and how curly it is."""

    lip: float
    chin: float
    jaw: float
    sideburns: float
    curl: float = 0.0


Kind = Callable[[Generator], Beard]

BEARDS: dict[str, Kind] = {
    "stubble": lambda r: Beard(*everywhere(r.uniform(0.001, 0.003))),
    "short": lambda r: Beard(
        r.uniform(0.004, 0.008), (around := r.uniform(0.005, 0.012)), around, around, r.uniform(0, 0.001)
    ),
    "full": lambda r: Beard(
        r.uniform(0.007, 0.011), r.uniform(0.02, 0.04), r.uniform(0.015, 0.025), 0.012, r.uniform(0, 0.003)
    ),
    "long": lambda r: Beard(r.uniform(0.009, 0.012), r.uniform(0.06, 0.13), r.uniform(0.03, 0.05), 0.02, r.uniform(0,
    0.004)),
    "moustache": lambda r: Beard(r.uniform(0.005, 0.013), 0, 0, 0),
    "goatee": lambda r: Beard(r.uniform(0.004, 0.009), r.uniform(0.006, 0.03), 0, 0),
    "chin_strap": lambda r: Beard(0, (around := r.uniform(0.003, 0.010)), around, around),
}  # fmt: skip


def beard_growth(beard: Beard) -> tuple[np.ndarray, np.ndarray]:
    """Where a beard grows [G] 0..1, and how long it is there [G] in metres."""
    ground = Ground.load()
    x, y, z = ground.places.T
    x = np.abs(x)
    lips = np.hypot(x / 0.027, (y + 0.071) / 0.0095)
    skin = ground.face * smooth_step(lips, 1.0, 1.15)
    lip = smooth_step(-y, 0.052, 0.056) * smooth_step(y, -0.080, -0.074) * smooth_step(-x, -0.036, -0.029) * (z > 0)
    below = smooth_step(-y, 0.075, 0.081) * smooth_step(y, -0.135, -0.118)
    chin = below * smooth_step(-x, -0.032, -0.022) * smooth_step(z, -0.045, -0.02)
    # The cheeks' edge falls from the sideburns to the corners of the mouth.
    edge = -0.030 - 0.040 * smooth_step(z, -0.055, 0.005)
    jaw = smooth_step(edge - y, -0.003, 0.006) * smooth_step(y, -0.132, -0.115) * smooth_step(z, -0.072, -0.06)
    jaw = jaw * smooth_step(x, 0.022, 0.032)
    burns = smooth_step(z, -0.066, -0.06) * smooth_step(-z, 0.035, 0.044) * smooth_step(y, -0.06, -0.045)
    burns = burns * smooth_step(-y, -0.020, 0.012)
    places = np.stack([lip, chin, jaw, burns])
    lengths = np.array([beard.lip, beard.chin, beard.jaw, beard.sideburns])
    places = places * (lengths > 0)[:, None]
    length = (places * lengths[:, None]).sum(0) / places.sum(0).clip(1e-6)
    return places.max(0) * skin, length


def grow_beard(beard: Beard, r: Generator) -> tuple[Strands, np.ndarray]:
    """The strands, and how much of the skin [G] 0..1 their roots hide."""
    there, length = beard_growth(beard)
    longest = max(beard.lip, beard.chin, beard.jaw)
    style = HairStyle(
        lengths=(longest, longest, longest, longest, longest, longest),
        part=((0.0, -0.045, 0.035), (0.0, -0.045, 0.035)),  # under the nose
        flow=0.5,
        brush=everywhere(DOWN),
        brush_length=0.1,
        lift=everywhere(r.uniform(0.3, 0.9)),
        lift_length=0.02,
        gravity=0.8,
        gravity_length=0.03,
        layer=(0.0006, 0.25 * longest),
        fringe=NO_CUT,
        ragged=0.0,
        open_face=0.0,
        locks=int(r.uniform(80, 250)),
        clump=r.uniform(0.2, 0.7),
        curl=(beard.curl, r.uniform(0.012, 0.03)),
        flat=0.2,
        ramp=0.015,
        uneven=0.25,
        jitter=r.uniform(0.03, 0.08),
    )
    cover = there * (0.3 + 0.5 * smooth_step(length, 0.001, 0.012))
    return grow_on(style, there, length, r, clothes=0.01, limit=LIMIT), cover
