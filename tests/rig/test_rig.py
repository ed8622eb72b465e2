"""The committed rig: geometry, expressions, atlas and landmark bindings do what their names say."""

import math

import numpy as np
import pytest
import torch

from flexavatar.expression import ARKIT_BLENDSHAPES, BLENDSHAPE_INDEX, Expression, opposite
from flexavatar.rig import PART_NAMES, REGION_NAMES, Rig
from flexavatar.rotations import quaternions, rotation_from_angles


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load()


def part_vertices(rig: Rig, *names: str) -> torch.Tensor:
    return rig.part_triangles(*names).unique()


def delta(rig: Rig, name: str) -> torch.Tensor:
    return rig.expression_deltas[BLENDSHAPE_INDEX[name]]


def region_of_face(rig: Rig, x: tuple, y: tuple) -> torch.Tensor:
    """Skin vertices at the front of the face within bounds (metres)."""
    p = rig.mean
    skin = torch.zeros(len(p), dtype=torch.bool)
    skin[part_vertices(rig, "skin")] = True
    return skin & (p[:, 2] > 0) & (p[:, 0] > x[0]) & (p[:, 0] < x[1]) & (p[:, 1] > y[0]) & (p[:, 1] < y[1])


def test_sizes_and_origin(rig):
    assert rig.expression_deltas.shape == (52, *rig.mean.shape)
    assert len(rig.shape_basis) >= 60
    assert set(rig.parts.tolist()) == set(range(len(PART_NAMES)))
    eyes = [rig.mean[part_vertices(rig, name)] for name in ("eye_left", "eye_right")]
    # The back of the eyeballs is cut off, so only x and y tell the origin.
    middle = (eyes[0].mean(0) + eyes[1].mean(0)) / 2
    assert middle[:2].abs().max() < 1e-3
    assert eyes[0][:, 0].mean() > 0.02, "the left eye is on the +x side"
    assert rig.mean[:, 1].max() > 0.09 and rig.mean[:, 2].max() > 0.02


def test_mean_and_expressions_are_symmetric(rig):
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(rig.mirror[rig.mirror], torch.arange(len(rig.mirror)))
    assert (rig.mean[rig.mirror] * flip - rig.mean).abs().max() < 1e-4
    for name in ARKIT_BLENDSHAPES:
        difference = delta(rig, name)[rig.mirror] * flip - delta(rig, opposite(name))
        assert difference.abs().max() < 1e-4, name


def test_every_expression_moves_something(rig):
    largest = rig.expression_deltas.norm(dim=-1).amax(1)
    assert (largest > 1e-3).all(), [n for n, v in zip(ARKIT_BLENDSHAPES, largest, strict=True) if v <= 1e-3]
    assert (largest < 0.06).all()


def test_jaw_open_lowers_chin_and_lower_teeth_only(rig):
    d = delta(rig, "jawOpen")
    chin = region_of_face(rig, (-0.01, 0.01), (-0.115, -0.095))
    forehead = region_of_face(rig, (-0.03, 0.03), (0.03, 0.07))
    assert d[chin][:, 1].mean() < -0.01
    assert d[part_vertices(rig, "teeth_lower")][:, 1].mean() < -0.01
    assert d[part_vertices(rig, "teeth_upper")].norm(dim=-1).max() < 1e-3
    assert d[forehead].norm(dim=-1).max() < 1e-3


def test_blink_left_closes_only_the_left_lid(rig):
    d = delta(rig, "eyeBlinkLeft").norm(dim=-1)
    left = region_of_face(rig, (0.015, 0.05), (-0.015, 0.02))
    right = region_of_face(rig, (-0.05, -0.02), (-0.015, 0.02))
    assert d[left].max() > 4e-3
    assert d[right].max() < 1e-3


def test_smile_lifts_its_own_corner(rig):
    d = delta(rig, "mouthSmileLeft")
    corner = region_of_face(rig, (0.02, 0.035), (-0.08, -0.06))
    other = region_of_face(rig, (-0.035, -0.02), (-0.08, -0.06))
    assert d[corner][:, 1].mean() > 2e-3
    assert d[other].norm(dim=-1).mean() < d[corner].norm(dim=-1).mean() / 4


