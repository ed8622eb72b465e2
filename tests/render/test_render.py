"""Every renderer against the slow reference, and the reference against finite differences."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import subprocess
import sys
import threading

import pytest
import torch

from flexavatar.camera import Camera
from flexavatar.errors import RendererUnavailable
from flexavatar.gaussians import Gaussians
from flexavatar.render import (
    available_backends,
    backends,
    render,
    renderer_status,
    set_threads,
    thread_count,
    threads,
    warm_up,
)
from flexavatar.render.reference import BLUR, rasterize_reference
from flexavatar.rig.anchors import SPREAD
from tests.conftest import ROOT

gpu = pytest.mark.gpu
FIELDS = ("means", "quats", "scales", "opacities", "colors")


@pytest.fixture(scope="module", autouse=True)
def compiled_kernels():
    warm_up()


@pytest.fixture(autouse=True)
def default_threads():
    yield
    set_threads(None)


def cloud(count: int = 250, seed: int = 0, batch: tuple[int, ...] = (), dtype=torch.float32) -> Gaussians:
    """Splats of very different size, shape and opacity; some nearly opaque, some reach out of the picture."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    return Gaussians(
        means=0.1 * normal(count, 3),
        quats=1.7 * normal(count, 4),
        scales=0.012 * torch.exp(0.6 * normal(count, 3)),
        opacities=torch.sigmoid(2 * normal(count)),
        colors=torch.sigmoid(normal(count, 3)),
    ).to(dtype=dtype)


def view(yaw: float = 20, size: int | tuple[int, int] = 48, pitch: float = 10) -> Camera:
    return Camera.orbit(yaw, pitch, size, view_height=0.4, center=(0.0, 0.0, 0.0))


def differentiable(gaussians: Gaussians) -> Gaussians:
    return Gaussians(**{name: getattr(gaussians, name).clone().requires_grad_() for name in FIELDS})


def gradients(gaussians: Gaussians, camera: Camera, backend, which=("rgb", "alpha", "depth"), background=(1, 0.5, 0)):
    """Gradients of a random weighting of the images, by field."""
    leaves = differentiable(gaussians)
    picture = render(leaves, camera, background, backend=backend)
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64)
    for name in ("rgb", "alpha", "depth"):
        image = getattr(picture, name)
        weights = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        if name in which:
            loss = loss + (image.cpu().double() * weights).sum()
    loss.backward()
    leaf = {name: getattr(leaves, name) for name in FIELDS}
    return {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in leaf.items()}


def assert_same_gradients(actual, expected, tolerance: float = 1e-3):
    for name in FIELDS:
        wanted, got = expected[name].cpu().double(), actual[name].cpu().double()
        assert got.shape == wanted.shape
        error, size = (got - wanted).abs(), wanted.abs()
        assert error.sum() <= tolerance * size.sum(), f"{name}: relative error {error.sum() / size.sum():.1e}"
        assert error.max() <= tolerance * size.max(), name


def assert_same_pictures(actual, expected, tolerance: float = 1e-3):
    for name in ("rgb", "alpha", "depth"):
        got, wanted = getattr(actual, name).cpu(), getattr(expected, name).cpu()
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() < tolerance, name


