"""Who is who: whether pictures show one person, and who is followed through a video that shows several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flexavatar.errors import FlexAvatarError, NoFaceFound
from flexavatar.tracking.identity import SAME_PERSON, identity_net
from flexavatar.tracking.landmarks import Face
from flexavatar.tracking.tracker import FaceCrop

# Below the threshold for single pairs: a face turned by 60 degrees is compared with the mean of its own person.
SAME_GROUP = SAME_PERSON - 0.12


@dataclass(frozen=True)
class RecognitionParams:
    """How one person is told from others; cosines are of embeddings."""

    noticed: float = 0.08  # others below this share of the area of the largest face are passers-by or pictures
    stranger: float = 0.32  # cosine below which a face is somebody else: most of them, and no turned head
    new_side: float = 0.8  # cosine below which the same person shows a side that is worth remembering
    max_remembered: int = 8  # embeddings


class DifferentPeople(FlexAvatarError):
    """The pictures show several people, and none of them is in most pictures."""


def strangers(crops: Sequence[FaceCrop]) -> dict[int, float]:
    """Pictures (index: cosine with the person) that show somebody else than most of `crops` do.

    Raises DifferentPeople when nobody is in more than half of the pictures.
    """
    if len(crops) < 2:
        return {}
    codes = torch.stack([identity_net().embed(found.pixels, found.landmarks) for found in crops])
    similarity = codes @ codes.T
    # The picture that most others resemble stands for the person; then the mean of its group does.
    center = int((similarity > SAME_GROUP).sum(1).double().add(similarity.mean(1).double() * 1e-3).argmax())
    group = similarity[center] > SAME_GROUP
    person = torch.nn.functional.normalize(codes[group].mean(0), dim=0)
    likeness = codes @ person
    out = {i: float(likeness[i]) for i in range(len(crops)) if likeness[i] < SAME_GROUP}
    if len(crops) - len(out) <= len(crops) / 2:
        raise DifferentPeople(
            f"The {len(crops)} pictures show different people, and none of them is in most pictures. Use pictures of "
            "one person only."
        )
    return out


class Followed:
    """One person of a video, for `FaceTracker.follow`, told from others by embeddings of several sides of them.

    `number` counts the faces of the first frame that shows any, 0 is the largest.
    """

    def __init__(self, number: int = 0, params: RecognitionParams = RecognitionParams()) -> None:
        self._number, self._params = number, params
        self._known: list[Tensor] = []  # embeddings [128]
        self.people = 0  # most that were told apart

    def __call__(self, frame: np.ndarray, faces: list[Face]) -> Face | None:
        """The followed person among the faces of a frame, largest first; None if they are not there.

        Raises NoFaceFound if the first frame with faces shows fewer than were counted on.
        """
        others = sum(face.area >= self._params.noticed * faces[0].area for face in faces)
        self.people = max(self.people, others)
        embeddings = [identity_net().embed(frame, face.landmarks) for face in faces]
        if not self._known:
            if self._number >= len(faces):
                raise NoFaceFound(
                    f"There is no face number {self._number}; the first frame shows {len(faces)}, counted from 0."
                )
            self._known.append(embeddings[self._number])
            return faces[self._number]
        likeness = [float((torch.stack(self._known) @ embedding).max()) for embedding in embeddings]
        best = int(np.argmax(likeness))
        if likeness[best] < self._params.stranger:
            self.people = max(self.people, 2)
            return None
        is_new = SAME_PERSON < likeness[best] < self._params.new_side
        if is_new and len(self._known) < self._params.max_remembered:
            self._known.append(embeddings[best])
        return faces[best]
