"""Gaussians as `.splat`: 32 bytes each, no header, the format of antimatter15's viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flexavatar.errors import BadSplatFile
from flexavatar.files import atomic_path
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import checked, prepare, turned_over, unit

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def write_splat(path: str | Path, gaussians: Gaussians) -> None:
    """Write one set of Gaussians: float32 positions and scales (metres), 8-bit colour, opacity and wxyz quaternion.

    Sorted by volume times opacity, largest first, so that a viewer shows the important ones while it still loads.
    In the file's frame y points down (see `io.encoding`). Raises CannotWrite.
    """
    turned = turned_over(prepare(gaussians))
    order = torch.argsort(turned.scales.prod(-1) * turned.opacities, descending=True, stable=True)
    turned = turned.select(order)

    # A byte b stands for b / 128 - 1, so -1 is exact and +1 is out of range: of the two quaternions of a rotation, take
    # the one whose largest component is negative.
    largest = turned.quats.gather(-1, turned.quats.abs().argmax(-1, keepdim=True))
    quats = -turned.quats * largest.sign()

    records = np.empty(len(turned), RECORD)
    records["mean"] = turned.means.numpy()
    records["scale"] = turned.scales.numpy()
    records["rgba"] = _bytes(torch.cat([turned.colors, turned.opacities[:, None]], -1) * 255)
    records["quat"] = _bytes(quats * 128 + 128)
    with atomic_path(path) as temporary:
        temporary.write_bytes(records.tobytes())


def read_splat(path: str | Path) -> Gaussians:
    """Read Gaussians from a `.splat`, in the order of the file. Raises BadSplatFile."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadSplatFile(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error
    if not data or len(data) % RECORD.itemsize:
        raise BadSplatFile(
            f"{path} is damaged or no .splat file: its {len(data)} bytes are not a multiple of {RECORD.itemsize}. "
            "Export it again."
        )
    records = np.frombuffer(data, RECORD)
    rgba = torch.from_numpy(records["rgba"].astype(np.float32) / 255)
    gaussians = Gaussians(
        means=torch.from_numpy(records["mean"].copy()),
        quats=unit(torch.from_numpy(records["quat"].astype(np.float32) / 128 - 1)),
        scales=torch.from_numpy(records["scale"].copy()),
        opacities=rgba[:, 3],
        colors=rgba[:, :3],
    )
    return turned_over(checked(gaussians))


def _bytes(values: torch.Tensor) -> np.ndarray:
    return values.round().clamp(0, 255).to(torch.uint8).numpy()
