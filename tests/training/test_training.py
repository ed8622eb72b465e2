"""Training: records, losses, the exactness of continuing, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from flexavatar.cli import BAD_INPUT, USAGE, main
from flexavatar.expression import BLENDSHAPE_INDEX
from flexavatar.gaussians import Gaussians
from flexavatar.model.pretrained import from_pretrained
from flexavatar.rig import Rig
from flexavatar.rig.maps import covering
from flexavatar.rotations import rotation_from_angles
from flexavatar.synthetic.labels import texel_frames
from flexavatar.training.config import BadConfig, LossWeights, read_config
from flexavatar.training.losses import draw_views, drift, label_losses, picture_losses
from flexavatar.training.mirroring import mirror_texels, mirrored
from flexavatar.training.records import DESCRIPTION, INVALID, RAISED, BadRecord, TrainingRecord, stack, unpack
from flexavatar.training.resident import ResidentPool
from flexavatar.training.sampling import RecordPool, picks
from tests.training.training_records import SIZE, made_pool, made_record

ALL = LossWeights(position=1, color=1, copied=1, spread=1, presence=1, pixels=1, ssim=1, alpha=1, drift=1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="module")
def record() -> TrainingRecord:
    return made_record(0)


def truth_of(record: TrainingRecord) -> tuple[Gaussians, object]:
    """The labelled head itself as a prediction, and its anchors."""
    rig = Rig.load()
    frames = rig.anchors.frames(rig.pose(record.shape, record.blendshapes))
    head = Gaussians(
        record.positions.float(),
        frames.quats,
        frames.scales,
        torch.full((len(record.flags),), 0.985),
        record.label_colors.float() / 255,
    )
    grow = lambda value: value[None]  # noqa: E731
    return Gaussians(**{k: grow(v) for k, v in vars(head).items()}), type(frames)(
        *(grow(value) for value in (frames.means, frames.quats, frames.scales))
    )


def test_record_survives_the_disk(record: TrainingRecord, tmp_path: Path) -> None:
    record.save(tmp_path / "one.safetensors")
    again = TrainingRecord.load(tmp_path / "one.safetensors")
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(record).items())
    batch = unpack(stack([again, made_record(100, labelled=False)], [[1, 0], [0, 0]]), "cpu")
    assert batch.bias_sinks == ("multiview", "monocular")
    assert batch.camera.batch_shape == (2, 2)
    # Shells keep their sign and their zero.
    assert batch.observation.shells.min() >= -1 and (batch.observation.shells[:, :, ~Rig.load().atlas.valid] == 0).all()
    # View 1 of the record came first, so it is the one from behind.
    assert batch.camera.world_to_camera[0, 0, 2, 2] > 0 > batch.camera.world_to_camera[0, 1, 2, 2]


def test_damaged_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no record")
    with pytest.raises(BadRecord, match="Prepare the records again"):
        TrainingRecord.load(tmp_path / "bad.safetensors")
    with pytest.raises(BadRecord, match="no training records"):
        RecordPool.of(tmp_path / "nothing")


def test_the_truth_has_no_loss(record: TrainingRecord) -> None:
    gaussians, anchors = truth_of(record)
    batch = unpack(stack([record], [[0, 1]]), "cpu")
    grid = Rig.load().atlas.valid
    wide = covering(batch.labels.positions, grid, batch.labels.flags != INVALID)
    raised = (batch.labels.flags == RAISED)[..., None]
    gaussians = Gaussians(**vars(gaussians) | {"scales": torch.where(raised, wide, gaussians.scales)})
    terms = label_losses(gaussians, anchors, gaussians.colors, batch.labels, grid, ALL)  # type: ignore[arg-type]
    backgrounds = torch.tensor([[0.2, 0.5, 0.8]])
    terms |= picture_losses(draw_views(gaussians, batch, backgrounds), batch, backgrounds, ALL, [])
    assert set(terms) == {"position", "color", "copied", "spread", "presence", "pixels", "ssim", "alpha"}
    limits = {"position": 0.01, "color": 0.003, "copied": 0.003, "spread": 1e-3, "presence": 1e-3}
    limits |= {"pixels": 0.02, "ssim": 0.1, "alpha": 0.02}
    assert all(float(value) < limits[name] for name, value in terms.items()), terms


def test_each_loss_sees_its_own_mistake(record: TrainingRecord) -> None:
    gaussians, anchors = truth_of(record)
    batch = unpack(stack([record], [[0, 1]]), "cpu")
    grid = Rig.load().atlas.valid

    def losses(**changes: torch.Tensor) -> dict[str, float]:
        changed = Gaussians(**vars(gaussians) | changes)
        terms = label_losses(changed, anchors, changed.colors, batch.labels, grid, ALL)  # type: ignore[arg-type]
        return {name: float(value) for name, value in terms.items()}

    right = losses()
    assert losses(means=gaussians.means + 0.01)["position"] == pytest.approx(3**0.5, abs=0.02)
    for name in ("color", "copied"):
        assert losses(colors=gaussians.colors * 0)[name] > right[name] + 0.1
    assert losses(scales=gaussians.scales * 2.718)["spread"] > right["spread"] + 0.5
    assert losses(opacities=gaussians.opacities * 0)["presence"] == pytest.approx(0.985, abs=0.01)
    assert float(drift(gaussians, anchors, batch.labels)) == 0  # type: ignore[arg-type]


def test_covering_follows_the_spacing(record: TrainingRecord) -> None:
    labels = unpack(stack([record], [[0]]), "cpu").labels
    grid = Rig.load().atlas.valid
    once, twice = (covering(labels.positions * size, grid, labels.flags != INVALID)[..., 0] for size in (1, 2))
    inside = (once > 3e-4) & (twice < 0.011)
    assert inside.float().mean() > 0.7
    ratio = twice[inside] / once[inside]
    # Where two surfaces meet, the doubled step may count as torn.
    assert (ratio - 2).abs().quantile(0.98) < 0.05


def test_batches_depend_on_seed_and_step_only(pool: Path) -> None:
    config = read_config("smoke")
    records = RecordPool.of(pool)
    assert [p.path for p in picks(records, config, 3)] == [p.path for p in picks(records, config, 3)]
    assert any(
        [p.path for p in picks(records, config, 3)] != [p.path for p in picks(records, config, s)] for s in (4, 5)
    )
    kinds = [p.path.name.startswith("portrait") for p in picks(records, config, 12)]
    assert sorted(kinds) == [False, True]
    with pytest.raises(BadConfig, match="needs portrait records"):
        picks(RecordPool(records.synthetic, ()), config, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sed=1", "sed"),
        ("stages.labels.steps=0", "steps"),
        ("stages.nothing.steps=1", "Cannot apply"),
        ("precision=half", "Cannot apply"),
        ('precision="half"', "precision"),
    ],
)
def test_wrong_configurations_say_what_is_wrong(change: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        read_config("smoke", [change])


def test_every_shipped_configuration_is_valid() -> None:
    from flexavatar.training.config import PRESETS

    presets = sorted(path.stem for path in PRESETS.glob("*.toml"))
    assert {"smoke", "cpu", "gpu"} <= set(presets)
    for name in presets:
        assert read_config(name).network.width > 0
    with pytest.raises(BadConfig, match="smoke"):
        read_config("nothing")


def figures(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_smoke_run_learns_and_leaves_a_model(pool: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(run), "--config", "smoke", "--pool", str(pool)]
    assert main([*arguments, "--check", str(pool)]) == 0
    lines = figures(run)
    labels = [line["loss"] for line in lines if line.get("stage") == "labels"]
    assert labels[1] < 0.98 * labels[0]  # averages of five steps
    checked = [line for line in lines if "check/psnr" in line]
    assert len(checked) == 1 and checked[0]["step"] == 20
    assert Image.open(run / "sheets" / "0000020.png").size == (14 * SIZE, SIZE)
    assert list(run.rglob("events.out.tfevents*"))
    model = from_pretrained(run / "model")
    assert model.config == read_config("smoke").network


def test_going_on_equals_never_having_stopped(pool: Path, tmp_path: Path) -> None:
    arguments = ["--config", "smoke", "--pool", str(pool), "--set", "stages.labels.steps=3"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["train", str(whole), *arguments, "--until", "5"]) == 0
    for step in ("1", "4", "5"):
        assert main(["train", str(parts), *arguments, "--until", step]) == 0
    for name in ("weights", "average", "optimizer"):
        a, b = (load_file(run / "state" / f"{name}.safetensors") for run in (whole, parts))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name


def test_a_pool_that_still_grows(pool: Path, tmp_path: Path) -> None:
    growing = tmp_path / "pool"
    growing.mkdir()
    files = sorted(pool.glob("*.safetensors"))
    config = read_config("smoke")
    waiting = ResidentPool(growing, fewest=1, patience=0.0)
    with pytest.raises(BadRecord, match="`flexavatar prepare` running"):
        waiting.feed(config, 0, 0, 1, torch.device("cpu"))(0)
    records = ResidentPool(growing, fewest=1)
    feed = records.feed(config, 10, 0, 1, torch.device("cpu"))
    later = threading.Timer(0.2, lambda: [shutil.copy(file, growing) for file in files])
    later.start()
    batch = feed(10)  # waits
    assert sorted(batch["labelled"].tolist()) == [False, True]
    later.join()
    deadline = time.monotonic() + 60
    while len(records) < len(files) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(records) == len(files)
    assert unpack(feed(11), "cpu").pictures.shape[:2] == (2, 2)


def test_a_schedule_that_follows_the_clock(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(run), "--config", "smoke", "--pool", str(pool), "--paced"]
    assert main(arguments) == USAGE
    assert "--minutes" in capsys.readouterr().err
    started = time.monotonic()
    assert main([*arguments, "--minutes", "0.02", "--set", "stages.pictures.steps=100000"]) == 0
    assert time.monotonic() - started < 60
    state = json.loads((run / "state" / "progress.json").read_text())
    assert state["step"] == 100010 and state["seconds"] >= 1.2
    assert 0 < sum(line.get("batches", 0) for line in figures(run)) < 1000


def test_a_run_of_another_network_is_refused(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(tmp_path / "run"), "--config", "smoke", "--pool", str(pool)]
    assert main([*arguments, "--until", "1"]) == 0
    assert main([*arguments, "--set", "model.width=64"]) == BAD_INPUT
    assert "another network" in capsys.readouterr().err
    (tmp_path / "run" / "state" / "progress.json").write_text("{")
    assert main(arguments) == BAD_INPUT
    assert "Delete it to start anew" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_equal_one(pool: Path, tmp_path: Path) -> None:
    """Two processes of batch 1 each take the same steps as one of batch 2."""
    arguments = ["--config", "smoke", "--pool", str(pool), "--until", "12", "--set", "log_every=1"]
    assert main(["train", str(tmp_path / "one"), *arguments]) == 0
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "flexavatar", "train", str(tmp_path / "two")]
    subprocess.run([*launch, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=250)
    one, two = ([line["loss"] for line in figures(tmp_path / name) if "loss" in line] for name in ("one", "two"))
    assert len(one) == len(two) == 12
    assert two == pytest.approx(one, rel=2e-3)


def test_mirror_image_of_a_record(record: TrainingRecord) -> None:
    blendshapes = record.blendshapes.clone()
    blendshapes[BLENDSHAPE_INDEX["mouthSmileLeft"]] = 1.0
    turned = replace(record, blendshapes=blendshapes, head_rotation=rotation_from_angles(yaw=20, pitch=10))
    other = mirrored(turned)
    assert other.blendshapes[BLENDSHAPE_INDEX["mouthSmileRight"]] == 1.0
    again = mirrored(other)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(turned).items())
    rig = Rig.load()
    pictures = []
    for one in (turned, other):
        batch = unpack(stack([one], [[0, 1]]), "cpu")
        frames = rig.anchors.frames(rig.pose(one.shape, one.blendshapes, one.head_rotation))
        head = Gaussians(frames.means, frames.quats, frames.scales, one.opacities / 255, one.colors / 255)
        grown = Gaussians(**{name: value[None] for name, value in vars(head).items()})
        pictures.append(draw_views(grown, batch, torch.ones(1, 3)).rgb)
    assert (pictures[0].flip(-1) - pictures[1]).abs().max() < 5e-3
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


def described(record: TrainingRecord) -> TrainingRecord:
    count = len(record.flags)
    generator = torch.Generator().manual_seed(0)
    strands = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return replace(
        record,
        parts=torch.randint(1, 6, (count,), generator=generator).to(torch.uint8),
        strands=(strands * 127 + 128.5).to(torch.uint8),
        heights=(0.1 * torch.rand(count, generator=generator)).half(),
        tones=torch.randint(0, 256, (count, 3), generator=generator).to(torch.uint8),
    )


def test_records_from_before_parts_still_load(record: TrainingRecord, tmp_path: Path) -> None:
    full = described(record)
    full.save(tmp_path / "new.safetensors")
    tensors = load_file(tmp_path / "new.safetensors")
    save_file({name: value for name, value in tensors.items() if name not in DESCRIPTION}, tmp_path / "old.safetensors")
    new, old = (TrainingRecord.load(tmp_path / f"{name}.safetensors") for name in ("new", "old"))
    assert new.described and not old.described and old.labelled
    assert all(torch.equal(getattr(new, name), getattr(full, name)) for name in DESCRIPTION)
    labels = unpack(stack([new, old], [[0], [0]]), "cpu").labels
    assert labels.parts.shape == labels.heights.shape == labels.flags.shape
    torch.testing.assert_close(labels.strands[0].norm(dim=-1), torch.ones(len(full.flags)), atol=0.02, rtol=0)
    assert torch.equal(labels.parts[0], full.parts)
    for nothing in (labels.parts[1], labels.strands[1], labels.heights[1], labels.tones[1]):
        assert (nothing == 0).all()


def test_mirror_image_of_a_description(record: TrainingRecord) -> None:
    full = described(record)
    once = mirrored(full)
    twice = mirrored(once)
    texels = mirror_texels()
    assert torch.equal(once.parts, full.parts[texels]) and torch.equal(once.heights, full.heights[texels])
    assert torch.equal(once.strands[:, 0].int(), 256 - full.strands[texels, 0].int())
    assert torch.equal(once.strands[:, 1:], full.strands[texels, 1:])
    back = texels[texels] == torch.arange(len(texels))
    assert torch.equal(twice.strands[back], full.strands[back]) and back.float().mean() > 0.9
    # A direction and its reflection, in the frames of a texel and of the one opposite.
    rig = Rig.load()
    frames = texel_frames(rig, rig.mean)
    local = (full.strands.float() - 128) / 127
    flip = torch.tensor([-1.0, 1.0, 1.0])
    ahead = (frames @ local[..., None])[..., 0]
    seen = (frames @ ((once.strands.float() - 128) / 127)[..., None])[..., 0]
    off = (seen - (ahead * flip)[texels]).norm(dim=-1)
    head = rig.atlas.region[rig.atlas.valid] == 0
    assert off[head].median() < 0.05