def test_gaze_turns_the_eyeball_towards_its_name(rig):
    front = lambda name: part_vertices(rig, name)[rig.mean[part_vertices(rig, name), 2].topk(5).indices]  # noqa: E731
    assert delta(rig, "eyeLookOutLeft")[front("eye_left")][:, 0].mean() > 1e-3
    assert delta(rig, "eyeLookInLeft")[front("eye_left")][:, 0].mean() < -1e-3
    assert delta(rig, "eyeLookUpRight")[front("eye_right")][:, 1].mean() > 1e-3
    assert delta(rig, "eyeLookDownRight")[front("eye_right")][:, 1].mean() < -1e-3


def test_tongue_out_moves_the_tongue_forward(rig):
    assert delta(rig, "tongueOut")[part_vertices(rig, "tongue")][:, 2].max() > 0.01


def test_lips_part_when_the_jaw_opens(rig):
    opened = rig.landmarks(delta(rig, "jawOpen"))[:, 1]
    upper, lower = [80, 81, 82, 13, 312, 311, 310], [88, 178, 87, 14, 317, 402, 318]
    assert (opened[upper] - opened[lower] > 0.015).all()


@pytest.mark.parametrize("way", ["Up", "Down", "In", "Out"])
def test_gaze_leaves_the_head_where_it_is(rig, way):
    moved = delta(rig, f"eyeLook{way}Left").norm(dim=-1)
    assert moved.median() < 1e-5


def test_shape_basis_is_scaled_to_unit_variance(rig):
    strength = rig.shape_basis.flatten(1).norm(dim=1)
    assert (strength[:-1] >= strength[1:] * 0.999).all(), "components are sorted by their standard deviation"
    gram = torch.nn.functional.normalize(rig.shape_basis.flatten(1), dim=1)
    assert (gram @ gram.T - torch.eye(len(gram))).abs().max() < 1e-2


def test_head_rotation_turns_the_torso_and_not_the_head(rig):
    turn = rotation_from_angles(yaw=30)
    shape, neutral = torch.zeros(len(rig.shape_basis)), torch.zeros(52)
    moved = rig.pose(shape, neutral, turn) - rig.pose(shape, neutral)
    skull = rig.mean[:, 1] > 0
    assert moved[skull].norm(dim=-1).max() < 1e-3
    assert (rig.landmarks(moved)).norm(dim=-1).median() < 1e-3
    rim = rig.mean[:, 1] < -0.2
    angle = 2 * math.sin(math.radians(15))
    radius = (rig.mean[rim] - rig.neck_joint)[:, [0, 2]].norm(dim=-1)
    assert torch.allclose(moved[rim].norm(dim=-1), angle * radius, rtol=0.05, atol=1e-3)


def test_rotation_signs(rig):
    """Yaw turns to the subject's left (+x), pitch down, roll towards the subject's right shoulder (-x)."""
    forward, up = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    assert (rotation_from_angles(yaw=20) @ forward)[0] > 0.3
    assert (rotation_from_angles(pitch=20) @ forward)[1] < -0.3
    assert (rotation_from_angles(roll=20) @ up)[0] < -0.3


def test_pose_is_batched(rig):
    shapes, weights = torch.randn(3, len(rig.shape_basis)), torch.rand(3, 52)
    turns = torch.stack([rotation_from_angles(yaw=a) for a in (0, 10, 20)])
    together = rig.pose(shapes, weights, turns)
    single = torch.stack([rig.pose(s, w, r) for s, w, r in zip(shapes, weights, turns, strict=True)])
    assert torch.allclose(together, single, atol=1e-6)


def test_atlas_partitions_the_square(rig):
    atlas = rig.atlas
    valid = atlas.valid
    assert 50_000 < valid.sum() < 65_000
    assert torch.equal(valid, atlas.region >= 0)
    assert set(atlas.region.unique().tolist()) == set(range(-1, len(REGION_NAMES)))
    part = rig.parts[atlas.triangle[valid]].long()
    region = atlas.region[valid]
    skin = region <= REGION_NAMES.index("sockets")
    assert (part[skin] == 0).all()
    for name in REGION_NAMES[3:]:
        assert (part[region == REGION_NAMES.index(name)] == PART_NAMES.index(name)).all()
    assert (atlas.barycentric[valid].sum(-1) - 1).abs().max() < 2e-3
    assert atlas.barycentric[valid].min() > -2e-3