SIZES = [48, (64, 32), (37, 53), (5, 70), 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("thread_number", [1, 3])
def test_cpu_image_equals_reference(size, thread_number):
    set_threads(thread_number)
    gaussians, camera = cloud(), view(size=size)
    actual = render(gaussians, camera, (0.2, 0.4, 0.9), backend="cpu")
    expected = render(gaussians.to(dtype=torch.float64), camera, (0.2, 0.4, 0.9), backend="reference")
    width, height = (size, size) if isinstance(size, int) else size
    assert actual.rgb.shape == (3, height, width) and actual.alpha.shape == actual.depth.shape == (1, height, width)
    assert actual.rgb.dtype == torch.float32 and expected.rgb.dtype == torch.float64
    assert_same_pictures(actual, expected)


@pytest.mark.parametrize("which", [("rgb",), ("alpha",), ("depth",), ("rgb", "alpha", "depth")])
@pytest.mark.parametrize("size", [(37, 53), 48, 12])
def test_cpu_gradients_equal_reference(which, size):
    gaussians, camera = cloud(seed=3), view(size=size)
    actual = gradients(gaussians, camera, "cpu", which)
    expected = gradients(gaussians.to(dtype=torch.float64), camera, "reference", which)
    assert_same_gradients(actual, expected)


def test_cpu_gradients_of_a_dense_opaque_cloud():
    """Pixels that finish early, alphas at the maximum, Gaussians seen far off the axis."""
    generator = torch.Generator().manual_seed(5)
    gaussians = cloud(600, seed=5)
    gaussians = Gaussians(
        gaussians.means * torch.tensor([3.0, 0.7, 0.7]),
        gaussians.quats,
        gaussians.scales * 3,
        torch.where(torch.rand(600, generator=generator) < 0.5, 1.0, gaussians.opacities),
        gaussians.colors,
    )
    camera = Camera.orbit(yaw=10, size=(40, 24), view_height=0.3, center=(0.0, 0.0, 0.0), field_of_view=70)
    expected = gradients(gaussians.to(dtype=torch.float64), camera, "reference")
    assert_same_gradients(gradients(gaussians, camera, "cpu"), expected)
    picture = render(gaussians, camera, backend="cpu")
    assert (1 - picture.alpha).min() < 1e-3  # the scene does finish pixels


def ball(count: int = 20_000, radius: float = 0.1) -> Gaussians:
    """A closed surface as heads are made of: flat, nearly opaque, with no gaps; light in front, dark behind."""
    number = torch.arange(count) + 0.5
    height, turn = 1 - 2 * number / count, math.pi * (1 + math.sqrt(5)) * number
    across = (1 - height**2).sqrt()
    normals = torch.stack([across * turn.cos(), height, across * turn.sin()], -1)
    deviation = SPREAD * radius * math.sqrt(4 * math.pi / count)
    return Gaussians(
        radius * normals,
        torch.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], torch.zeros(count)], -1),  # z to the normal
        torch.tensor([deviation, deviation, 0.2 * deviation]).expand(count, 3),
        torch.full((count,), 0.985),
        torch.where(normals[:, 2:] > 0, torch.tensor([0.8, 0.5, 0.4]), 0.1),
    )


@pytest.mark.parametrize("size", [32, 48, 64])
def test_what_is_seen_small_neither_thickens_nor_thins_and_keeps_its_color(size):
    def draw(side: int):
        camera = Camera.orbit(size=side, view_height=0.3, center=(0.0, 0.0, 0.0))
        return render(ball(), camera, (0.0, 0.0, 0.0), backend="cpu")

    small, times = draw(size), 1024 // size
    big = draw(size * times)
    alpha, rgb = (torch.nn.functional.avg_pool2d(image, times) for image in (big.alpha, big.rgb))
    wider = (small.alpha.sum() / math.pi).sqrt() - (alpha.sum() / math.pi).sqrt()
    assert -0.1 < wider < 0.45, f"{wider} px"  # measured: 0.31 to 0.37; uncompensated 0.3 px^2 of blur: 1.3 to 1.5
    inside = alpha[0] > 0.999
    assert small.alpha[0, inside].min() > 0.98
    assert (small.rgb - rgb)[:, inside].abs().max() < 0.06  # what shines through from behind


def test_alphas_at_the_maximum_pass_no_gradient_on():
    camera = view(yaw=0, pitch=0)
    gaussians = Gaussians(
        means=torch.tensor([[0.02, 0.01, 0.0], [-0.03, 0.0, 0.1]]),
        quats=torch.tensor([[1.0, 0.2, 0.0, 0.1], [0.5, 0.0, 0.3, 0.0]]),
        scales=torch.tensor([[0.8, 0.6, 0.7], [0.05, 0.04, 0.03]]),
        opacities=torch.tensor([1.0, 0.6]),
        colors=torch.tensor([[0.9, 0.4, 0.1], [0.2, 0.3, 0.8]]),
    )
    expected = gradients(gaussians.to(dtype=torch.float64), camera, "reference")
    assert_same_gradients(gradients(gaussians, camera, "cpu"), expected)
    flat = render(gaussians.select(torch.tensor([0])), camera, backend="cpu").alpha
    assert (flat == flat.max()).sum() > 20 and flat.max() == pytest.approx(0.999)


