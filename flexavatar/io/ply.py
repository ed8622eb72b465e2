"""Gaussians as `.ply`, in the layout of the 3D Gaussian Splatting reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError

from flexavatar.errors import BadSplatFile
from flexavatar.files import atomic_path
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import ShDegree, activated, prepare, raw_values, turned_over

_COLUMNS = {
    "means": ("x", "y", "z"),
    "normals": ("nx", "ny", "nz"),  # the reference writes zeros here, and some viewers count on the columns
    "sh_dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
PROPERTIES: tuple[str, ...] = tuple(name for names in _COLUMNS.values() for name in names)
_REST = (0, 9, 24, 45)  # `f_rest_*` columns, for degrees 0 to 3


def write_ply(path: str | Path, gaussians: Gaussians, sh_degree: ShDegree = 0) -> None:
    """Write one set of Gaussians: binary little-endian float32, log-scales, opacity logits, SH DC, wxyz quaternions.

    Colours are the same from all sides; `f_rest_*` columns up to `sh_degree` hold zeros, for readers that want them. In
    the file's frame y points down (see `io.encoding`). Raises CannotWrite.
    """
    turned = turned_over(prepare(gaussians))
    log_scales, logits, sh_dc = raw_values(turned)
    rest = sh_dc.new_zeros(len(sh_dc), _REST[sh_degree])
    columns = [turned.means, torch.zeros_like(turned.means), sh_dc, rest, logits[:, None], log_scales, turned.quats]
    table = torch.cat(columns, -1).numpy()
    before = PROPERTIES.index("opacity")
    names = (*PROPERTIES[:before], *(f"f_rest_{i}" for i in range(rest.shape[1])), *PROPERTIES[before:])
    rows = np.ascontiguousarray(table, "<f4").view([(name, "<f4") for name in names])[:, 0]
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(temporary))


def read_ply(path: str | Path) -> Gaussians:
    """Read Gaussians from a 3DGS `.ply`; spherical harmonics above degree 0 are left out.

    Raises BadSplatFile for a missing or damaged file and for a `.ply` that holds something else.
    """
    try:
        vertices = _read_vertices(Path(path))
    except (PlyParseError, UnicodeDecodeError, ValueError, KeyError, IndexError, MemoryError) as error:
        raise BadSplatFile(f"{path} is damaged or no .ply file ({error}). Export it again.") from error
    except OSError as error:
        raise BadSplatFile(f"Cannot read {path}: {error.strerror or error}. Check the path.") from error

    present = {prop.name for prop in vertices.properties} if vertices is not None else set()
    missing = [name for key, names in _COLUMNS.items() if key != "normals" for name in names if name not in present]
    if vertices is None or missing:
        raise BadSplatFile(
            f"{path} is a .ply file, but not one of Gaussian splats (no {', '.join(missing)}). "
            "Choose an uncompressed 3DGS .ply, not a mesh, a point cloud or a compressed .ply."
        )
    if vertices.count == 0:
        raise BadSplatFile(f"{path} holds no Gaussians. Export it again.")

    def columns(key: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(vertices[name], np.float32) for name in _COLUMNS[key]], -1))

    values = (columns("means"), columns("log_scales"), columns("quats"), columns("logits")[:, 0], columns("sh_dc"))
    return turned_over(activated(*values))


def _read_vertices(path: Path) -> PlyElement | None:
    # Mapped, because plyfile otherwise reads value by value; it also turns a count beyond the file's end into an error.
    elements = PlyData.read(str(path), mmap="r").elements
    return next((element for element in elements if element.name == "vertex"), None)
