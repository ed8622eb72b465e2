"""FLEX-1's preprocessing against the released adapter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flexavatar.model import flex1_inputs as inputs
from flexavatar.model.embedding import pluecker_rays
from flexavatar.model.pixel3dmm import BadTracking, TrackerMissing, read_pixel3dmm, require_source

CASES = ("inside", "bottom", "corner")


def _case(name: str) -> dict[str, torch.Tensor]:
    golden = load_file(Path(__file__).parent / "golden" / "preprocess_golden.safetensors")
    return {k.removeprefix(name + "."): v for k, v in golden.items() if k.startswith(name + ".")}


def _write(folder: Path, g: dict[str, torch.Tensor]) -> None:
    flame = {k: g["in." + k].numpy() for k in ("exp", "eyes", "eyelids", "neck", "jaw")}
    flame |= {"R": g["in.flame_R_6d"].numpy(), "t": g["in.flame_t"].numpy()}
    camera = {"fl": g["in.fl"].numpy(), "pp": g["in.pp"].numpy()}
    camera |= {"R_base_0": g["in.cam_R_base"][None].numpy(), "t_base_0": g["in.cam_t_base"][None].numpy()}
    joints = np.tile(g["in.neck_joint_transform"].numpy(), (1, 5, 1, 1))
    (folder / "checkpoint").mkdir()
    torch.save({"flame": flame, "camera": camera, "joint_transforms": joints}, folder / "checkpoint" / "00000.frame")
    np.save(folder / "crop_ymin_ymax_xmin_xmax.npy", g["in.crop_ymin_ymax_xmin_xmax"].numpy())


@pytest.mark.parametrize("name", CASES)
def test_goldens_through_a_result_folder(name: str, tmp_path: Path) -> None:
    g = _case(name)
    _write(tmp_path, g)
    (frame,) = read_pixel3dmm(tmp_path)
    image = g["in.image"].numpy()
    assert np.array_equal(inputs.crop_image(image, frame.crop)[::4, ::4], g["out.image_512_stride4"].numpy())
    k = inputs.intrinsics_of_crop(frame.focal, frame.principal, frame.crop, image.shape[0])
    normalised = inputs.normalise_intrinsics(k)
    torch.testing.assert_close(k, g["out.intrinsics_512"], atol=2e-4, rtol=0)
    torch.testing.assert_close(normalised, g["out.intrinsics_normalised"], atol=1e-6, rtol=0)
    torch.testing.assert_close(frame.cam2head, g["out.cam2head"], atol=1e-5, rtol=0)
    assert torch.equal(frame.code.vector(), g["out.expression_code"])
    rays = pluecker_rays(frame.cam2head, normalised, 32, 32)
    torch.testing.assert_close(rays, g["out.plucker_32"], atol=1e-5, rtol=0)


def test_rotation_round_trip_and_matte() -> None:
    rotation = inputs.decode_rotation_6d(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(inputs.decode_rotation_6d(inputs.encode_rotation_6d(rotation)), rotation)
    white = inputs.composite_on_white(torch.zeros(3, 2, 2), torch.zeros(1, 2, 2))
    assert torch.equal(white, torch.ones(3, 2, 2))


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadTracking, match="Pixel3DMM"):
        read_pixel3dmm(tmp_path)
    _write(tmp_path, _case("inside"))
    (tmp_path / "checkpoint" / "00000.frame").write_bytes(b"damaged")
    with pytest.raises(BadTracking, match="damaged"):
        read_pixel3dmm(tmp_path)
    with pytest.raises(TrackerMissing, match="install"):
        require_source(None)
