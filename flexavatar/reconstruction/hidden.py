"""What no photo shows takes its tone from what is next to it; closed lids take their skin from around the eyes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flexavatar.avatar.residuals import lid_shares
from flexavatar.rig.maps import blurred, maps_of, of_texels
from flexavatar.rig.parts import parts
from flexavatar.rig.regions import smooth_step
from flexavatar.rig.subdivision import subdivision


@dataclass(frozen=True)
class HiddenParams:
    """From how far what is hidden takes its colours, and what counts as skin."""

    reaches: tuple[float, ...] = (1.2, 3.0, 8.0, 18.0)  # texels: where the nearest say nothing, farther ones do
    enough: float = 0.25  # share of seen texels in reach from which they are believed in full
    lid_reaches: tuple[float, ...] = (1.5, 4.0, 10.0, 18.0)
    brow: tuple[float, float] = (0.7, 0.95)  # of the brightness around: darker is brow or lash and no skin
    tint: tuple[float, float] = (0.15, 0.3)  # from the face's, each at brightness 1: farther is hair before the eyes
    lid_around: float = 10.0  # texels, within which brightness is compared
    lid_border: float = 1.5  # texels over which what is seen of a lid goes over into what is made up
    lid_seen: tuple[float, float] = (0.6, 0.95)  # share of a lid's texels that the photos show, from which they stay
    lid_skin: float = 0.3  # of a lid: from so much on a texel says nothing of the skin around
    lash_shade: float = 0.35


def toned(before: Tensor, after: Tensor, seen: Tensor, hair: Tensor, params: HiddenParams = HiddenParams()) -> Tensor:
    """Changes of colour [S, 3] for what is hidden, so that its tone meets that of what is seen near it.

    before, after [S, 3]: colours without and with what the photos say, which counts as far as `seen` [S]. Hair takes
    from hair (`hair` [G]), skin from skin and clothes from clothes.
    """
    masks = parts()
    own, photo = of_texels(before, torch.ones_like(seen)), of_texels(after, seen)
    own = own[:, :3] / own[:, 3:]
    kinds = (hair * (1 - masks.torso), masks.torso, (1 - hair) * (1 - masks.eyes) * masks.outside)
    change, total = torch.zeros_like(own), torch.zeros_like(own[:, :1])
    for kind in kinds:
        kind = kind[:, None]
        maps = maps_of(torch.cat([photo * kind, own * kind, kind], 1))
        left, part = torch.ones_like(kind), torch.zeros_like(own)
        for reach in params.reaches:
            color, seen_here, typical, here = blurred(maps, reach).split((3, 1, 3, 1), -1)
            near = color / seen_here.clamp_min(1e-6) - typical / here.clamp_min(1e-6)
            believed = (seen_here / here.clamp_min(1e-4) / params.enough).clamp(0, 1) * (seen_here > 1e-3)
            part = part + left * believed * near
            left = left * (1 - believed)
        change, total = change + part * kind, total + kind
    return (change / total.clamp_min(1e-6))[subdivision().parent]


def closed_lids(colors: Tensor, seen: Tensor, params: HiddenParams = HiddenParams()) -> Tensor:
    """Colours [L, 3] of the Gaussians of `lid_shares` when the eyes are closed, for a head's colours [S, 3].

    What the photos have `seen` [S] of lids stays. For the rest open eyes show folds and lashes.
    """
    masks, divided = parts(), subdivision()
    color = of_texels(colors, torch.ones_like(colors[:, 0]))
    color = color[:, :3] / color[:, 3:]
    known = of_texels(seen[:, None], torch.ones_like(seen))
    known = known[:, 0] / known[:, 1] * (1 - masks.lid_edges)
    ones = torch.ones_like(known)
    known = blurred(maps_of(torch.stack([known, ones], 1)), params.lid_border)
    known = smooth_step(known[:, 0] / known[:, 1].clamp_min(1e-6), *params.lid_seen)
    lid = smooth_step(masks.lids.amax(0), 0.0, params.lid_skin)
    skin = (masks.face * torch.maximum(1 - lid, known))[:, None]
    tint = color / color.mean(1, keepdim=True).clamp_min(1e-3)
    apart = (tint - tint[masks.core > 0.99].median(0).values).abs().mean(1, keepdim=True)
    skin = skin * (1 - smooth_step(apart, *params.tint))
    around = blurred(maps_of(torch.cat([color * skin, skin], 1)), params.lid_around)
    typical = (around[:, :3] / around[:, 3:].clamp_min(1e-6)).mean(1, keepdim=True)
    skin = skin * smooth_step(color.mean(1, keepdim=True) / typical.clamp_min(1e-3), *params.brow)
    maps = maps_of(torch.cat([color * skin, skin], 1))
    lid, left = torch.zeros_like(color), torch.ones_like(skin)
    for reach in params.lid_reaches:
        found = blurred(maps, reach)
        believed = (found[:, 3:] / params.enough).clamp(0, 1)
        lid = lid + left * believed * found[:, :3] / found[:, 3:].clamp_min(1e-6)
        left = left * (1 - believed)
    lid = torch.lerp(lid, color, left)
    shade = (1 - (1 - params.lash_shade) * masks.lashes)[:, None]
    index, _ = lid_shares()
    own, filled, kept = colors[index], divided.spread(lid * shade)[index], divided.spread(known[:, None])[index]
    return torch.lerp(filled, own, kept.clamp(0, 1)).clamp(0, 1)
