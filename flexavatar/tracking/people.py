"""Whether several pictures show one person."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flexavatar.errors import FlexAvatarError
from flexavatar.tracking.identity import SAME_PERSON, identity_net
from flexavatar.tracking.tracker import Look

# Below the threshold for single pairs: a face turned by 60 degrees is compared with the mean of its own person.
MEMBER = SAME_PERSON - 0.12


class DifferentPeople(FlexAvatarError):
    """The pictures show several people, and none of them is in most pictures."""


def strangers(looks: Sequence[Look]) -> dict[int, float]:
    """Pictures (index: cosine with the person) that show somebody else than most of `looks` do.

    Raises DifferentPeople when nobody is in more than half of the pictures.
    """
    if len(looks) < 2:
        return {}
    codes = torch.stack([identity_net().embed(look.pixels, look.landmarks) for look in looks])
    similarity = codes @ codes.T
    # The picture that most others resemble stands for the person; then the mean of its group does.
    center = int((similarity > MEMBER).sum(1).double().add(similarity.mean(1).double() * 1e-3).argmax())
    group = similarity[center] > MEMBER
    person = torch.nn.functional.normalize(codes[group].mean(0), dim=0)
    likeness = codes @ person
    out = {i: float(likeness[i]) for i in range(len(looks)) if likeness[i] < MEMBER}
    if len(looks) - len(out) <= len(looks) / 2:
        raise DifferentPeople(
            f"The {len(looks)} pictures show different people, and none of them is in most pictures. Use pictures of "
            "one person only."
        )
    return out