def test_reference_gradients_equal_finite_differences():
    generator = torch.Generator().manual_seed(2)
    gaussians, camera = cloud(4, seed=2, dtype=torch.float64), view(size=(7, 6)).to(dtype=torch.float64)
    camera = Camera(camera.world_to_camera[None], camera.intrinsics[None], camera.width, camera.height)
    backgrounds = torch.rand(1, 3, generator=generator, dtype=torch.float64)

    def images(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        picture = rasterize_reference(
            Gaussians(*(value[None] for value in values)), [0], camera, backgrounds, 0.01, cutoffs=False
        )
        return picture.rgb, picture.alpha, picture.depth

    leaves = differentiable(gaussians)
    inputs = tuple(getattr(leaves, name) for name in FIELDS)
    assert torch.autograd.gradcheck(images, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_batches_broadcast_like_a_loop(backend):
    sets, cameras = cloud(60, batch=(2, 1)), Camera.stack([view(yaw, 20) for yaw in (0, 60, 200)])
    colors = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    picture = render(sets, cameras, colors, backend=backend)
    assert picture.rgb.shape == (2, 3, 3, 20, 20) and picture.depth.shape == (2, 3, 1, 20, 20)
    for i in range(2):
        for j in range(3):
            single = render(sets[i][0], cameras[j], colors[j], backend=backend)
            for name in ("rgb", "alpha", "depth"):
                assert torch.equal(getattr(picture, name)[i, j], getattr(single, name))


def test_batch_gradients_are_sums_over_images():
    cameras = Camera.stack([view(yaw, 20) for yaw in (0, 90)])
    many, one = cloud(60, batch=(2,)), cloud(60)
    matching = gradients(many, cameras, "cpu")
    shared = gradients(one, cameras, "cpu")
    assert_same_gradients(matching, gradients(many.to(dtype=torch.float64), cameras, "reference"))
    assert_same_gradients(shared, gradients(one.to(dtype=torch.float64), cameras, "reference"))


def test_camera_batch_may_come_from_the_motion_alone():
    motions = torch.eye(4).repeat(3, 1, 1)
    motions[:, 0, 3] = torch.tensor([-0.05, 0.0, 0.05])
    assert render(cloud(), view(size=20).with_head_motion(motions)).rgb.shape == (3, 3, 20, 20)


def test_background_shows_where_nothing_is_and_has_a_gradient():
    empty = cloud(0)
    color = torch.tensor([0.1, 0.6, 0.3], requires_grad=True)
    for backend in ("cpu", "reference"):
        picture = render(empty, view(size=(20, 18)), color, backend=backend)
        assert torch.equal(picture.rgb, color.detach()[:, None, None].expand(3, 18, 20))
        assert picture.alpha.abs().max() == 0 and picture.depth.abs().max() == 0
    picture = render(cloud(), view(), color, backend="cpu")
    (gradient,) = torch.autograd.grad(picture.rgb.sum(), color)
    torch.testing.assert_close(gradient, (1 - picture.alpha).sum().expand(3))


def test_empty_set_and_empty_batch():
    leaves = differentiable(cloud(0))
    color = torch.zeros(3, requires_grad=True)
    render(leaves, view(), color).rgb.sum().backward()
    assert leaves.means.grad is not None and leaves.means.grad.shape == (0, 3)
    nothing = render(cloud(5, batch=(0,)), view(size=8))
    assert nothing.rgb.shape == (0, 3, 8, 8)


def test_invisible_gaussians_change_nothing_and_get_no_gradient():
    good, camera = cloud(40), view(yaw=0, pitch=0, size=32)
    position = -camera.world_to_camera[:3, :3].T @ camera.world_to_camera[:3, 3]
    odd = cloud(8, seed=9)
    means = odd.means.clone()
    means[0] = position + torch.tensor([0.0, 0.0, 0.5])  # behind the camera
    means[1] = position  # in its centre
    means[2] = torch.tensor([50.0, 0.0, 0.0])  # off screen
    means[3] = torch.tensor([math.nan, 0.0, 0.0])
    means[4] = torch.tensor([math.inf, 0.0, 0.0])
    scales = odd.scales.clone()
    scales[5] = math.nan
    opacities = odd.opacities.clone()
    opacities[6], opacities[7] = 1 / 256, math.nan
    odd = Gaussians(means, odd.quats, scales, opacities, odd.colors)
    both = Gaussians.cat([odd, good])
    assert torch.equal(render(both, camera, backend="cpu").rgb, render(good, camera, backend="cpu").rgb)
    for values in gradients(both, camera, "cpu").values():
        assert values[:8].abs().max() == 0 and values[8:].abs().max() > 0


def test_gaussians_nearer_than_the_near_plane_are_left_out():
    camera = view()
    middle = float(camera.world_to_camera[2, 3])
    everything, rest = (render(cloud(), camera, backend="cpu", near=near) for near in (0.01, middle))
    assert rest.alpha.sum() < everything.alpha.sum()
    wanted = render(cloud().to(dtype=torch.float64), camera, backend="reference", near=middle)
    assert_same_pictures(rest, wanted)


def test_huge_gaussians_do_not_crash():
    huge = dataclasses.replace(cloud(30), scales=1e6 * cloud(30).scales)
    assert render(huge, view(), backend="cpu").rgb.isfinite().all()


def test_depth_is_the_distance_along_the_axis():
    ball = Gaussians(
        torch.tensor([[0.0, 0.0, 0.1]]), torch.eye(4)[:1], torch.full((1, 3), 0.02), torch.ones(1), torch.ones(1, 3)
    )
    camera = Camera.orbit(size=33, center=(0.0, 0.0, 0.0))
    depth = render(ball, camera, backend="cpu").depth
    assert depth[0, 16, 16] == pytest.approx(float(camera.world_to_camera[2, 3]) - 0.1, rel=1e-5)
    assert depth[0, 0, 0] == 0


def test_types_are_converted_and_gradients_come_back_in_them():
    leaves = differentiable(cloud(dtype=torch.float64))
    picture = render(leaves, view(), backend="cpu")
    picture.rgb.sum().backward()
    assert picture.rgb.dtype == torch.float32
    assert leaves.means.grad is not None and leaves.means.grad.dtype == torch.float64


def test_backward_can_run_twice_and_needs_no_depth():
    leaves = differentiable(cloud())
    picture = render(leaves, view(), backend="cpu")
    first = torch.autograd.grad(picture.rgb.sum(), leaves.means, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(picture.rgb.sum(), leaves.means)[0])


def test_two_threads_render_at_once():
    set_threads(2)
    scenes = [(cloud(seed=i), view(yaw=90 * i)) for i in range(2)]
    expected = [(render(*scene, backend="cpu").rgb, gradients(*scene, "cpu")) for scene in scenes]
    failures = []

    def work(i: int) -> None:
        for _ in range(15):
            if not torch.equal(render(*scenes[i], backend="cpu").rgb, expected[i][0]):
                failures.append(f"picture {i}")
            if not torch.equal(gradients(*scenes[i], "cpu")["means"], expected[i][1]["means"]):
                failures.append(f"gradients {i}")

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert not worker.is_alive()
    assert not failures


def test_thread_count_settings(monkeypatch):
    monkeypatch.setenv("FLEXAVATAR_THREADS", "3")
    assert thread_count() == 3
    set_threads(1)
    assert thread_count() == 1
    set_threads(None)
    monkeypatch.setenv("FLEXAVATAR_THREADS", "many")
    with pytest.raises(ValueError, match="FLEXAVATAR_THREADS"):
        thread_count()
    monkeypatch.delenv("FLEXAVATAR_THREADS")
    assert thread_count() == min(torch.get_num_threads(), 16)
    with pytest.raises(ValueError):
        set_threads(0)


def test_an_error_on_a_helper_thread_is_raised():
    def kernel(counters):
        barrier.wait(timeout=10)
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("helper failed")

    set_threads(2)
    barrier = threading.Barrier(2)
    with pytest.raises(RuntimeError, match="helper failed"):
        threads.run_on_threads(kernel, 2)


def fork_and_render() -> None:
    set_threads(2)
    render(cloud(), view(), backend="cpu")
    child = os.fork()
    if child == 0:
        ok = bool(render(cloud(), view(), backend="cpu").alpha.max() > 0)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_forked_process_can_render():
    # In a process of its own: OpenMP's threads, which other tests have started, do not survive any fork.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = "from tests.render.test_render import fork_and_render; fork_and_render()"
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, check=True)


def test_cache_falls_back_to_a_temporary_folder(monkeypatch, tmp_path):
    import numba

    from flexavatar.render import numba_support

    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    numba_support.prepare_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "mine")
    monkeypatch.setattr(numba_support, "_numba_cache_folders", lambda: [blocked / "a", blocked / "b"])
    numba_support.prepare_cache()
    folder = os.environ["NUMBA_CACHE_DIR"]
    assert os.path.isdir(folder) and folder == numba.config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    os.rmdir(folder)


