"""Losses against the released model's values."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flexavatar.metrics import l1, photometric_loss, ssim_map


def test_goldens() -> None:
    golden = load_file(Path(__file__).parent / "loss_golden.safetensors")
    x, y = golden["x"], golden["y"]
    for name, value in {"l1": l1(x, y), "ssim": ssim_map(x, y).mean(), "loss_08_02": photometric_loss(x, y)}.items():
        assert value.item() == pytest.approx(golden[name].item(), abs=1e-6)


def test_perceptual_term_is_added_and_differentiable() -> None:
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss = photometric_loss(x, x.detach(), perceptual=[lambda a, b: a.mean()])
    loss.backward()
    assert loss.item() == pytest.approx(x.mean().item(), abs=1e-5)
    assert x.grad is not None and x.grad.abs().sum() > 0
