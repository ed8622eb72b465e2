"""The rig avatar, from a tracked photo that is made here: a textured rig rendered by our own renderer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flexavatar.avatar import Avatar
from flexavatar.camera import Camera
from flexavatar.errors import BadAvatarFile, CannotWrite
from flexavatar.expression import BLENDSHAPE_INDEX, Expression, neutral_of
from flexavatar.gaussians import Gaussians
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.render import render
from flexavatar.rig import REGION_NAMES, Rig
from flexavatar.rig.regions import atlas_regions
from flexavatar.rig.rig import head_motion
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import TrackedFace

SKIN, HAIR, SHIRT, WALL = (0.80, 0.60, 0.50), (0.25, 0.15, 0.08), (0.15, 0.25, 0.60), (0.10, 0.85, 0.15)


def painted_head(yaw: float = 0.0) -> TrackedFace:
    """A "photo" of the mean head with flat skin, hair and shirt colours in front of a green wall."""
    rig = Rig.load()
    regions = atlas_regions(rig)
    color = np.array(SKIN) + 0 * regions.position
    color = np.where(regions.torso[..., None] > 0.5, SHIRT, color)
    color = np.where(regions.scalp[..., None] > 0.5, HAIR, color)
    valid = rig.atlas.valid
    rotation = rotation_from_angles(yaw=yaw)
    shape, neutral = torch.zeros(len(rig.shape_basis)), torch.zeros(52)
    frames = rig.anchors.frames(rig.pose(shape, neutral, rotation))
    camera = Camera.orbit(0, 0, 384, view_height=0.5).with_head_motion(head_motion(rotation))
    colors = torch.from_numpy(color[valid.numpy()]).float()
    gaussians = Gaussians(frames.means, frames.quats, frames.scales, torch.full((len(colors),), 0.98), colors)
    picture = render(gaussians, camera, WALL)
    return TrackedFace(
        image=(picture.rgb.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy(),
        matte=picture.alpha[0].numpy(),
        crop=(0.0, 0.0, 384.0),
        landmarks=camera.project(rig.landmarks(rig.pose(shape, neutral)))[0].numpy(),
        scores=neutral,
        shape=shape,
        blendshapes=neutral,
        head_rotation=rotation,
        camera=camera,
        error=0.0,
    )


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return create_rig_avatar([painted_head()])[0]


def texels(avatar: Avatar) -> np.ndarray:
    rig = Rig.load()
    image = np.full((256, 256, 3), np.nan, np.float32)
    image[rig.atlas.valid.numpy()] = avatar.colors.numpy()
    return image


def test_front_looks_like_the_photo(avatar):
    tracked = painted_head()
    again = avatar.render(camera=tracked.camera, background=WALL)
    inside = tracked.matte > 0.99
    difference = np.abs(again.astype(float) - tracked.image)[inside].mean()
    assert difference < 6


def test_unseen_back_takes_the_persons_own_colors(avatar):
    regions = atlas_regions(Rig.load())
    image = texels(avatar)
    back = regions.position[..., 2] < -0.12
    for mask, color in ((regions.scalp > 0.95, HAIR), (regions.torso > 0.95, SHIRT)):
        assert np.abs(np.median(image[mask & back], axis=0) - color).max() < 0.08
    # The wall behind the person is far greener than anything on the person.
    greenness = image[..., 1] - image[..., [0, 2]].max(-1)
    assert np.nanmax(greenness[regions.skin_chart]) < 0.12


def test_no_seam_at_the_back_of_the_head(avatar):
    image = texels(avatar)
    seam = np.abs(image[:200, 0] - image[:200, -1]).mean()
    assert seam < 0.05


def test_hidden_side_is_completed_from_the_other(avatar):
    turned, _ = create_rig_avatar([painted_head(yaw=35)])
    regions = atlas_regions(Rig.load())
    difference = np.abs(texels(turned) - texels(avatar))[regions.face]
    assert np.nanmean(difference) < 0.05


def test_blink_covers_the_eyes_and_jaw_open_shows_teeth(avatar):
    rig = Rig.load()
    region = rig.atlas.region[rig.atlas.valid]
    marked = replace(avatar, colors=torch.zeros_like(avatar.colors))
    eyes = (region == REGION_NAMES.index("eye_left")) | (region == REGION_NAMES.index("eye_right"))
    teeth = (region == REGION_NAMES.index("teeth_upper")) | (region == REGION_NAMES.index("teeth_lower"))
    marked.colors[eyes] = torch.tensor([1.0, 0, 0])
    marked.colors[teeth] = torch.tensor([0, 1.0, 0])

    def amount(channel: int, expression: Expression | None) -> float:
        return marked.render(expression, size=384, background=(0, 0, 0))[..., channel].astype(float).sum() / 255

    assert amount(0, Expression.of("blink")) < 0.25 * amount(0, None)
    assert amount(1, Expression.of("open mouth")) > amount(1, None) + 25


def test_head_rotation_turns_the_head_over_still_shoulders(avatar):
    straight = avatar.render(size=256)
    turned = avatar.render(Expression(torch.zeros(52), rotation_from_angles(yaw=25)), size=256)
    change = np.abs(straight.astype(float) - turned).mean(-1)
    assert change[60:150].max() > 60
    assert change[228:].mean() < 4


def test_gaussians_are_valid_and_batched(avatar):
    weights = torch.rand(2, 52)
    batch = avatar.gaussians(Expression(weights, torch.eye(3).repeat(2, 1, 1)))
    assert batch.means.shape == (2, len(avatar.colors), 3)
    single = avatar.gaussians(Expression(weights[1], torch.eye(3)))
    assert torch.allclose(batch[1].means, single.means, atol=1e-6)
    for values in (single.opacities, single.colors):
        assert values.min() >= 0 and values.max() <= 1
    assert torch.isfinite(single.means).all() and torch.isfinite(single.quats).all()


def test_resting_face_keeps_habits_and_drops_moments():
    photo = torch.zeros(52)
    for name, value in (("mouthRollUpper", 0.5), ("jawOpen", 0.7), ("mouthSmileLeft", 0.8), ("browInnerUp", 1.0)):
        photo[BLENDSHAPE_INDEX[name]] = value
    rest = neutral_of(photo)
    assert rest[BLENDSHAPE_INDEX["mouthRollUpper"]] == 0.5
    assert rest[BLENDSHAPE_INDEX["jawOpen"]] == rest[BLENDSHAPE_INDEX["mouthSmileLeft"]] == 0
    assert rest[BLENDSHAPE_INDEX["browInnerUp"]] < 1


def test_save_and_load(avatar, tmp_path):
    path = tmp_path / "a.flexavatar"
    avatar.save(path)
    loaded = Avatar.load(path)
    assert np.array_equal(loaded.thumbnail, avatar.thumbnail)
    assert loaded.metadata["model"] == "rig"
    assert np.abs(loaded.render(size=128).astype(int) - avatar.render(size=128)).max() <= 2


def test_avatar_of_another_rig_is_refused(avatar, tmp_path):
    replace(avatar, colors=avatar.colors[:100]).save(tmp_path / "a.flexavatar")
    with pytest.raises(BadAvatarFile, match="another rig"):
        Avatar.load(tmp_path / "a.flexavatar")


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".spz", ".png", ".flexavatar"])
def test_export(avatar, tmp_path, suffix):
    path = tmp_path / f"head{suffix}"
    avatar.export(path, Expression.of("smile"))
    assert path.stat().st_size > 1000


def test_export_rejects_unknown_suffix(avatar, tmp_path):
    with pytest.raises(CannotWrite, match=r"\.ply"):
        avatar.export(tmp_path / "head.docx")
