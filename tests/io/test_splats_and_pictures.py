"""Gaussians, pictures and videos on disk: what is written is what comes back, here and in other readers."""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import subprocess
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
import trimesh
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from plyfile import PlyData, PlyElement

from flexavatar.errors import BadSplatFile, CannotWrite
from flexavatar.files import atomic_path
from flexavatar.gaussians import SH_DC, Gaussians
from flexavatar.io import SPLAT_SUFFIXES, SplatOptions, read_splats, write_image, write_splats, write_video
from flexavatar.io.ply import PROPERTIES
from flexavatar.io.splat import RECORD
from flexavatar.io.spz import fractional_bits
from flexavatar.io.videos import read_video_frames, read_video_info

FIELDS = ("means", "scales", "opacities", "colors")


@pytest.fixture
def gaussians() -> Gaussians:
    """500 of them, with the extremes: opaque, invisible, black, white, thin, and quaternions along the axes."""
    generator = torch.Generator().manual_seed(0)
    count = 500
    quats = torch.randn(count, 4, generator=generator)
    quats[:8] = torch.cat([torch.eye(4), -torch.eye(4)])
    opacities = torch.rand(count, generator=generator)
    opacities[:4] = torch.tensor([0.0, 1.0, 0.5, 1e-4])
    colors = torch.rand(count, 3, generator=generator)
    colors[0], colors[1] = 0.0, 1.0
    scales = torch.rand(count, 3, generator=generator) * 0.003 + 1e-4
    scales[2] = torch.tensor([0.05, 0.0005, 0.0001])
    return Gaussians(
        means=torch.randn(count, 3, generator=generator) * 0.1,
        quats=torch.nn.functional.normalize(quats, dim=-1),
        scales=scales,
        opacities=opacities,
        colors=colors,
    )


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angles [G] in radians between the rotations of unit quaternions [G, 4]."""
    chord = torch.minimum((a - b).double().norm(dim=-1), (a + b).double().norm(dim=-1))
    return 4 * (chord / 2).asin()


def in_file_order(gaussians: Gaussians) -> Gaussians:
    """The order of .splat: volume times opacity, largest first."""
    importance = gaussians.scales.prod(-1) * gaussians.opacities
    return gaussians.select(importance.argsort(descending=True, stable=True))


# --- .ply


def test_ply_layout(tmp_path, gaussians):
    write_splats(tmp_path / "head.ply", gaussians)
    ply = PlyData.read(tmp_path / "head.ply")
    assert not ply.text and ply.byte_order == "<"
    assert [element.name for element in ply.elements] == ["vertex"]
    vertices = ply["vertex"]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
             "rot_0", "rot_1", "rot_2", "rot_3"]  # fmt: skip
    assert [prop.name for prop in vertices.properties] == names
    assert {prop.val_dtype for prop in vertices.properties} == {"f4"}
    assert vertices.count == len(gaussians)
    for name in names:
        assert np.isfinite(vertices[name]).all(), name

    # In the file x is right, y down and z forward, for someone who looks at the face.
    np.testing.assert_array_equal(vertices["x"], gaussians.means[:, 0])
    np.testing.assert_array_equal(vertices["y"], -gaussians.means[:, 1])
    np.testing.assert_array_equal(vertices["z"], -gaussians.means[:, 2])
    for name in ("nx", "ny", "nz"):
        assert not vertices[name].any()
    for channel in range(3):
        expected = (gaussians.colors[:, channel].double() - 0.5) / SH_DC
        np.testing.assert_allclose(vertices[f"f_dc_{channel}"], expected, atol=1e-6)
        np.testing.assert_allclose(vertices[f"scale_{channel}"], gaussians.scales[:, channel].double().log(), atol=1e-6)
    logits = gaussians.opacities[4:].double().logit()
    np.testing.assert_allclose(vertices["opacity"][4:], logits, rtol=1e-5, atol=1e-6)
    signs = (1, 1, -1, -1)
    for axis in range(4):
        np.testing.assert_allclose(vertices[f"rot_{axis}"], signs[axis] * gaussians.quats[:, axis], atol=1e-6)


def test_ply_round_trip(tmp_path, gaussians):
    write_splats(tmp_path / "head.ply", gaussians)
    read = read_splats(tmp_path / "head.ply")
    for field in FIELDS:
        torch.testing.assert_close(getattr(read, field), getattr(gaussians, field), rtol=0, atol=1e-6)
    torch.testing.assert_close(read.quats, gaussians.quats, rtol=0, atol=1e-6)
    assert torch.equal(read.means, gaussians.means)


def test_file_frame_describes_the_same_shapes(tmp_path, gaussians):
    """The covariances of the file, turned by 180 degrees about x, are those of the head frame."""
    write_splats(tmp_path / "head.ply", gaussians)
    vertices = PlyData.read(tmp_path / "head.ply")["vertex"]
    quats = np.stack([vertices[f"rot_{axis}"] for axis in range(4)], -1)
    scales = np.exp(np.stack([vertices[f"scale_{axis}"] for axis in range(3)], -1))
    turn = np.diag([1.0, -1.0, -1.0])

    def covariances(quats: np.ndarray, scales: np.ndarray) -> np.ndarray:
        rotations = np.stack([trimesh.transformations.quaternion_matrix(quat)[:3, :3] for quat in quats])
        return rotations * scales[:, None, :] ** 2 @ rotations.transpose(0, 2, 1)

    expected = covariances(gaussians.quats.double().numpy(), gaussians.scales.double().numpy())
    np.testing.assert_allclose(turn @ covariances(quats, scales) @ turn, expected, atol=1e-9)


def test_ply_in_other_readers(tmp_path, gaussians):
    path = tmp_path / "head.ply"
    write_splats(path, gaussians)
    data = gsply.plyread(path)
    turned = gaussians.means.numpy() * [1, -1, -1]
    np.testing.assert_array_equal(data.means, turned)
    np.testing.assert_allclose(np.exp(data.scales), gaussians.scales, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-data.opacities.ravel())), gaussians.opacities, atol=1e-6)
    np.testing.assert_allclose(gsply.sh2rgb(data.sh0), gaussians.colors, atol=1e-6)
    np.testing.assert_allclose(data.quats, gaussians.quats.numpy() * [1, 1, -1, -1], atol=1e-6)
    np.testing.assert_array_equal(trimesh.load(path).vertices, turned)  # pyright: ignore[reportAttributeAccessIssue]


def test_ply_of_other_writers(tmp_path, gaussians):
    """With higher harmonics, ascii, doubles and quaternions that are not normalised."""
    names = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0", "opacity", "scale_0", "scale_1", "scale_2",
             "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip
    rows = np.zeros(3, [(name, "f8") for name in names])
    rows["x"], rows["y"], rows["rot_0"] = [1, 2, 3], 0.25, [2, 1, 0]
    rows["f_dc_0"], rows["scale_0"] = 50, math.log(0.02)
    path = tmp_path / "other.ply"
    for text in (True, False):
        PlyData([PlyElement.describe(rows, "vertex")], text=text, byte_order=">").write(str(path))
        read = read_splats(path)
        torch.testing.assert_close(read.means, torch.tensor([[x, -0.25, 0.0] for x in (1.0, 2.0, 3.0)]))
        torch.testing.assert_close(read.quats, torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(3, 4))
        torch.testing.assert_close(read.colors[0], torch.tensor([1.0, 0.5, 0.5]))
        torch.testing.assert_close(read.scales[0], torch.tensor([0.02, 1.0, 1.0]))
        torch.testing.assert_close(read.opacities, torch.full((3,), 0.5))


# --- .splat


def test_splat_layout(tmp_path, gaussians):
    path = tmp_path / "head.splat"
    write_splats(path, gaussians)
    assert path.stat().st_size == 32 * len(gaussians)
    sorted_ = in_file_order(gaussians)
    first = struct.unpack("<3f3f4B4B", path.read_bytes()[:32])
    np.testing.assert_array_equal(first[:3], sorted_.means[0].numpy() * [1, -1, -1])
    np.testing.assert_array_equal(first[3:6], sorted_.scales[0])
    rgba = torch.cat([sorted_.colors[0], sorted_.opacities[:1]]) * 255
    np.testing.assert_array_equal(first[6:10], rgba.round())
    quat = torch.tensor(first[10:]) / 128 - 1
    assert (
        angles(torch.nn.functional.normalize(quat[None], dim=-1), sorted_.quats[:1] * torch.tensor([1, 1, -1, -1]))
        < 0.02
    )


def test_splat_round_trip(tmp_path, gaussians):
    write_splats(tmp_path / "head.splat", gaussians)
    read, written = read_splats(tmp_path / "head.splat"), in_file_order(gaussians)
    assert torch.equal(read.means, written.means)
    assert torch.equal(read.scales, written.scales)
    half_step = 0.5 / 255 + 1e-6
    torch.testing.assert_close(read.colors, written.colors, rtol=0, atol=half_step)
    torch.testing.assert_close(read.opacities, written.opacities, rtol=0, atol=half_step)
    # Each component is off by at most half a step of 1/128: the chord by twice that, the rotation by twice the chord.
    assert angles(read.quats, written.quats).max() < 2 * 2 * 0.5 / 128 * 1.01
    on_axes = written.quats.abs().amax(-1) == 1
    assert on_axes.sum() == 8
    assert angles(read.quats, written.quats)[on_axes].max() == 0


def test_splat_is_sorted_by_importance(tmp_path, gaussians):
    write_splats(tmp_path / "head.splat", gaussians)
    records = np.frombuffer((tmp_path / "head.splat").read_bytes(), RECORD)
    importance = records["scale"].astype(float).prod(-1) * records["rgba"][:, 3]
    tolerance = records["scale"].astype(float).prod(-1) * 1.01  # opacity is rounded to 1/255
    assert (np.diff(importance) <= np.maximum(tolerance[1:], tolerance[:-1])).all()
    assert importance[0] > 100 * importance[-1]


# --- .spz


def test_spz_layout(tmp_path, gaussians):
    path = tmp_path / "head.spz"
    write_splats(path, gaussians)
    content = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<4sIIBBBB", content[:16])
    assert (magic, version, count, degree, flags, reserved) == (b"NGSP", 3, len(gaussians), 0, 0, 0)
    assert len(content) == 16 + 20 * count
    position = int.from_bytes(content[16:19], "little", signed=True)
    assert position / 2**bits == pytest.approx(float(gaussians.means[0, 0]), abs=2**-bits)
    up = int.from_bytes(content[19:22], "little", signed=True)
    assert up * gaussians.means[0, 1] > 0  # y is up in this format


def spz_bounds(bits: int) -> dict[str, float]:
    """Half of each quantisation step, for positions in metres and colours and opacities in 0..1."""
    return {
        "means": 0.5 / 2**bits + 1e-7,
        "colors": 0.5 / (0.15 * 255) * SH_DC + 1e-6,
        "opacities": 0.5 / 255 + 2e-6,
    }


def test_spz_round_trip(tmp_path, gaussians):
    write_splats(tmp_path / "head.spz", gaussians)
    read = read_splats(tmp_path / "head.spz")
    for field, bound in spz_bounds(fractional_bits(gaussians.means)).items():
        torch.testing.assert_close(getattr(read, field), getattr(gaussians, field), rtol=0, atol=bound)
    assert (read.scales / gaussians.scales).log().abs().max() < 0.5 / 16 + 1e-5
    # Three components are off by half a step e of 0.707/511, the largest by at most 3 e: a chord of sqrt(12) e.
    step = math.sqrt(0.5) / 511
    assert angles(read.quats, gaussians.quats).max() < 2 * math.sqrt(12) * 0.5 * step * 1.01


def test_spz_in_another_reader(tmp_path, gaussians):
    path = tmp_path / "head.spz"
    write_splats(path, gaussians)
    data, read = gsply.read_spz(path), read_splats(path)
    np.testing.assert_allclose(data.means, read.means, atol=1e-7)
    np.testing.assert_allclose(np.exp(data.scales), read.scales, rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-data.opacities)), read.opacities, atol=1e-5)
    np.testing.assert_allclose(np.clip(gsply.sh2rgb(data.sh0), 0, 1), read.colors, atol=1e-5)
    assert angles(torch.from_numpy(data.quats), read.quats).max() < 1e-5


def test_spz_version_2_and_harmonics(tmp_path):
    header = struct.pack("<IIIBBBB", 0x5053474E, 2, 2, 1, 12, 0, 0)
    positions = b"".join(value.to_bytes(3, "little", signed=True) for value in (4096, -4096, 1, 8388607, -8388608, 0))
    body = positions + bytes([255, 0]) + bytes([255, 0, 128] * 2) + bytes([160] * 6)
    body += bytes([128, 128, 255, 218, 128, 128]) + bytes(18)
    path = tmp_path / "old.spz"
    path.write_bytes(gzip.compress(header + body))
    read = read_splats(path)
    torch.testing.assert_close(read.means, torch.tensor([[1.0, -1.0, 1 / 4096], [2048 - 1 / 4096, -2048.0, 0.0]]))
    torch.testing.assert_close(read.scales, torch.ones(2, 3))
    torch.testing.assert_close(read.opacities, torch.tensor([1.0, 0.0]), atol=2e-6, rtol=0)
    torch.testing.assert_close(read.quats[0], torch.tensor([0.0, 0.0, 0.0, 1.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(read.quats[1], torch.tensor([0.704, 0.710, 0.0, 0.0]), atol=0.01, rtol=0)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_spz_versions(tmp_path, gaussians, version):
    """Quaternions of version 2 are coarser where w is small, which is not stored; all else is the same."""
    path = tmp_path / "head.spz"
    write_splats(path, gaussians, SplatOptions(spz_version=version))
    content = path.read_bytes()
    assert struct.unpack_from("<4sI", content if version == 4 else gzip.decompress(content)) == (b"NGSP", version)
    read = read_splats(path)
    for field, bound in spz_bounds(fractional_bits(gaussians.means)).items():
        torch.testing.assert_close(getattr(read, field), getattr(gaussians, field), rtol=0, atol=bound)
    assert (read.scales / gaussians.scales).log().abs().max() < 0.5 / 16 + 1e-5
    assert angles(read.quats, gaussians.quats).max() < (0.35 if version == 2 else 0.01)
    assert angles(read.quats, gaussians.quats).median() < (0.02 if version == 2 else 0.002)
    for left in (3, 20, 40, len(content) - 30):
        path.write_bytes(content[:left])
        with pytest.raises(BadSplatFile):
            read_splats(path)


@pytest.mark.parametrize(("extent", "bits"), [(0.3, 16), (60.0, 16), (70.0, 15), (1000.0, 12)])
def test_spz_positions_fit(tmp_path, gaussians, extent, bits):
    means = torch.linspace(-extent, extent, len(gaussians))[:, None].expand(-1, 3)
    large = Gaussians(means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    assert fractional_bits(means) == bits
    write_splats(tmp_path / "large.spz", large)
    torch.testing.assert_close(read_splats(tmp_path / "large.spz").means, means, rtol=0, atol=1 / 2**bits)


# --- all formats


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_gaussians_of_other_kinds(tmp_path, gaussians, suffix):
    """Double precision, gradients, quaternions that are not normalised, upper-case suffixes."""
    raw = Gaussians(
        gaussians.means.double().requires_grad_(), gaussians.quats * 3, *(getattr(gaussians, f) for f in FIELDS[1:])
    )
    path = tmp_path / f"head{suffix.upper()}"
    write_splats(path, raw)
    write_splats(tmp_path / f"plain{suffix}", gaussians)
    read, plain = read_splats(path), read_splats(tmp_path / f"plain{suffix}")
    assert read.means.dtype == torch.float32
    for field in (*FIELDS, "quats"):
        torch.testing.assert_close(getattr(read, field), getattr(plain, field), rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_what_cannot_be_written(tmp_path, gaussians, suffix):
    path = tmp_path / f"head{suffix}"
    with pytest.raises(ValueError, match="one set"):
        write_splats(path, Gaussians.stack([gaussians, gaussians]))
    with pytest.raises(ValueError, match="no Gaussians"):
        write_splats(path, gaussians.select(torch.zeros(len(gaussians), dtype=torch.bool)))
    gaussians.means[3, 1] = math.nan
    with pytest.raises(ValueError, match="finite"):
        write_splats(path, gaussians)
    assert not list(tmp_path.iterdir())


def test_unknown_suffixes(tmp_path, gaussians):
    for name in ("head.obj", "head"):
        with pytest.raises(CannotWrite, match=r"\.ply, \.splat, \.spz"):
            write_splats(tmp_path / name, gaussians)
        with pytest.raises(BadSplatFile, match=r"\.ply, \.splat, \.spz"):
            read_splats(tmp_path / name)


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_files_that_are_no_splats(tmp_path, suffix):
    path = tmp_path / f"bad{suffix}"
    with pytest.raises(BadSplatFile, match="Cannot read"):
        read_splats(path)
    for content in (b"", b"hello, this is a text\n", bytes(range(256)) * 9 + b"\xff", gzip.compress(b"hello" * 99)):
        path.write_bytes(content)
        with pytest.raises(BadSplatFile, match=f"bad{suffix}"):
            read_splats(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadSplatFile):
        read_splats(path)


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_truncated_splats(tmp_path, gaussians, suffix):
    path = tmp_path / f"head{suffix}"
    write_splats(path, gaussians)
    content = path.read_bytes()
    for size in (5, 33, len(content) // 2 + 3, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(BadSplatFile):
            read_splats(path)


def test_damaged_spz_is_noticed(tmp_path, gaussians):
    path = tmp_path / "head.spz"
    write_splats(path, gaussians)
    content = bytearray(gzip.decompress(path.read_bytes()))
    stored = gzip.compress(content, compresslevel=0)
    damaged = bytearray(stored)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadSplatFile, match="damaged"):
        read_splats(path)
    path.write_bytes(gzip.compress(bytes(content) + b"an extension of some vendor"))
    assert len(read_splats(path)) == len(gaussians)


@pytest.mark.parametrize(("suffix", "version"), [*((suffix, 3) for suffix in SPLAT_SUFFIXES), (".spz", 4)])
def test_damaged_splats_never_raise_anything_else(tmp_path, gaussians, suffix, version):
    path = tmp_path / f"head{suffix}"
    write_splats(path, gaussians.select(torch.arange(20)), SplatOptions(spz_version=version))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.integers(min(len(damaged), 500))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_splats(path)
        except BadSplatFile:
            continue


def test_other_kinds_of_ply(tmp_path):
    path = tmp_path / "mesh.ply"
    trimesh.creation.box().export(path)
    with pytest.raises(BadSplatFile, match="not one of Gaussian splats.*opacity"):
        read_splats(path)
    header = "ply\nformat binary_little_endian 1.0\nelement vertex {}\n"
    header += "".join(f"property float {name}\n" for name in PROPERTIES)
    for count, body in ((0, b""), (1, struct.pack("<17f", math.inf, *[0.0] * 16)), (10**15, bytes(68)), (-1, b"")):
        path.write_bytes(f"{header.format(count)}end_header\n".encode() + body)
        with pytest.raises(BadSplatFile):
            read_splats(path)


def test_spz_headers_that_lie(tmp_path):
    path = tmp_path / "x.spz"
    for version, count, degree, bits in ((3, 2**31, 0, 12), (4, 1, 0, 12), (3, 1, 9, 12), (3, 1, 0, 99), (3, 0, 0, 12)):
        path.write_bytes(
            gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, version, count, degree, bits, 0, 0) + bytes(20))
        )
        with pytest.raises(BadSplatFile):
            read_splats(path)


# --- pictures


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_write_image(tmp_path, suffix):
    image = np.zeros((40, 30, 3), np.uint8)
    image[:20] = (200, 30, 40)
    write_image(tmp_path / f"view{suffix}", image)
    read = np.asarray(Image.open(tmp_path / f"view{suffix}").convert("RGB")).astype(int)
    assert np.abs(read - image).mean() <= (0 if suffix.lower() == ".png" else 2)


def test_write_image_with_alpha(tmp_path):
    image = np.full((40, 30, 4), 100, np.uint8)
    write_image(tmp_path / "view.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "view.png")), image)
    write_image(tmp_path / "view.jpg", image)
    assert Image.open(tmp_path / "view.jpg").mode == "RGB"


def test_pictures_that_cannot_be_written(tmp_path):
    with pytest.raises(CannotWrite, match=r"\.png, \.jpg"):
        write_image(tmp_path / "view.gif", np.zeros((4, 4, 3), np.uint8))
    for image in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            write_image(tmp_path / "view.png", image)
    assert not list(tmp_path.iterdir())


# --- videos


def frames(count: int, height: int = 96, width: int = 128):
    """Skin above, blue below, and a white bar that grows by two pixels a frame."""
    for index in range(count):
        frame = np.empty((height, width, 3), np.uint8)
        frame[: height // 2], frame[height // 2 :] = (200, 120, 90), (30, 80, 160)
        frame[:, : 2 * index] = 255
        yield frame


@pytest.mark.parametrize(("height", "width", "fps"), [(96, 128, 25), (97, 129, 30), (720, 1280, 29.97)])
def test_video(tmp_path, height, width, fps):
    path = tmp_path / "turn.mp4"
    write_video(path, frames(12, height, width), fps)
    info = read_video_info(path)
    assert (info.width, info.height) == (width + width % 2, height + height % 2)
    assert info.fps == pytest.approx(fps, abs=0.01)
    assert info.duration == pytest.approx(12 / fps, abs=0.02)
    read = list(read_video_frames(path))
    assert len(read) == 12
    for frame, written in zip(read, frames(12, height, width), strict=True):
        assert np.abs(frame[:height, :width].astype(int) - written)[8:-8, 40:].mean() < 2.5  # and so no colour shift


def test_video_plays_in_browsers(tmp_path):
    path = tmp_path / "turn.mp4"
    write_video(path, frames(5), 25)
    described = subprocess.run([get_ffmpeg_exe(), "-i", str(path)], capture_output=True, text=True).stderr
    assert "Video: h264 (High)" in described and "yuv420p(tv, bt709" in described
    content = path.read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")  # the index is at the front


def test_video_of_a_generator_that_fails(tmp_path):
    path = tmp_path / "turn.mp4"
    write_video(path, frames(3), 25)
    before = path.read_bytes()

    def failing():
        yield from frames(5)
        raise RuntimeError("the renderer failed")

    with pytest.raises(RuntimeError, match="renderer failed"):
        write_video(path, failing(), 25)
    with pytest.raises(ValueError, match="one size"):
        write_video(path, [*frames(2), *frames(1, 64, 64)], 25)
    with pytest.raises(ValueError, match="no frames"):
        write_video(path, [], 25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_videos_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(CannotWrite, match=r"\.mp4"):
        write_video(tmp_path / "turn.avi", frames(2), 25)
    failing = tmp_path / "ffmpeg"
    failing.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(failing))
    with pytest.raises(CannotWrite, match="No space left"):
        write_video(tmp_path / "turn.mp4", frames(20), 25)
    assert list(tmp_path.iterdir()) == [failing]


# --- atomic


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_atomic(tmp_path):
    path = tmp_path / "new" / "folders" / "file.txt"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".txt"
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_atomic_keeps_usual_permissions_and_links(tmp_path):
    target, link = tmp_path / "file.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        temporary.write_text("text")
    plain = tmp_path / "plain.txt"
    plain.touch()
    assert link.is_symlink() and target.read_text() == "text"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("suffix", SPLAT_SUFFIXES)
def test_a_writer_that_fails_midway_keeps_the_old_file(tmp_path, gaussians, suffix, monkeypatch):
    path = tmp_path / f"head{suffix}"
    write_splats(path, gaussians)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CannotWrite, match="disk is full"):
        write_splats(path, gaussians.select(torch.arange(5)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_to(tmp_path, gaussians, monkeypatch):
    blocking = tmp_path / "file"
    blocking.touch()
    for path in (blocking / "head.ply", blocking / "deeper" / "head.ply"):
        with pytest.raises(CannotWrite, match="is a file, not a folder"):
            write_splats(path, gaussians)
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(CannotWrite, match="add a file name"):
        write_splats(tmp_path / "folder.ply", gaussians)
    with pytest.raises(CannotWrite, match="shorter"):
        write_splats(tmp_path / f"{'x' * 300}.ply", gaussians)
    names = {path.name for path in tmp_path.iterdir()}

    real_open = Path.open

    def read_only(self, mode="r", *args, **kwargs):
        if "r" not in mode:
            raise PermissionError(13, "Permission denied")
        return real_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", read_only)  # and not chmod, which does not hold back root
    with pytest.raises(CannotWrite, match="another folder"):
        write_splats(tmp_path / "head.ply", gaussians)
    with pytest.raises(CannotWrite, match="another folder"):
        write_video(tmp_path / "turn.mp4", (pytest.fail("rendered in vain") for _ in range(1)), 25)
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path, gaussians):
    tmp_path.chmod(0o500)
    with pytest.raises(CannotWrite, match="another folder"):
        write_splats(tmp_path / "head.ply", gaussians)
