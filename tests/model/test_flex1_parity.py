"""The network computes what the released one computes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flexavatar.model import FLEX_1, Flex1, read_config, read_template, template_anchors
from flexavatar.model.checkpoint import released_state_dict
from flexavatar.model.embedding import pluecker_rays
from flexavatar.model.template import Template, rasterise, sample_map
from tests.model.flex1_reference import GOLDEN, Inputs, recorded_run

TOLERANCE = 1e-5


def assert_close(got: Tensor, expected: Tensor, name: str, tolerance: float = TOLERANCE) -> None:
    assert got.shape == expected.shape, name
    error = (got.double() - expected.double()).abs().max().item()
    assert error <= tolerance, f"{name}: {error:.2e}"


def test_every_intermediate_and_output_of_the_small_network(tiny: Flex1, tiny_inputs: Inputs):
    expected = load_file(GOLDEN / "tiny_intermediates.safetensors") | load_file(GOLDEN / "tiny_outputs.safetensors")
    got = recorded_run(tiny, tiny_inputs)
    views = tiny_inputs.views
    got["enc.plucker"] = pluecker_rays(views["cam2world"], views["intrinsics"], 64, 64)
    got["sampled_features"] = sample_map(got["upsampled_features"], tiny.decoder.uvs)
    for name in sorted(name for name in expected if not name.startswith("template.")):
        assert_close(got[name], expected[name], name)


def test_template_maps_and_samples():
    expected = load_file(GOLDEN / "tiny_outputs.safetensors")
    template = read_template(GOLDEN / "tiny_template.obj")
    anchors = template_anchors(template, read_config(GOLDEN / "tiny_config.json"))
    assert torch.equal(rasterise(template, 64).covered, expected["template.valid_64"].bool())
    assert_close(rasterise(template, 64).positions, expected["template.position_map_64"], "map 64", 1e-7)
    assert_close(anchors.queries.unflatten(0, (8, 8)), expected["template.position_map_8"], "map 8", 1e-7)
    assert_close(anchors.uvs, expected["template.uv_samples"], "uvs", 1e-7)
    assert_close(anchors.positions, expected["template.sampled_positions"], "positions", 1e-7)
    assert len(template_anchors(template, FLEX_1).uvs) == 56_324


def test_rasteriser_lets_the_first_triangle_win_and_includes_edges():
    import numpy as np

    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=np.float32)
    vertices = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 9.0]])
    corners = np.array([[0, 1, 2], [0, 1, 2], [0, 2, 2]])
    places = corners.copy()
    places[1] = 4  # the second triangle lies over the first, somewhere else in space; the third has no area
    maps = rasterise(Template(vertices, uvs, places, corners), 4)
    lower = torch.ones(4, 4).triu().bool()  # row = v, column = u; texel centres on the diagonal lie on the edge
    assert torch.equal(maps.covered, lower)
    centre = torch.tensor([2.5 / 4, 1.5 / 4, 1.0])
    assert torch.allclose(maps.positions[1, 2], centre)
    assert (maps.positions[~lower] == 0).all()


def test_full_size_names_and_shapes_are_the_released_ones(released_entries: dict[str, dict]):
    anchors = template_anchors(read_template(GOLDEN / "tiny_template.obj"), FLEX_1)
    with torch.device("meta"):
        model = Flex1(FLEX_1, anchors)
    ours = {name: list(tensor.shape) for name, tensor in released_state_dict(model).items()}
    assert ours == {name: entry["shape"] for name, entry in released_entries.items()}
    assert len(ours) == 448
    assert sum(p.numel() for p in model.parameters()) == 182_410_142


PROBE_STRIDES = {
    "enc.plucker": (..., slice(None, None, 37), slice(None, None, 37)),
    "enc.patchify": (slice(None), slice(None, None, 29), slice(None, None, 7), slice(None, None, 7)),
    "head.expression_mlp": (..., slice(None, None, 13)),
    "up.block0.img": (slice(None), slice(None, None, 19), slice(None, None, 13), slice(None, None, 13)),
    "upsampled_features": (slice(None), slice(None), slice(None, None, 17), slice(None, None, 17)),
    "sampled_features": (slice(None), slice(None, None, 997)),
}


def probe_sample(name: str, value: Tensor) -> Tensor:
    """The entries of a full-size value that the reference file keeps."""
    if name in PROBE_STRIDES:
        return value[PROBE_STRIDES[name]]
    if name.startswith("gaussians."):
        return value[:, ::199]
    if name.startswith("up."):
        return value[:, ::53, ::13, ::13]
    if name.startswith("head."):
        return value[:, ::37, ::29]
    return value[::37, :, ::29]


@pytest.mark.slow
def test_full_size_probe(tmp_path: Path, probe: ModuleType, probe_inputs: Inputs, released_entries: dict[str, dict]):
    weights = {
        name: torch.from_numpy(probe.weights(name, tuple(entry["shape"]))) for name, entry in released_entries.items()
    }
    save_file({name: w.contiguous() for name, w in weights.items()}, tmp_path / "weights.safetensors")
    model = Flex1.load(tmp_path / "weights.safetensors", GOLDEN / "tiny_template.obj")
    got = recorded_run(model, probe_inputs)
    views = probe_inputs.views
    got["enc.plucker"] = pluecker_rays(views["cam2world"], views["intrinsics"], 512, 512)
    got["sampled_features"] = sample_map(got["upsampled_features"], model.decoder.uvs)
    for name, expected in load_file(GOLDEN / "flex1_probe_outputs.safetensors").items():
        assert_close(probe_sample(name, got[name]), expected, name)