def test_atlas_charts_do_not_overlap(rig):
    """Every covered texel is hit by one triangle only: signed areas of all charts add up to what is covered."""
    mapped = rig.triangles[rig.parts != PART_NAMES.index("lashes")]
    uv = rig.atlas.uv[mapped] * 256
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs().sum() / 2
    assert abs(area / rig.atlas.valid.sum() - 1) < 0.02


def test_atlas_is_symmetric_and_the_face_is_in_the_middle(rig):
    assert (rig.atlas.valid[:212] == rig.atlas.valid[:212].flip(1)).float().mean() > 0.995
    nose = rig.mean[:, 2].argmax()
    assert (rig.atlas.uv[nose] - torch.tensor([0.5, 0.4])).abs().max() < 0.12
    left = rig.mean[:, 0].argmax()
    assert rig.atlas.uv[left, 0] > 0.5


def test_anchors_interpolate_and_follow(rig):
    anchors = rig.anchors
    assert len(anchors) == int(rig.atlas.valid.sum())
    expected = (
        rig.mean[rig.triangles[rig.atlas.triangle[rig.atlas.valid]]] * rig.atlas.barycentric[rig.atlas.valid][..., None]
    ).sum(1)
    frames = anchors.frames(rig.mean)
    assert torch.allclose(frames.means, expected, atol=1e-6)
    assert (frames.quats.norm(dim=-1) - 1).abs().max() < 1e-5
    assert frames.scales.min() > 0 and frames.scales.max() < 6e-3
    turn = rotation_from_angles(yaw=40, pitch=10)
    turned = anchors.frames(rig.mean @ turn.T)
    assert torch.allclose(turned.scales, frames.scales, rtol=1e-2, atol=1e-6)


def test_quaternions_match_their_matrices():
    q = torch.nn.functional.normalize(
        torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    w, x, y, z = q.unbind(-1)
    matrix = torch.stack(
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
         2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
         2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1,
    ).view(-1, 3, 3)  # fmt: skip
    found = quaternions(matrix)
    sign = (found * q).sum(-1, keepdim=True).sign()
    assert (found * sign - q).abs().max() < 1e-9


def test_landmarks_lie_on_the_face(rig):
    points = rig.landmarks(rig.mean)
    assert points.shape == (478, 3)
    assert (points[:468, 2] > -0.09).all()
    assert points[1, 2] > points[[33, 263], 2].max() + 0.01, "landmark 1 is the nose tip"
    assert points[263, 0] > 0.03 and points[33, 0] < -0.03, "263 is the subject's left outer eye corner"
    assert points[152, 1] < -0.09, "152 is the chin"
    left_eye = rig.mean[part_vertices(rig, "eye_left")].mean(0)
    assert (points[473:478, :2] - left_eye[:2]).norm(dim=-1).max() < 0.012
    assert ((rig.landmark_weights > 0) & (rig.landmark_weights <= 1)).all()


def test_expression_names_and_code():
    assert len(ARKIT_BLENDSHAPES) == len(set(ARKIT_BLENDSHAPES)) == 52
    code = Expression.of({"jawOpen": 0.5}).code()
    assert code.shape == (58,)
    assert code[BLENDSHAPE_INDEX["jawOpen"]] == 0.5
    assert code[52:].tolist() == [1, 0, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="jawOpn"):
        Expression.of({"jawOpn": 1.0})
    with pytest.raises(ValueError, match="smile"):
        Expression.of("smirk")


def test_missing_rig_data_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError):
        Rig.load(tmp_path / "none.safetensors")


def test_atlas_neighbours_are_neighbours_on_the_head(rig):
    valid = rig.atlas.valid
    position = torch.full((*valid.shape, 3), float("nan"))
    position[valid] = rig.anchors.positions(rig.mean)
    skin = (rig.atlas.region >= 0) & (rig.atlas.region <= REGION_NAMES.index("sockets"))
    both = skin[:, 1:] & skin[:, :-1]
    steps = (position[:, 1:] - position[:, :-1]).norm(dim=-1)[both]
    assert np.quantile(steps.numpy(), 0.99) < 0.008
    assert steps.max() < 0.03
