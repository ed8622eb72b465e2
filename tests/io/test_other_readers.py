"""Every export of splats, read by independent readers and drawn, is the picture that was exported."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
from plyfile import PlyData

from flexavatar.camera import Camera
from flexavatar.gaussians import Gaussians
from flexavatar.io import SplatOptions, read_splats, write_splats
from flexavatar.io.encoding import ShDegree, SpzVersion, turned_over
from flexavatar.metrics import decibels
from flexavatar.render import render
from flexavatar.rotations import rotation_from_angles

READERS = Path(__file__).parent / "readers"
SPZ: tuple[SpzVersion, ...] = (2, 3, 4)
SH: tuple[ShDegree, ...] = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    """Red to the right, green above, blue in front, of leaves that lie on a sphere: no turn or mirror keeps it."""
    generator = torch.Generator().manual_seed(1)
    means = 0.1 * torch.nn.functional.normalize(torch.randn(600, 3, generator=generator), dim=-1)
    quats = torch.nn.functional.normalize(torch.randn(600, 4, generator=generator), dim=-1)
    scales = torch.tensor([0.02, 0.006, 0.002]).expand(600, 3)
    colors = (means * 4 + 0.5 + 0.3 * torch.randn(600, 3, generator=generator)).clamp(0, 1)
    return Gaussians(means, quats, scales, torch.full((600,), 0.9), colors)


def picture(gaussians: Gaussians) -> np.ndarray:
    return render(gaussians, Camera.orbit(30, 20, 192), backend="cpu").rgb.numpy()


def likeness(read: Gaussians, scene: Gaussians) -> float:
    """PSNR in dB."""
    return decibels(float(np.square(picture(read) - picture(scene)).mean()))


def test_what_would_be_wrong_shows(scene: Gaussians) -> None:
    turn = rotation_from_angles(5)
    assert likeness(replace(scene, means=scene.means @ turn.T), scene) < 27
    assert likeness(replace(scene, quats=scene.quats * torch.tensor([-1.0, 1.0, 1.0, 1.0])), scene) < 27
    assert likeness(replace(scene, quats=scene.quats.roll(1, -1)), scene) < 27
    assert likeness(replace(scene, colors=scene.colors.flip(-1)), scene) < 27


def from_gsply(data: gsply.GSData) -> Gaussians:
    tensor = lambda values: torch.from_numpy(np.array(values, np.float32))  # noqa: E731
    return Gaussians(
        tensor(data.means), tensor(data.quats), tensor(data.scales).exp(), tensor(data.opacities).sigmoid(),
        tensor(gsply.sh2rgb(data.sh0)).clamp(0, 1),
    )  # fmt: skip


@pytest.mark.parametrize("version", SPZ)
def test_spz_in_gsply(version: SpzVersion, scene: Gaussians, tmp_path: Path) -> None:
    path = tmp_path / "scene.spz"
    write_splats(path, scene, SplatOptions(spz_version=version))
    assert likeness(from_gsply(gsply.read_spz(path)), scene) > 33
    assert likeness(read_splats(path), scene) > 33


@pytest.mark.parametrize("degree", SH)
def test_ply_in_gsply(degree: ShDegree, scene: Gaussians, tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    write_splats(path, scene, SplatOptions(ply_sh=degree))
    names = [prop.name for prop in PlyData.read(path)["vertex"].properties]
    assert len(names) == (17, 26, 41, 62)[degree] and names[9:10] == (["f_rest_0"] if degree else ["opacity"])
    assert likeness(turned_over(from_gsply(gsply.plyread(path))), scene) > 60
    assert likeness(read_splats(path), scene) > 60


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PlayCanvas' splat-transform, installed by npm; it reads SPZ by the code of the format's authors."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("readers")
    shutil.copy(READERS / "package.json", folder)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=False)
    if done.returncode:
        pytest.skip("npm cannot install splat-transform")
    return folder / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("scene.splat", SplatOptions())]
    + [("scene.spz", SplatOptions(spz_version=version)) for version in SPZ]
    + [("scene.ply", SplatOptions(ply_sh=degree)) for degree in SH],
)
def test_exports_in_splat_transform(
    name: str, options: SplatOptions, scene: Gaussians, transform: Path, tmp_path: Path
) -> None:
    write_splats(tmp_path / name, scene, options)
    call = ["node", str(transform), "--quiet", str(tmp_path / name), str(tmp_path / "out" / "read.ply")]
    (tmp_path / "out").mkdir()
    subprocess.run(call, check=True)
    read = from_gsply(gsply.plyread(tmp_path / "out" / "read.ply"))
    # It leaves every file in its own frame.
    assert likeness(read if name.endswith(".spz") else turned_over(read), scene) > 33