def test_importing_the_package_compiles_nothing():
    script = "import sys, flexavatar.render; sys.exit(bool({'numba', 'gsplat'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_bad_arguments_are_named():
    gaussians = cloud(4)
    with pytest.raises(ValueError, match="opacities"):
        render(dataclasses.replace(gaussians, opacities=torch.ones(4, 1)), view())
    with pytest.raises(ValueError, match="background"):
        render(gaussians, view(), (1.0, 1.0))
    with pytest.raises(ValueError, match="renderer"):
        render(gaussians, view(), backend="opengl")  # pyright: ignore[reportArgumentType]


def test_without_cuda_the_cpu_renderer_is_named_and_gsplat_refused(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    backends._probe_gsplat.cache_clear()
    try:
        status = renderer_status()
        assert status.backend == status.device == "cpu" and "CUDA" in status.reason
        assert available_backends() == ("cpu", "reference")
        with pytest.raises(RendererUnavailable, match="backend='auto'"):
            render(cloud(4), view(), backend="gsplat")
        backends._reported.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert backends.choose_backend("auto", torch.device("cuda"), 4) == "cpu"
        assert len(caplog.records) == 1 and "CPU" in caplog.records[0].message
    finally:
        backends._probe_gsplat.cache_clear()


def test_a_cuda_machine_without_nvcc_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_nvcc", lambda: None)
    backends._probe_gsplat.cache_clear()
    try:
        problem = backends.gsplat_problem()
    finally:
        backends._probe_gsplat.cache_clear()
    assert problem is not None and ("nvcc" in problem or "not installed" in problem)


@pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
def test_gsplat_is_called_by_its_rules(monkeypatch, batch):
    """gsplat itself needs a GPU; here the reference takes its place behind gsplat's signature."""
    rendering = pytest.importorskip("gsplat.rendering")

    def rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        near_plane, eps2d, packed, backgrounds, render_mode, rasterize_mode,
    ):  # fmt: skip
        sets, cameras = means.shape[:-2], viewmats.shape[-3]
        assert opacities.shape == means.shape[:-1] and colors.shape == means.shape
        assert viewmats.shape == (*sets, cameras, 4, 4) and Ks.shape == (*sets, cameras, 3, 3)
        assert backgrounds.shape == (*sets, cameras, 3) and render_mode == "RGB+ED" and not packed
        assert (rasterize_mode, eps2d) == ("antialiased", BLUR)
        values = Gaussians(*(t.unsqueeze(len(sets)) for t in (means, quats, scales, opacities, colors)))
        picture = render(values, Camera(viewmats, Ks, width, height), backgrounds, "reference", near_plane)
        return torch.cat([picture.rgb, picture.depth], -3).movedim(-3, -1), picture.alpha.movedim(-3, -1), {}

    monkeypatch.setattr(rendering, "rasterization", rasterization)
    monkeypatch.setattr(
        "flexavatar.render.choose_backend", lambda backend, *_: "gsplat" if backend == "auto" else backend
    )
    monkeypatch.setattr(Gaussians, "to", lambda gaussians, *_, **__: gaussians)  # there is no GPU to go to
    gaussians, cameras = cloud(50, batch=batch), Camera.stack([view(yaw, (20, 12)) for yaw in (0, 60, 200)])
    colors = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    actual = render(gaussians, cameras, colors)
    monkeypatch.undo()
    assert_same_pictures(actual, render(gaussians, cameras, colors, backend="reference"), 1e-5)


@gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("size", [48, (37, 53)])
def test_gsplat_equals_reference(size):
    gaussians, camera = cloud(), view(size=size)
    assert renderer_status().backend == "gsplat"
    actual = render(gaussians.to("cuda"), camera, (0.2, 0.4, 0.9))
    assert actual.rgb.is_cuda
    exact = gaussians.to(dtype=torch.float64)
    assert_same_pictures(actual, render(exact, camera, (0.2, 0.4, 0.9), backend="reference"))
    expected = gradients(exact, camera, "reference")
    assert_same_gradients(gradients(gaussians.to("cuda"), camera, "gsplat"), expected)


@gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("batch", [(), (3,), (2, 1)])
def test_gsplat_batches_equal_cpu(batch):
    gaussians, cameras = cloud(100, batch=batch), Camera.stack([view(yaw, 32) for yaw in (0, 60, 200)])
    actual = render(gaussians.to("cuda"), cameras, backend="gsplat")
    assert_same_pictures(actual, render(gaussians, cameras, backend="cpu"))
