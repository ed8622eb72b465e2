"""The .flexbundle file: round trip, the same bytes every time, and errors for everything that can be wrong."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flexavatar.baking import BakedAvatar, BakeReport, SparseDeltas, read_bundle, write_bundle
from flexavatar.baking.bundle import STEPS, bundle_bytes
from flexavatar.errors import BadBundle
from flexavatar.gaussians import Gaussians
from flexavatar.io.encoding import unit

SPLATS = 300
CORRECTIVES = (("jawOpen", "mouthClose"), ("eyeBlinkLeft", "eyeBlinkLeft"))
TARGETS = 52 + len(CORRECTIVES)


@pytest.fixture(scope="module")
def baked() -> BakedAvatar:
    torch.manual_seed(0)
    deltas = {}
    for group, size, reach in (("means", 3, 0.03), ("rotations", 3, 1.0), ("scales", 3, 1e-3), ("opacities", 1, 0.5)):
        dense = reach * (2 * torch.rand(TARGETS, SPLATS, size) - 1) * (torch.rand(TARGETS, SPLATS, 1) < 0.1)
        deltas[group] = SparseDeltas.of(dense, 1e-9)
    neutral = Gaussians(
        means=torch.rand(SPLATS, 3) - 0.5,
        quats=unit(torch.randn(SPLATS, 4)),
        scales=1e-3 + 4e-3 * torch.rand(SPLATS, 3),
        opacities=torch.rand(SPLATS),
        colors=torch.rand(SPLATS, 3),
    )
    report = BakeReport(5, 52.0, 44.0, 59.0, 0.004, 0.05, "fitted with correctives", (("one-hot", 40.0),))
    thumbnail = np.full((16, 16, 3), 200, np.uint8)
    torso = (torch.rand(SPLATS) - 0.5).clamp_min(0)
    joint = torch.tensor([0.0, -0.1, -0.09])
    return BakedAvatar(neutral, torso, joint, deltas, CORRECTIVES, thumbnail, {"model": "rig"}, report)


@pytest.fixture(scope="module")
def content(baked: BakedAvatar) -> bytes:
    return bundle_bytes(baked)


def unpacked(content: bytes) -> tuple[dict[str, Any], bytes]:
    plain = gzip.decompress(content)
    (length,) = struct.unpack_from("<I", plain, 8)
    return json.loads(plain[12 : 12 + length]), plain[12 + length :]


def packed(header: dict[str, Any], data: bytes, magic: bytes = b"FLXB", version: int = 1) -> bytes:
    text = json.dumps(header).encode()
    return gzip.compress(magic + struct.pack("<II", version, len(text)) + text + data)


def test_round_trip_within_the_steps(baked: BakedAvatar, content: bytes, tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.flexbundle", baked)
    assert (tmp_path / "a.flexbundle").read_bytes() == content
    read = read_bundle(tmp_path / "a.flexbundle")
    limits = {"means": 1e-5, "scales": 5e-7, "opacities": 1 / 255, "colors": 1 / 255, "quats": 1e-4}
    for name, step in limits.items():
        error = (getattr(read.neutral, name) - getattr(baked.neutral, name)).abs()
        if name == "quats":
            error = 1 - (read.neutral.quats * baked.neutral.quats).sum(-1).abs()
        elif name == "means":  # a cube of 1 m, wider than any head, makes the steps larger
            step = 1 / 65535
        assert float(error.max()) <= 0.51 * step, name
    assert torch.allclose(read.torso_weights, baked.torso_weights, atol=0.51 / 65535)
    for group, deltas in baked.deltas.items():
        assert torch.equal(read.deltas[group].counts, deltas.counts)
        assert torch.equal(read.deltas[group].splats, deltas.splats)
        assert float((read.deltas[group].values - deltas.values).abs().max()) <= 0.51 * STEPS[group], group
    assert read.deltas.keys() == baked.deltas.keys()
    assert read.correctives == CORRECTIVES
    assert read.report == baked.report
    assert read.metadata == {"model": "rig"}
    assert np.array_equal(read.thumbnail, baked.thumbnail)


def test_same_avatar_same_bytes(baked: BakedAvatar, content: bytes) -> None:
    assert bundle_bytes(baked) == content
    assert content[4:8] == b"\0\0\0\0"  # gzip's modification time


def test_a_reader_written_from_the_document_finds_the_means(baked: BakedAvatar, content: bytes) -> None:
    """As the browser reads: typed arrays, running sums that wrap, scale and bias; sums over the listed splats."""
    header, data = unpacked(content)

    def array(name: str) -> np.ndarray:
        entry = header["arrays"][name]
        assert entry["offset"] % 4 == 0
        stored = np.frombuffer(data, entry["dtype"], int(np.prod(entry["shape"])), entry["offset"])
        rows = stored.reshape(entry["shape"]).copy()
        if entry["coding"] == "differences":
            for row in rows.reshape(-1, rows.shape[-1]):
                for i in range(1, len(row)):
                    row[i] = (
                        (int(row[i]) + int(row[i - 1])) & (256**row.itemsize - 1)
                        if row.dtype.kind == "u"
                        else ((int(row[i]) + int(row[i - 1]) + 32768) % 65536 - 32768)
                    )
        if "scale" not in entry:
            return rows
        return rows * np.array(entry["scale"])[:, None] + np.array(entry["bias"])[:, None]

    weights = dict.fromkeys(header["blendshapes"], 0.0) | {"jawOpen": 0.6, "mouthClose": 0.5, "browInnerUp": 1.0}
    x = [weights[name] for name in header["blendshapes"]]
    x += [float(np.prod([weights[name] for name in factors])) for factors in header["correctives"]]
    means, values, splats = array("means"), array("deltas/means/values"), array("deltas/means/splats")[0]
    start = 0
    for weight, count in zip(x, array("deltas/means/counts"), strict=True):
        for k in range(start, start + int(count)):
            means[:, splats[k]] += weight * values[:, k]
        start += int(count)
    from flexavatar.expression import Expression

    expected = baked.gaussians(Expression.of(weights)).means.numpy()
    assert np.abs(means.T - expected).max() < 5e-5


def test_missing_empty_and_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.flexbundle"
    with pytest.raises(BadBundle, match="no file"):
        read_bundle(path)
    for wrong, message in (
        (b"", "empty"),
        (b"a letter, and no bundle at all", "not a FlexAvatar bundle"),
        (gzip.compress(b"glTF" + bytes(100)), "not a FlexAvatar bundle"),
        (packed(*unpacked(content), version=2), "newer FlexAvatar"),
        (packed(*unpacked(content), version=0), "damaged"),
        (gzip.compress(b"FLXB"), "cut off"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(BadBundle, match=message):
            read_bundle(path)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.3, 0.9, 0.9999])
def test_cut_off_files(tmp_path: Path, content: bytes, share: float) -> None:
    path = tmp_path / "a.flexbundle"
    path.write_bytes(content[: max(int(share * len(content)), 1)])
    with pytest.raises(BadBundle, match="cut off"):
        read_bundle(path)


def test_damaged_bytes_are_noticed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.flexbundle"
    random = np.random.default_rng(0)
    for place in random.integers(10, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(BadBundle):
            read_bundle(path)


def _set(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("splats", value=10**9),
        _set("splats", value=-1),
        _set("splats", value="many"),
        _set("splats", value=SPLATS - 1),
        _set("blendshapes", value=["jawOpen"]),
        _set("correctives", value=[["noSuchShape"], ["jawOpen"]]),
        _set("correctives", value=[]),
        _set("correctives", value=[["jawOpen"]] * 2000),
        _set("neck_joint", value=[0.0]),
        _set("neck_joint", value=[0.0, float("nan"), 0.0]),
        _set("binary_bytes", value=0),
        _set("arrays", value=[]),
        _set("arrays", "means", "offset", value=10**12),
        _set("arrays", "means", "offset", value=-4),
        _set("arrays", "means", "dtype", value="object"),
        _set("arrays", "means", "coding", value="magic"),
        _set("arrays", "means", "scale", value=[1.0]),
        _set("arrays", "means", "scale", value=[float("inf")] * 3),
        _set("arrays", "deltas/means/counts", "offset", value=0),
        _set("arrays", "deltas/means/splats", "coding", value="plain"),
        _set("thumbnail", "length", value=3),
        _set("report", value={"frames": 1}),
        _set("metadata", value=3),
    ],
)
def test_absurd_headers(tmp_path: Path, content: bytes, change: Callable[[dict[str, Any]], None]) -> None:
    header, data = unpacked(content)
    change(header)
    path = tmp_path / "a.flexbundle"
    path.write_bytes(packed(header, data))
    with pytest.raises(BadBundle):
        read_bundle(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.flexbundle"
    path.write_bytes(gzip.compress(b"FLXB" + bytes(300 * 1024**2), 1))
    with pytest.raises(BadBundle, match="unpacks to more"):
        read_bundle(path)
