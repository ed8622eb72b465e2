"""What recordings leave to mend: times without a face are bridged, pauses cut, and jitter is smoothed without lag.

Tracking jitters by a few hundredths; blinks and words move by many tenths within the same few frames. So still
passages are averaged over a symmetric window, which delays nothing, and moving ones are left as they are.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from flexavatar.motion.motion import Motion, sampled
from flexavatar.motion.neutral import estimate_neutral
from flexavatar.rotations import mean_rotation, rotation_exp, rotation_log, slerp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RepairParams:
    """How gaps are bridged and pauses cut, and what counts as jitter."""

    short: float = 0.5  # seconds: a hand before the face; what was before continues into what comes after
    ease: float = 0.4  # seconds, from the last expression to neutral, and from neutral to the next one
    pause: float = 10.0  # seconds without a sample, from which on the recorder is taken to have been off ...
    left_of_pause: float = 0.4  # ... and so many are left of it, which are bridged like a short gap
    told: float = 0.05  # share of the frames without a face from which on the user is told
    window: float = 0.07  # seconds, standard deviation of the average over still passages
    noise: float = 0.06  # change of a blendshape within the window that counts as jitter
    rotation_noise: float = 0.025  # radians


def bridged(
    blendshapes: Tensor, head_rotation: Tensor, seen: Tensor, fps: float, params: RepairParams = RepairParams()
) -> Motion:
    """A motion without gaps of blendshapes [N, 52] and rotations [N, 3, 3], valid where `seen` [N] is true.

    Short gaps are interpolated. Over longer ones, and before the first and after the last frame with a face, the head
    eases to the driver's neutral and back, and `Motion.warnings` says so. At least one frame must be seen.
    """
    shapes, turns = blendshapes.clone(), head_rotation.clone()
    index = seen.nonzero()[:, 0]
    rest = estimate_neutral(Motion(shapes[index], turns[index], fps))

    def blend(frames: Tensor, source: int, target_shapes: Tensor, target_turn: Tensor, share: Tensor) -> None:
        share = share * share * (3 - 2 * share)
        shapes[frames] = torch.lerp(shapes[source], target_shapes, share[:, None])
        turns[frames] = slerp(turns[source], target_turn, share)

    for start, end in runs(~seen):
        frames = torch.arange(start, end)
        if start > 0 and end < len(seen) and (end - start) / fps <= params.short:
            blend(frames, start - 1, shapes[end], turns[end], (frames - start + 1) / (end - start + 1))
            continue
        middle = len(seen) if end == len(seen) else 0 if start == 0 else (start + end) // 2
        leaving, coming = frames[frames < middle], frames[frames >= middle]
        if len(leaving):
            share = ((leaving - start + 1) / fps / params.ease).clamp_max(1)
            blend(leaving, start - 1, rest.blendshapes, rest.head_rotation, share)
        if len(coming):
            share = ((end - coming) / fps / params.ease).clamp_max(1)
            blend(coming, end, rest.blendshapes, rest.head_rotation, share)
    return Motion(shapes, turns, fps, _told(seen, fps, params))


def _told(seen: Tensor, fps: float, params: RepairParams) -> tuple[str, ...]:
    lost = int((~seen).sum())
    if lost <= params.told * len(seen):
        return ()
    longest = max(end - start for start, end in runs(~seen)) / fps
    what = ", which is bridged." if longest <= params.short else "; the avatar looks neutral there."
    text = f"The face is lost for {lost / fps:.1f} of {len(seen) / fps:.1f} seconds{what}"
    log.warning(text)
    return (text,)


def without_pauses(times: Tensor, params: RepairParams = RepairParams()) -> tuple[Tensor, list[tuple[int, float]]]:
    """Rising `times` [N] in seconds with pauses cut short, and (sample after it, seconds) of each pause."""
    steps = times.diff()
    paused = steps > params.pause
    cut = torch.where(paused, params.left_of_pause, steps)
    at = paused.nonzero()[:, 0]
    pauses = [(int(i) + 1, float(steps[i])) for i in at]
    return torch.cat([times[:1], times[:1] + cut.cumsum(0)]), pauses


def from_samples(
    times: Tensor,
    blendshapes: Tensor,
    head_rotation: Tensor,
    seen: Tensor,
    fps: float,
    params: RepairParams = RepairParams(),
) -> Motion:
    """A motion at a steady rate of samples [N, ...] taken at rising `times` [N] in seconds, not evenly spaced.

    Samples count where `seen` [N] is true, at least once; over the rest of the time the motion is `bridged`.
    """
    times = times.double() - times[0].double()
    usual = float(times.diff().median()) if len(times) > 1 else 0.0
    count = max(round((float(times[-1]) + usual) * fps), 1)
    known, shapes, turns = times[seen], blendshapes[seen], head_rotation[seen]
    wanted = torch.arange(count, dtype=torch.float64) / fps
    after = torch.searchsorted(known, wanted, right=True)
    before = (after - 1).clamp_min(0)
    after = after.clamp_max(len(known) - 1)
    gap = known[after] - known[before]
    share = torch.where(gap > 0, (wanted - known[before]) / gap.clamp_min(1e-9), 0.0).clamp(0, 1)
    motion = sampled(shapes, turns, before + share, fps)
    next_row = torch.searchsorted(times, wanted).clamp(1, max(len(times) - 1, 1)).clamp_max(len(times) - 1)
    nearest = torch.where(wanted - times[next_row - 1] < times[next_row] - wanted, next_row - 1, next_row)
    distance = torch.minimum((wanted - known[before]).abs(), (known[after] - wanted).abs())
    covered = seen[nearest] & ((gap <= params.short) | (distance <= usual))
    if not covered.any():  # fewer frames than samples, all of which happen to fall on lost ones
        return motion
    return bridged(motion.blendshapes, motion.head_rotation, covered, fps, params)


def runs(mask: Tensor) -> list[tuple[int, int]]:
    """(start, end) of every run of true values of mask [N]; end excluded."""
    edge = torch.zeros(1)
    changes = torch.cat([edge, mask.float(), edge]).diff()
    return list(zip((changes == 1).nonzero()[:, 0].tolist(), (changes == -1).nonzero()[:, 0].tolist(), strict=True))


def smoothed(motion: Motion, params: RepairParams = RepairParams()) -> Motion:
    """The motion without tracking jitter; peaks keep their height and their time."""
    window = params.window * motion.fps
    blendshapes = steady(motion.blendshapes, window, params.noise)
    middle = mean_rotation(motion.head_rotation)
    turns = steady(rotation_log(middle.mT @ motion.head_rotation), window, params.rotation_noise)
    return replace(motion, blendshapes=blendshapes.clamp(0, 1), head_rotation=middle @ rotation_exp(turns))


def steady(values: Tensor, sigma: float, noise: float) -> Tensor:
    """Values [N, C] averaged over about `sigma` frames where they change by less than about `noise`, else unchanged."""
    reach = max(round(2.5 * sigma), 1)
    average = gaussian_filter(values, sigma, reach)
    # Judged on lightly averaged values, so that jitter itself does not pass for motion.
    calm = gaussian_filter(values, max(sigma / 2, 0.5), reach)
    around = _padded(calm, reach)
    size = 2 * reach + 1
    change = (F.max_pool1d(around, size, stride=1) + F.max_pool1d(-around, size, stride=1)).squeeze(1).T
    still = torch.exp(-((change / noise) ** 2))
    return values + still * (average - values)


def gaussian_filter(values: Tensor, sigma: float, reach: int) -> Tensor:
    """Values [N, C] averaged over 2 reach + 1 frames with a Gaussian of `sigma` frames."""
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=values.dtype) / sigma) ** 2)
    return F.conv1d(_padded(values, reach), (kernel / kernel.sum())[None, None]).squeeze(1).T


def _padded(values: Tensor, reach: int) -> Tensor:
    """[C, 1, N + 2 reach]: the first and last frame repeat beyond the ends."""
    return F.pad(values.T[:, None], (reach, reach), mode="replicate")
