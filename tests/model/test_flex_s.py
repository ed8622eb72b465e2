"""flex-s: untrained it is the rig avatar; every part learns; the three declared differences are really switches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar.avatar import Avatar
from flexavatar.camera import Camera
from flexavatar.expression import Expression
from flexavatar.model.flex_s import FLEX_S, N_COPIES, SHELL_CHANNELS, FlexS, FlexSObservation
from flexavatar.reconstruction.network_avatar import observe
from flexavatar.reconstruction.rig_avatar import create_rig_avatar
from flexavatar.render import render
from flexavatar.rig import Rig
from flexavatar.rig.maps import averaged
from flexavatar.rotations import rotation_from_angles
from flexavatar.tracking import FaceTracker
from tests.conftest import EXAMPLE


@pytest.fixture(scope="module")
def made() -> tuple[Avatar, FlexSObservation]:
    with FaceTracker() as tracker:
        tracked = tracker.track_image(np.asarray(Image.open(EXAMPLE).convert("RGB")))
    avatar, photo = create_rig_avatar([tracked], displace_hair=False)
    return avatar, observe(tracked, avatar, photo)


@pytest.fixture(scope="module")
def network() -> FlexS:
    torch.manual_seed(0)
    return FlexS().eval()


def batched(expression: Expression) -> Expression:
    return Expression(expression.blendshapes[None], expression.head_rotation[None])


def trained_a_little(network: FlexS) -> FlexS:
    """The same network with output layers that are not zero, so that everything before them matters."""
    torch.manual_seed(1)
    twin = FlexS(network.config)
    torch.nn.init.normal_(twin.decoder.out.weight, std=0.05)
    return twin.eval()


@torch.no_grad()
def test_untrained_network_is_the_rig_avatar(made, network):
    avatar, observation = made
    head = network.encode(observation)
    assert head.code.shape == (1, 1024, FLEX_S.width)
    camera = Camera.orbit(20, 5, 256)
    for expression in (Expression.neutral(), Expression.of("smile", rotation_from_angles(yaw=15))):
        ours = network.decode(head, batched(expression))[0]
        theirs = avatar.gaussians(expression)
        pictures = [render(g, camera).rgb for g in (ours, theirs)]
        assert (pictures[0] - pictures[1]).abs().max() < 1e-3


@torch.no_grad()
def test_gaussians_that_are_pulled_apart_leave_no_gaps(made, network):
    head = network.encode(made[1])
    frames = network.anchors(head, batched(Expression.neutral()))
    center = frames.means.mean(1, keepdim=True)
    for size, raised in ((1.001, False), (2.5, True)):
        means = center + size * (frames.means - center)
        scales = network._without_gaps(frames.scales, means, means - frames.means)
        grown = (scales / frames.scales)[0, (means - frames.means)[0].norm(dim=-1) > 0.02]
        assert (scales >= frames.scales - 1e-7).all()
        if raised:
            assert 1.5 < grown[:, 0].median() < 2.5
        else:
            assert torch.equal(scales, frames.scales)


def test_size():
    parameters = sum(p.numel() for p in FlexS().parameters())
    assert parameters <= 15_000_000


def test_shells_see_the_person_and_what_stands_around(made):
    shells = made[1].shells[0]
    assert shells.shape == (SHELL_CHANNELS, 256, 256)
    matte = shells[3:16:4]
    assert matte[0].mean() > matte[3].mean(), "farther out there is more background"
    assert matte.min() >= 0 and matte.max() <= 1
    assert shells[-1].abs().max() <= 1.001


@torch.no_grad()
def test_bias_sink_and_expression_change_the_output(made, network):
    twin, observation = trained_a_little(network), made[1]
    head = twin.encode(observation)
    neutral = batched(Expression.neutral()).code()
    many = twin.decoder(head.code, head.detail, head.base, neutral, "multiview")
    mono = twin.decoder(head.code, head.detail, head.base, neutral, "monocular")
    smile = twin.decoder(head.code, head.detail, head.base, batched(Expression.of("smile")).code(), "multiview")
    assert (many - mono).abs().max() > 1e-4
    assert (many - smile).abs().max() > 1e-4


@torch.no_grad()
def test_batch_equals_loop(made, network):
    twin, one = trained_a_little(network), made[1]
    camera = Camera(
        one.camera.world_to_camera.repeat(2, 1, 1),
        one.camera.intrinsics.repeat(2, 1, 1),
        one.camera.width,
        one.camera.height,
    )
    pair = FlexSObservation(
        images=torch.cat([one.images, one.images.flip(-1)]),
        camera=camera,
        shells=torch.cat([one.shells, one.shells.flip(-1)]),
        shape=one.shape.repeat(2, 1),
        neutral_blendshapes=one.neutral_blendshapes.repeat(2, 1),
        colors=one.colors.repeat(2, 1, 1),
        opacities=one.opacities.repeat(2, 1),
    )
    both = Expression(torch.rand(2, 52), torch.eye(3).repeat(2, 1, 1))
    together = twin.decode(twin.encode(pair), both, ("multiview", "monocular"))
    alone = twin.decode(twin.encode(one), Expression(both.blendshapes[:1], both.head_rotation[:1]))
    assert torch.allclose(together[0].means, alone[0].means, atol=1e-4)
    assert torch.allclose(together[0].colors, alone[0].colors, atol=1e-4)


def test_every_parameter_learns(made, network):
    twin, observation = trained_a_little(network), made[1]
    expression = batched(Expression.of("surprise"))
    gaussians = twin.decode(twin.encode(observation), expression)
    weights = torch.linspace(0.5, 1.5, gaussians.means.shape[1])
    loss = (gaussians.means.sum(-1) * weights).sum() + (gaussians.colors.sum(-1) * weights).sum()
    loss = loss + gaussians.scales.sum() * 100 + gaussians.opacities.sum() + gaussians.quats[..., 1].sum()
    loss.backward()
    idle = {n for n, p in twin.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
    # A query that nobody asks: the last joint block drops its context, and a style's weight meets a zero latent.
    last = (f"layers.{FLEX_S.n_encoder_layers - 1}.attn.", f"layers.{FLEX_S.n_decoder_layers - 1}.attn.")
    allowed = {
        n for n in idle
        if n.endswith("affine.weight") or (any(s in n for s in last) and ("add_q_proj" in n or "norm_added_q" in n))
    }  # fmt: skip
    assert idle == allowed


@torch.no_grad()
@pytest.mark.parametrize(
    "change", [{"anchors": "rest"}, {"queries": "points"}, {"detail_channels": 0}, {"copies_colors": False}]
)
def test_declared_differences_are_switches(made, change):
    network = trained_a_little(FlexS(replace(FLEX_S, **change)))
    observation = made[1]
    gaussians = network.decode(network.encode(observation), batched(Expression.of("open mouth")))
    assert torch.isfinite(gaussians.means).all()
    if change.get("anchors") == "rest":
        calm = network.rig.anchors.positions(network.rig.mean)
        assert (gaussians.means[0] - calm).abs().max() <= FLEX_S.max_offset * 1.01


@torch.no_grad()
def test_copied_colors_are_the_photos(made):
    observation, pink = made[1], torch.tensor([0.9, 0.4, 0.6])
    observation = replace(observation, images=pink[:, None, None].expand_as(observation.images))
    for copies in (True, False):
        network = FlexS(replace(FLEX_S, copies_colors=copies))
        network.decoder.out.bias[-N_COPIES] = 10.0  # the share of what is found in the photo
        colors = network.decode(network.encode(observation), batched(Expression.neutral())).colors
        expected = pink.expand_as(colors) if copies else observation.colors
        assert (colors - expected).abs().max() < 1e-4


@torch.no_grad()
def test_shell_colors_are_the_persons(made):
    observation = made[1]
    copied = FlexS().encode(observation).copied[0, :, 1:]
    shells = observation.shells[0][:, Rig.load().atlas.valid].T
    matte = shells[:, 7:16:4]
    assert torch.equal(copied[matte[:, 2] == 0, 2], observation.colors[0, matte[:, 2] == 0])
    inside = matte[:, 0] > 0.99
    assert (copied[inside, 0] - shells[inside, 4:7]).abs().max() < 0.02
    assert inside.float().mean() > 0.1


@torch.no_grad()
def test_bfloat16_stays_close(made, network):
    twin, observation = trained_a_little(network), made[1]
    expression = batched(Expression.of("smile"))
    full = twin.decode(twin.encode(observation), expression)
    with torch.autocast("cpu", torch.bfloat16):
        half = twin.decode(twin.encode(observation), expression)
    assert (full.means - half.means).abs().mean() < 2e-3
    assert (full.colors - half.colors).abs().mean() < 2e-2


def test_averaging_takes_ripples_out_and_keeps_slopes() -> None:
    grid = torch.zeros(256, 256, dtype=torch.bool)
    grid[:200] = True
    row, column = grid.nonzero().unbind(-1)
    around = 2 * torch.pi * (column + 0.5) / 256
    slope = torch.stack([torch.cos(around), torch.sin(around), 0.01 * row], -1)
    ripples = 0.3 * torch.sign(torch.sin(2 * torch.pi * column / 8) + 0.5)[:, None] * torch.ones(1, 3)
    ripples = ripples - ripples.mean()
    inside = (row > 8) & (row < 190)
    assert (averaged(slope[None], grid, 8)[0] - slope)[inside].abs().max() < 0.01, "also across the seam"
    assert (averaged(ripples[None], grid, 8)[0])[inside].abs().max() < 0.01
    last = row == 199
    assert torch.allclose(averaged(slope[None], grid, 8)[0][last], slope[last], atol=0.02)
