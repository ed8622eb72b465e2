"""Fitting the rig to landmarks: Levenberg-Marquardt with an analytic Jacobian, batched over faces.

Unknowns per face: rotation (3), translation (3), blendshapes (52); and the shape coefficients, which
every face has for itself, all faces share (frames of one person), or are known and stay fixed.
Residuals: weighted landmark distances in the image, the distance of the blendshapes from MediaPipe's
scores, and the shape coefficients themselves (a normal prior).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from flexavatar.camera import FIELD_OF_VIEW, Camera, intrinsics
from flexavatar.rotations import rotation_exp

if TYPE_CHECKING:
    from flexavatar.rig import Rig

FRONTAL = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))  # head to camera, of a head that looks into it
_THREADS = threading.Lock()

ShapeMode = Literal["free", "shared", "fixed"]


@dataclass(frozen=True)
class LandmarkFitParams:
    """What the fit weighs against what, and when it ends."""

    unit: float = 1 / 150  # of the face height: the landmark distance that weighs as much as one shape deviation
    expression_weight: float = 4.0  # pull of the blendshapes towards the scores
    damping: float = 1e-2  # of the first step, relative to the Hessian's diagonal
    highest_damping: float = 1e8  # at which a face is given up
    tolerance: float = 1e-4  # relative gain of a step below which a face counts as fitted


@dataclass(frozen=True)
class LandmarkModel:
    """The rig seen through its 478 landmarks, double precision."""

    mean: Tensor  # [N, 3] metres, canonical head frame
    shape_basis: Tensor  # [K, N, 3] metres per standard deviation
    expression_deltas: Tensor  # [52, N, 3] metres
    weights: Tensor  # [N] trust in each landmark

    @staticmethod
    def of(rig: Rig, dtype: torch.dtype = torch.float64) -> LandmarkModel:
        """The rig's landmarks as a linear model."""

        def at_landmarks(vertices: Tensor) -> Tensor:
            corners = vertices.to(dtype)[..., rig.landmark_vertices, :]
            return (corners * rig.landmark_barycentrics.to(dtype)[..., None]).sum(-2)

        return LandmarkModel(
            at_landmarks(rig.mean),
            at_landmarks(rig.shape_basis),
            at_landmarks(rig.expression_deltas),
            rig.landmark_weights.to(dtype),
        )

    def points(self, shape: Tensor, blendshapes: Tensor) -> Tensor:
        """Landmarks [B, N, 3] in the canonical head frame of shape [B, K] and blendshapes [B, 52]."""
        return (
            self.mean
            + torch.einsum("bk,knc->bnc", shape, self.shape_basis)
            + torch.einsum("bk,knc->bnc", blendshapes, self.expression_deltas)
        )


