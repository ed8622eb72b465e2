"""Hair off the rig: shape from the silhouettes of several views, kept in the avatar and its file."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from flexavatar.avatar import Avatar
from flexavatar.avatar.avatar_file import read_avatar_file, write_avatar_file
from flexavatar.camera import Camera
from flexavatar.driving.interpolation import interpolate
from flexavatar.errors import BadAvatarFile
from flexavatar.expression import Expression
from flexavatar.reconstruction.silhouette import hair_displacement_of
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.hair_displacement import outward, raised
from flexavatar.rig.regions import atlas_regions, under_hair
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import TrackedFace

SIZE = 256


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig.load()


@pytest.fixture(scope="module")
def hair(rig) -> Tensor:
    """Hair that stands 4 cm off, less towards its ends [V]."""
    return 0.04 * (outward().reach / 0.16).clamp(0, 1)


def avatar_of(rig: Rig, hair_displacement: Tensor | None) -> Avatar:
    count = len(rig.anchors)
    return Avatar(
        shape=torch.zeros(len(rig.shape_basis)),
        neutral_blendshapes=torch.zeros(52),
        colors=torch.full((count, 3), 0.4),
        opacities=torch.full((count,), 0.98),
        thumbnail=np.zeros((8, 8, 3), np.uint8),
        metadata={"model": "rig"},
        hair_displacement=hair_displacement,
    )


def silhouette(avatar: Avatar, camera: Camera) -> Tensor:
    return render(avatar.gaussians(), camera).alpha[0]


def view(avatar: Avatar, yaw: float) -> TrackedFace:
    camera = Camera.orbit(yaw, 0, SIZE)
    return TrackedFace(
        image=np.full((SIZE, SIZE, 3), 100, np.uint8),
        matte=silhouette(avatar, camera).numpy(),
        crop=(0.0, 0.0, float(SIZE)),
        landmarks=np.zeros((478, 2)),
        scores=torch.zeros(52),
        shape=avatar.shape,
        blendshapes=torch.zeros(52),
        head_rotation=torch.eye(3),
        camera=camera,
        error=0.005,
    )


def test_the_face_and_the_torso_keep_their_place(rig):
    face = rig.landmark_vertices[rig.landmark_weights > 0.5].flatten()
    assert float((outward().reach[face] > 0.01).float().mean()) < 0.1
    assert float(outward().reach[rig.torso_weights > 0.95].max()) < 0.06
    assert float(outward().reach.max()) > 0.15
    free = outward().reach > 0
    assert (outward().direction[free].norm(dim=-1) - 1).abs().max() < 1e-4


def test_silhouettes_give_the_hair_back_also_from_directions_that_no_view_shows(rig, hair):
    truth, bare = avatar_of(rig, hair), avatar_of(rig, None)
    found = hair_displacement_of([view(truth, yaw) for yaw in (0, 40, -40)])
    assert torch.equal(found, hair_displacement_of([view(truth, yaw) for yaw in (0, 40, -40)])), (
        "same input, same volume"
    )
    scalp = hair > 0.035
    assert float((found - hair)[scalp].abs().median()) < 0.006
    assert float(found.min()) >= 0 and bool((found[outward().reach == 0] == 0).all())
    made = avatar_of(rig, found)
    for yaw in (75, -20, 180):
        camera = Camera.orbit(yaw, 0, SIZE)
        wanted = silhouette(truth, camera)
        missed = (silhouette(made, camera) - wanted).abs().sum()
        assert missed < 0.4 * (silhouette(bare, camera) - wanted).abs().sum()


def test_a_bald_head_stays_bald(rig):
    bare = avatar_of(rig, None)
    found = hair_displacement_of([view(bare, yaw) for yaw in (0, 40, -40)])
    assert float(found.quantile(0.95)) < 0.004


def test_one_bad_matte_does_not_carve_the_head(rig, hair):
    truth = avatar_of(rig, hair)
    views = [view(truth, yaw) for yaw in (0, 20, -20, 40, -40)]
    whole = hair_displacement_of(views)
    views[1] = replace(views[1], matte=view(avatar_of(rig, 0.7 * hair), 20).matte)
    assert float((hair_displacement_of(views) - whole)[hair > 0.035].median()) > -0.006


def test_raised_hair_has_no_holes(rig, hair):
    """Seen from all around and driven: the head's inside is opaque."""
    avatar = avatar_of(rig, hair)
    for yaw in (0, 90, 180):
        alpha = silhouette(avatar, Camera.orbit(yaw, 10, SIZE)).numpy()
        above = alpha[: SIZE // 2]
        rows, columns = np.nonzero(above > 0.9)
        middle = above[rows.min() + 8 : rows.max(), int(np.median(columns)) - 12 : int(np.median(columns)) + 12]
        assert middle.min() > 0.9


def test_volume_turns_with_the_head_and_batches(rig, hair):
    avatar = avatar_of(rig, hair)
    turned = Expression(torch.zeros(2, 52), torch.stack([torch.eye(3), rotation_from_angles(yaw=30)]))
    gaussians = avatar.gaussians(turned)
    assert gaussians.means.shape == (2, len(rig.anchors), 3)
    head = rig.anchors.interpolate(rig.torso_weights[:, None])[:, 0] == 0
    assert torch.allclose(gaussians.means[0, head], gaussians.means[1, head], atol=1e-6)
    assert torch.equal(raised(rig.mean, None), rig.mean)


def test_the_file_keeps_it_and_old_files_have_none(rig, hair, tmp_path):
    path = tmp_path / "a.flexavatar"
    avatar_of(rig, hair).save(path)
    loaded = Avatar.load(path).hair_displacement
    assert loaded is not None and (loaded - hair).abs().max() < 1e-4
    file = read_avatar_file(path)
    write_avatar_file(path, file.tensors | {"volume": torch.zeros(3)}, file.metadata, file.thumbnail)
    with pytest.raises(BadAvatarFile, match="volume"):
        Avatar.load(path)
    avatar_of(rig, None).save(path)
    assert Avatar.load(path).hair_displacement is None


def test_halfway_between_hair_and_none_is_half_of_it(rig, hair):
    half = interpolate([avatar_of(rig, hair), avatar_of(rig, None)], [0.5, 0.5])
    assert half.hair_displacement is not None and torch.allclose(half.hair_displacement, hair / 2)
    assert interpolate([avatar_of(rig, None)] * 2, [0.5, 0.5]).hair_displacement is None


def test_raised_ears_and_necks_count_as_hair(rig, hair):
    regions = atlas_regions(rig)
    covered = under_hair(regions, rig, hair)
    assert covered.scalp.sum() > 1.1 * regions.scalp.sum()
    assert covered.ear.sum() < regions.ear.sum()
    flat = under_hair(regions, rig, torch.zeros_like(hair))
    assert np.array_equal(flat.scalp, regions.scalp) and math.isclose(flat.ear.sum(), regions.ear.sum())
