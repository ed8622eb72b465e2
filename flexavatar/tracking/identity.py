"""Who is it: embeddings of faces by SFace (Zhong et al. 2021, weights of OpenCV Zoo), in differentiable torch.

On 30 validation portraits, photos against augmented photos and against renders of their rig avatars up to 35 degrees
to the side, the cosine of two embeddings is 0.74 on average and 0.39 at least for one person, 0.18 on average and
0.47 at most for two people.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.errors import NoFaceFound
from flexavatar.tracking.landmarks import FaceDetector, model_path

SAME_PERSON = 0.42  # cosine from which two faces count as one person: 1 % of either kind is on the wrong side
_SIDE = 112  # pixels of the network's input
_SUPERSAMPLING = 2
_STRIDED = (3, 7, 11, 23)  # layers that halve the resolution
# Where the network expects irises, tip of the nose and corners of the mouth, and MediaPipe's ids of these points.
_TEMPLATE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_POINTS = (468, 473, 1, 61, 291)


class IdentityNet(torch.nn.Module):
    """SFace: a MobileFaceNet of 28 layers whose batch normalisation is folded in; weights are constants."""

    def __init__(self) -> None:
        super().__init__()
        from safetensors.torch import load_file

        stored = load_file(model_path("sface.safetensors"))
        self._layers = 1 + max(int(name.split(".")[0]) for name in stored)
        for i in range(self._layers):
            weight = stored[f"{i}.weight"].float()
            scale = stored[f"{i}.scale"].view(-1, *[1] * (weight.dim() - 1))
            self.register_buffer(f"weight{i}", weight * scale)
            self.register_buffer(f"bias{i}", stored[f"{i}.bias"])
            if i < self._layers - 1:
                self.register_buffer(f"slope{i}", stored[f"{i}.slope"])

    def forward(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """Unit embeddings [B, 128] of the faces in images [B, 3, H, W] (RGB 0..1).

        `landmarks` [B, 478, 2] are MediaPipe's, in pixels. Gradients reach `images`, not the landmarks.
        """
        values = (aligned(images, landmarks) * 255 - 127.5) / 128
        last = self._layers - 1
        for i in range(last):
            weight = self.get_buffer(f"weight{i}")
            values = F.conv2d(
                values,
                weight,
                self.get_buffer(f"bias{i}"),
                stride=2 if i in _STRIDED else 1,
                padding=weight.shape[-1] // 2,
                groups=values.shape[1] if weight.shape[1] == 1 else 1,
            )
            values = F.prelu(values, self.get_buffer(f"slope{i}"))
        embedding = F.linear(values.flatten(1), self.get_buffer(f"weight{last}"), self.get_buffer(f"bias{last}"))
        return F.normalize(embedding, dim=-1)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> Tensor:
        """Unit embedding [128] of a face in a picture uint8 [H, W, 3], with its landmarks [478, 2 or 3] in pixels."""
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return self(pixels, torch.from_numpy(np.asarray(landmarks))[None, :, :2].float())[0]


@lru_cache(maxsize=1)
def identity_net() -> IdentityNet:
    """The one network of this process, on the CPU."""
    return IdentityNet().eval()


def identity_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine -1..1 of the largest faces of two pictures uint8 [H, W, 3]; one person from `SAME_PERSON` on.

    Raises NoFaceFound.
    """
    first, second = (identity_net().embed(image, _face(image)) for image in (a, b))
    return float(first @ second)


def aligned(images: Tensor, landmarks: Tensor) -> Tensor:
    """Faces [B, 3, 112, 112] of images [B, 3, H, W], moved by a similarity onto the network's template."""
    source = torch.view_as_complex(landmarks[:, list(_POINTS)].contiguous())
    target = torch.view_as_complex(torch.tensor(_TEMPLATE).to(source.real))
    from_middle, to_middle = target.mean(), source.mean(1, keepdim=True)
    spread = target - from_middle
    factor = ((source - to_middle) * spread.conj()).sum(1, keepdim=True) / (spread * spread.conj()).sum()
    side = _SIDE * _SUPERSAMPLING
    steps = (torch.arange(side, device=images.device) + 0.5) / _SUPERSAMPLING
    grid = torch.complex(*torch.meshgrid(steps, steps, indexing="xy")).to(source)
    places = torch.view_as_real(factor[..., None] * (grid - from_middle) + to_middle[..., None])
    size = torch.tensor([images.shape[-1], images.shape[-2]], device=images.device)
    found = F.grid_sample(images, places / size * 2 - 1, padding_mode="border", align_corners=False)
    return F.avg_pool2d(found, _SUPERSAMPLING)


@lru_cache(maxsize=1)
def _detector() -> FaceDetector:
    return FaceDetector()


def _face(image: np.ndarray) -> np.ndarray:
    faces = _detector().detect(image)
    if not faces:
        raise NoFaceFound("No face was found to compare. Use a picture that shows the face from the front.")
    return faces[0].landmarks
