"""Making training records."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flexavatar.cli import main
from flexavatar.expression import Expression
from flexavatar.rig import Rig
from flexavatar.synthetic import HeadAssets, SyntheticHeads
from flexavatar.training.photo import Tone, flawed
from flexavatar.training.pool import Plan
from flexavatar.training.portraits import track_portraits
from flexavatar.training.records import INVALID, RAISED, TrainingRecord
from tests.conftest import EXAMPLE

needs_data = pytest.mark.skipif("FLEXAVATAR_DATA" not in os.environ, reason="needs the assets in FLEXAVATAR_DATA")


def test_tones_are_monotonic_and_stay_in_range() -> None:
    grey = torch.linspace(0, 1, 64)[:, None].expand(64, 3)
    for seed in range(50):
        toned = Tone.sample(torch.Generator().manual_seed(seed))(grey)
        assert toned.min() >= 0 and toned.max() <= 1
        assert (toned.diff(dim=0) > -1e-6).all()


def test_flaws_keep_the_picture() -> None:
    picture = np.asarray(Image.open(EXAMPLE).convert("RGB"), np.float32)[:256, 128:384] / 255
    errors = []
    for seed in range(20):
        made = flawed(picture, torch.Generator().manual_seed(seed))
        assert made.dtype == np.uint8 and made.shape == picture.shape
        errors.append(float(np.abs(made / 255 - picture).mean()))
    assert max(errors) < 0.05 and np.std(errors) > 1e-3


def test_a_plan_mixes_both_kinds() -> None:
    files = Plan(Path("pool"), 4, (Path("a.safetensors"), Path("b.safetensors")), variants=2).files()
    assert len(files) == 8
    assert sorted(file.name[:8] for file in files[:4]) == ["portrait", "portrait", "syntheti", "syntheti"]


def test_portraits_become_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEXAVATAR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.open(EXAMPLE).convert("RGB").save(folder / "astronaut.jpg")
    Image.open(photos["no_face"]).save(folder / "empty.jpg")
    pool = tmp_path / "pool"
    command = ["prepare", str(pool), "--portraits", str(folder), "--size", "96"]
    assert main(command) == 0
    assert "made: 2" in capsys.readouterr().out
    assert main(command) == 0
    assert "there before: 2" in capsys.readouterr().out
    plain, mirrored = (TrainingRecord.load(path) for path in sorted(pool.glob("portrait-*")))
    if "mirrored" not in sorted(pool.glob("portrait-*"))[1].name:
        plain, mirrored = mirrored, plain
    assert plain.bias_sink == "monocular" and plain.pictures.shape == (1, 4, 96, 96)
    # The head turns the other way in the mirror.
    assert plain.head_rotation[0, 2] * mirrored.head_rotation[0, 2] < 0
    # Where the photo ends, nothing is known.
    assert 0.2 < float((plain.weights > 0).float().mean()) < 0.95
    cache = tmp_path / "cache"
    tracked = list(track_portraits([folder / "astronaut.jpg", folder / "empty.jpg"], cache))
    assert len(tracked) == 2
    monkeypatch.setattr("flexavatar.training.portraits.TRACKING_VERSION", 0)
    other = next(iter(track_portraits([folder / "astronaut.jpg"], cache)))
    assert other not in tracked and other.name == tracked[0].name, "another tracker's portraits are not taken"


@needs_data
def test_synthetic_records_are_reproducible_and_agree_with_themselves(assets: HeadAssets) -> None:
    from flexavatar.training.synthetic import synthetic_record

    heads = SyntheticHeads(assets, "eval")
    record = synthetic_record(heads, 3, views=3, size=96)
    again = synthetic_record(heads, 3, views=3, size=96)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(record).items())
    assert record.described and record.parts.max() > 1 and (record.parts > 0)[record.flags != INVALID].all()
    assert record.bias_sink == "multiview" and (record.flags != INVALID).float().mean() > 0.7
    # What does not stand off lies where the rig is, posed by the record's own numbers.
    rig = Rig.load()
    expression = Expression(record.blendshapes, record.head_rotation)
    shapes = expression.blendshapes + record.rest * (1 - expression.blendshapes)
    surface = rig.anchors.positions(rig.pose(record.shape, shapes, expression.head_rotation))
    away = (surface - record.positions.float()).norm(dim=-1)
    assert float(away[(record.flags != INVALID) & (record.flags != RAISED)].median()) < 0.003