@dataclass(frozen=True)
class LandmarkFit:
    """The fitted rig of B faces; translations and rotations take the canonical head frame to the camera."""

    rotation: Tensor  # [B, 3, 3]
    translation: Tensor  # [B, 3] metres
    shape: Tensor  # [B, K] standard deviations
    blendshapes: Tensor  # [B, 52] 0..1
    landmarks: Tensor  # [B, 478, 2] pixels, where the fitted rig has them
    error: Tensor  # [B] median landmark distance / face height

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, index: slice | Tensor | list[int]) -> LandmarkFit:
        return LandmarkFit(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def head_rotation(self) -> Tensor:
        """Head rotations [B, 3, 3] in the canonical head frame; identity when the head looks into the camera."""
        return self.rotation.new_tensor(FRONTAL) @ self.rotation

    def camera(self, width: int, height: int) -> Camera:
        """The cameras [B] (single precision) that see the canonical head as the images do."""
        matrices = torch.eye(4).repeat(len(self), 1, 1)
        matrices[:, :3, :3] = self.rotation.float()
        matrices[:, :3, 3] = self.translation.float()
        pinhole = intrinsics(FIELD_OF_VIEW, width, height).expand(len(self), 3, 3)
        return Camera(matrices, pinhole, width, height)


@dataclass(frozen=True)
class _State:
    rotation: Tensor
    translation: Tensor
    shape: Tensor
    blendshapes: Tensor

    def of_faces(self, index: Tensor) -> _State:
        return _State(*(getattr(self, field.name)[index] for field in fields(self)))

    def updated(self, index: Tensor, other: _State) -> _State:
        names = [field.name for field in fields(self)]
        return _State(*(getattr(self, name).index_copy(0, index, getattr(other, name)) for name in names))


@dataclass(frozen=True)
class _Problem:
    """Observations and constants of one fit; everything that residuals and Jacobians need."""

    model: LandmarkModel
    observed: Tensor  # [B, N, 2] pixels
    scores: Tensor  # [B, 52]
    intrinsics: Tensor  # [3, 3]
    scale: Tensor  # [B, N, 1] residual units per pixel, with the square root of the landmark's weight
    params: LandmarkFitParams = LandmarkFitParams()

    def of_faces(self, index: Tensor) -> _Problem:
        return replace(self, observed=self.observed[index], scores=self.scores[index], scale=self.scale[index])

    def project(self, state: _State) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels [B, N, 2], camera-frame points [B, N, 3] and the points relative to the head origin."""
        relative = self.model.points(state.shape, state.blendshapes) @ state.rotation.mT
        points = relative + state.translation[:, None]
        image = points @ self.intrinsics.T
        return image[..., :2] / image[..., 2:], points, relative

    def residuals(self, state: _State) -> Tensor:
        """[B, 2N + 52]: landmarks (x, y interleaved), then blendshapes. The shape prior is kept apart."""
        pixels = self.project(state)[0]
        prior = self.params.expression_weight * (state.blendshapes - self.scores)
        return torch.cat([((pixels - self.observed) * self.scale).flatten(1), prior], 1)

    def jacobian(self, state: _State, by_shape: bool = True) -> Tensor:
        """[B, 2N + 52, 6 + 52 + K]: by rotation increment (camera frame), translation, blendshapes, shape.

        Without `by_shape` the K columns of the shape are left out.
        """
        model = self.model
        _, points, relative = self.project(state)
        batch, count = points.shape[:2]
        x, y, z = points.unbind(-1)
        focal = self.intrinsics[0, 0]
        zero = torch.zeros_like(z)
        by_point = focal * torch.stack([1 / z, zero, -x / z**2, zero, 1 / z, -y / z**2], -1).view(batch, count, 2, 3)
        by_point = by_point * self.scale[..., None]
        # d(exp(w) r)/dw = -[r]x, so a row a of by_point gives r x a.
        by_rotation = torch.linalg.cross(relative[:, :, None].expand_as(by_point), by_point, dim=-1)
        deltas = torch.cat([model.expression_deltas, model.shape_basis]) if by_shape else model.expression_deltas
        basis = deltas.permute(1, 2, 0)  # [N, 3, 52 + K]
        by_head = (by_point @ state.rotation[:, None]).transpose(0, 1).reshape(count, batch * 2, 3)
        by_coefficients = (by_head @ basis).view(count, batch, 2, -1).transpose(0, 1)
        rows = torch.cat([by_rotation, by_point, by_coefficients], -1).flatten(1, 2)
        expressions = len(model.expression_deltas)
        prior = rows.new_zeros(batch, expressions, rows.shape[-1])
        prior[:, :, 6 : 6 + expressions] = self.params.expression_weight * torch.eye(expressions, dtype=rows.dtype)
        return torch.cat([rows, prior], 1)


def face_extent(landmarks: Tensor) -> Tensor:
    """Face height [...] in pixels of landmarks [..., N, 2]: the larger side of their bounding box."""
    return (landmarks.amax(-2) - landmarks.amin(-2)).amax(-1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads: waiting for a busy core costs up to 100 times the fit itself.

    The count is torch's and not this call's, so fits take turns; otherwise one would restore another's 1.
    """
    with _THREADS:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@_one_thread()
def fit_landmarks(
    model: LandmarkModel,
    landmarks: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    shape: ShapeMode = "free",
    init: LandmarkFit | None = None,
    iterations: int = 40,
    trust: Tensor | None = None,
    params: LandmarkFitParams = LandmarkFitParams(),
) -> LandmarkFit:
    """Fit pose, blendshapes and shape to `landmarks` [B, 478, 2] (pixels of images of width x height).

    `scores` [B, 52] are MediaPipe's blendshape scores in ARKit order. With `shape="shared"` the B faces
    are frames of one person; with `"fixed"` the shape of `init` is kept. `init` warm-starts the fit.
    The camera is the pinhole of `FIELD_OF_VIEW` centred on the image. `trust` [B, 478] in 0..1 says how far each
    landmark of each face counts, on top of the model's own weights.
    """
    problem = _problem(model, landmarks, scores, image_size, trust, params)
    dtype = model.mean.dtype
    if init is not None:
        blendshapes = init.blendshapes.to(dtype).clamp(0, 1)
        state = _State(init.rotation.to(dtype), init.translation.to(dtype), init.shape.to(dtype), blendshapes)
        if shape == "shared":
            state = replace(state, shape=state.shape.mean(0, keepdim=True).expand_as(state.shape))
    elif shape == "fixed":
        raise ValueError('fit_landmarks(shape="fixed") needs `init` with the shape to keep.')
    else:
        state = _affine_start(problem)
    state = _minimize(problem, state, shape, iterations)
    return _result(problem, state)


@_one_thread()
def affine_start(
    model: LandmarkModel,
    landmarks: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    shape: Tensor | None = None,
) -> LandmarkFit:
    """The first guess of `fit_landmarks`, a hundred times faster than the fit: a pose to a few degrees.

    The scores stand for the blendshapes, `shape` [K] (default the mean) for the shape.
    """
    problem = _problem(model, landmarks, scores, image_size, None)
    return _result(problem, _affine_start(problem, shape))


def _problem(
    model: LandmarkModel,
    landmarks: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    trust: Tensor | None,
    params: LandmarkFitParams = LandmarkFitParams(),
) -> _Problem:
    dtype = model.mean.dtype
    observed, scores = landmarks.to(dtype), scores.to(dtype)
    weights = model.weights.expand(observed.shape[:2]) * (1 if trust is None else trust.to(dtype))
    return _Problem(
        model,
        observed,
        scores,
        intrinsics(FIELD_OF_VIEW, *image_size).to(dtype),
        weights.sqrt()[..., None] / (params.unit * face_extent(observed))[:, None, None],
        params,
    )


def _result(problem: _Problem, state: _State) -> LandmarkFit:
    pixels = problem.project(state)[0]
    error = (pixels - problem.observed).norm(dim=-1).median(-1).values / face_extent(problem.observed)
    return LandmarkFit(state.rotation, state.translation, state.shape, state.blendshapes, pixels, error)


def _affine_start(problem: _Problem, shape: Tensor | None = None) -> _State:
    """A shape [K] (default the mean), the scores as blendshapes, the pose of the best weak-perspective camera."""
    model, observed = problem.model, problem.observed
    batch = len(observed)
    known = observed.new_zeros(len(model.shape_basis)) if shape is None else shape.to(observed.dtype)
    shape = known.expand(batch, -1).clone()
    blendshapes = problem.scores.clamp(0, 1)
    points = model.points(shape, blendshapes)
    weights = model.weights[None, :, None].sqrt()
    design = torch.cat([points, torch.ones_like(points[..., :1])], -1) * weights
    affine = torch.linalg.lstsq(design, observed * weights).solution.mT  # [B, 2, 4]
    u, scales, vh = torch.linalg.svd(affine[..., :3], full_matrices=False)
    two_rows = u @ vh
    rotation = torch.cat([two_rows, torch.linalg.cross(two_rows[:, :1], two_rows[:, 1:], dim=-1)], 1)
    depth = problem.intrinsics[0, 0] / scales.mean(-1)
    center = affine[..., 3] - problem.intrinsics[:2, 2]
    translation = torch.cat([center / problem.intrinsics[0, 0] * depth[:, None], depth[:, None]], -1)
    return _State(rotation, translation, shape, blendshapes)


def _costs(problem: _Problem, state: _State, shared: bool) -> Tensor:
    """Cost per face [B]; with a shared shape the same total for every face, so that all step together."""
    costs = problem.residuals(state).square().sum(-1)
    if not shared:
        return costs + state.shape.square().sum(-1)
    return (costs.sum() + state.shape[0].square().sum()).expand_as(costs)


def _minimize(problem: _Problem, state: _State, mode: ShapeMode, iterations: int) -> _State:
    shared, params = mode == "shared", problem.params
    cost = _costs(problem, state, shared).clone()
    damping = torch.full_like(cost, params.damping)
    active = torch.arange(len(cost))
    for _ in range(iterations):
        part, current = problem.of_faces(active), state.of_faces(active)
        candidate = _step(part, current, damping[active], mode)
        new_cost, old_cost = _costs(part, candidate, shared), cost[active]
        better = new_cost < old_cost
        state = state.updated(active[better], candidate.of_faces(better))
        cost[active] = torch.where(better, new_cost, old_cost)
        damping[active] *= torch.where(better, 0.2, 5.0)
        fitted = better & (old_cost - new_cost < params.tolerance * old_cost)
        active = active[~(fitted | (damping[active] > params.highest_damping))]
        if len(active) == 0:
            break
    return state


def _step(problem: _Problem, state: _State, damping: Tensor, mode: ShapeMode) -> _State:
    """One damped Gauss-Newton step; the shape block is eliminated by its Schur complement."""
    residuals = problem.residuals(state)
    jacobian = problem.jacobian(state, by_shape=mode != "fixed")
    gradient = (jacobian.mT @ residuals[..., None])[..., 0]
    hessian = jacobian.mT @ jacobian
    own = 6 + state.blendshapes.shape[-1]  # unknowns that each face has for itself

    # Blendshapes at a bound that the step would cross are held there, otherwise the others compensate for
    # a move that the clamp undoes.
    slope = gradient[:, 6:own]
    held = ((state.blendshapes <= 0) & (slope > 0)) | ((state.blendshapes >= 1) & (slope < 0))
    free = torch.ones_like(gradient)
    free[:, 6:own] = (~held).to(free.dtype)
    gradient = gradient * free
    hessian = hessian * free[:, :, None] * free[:, None, :]
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    hessian = hessian + torch.diag_embed(damping[:, None] * diagonal + 1e-9 + (1 - free))

    shape = state.shape
    if mode == "fixed":
        delta = -torch.linalg.solve(hessian, gradient)
    else:
        prior = (1 + damping)[:, None, None] * torch.eye(shape.shape[-1], dtype=shape.dtype)
        solved = torch.linalg.solve(
            hessian[:, :own, :own], torch.cat([hessian[:, :own, own:], gradient[:, :own, None]], -1)
        )
        coupling, reduced = solved[..., :-1], solved[..., -1]
        schur = hessian[:, own:, own:] - hessian[:, own:, :own] @ coupling
        rest = gradient[:, own:] - (hessian[:, own:, :own] @ reduced[..., None])[..., 0]
        if mode == "shared":
            schur, rest, prior = schur.sum(0, keepdim=True), rest.sum(0, keepdim=True), prior[:1]
        shape_delta = -torch.linalg.solve(schur + prior, rest + shape[: len(rest)])
        shape_delta = shape_delta.expand_as(shape)
        delta = -reduced - (coupling @ shape_delta[..., None])[..., 0]
        shape = shape + shape_delta
    return _State(
        rotation_exp(delta[:, :3]) @ state.rotation,
        state.translation + delta[:, 3:6],
        shape,
        (state.blendshapes + delta[:, 6:own]).clamp(0, 1),
    )
