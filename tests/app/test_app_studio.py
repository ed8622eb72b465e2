"""What the app can do, without any user interface."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plyfile import PlyData

import app
from flexavatar.app.downloads import DOWNLOADS, one_id
from flexavatar.app.jobs import Jobs
from flexavatar.app.roster import MAX_AVATARS, Roster
from flexavatar.app.share_box import lifetimes
from flexavatar.app.store import AvatarGone
from flexavatar.app.studio import FORMATS, SMALL_VIDEO, Studio
from flexavatar.app.work import duration
from flexavatar.avatar import Avatar
from flexavatar.baking import read_bundle
from flexavatar.errors import Cancelled, NoFaceFound, UnreadableVideo
from flexavatar.expression import Expression
from flexavatar.io import write_video
from flexavatar.io.videos import read_video_info
from flexavatar.motion import read_motion
from flexavatar.progress import Progress
from flexavatar.sharing import FolderStorage, Limits, SharedStore
from tests.conftest import EXAMPLE, ROOT

CLIP = EXAMPLE.parent / "turning.mp4"


@pytest.fixture(scope="module")
def other(studio: Studio, key: str) -> str:
    """An avatar with another colour."""
    from dataclasses import replace

    stored = studio.store.get(key)
    return studio.store.put(replace(stored, avatar=replace(stored.avatar, colors=1 - stored.avatar.colors), name="b"))


def test_another_matte(studio: Studio) -> None:
    """U-2-Net comes with the package, so that nothing is downloaded here."""
    _, usual = studio.create(EXAMPLE)
    key, tracked = studio.create(EXAMPLE, matte="rembg:u2netp")
    assert studio.describe(key)["gaussians"]
    assert 0.001 < np.abs(tracked.matte - usual.matte).mean() < 0.2
    with pytest.raises(ValueError, match="rembg:MODEL"):
        studio.create(EXAMPLE, matte="nothing")


def test_capture_of_a_video(studio: Studio) -> None:
    assert 2 < studio.estimate([CLIP], "fast") < studio.estimate([CLIP], "best") < 120
    shares: list[float] = []
    made_key, made = studio.capture([CLIP], "fast", lambda stage, share: shares.append(share))
    assert shares == sorted(shares) and shares[-1] == 1
    assert made.psnr is not None and made.psnr > 12
    assert studio.describe(made_key)["gaussians"]


def test_capture_that_is_stopped_keeps_the_best(studio: Studio) -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 5

    _, made = studio.capture([CLIP], "fast", Progress(stop=stopped))
    assert made.stopped and made.used


def test_what_cannot_be_captured(studio: Studio, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(ValueError, match="Add some photos"):
        studio.capture([])
    with pytest.raises(ValueError, match="not both"):
        studio.estimate([EXAMPLE, CLIP])
    with pytest.raises(UnreadableVideo):
        studio.estimate([text])


def test_drive_by_a_clip(studio: Studio, key: str) -> None:
    shares: list[float] = []
    made = studio.drive(key, "wink", size=64, progress=lambda stage, share: shares.append(share))
    assert shares[-1] == 1 and made.warnings == ()
    assert read_video_info(made.video).width == 64
    assert len(read_motion(made.motion, made.fps)) == made.frames
    assert studio.drive(key, made.motion, background=None, size=64).video.endswith(".webm")


def test_driving_that_is_cancelled_leaves_nothing(studio: Studio, key: str) -> None:
    folder = Path(studio.store.get(key).folder.name)
    before = {path for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(Cancelled):
        studio.drive(key, "wink", size=64, progress=Progress(stop=lambda: True))
    with pytest.raises(Cancelled):
        studio.morph([key, key], Expression.neutral(), size=64, progress=Progress(stop=lambda: True))
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_driving_without_a_face(studio: Studio, key: str, tmp_path: Path) -> None:
    write_video(tmp_path / "empty.mp4", [np.full((96, 96, 3), 120, np.uint8)] * 5, 10)
    with pytest.raises(NoFaceFound):
        studio.drive(key, tmp_path / "empty.mp4", size=64)


def test_between_two(studio: Studio, key: str, other: str) -> None:
    neutral = Expression.neutral()
    first, middle, last = (studio.mixed_picture([key, other], [1 - t, t], neutral, 64) for t in (0, 0.5, 1))
    mean = (first.astype(float) + last) / 2
    assert np.abs(middle - mean).mean() < 0.3 * np.abs(first - mean).mean()
    mixed = studio.mix([key, other], [0.5, 0.5])
    np.testing.assert_allclose(studio.render(mixed, neutral, size=64), middle, atol=1)
    path = studio.morph([key, other], neutral, 0.5, size=64)
    assert read_video_info(path).duration == pytest.approx(0.5, abs=0.1)


def test_mixing_takes_two(studio: Studio, key: str) -> None:
    for call in (studio.mix, lambda k, w: studio.mixed_picture(k, w, Expression.neutral())):
        with pytest.raises(ValueError, match="two or more"):
            call([key], [1.0])
    with pytest.raises(AvatarGone):
        studio.mix([key, "guess"], [0.5, 0.5])


def test_every_file_of_the_menu_opens(studio: Studio, key: str) -> None:
    assert set(DOWNLOADS) < set(FORMATS)
    neutral, opened = Expression.neutral(), Expression.of({"jawOpen": 1.0})
    count = len(studio.store.get(key).avatar.gaussians())
    tables = []
    for expression in (neutral, opened):
        vertices = PlyData.read(studio.export(key, "ply", expression))["vertex"].data
        assert len(vertices) == count
        tables.append(vertices["y"].copy())
    assert np.abs(tables[0] - tables[1]).max() > 0.01  # metres: the chin goes down
    packed = gzip.decompress(Path(studio.export(key, "spz", neutral)).read_bytes())
    assert packed[:4] == b"NGSP" and int.from_bytes(packed[8:12], "little") == count
    assert Path(studio.export(key, "splat", neutral)).stat().st_size == 32 * count
    assert read_video_info(studio.turntable(key, neutral, 0.5, 64)).duration == pytest.approx(0.5, abs=0.1)
    saved = Avatar.load(studio.export(key, "flexavatar", neutral))
    assert len(saved.gaussians()) == count


def test_what_the_viewer_shows_before_the_bundle(studio: Studio, key: str) -> None:
    assert Image.open(studio.poster(key)).mode == "RGBA"
    video = Path(studio.still_turntable(key))
    assert read_video_info(video).width == SMALL_VIDEO
    written = video.stat().st_mtime_ns
    assert Path(studio.still_turntable(key)).stat().st_mtime_ns == written  # made once


def test_files_with_all_expressions(studio: Studio, key: str) -> None:
    bundle = studio.export(key, "flexbundle", Expression.neutral())
    assert len(read_bundle(bundle).gaussians()) > 10_000
    written = Path(bundle).stat().st_mtime_ns
    page = Path(studio.export(key, "html", Expression.neutral())).read_text(encoding="utf-8")
    assert "<title>astronaut</title>" in page
    assert Path(bundle).stat().st_mtime_ns == written  # baked once


def test_jobs_stop_what_waits_and_what_runs() -> None:
    jobs = Jobs()
    jobs.announce("me/drive")
    jobs.announce("you/drive")
    jobs.stop("me/drive")
    with jobs.running("me/drive") as mine, jobs.running("you/drive") as yours:
        assert mine.is_set() and not yours.is_set()
        jobs.stop_all("you")
        assert yours.is_set()
    jobs.stop("me/drive")
    with jobs.running("me/drive") as again:
        assert not again.is_set()


def test_roster_is_bounded(studio: Studio, key: str) -> None:
    import gradio as gr

    with gr.Blocks():
        roster = Roster(studio, EXAMPLE)
        ids: list[str] = []
        for _ in range(MAX_AVATARS + 2):
            ids = roster.added(ids, studio.store.put(studio.store.get(key)))
    assert len(ids) == MAX_AVATARS
    assert studio.known([*ids, "guess"]) == ids


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 second"), (8.4, "8 seconds"), (89, "89 seconds"), (150, "2 minutes")]
)
def test_durations_are_as_precise_as_estimates(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_browser_keeps_as_many_as_the_roster() -> None:
    script = Path(app.__file__).parent / "flexavatar" / "app" / "static" / "browser.js"
    assert f"MAX_AVATARS = {MAX_AVATARS};" in script.read_text(encoding="utf-8")


def test_an_avatar_is_chosen_before_it_is_used() -> None:
    assert one_id("a") == one_id(["a"]) == "a"
    for nothing in (None, [], ""):
        with pytest.raises(ValueError, match="Choose an avatar"):
            one_id(nothing)


@pytest.mark.parametrize(
    ("days", "offered"), [(None, [1, 7, 30, 365, None]), (30, [1, 7, 30]), (3, [1, 3]), (0.5, [0.5])]
)
def test_what_the_site_allows_is_offered(days: float | None, offered: list[float | None], tmp_path: Path) -> None:
    store = SharedStore(FolderStorage(tmp_path), Limits(days=days))
    assert [*lifetimes(store).values()] == offered


@pytest.mark.slow  # a fresh interpreter takes seconds to import everything
def test_the_app_needs_no_spaces_package_and_starts_no_cuda() -> None:
    code = (
        "import sys; sys.modules['spaces'] = None\n"
        "import app, torch; assert not torch.cuda.is_initialized()\n"
        "assert not any(name.startswith(('mediapipe', 'gsplat')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)
