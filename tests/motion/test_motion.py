"""Motion as values and files: validation, resampling, bridging, smoothing, transfer, CSV and JSON."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace

import pytest
import torch

from flexavatar.errors import BadMotionFile, CannotWrite
from flexavatar.expression import BLENDSHAPE_INDEX as INDEX
from flexavatar.expression import Expression
from flexavatar.motion import CLIP_NAMES, Motion, load_clip, read_motion, transferred, write_motion
from flexavatar.motion.files import clip_path, is_video
from flexavatar.motion.neutral import estimate_neutral
from flexavatar.motion.repair import bridged, smoothed
from flexavatar.motion.transfer import completed_blinks
from flexavatar.rotations import angles, from_angles, mean_rotation, rotation_from_angles, rotation_log, scaled, slerp
from tests.conftest import ROOT

JAW, LID = INDEX["jawOpen"], INDEX["eyeBlinkLeft"]


def still(count: int, fps: float = 30.0) -> Motion:
    return Motion(torch.zeros(count, 52), torch.eye(3).repeat(count, 1, 1), fps)


def with_curve(motion: Motion, name: str, values: torch.Tensor) -> Motion:
    shapes = motion.blendshapes.clone()
    shapes[:, INDEX[name]] = values
    return replace(motion, blendshapes=shapes)


def degrees_between(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.degrees(float(rotation_log(a.mT @ b).norm(dim=-1).max()))


def test_values_that_are_no_motion():
    good = still(3)
    for shapes in (torch.zeros(3, 51), torch.full((3, 52), 1.5), torch.full((3, 52), math.nan), torch.zeros(0, 52)):
        with pytest.raises(ValueError, match="[Bb]lendshapes"):
            Motion(shapes, good.head_rotation[: len(shapes)], 30)
    for turns in (torch.zeros(3, 3, 3), -good.head_rotation, good.head_rotation[:2]):
        with pytest.raises(ValueError, match="[Rr]otation"):
            Motion(good.blendshapes, turns, 30)
    with pytest.raises(ValueError, match="rate"):
        Motion(good.blendshapes, good.head_rotation, 0)


def test_parts_and_rates():
    turn = from_angles(torch.linspace(0, 60, 61), torch.zeros(61), torch.zeros(61))
    motion = with_curve(replace(still(61), head_rotation=turn), "jawOpen", torch.linspace(0, 1, 61))
    assert motion.between(0.5, 1.0).blendshapes[0, JAW] == pytest.approx(0.25)
    faster = motion.resampled(47.0)
    assert faster.fps == 47 and len(faster) == round(61 / 30 * 47)
    seconds = torch.arange(len(faster) - 2) / 47
    torch.testing.assert_close(faster.blendshapes[:-2, JAW], seconds / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(angles(faster.head_rotation)[0][:-2], seconds * 30, atol=1e-3, rtol=0)
    assert len(list(faster.expressions())) == len(faster)


def test_rotations():
    one, other = rotation_from_angles(70, -20, 15), rotation_from_angles(-30, 10, 40)
    assert degrees_between(from_angles(*(a[None] for a in angles(one)))[0], one) < 0.01
    assert degrees_between(slerp(one, other, torch.tensor(1.0)), other) < 0.05
    assert degrees_between(slerp(one, other, torch.tensor(0.0)), one) < 0.05
    assert degrees_between(scaled(rotation_from_angles(40), 0.5), rotation_from_angles(20)) < 0.05
    assert degrees_between(mean_rotation(from_angles(torch.tensor([10.0, 30.0]), torch.zeros(2), torch.zeros(2))),
                           rotation_from_angles(20)) < 0.05  # fmt: skip
    assert degrees_between(torch.eye(3), torch.eye(3)) == 0


def test_short_gaps_go_on_and_long_ones_rest():
    count, fps = 300, 30.0
    turns = from_angles(*(torch.linspace(-20, 20, count), torch.zeros(count), torch.zeros(count)))
    shapes = torch.zeros(count, 52)
    shapes[100:, JAW] = 0.8
    shapes[:, JAW][::10] += 0.01
    seen = torch.ones(count, dtype=torch.bool)
    seen[110:118] = False  # 0.27 s
    seen[200:260] = False  # 2 s
    seen[290:] = False
    lost = shapes.clone()
    lost[~seen] = 0
    motion = bridged(lost, torch.where(seen[:, None, None], turns, torch.eye(3)), seen, fps)
    jaw = motion.blendshapes[:, JAW]
    assert jaw[110:118].min() > 0.79, "a short gap keeps the mouth open"
    assert degrees_between(motion.head_rotation[110:118], turns[110:118]) < 1
    rest = estimate_neutral(replace(motion, blendshapes=shapes[seen], head_rotation=turns[seen]))
    assert jaw[225:235].max() == pytest.approx(float(rest.blendshapes[JAW]), abs=1e-5), "a long gap is spent at rest"
    assert jaw[-1] < jaw[289]
    assert motion.blendshapes.diff(dim=0).abs().max() < 0.9, "only the jaw's own jump"
    assert jaw[195:265].diff().abs().max() < 0.15, "eased both ways"
    speed = rotation_log(motion.head_rotation[:-1].mT @ motion.head_rotation[1:]).norm(dim=-1)
    assert torch.rad2deg(speed).max() < 6


def test_smoothing_removes_jitter_and_keeps_peaks_in_their_place():
    generator = torch.Generator().manual_seed(3)
    clip = load_clip("talk")
    noise = 0.012 * torch.randn(clip.blendshapes.shape, generator=generator)
    jittery = replace(clip, blendshapes=(clip.blendshapes + noise).clamp(0, 1))
    result = smoothed(jittery)
    quiet = INDEX["cheekPuff"]
    assert result.blendshapes[:, quiet].std() < 0.45 * jittery.blendshapes[:, quiet].std()
    for index in (JAW, LID):
        truth, got = clip.blendshapes[:, index], result.blendshapes[:, index]
        assert got.max() > 0.95 * truth.max()

        def error(lag: int, truth=truth, got=got) -> float:
            return float((truth[10:-10] - got.roll(lag)[10:-10]).square().mean())

        assert min(range(-4, 5), key=error) == 0, "no lag"
    assert smoothed(still(1)).blendshapes.shape == (1, 52)


def test_blinks_are_completed_and_squints_are_not():
    blink = torch.tensor([0.0, 0.3, 0.7, 0.6, 0.25, 0.0])
    lid = torch.zeros(120)
    lid[20:26] = blink
    lid[60:100] = 0.45
    lid[110:115] = 0.1
    done = completed_blinks(lid, 30.0)
    assert done[20:26].max() == 1 and done[22] == 1
    torch.testing.assert_close(done[60:], lid[60:])
    assert (done[20:26] >= lid[20:26]).all() and done[25] == 0


def driver_with_resting_face() -> Motion:
    """A driver with a crooked mouth who looks below the camera from the side, and talks and blinks now and then."""
    clip = load_clip("talk")
    resting = torch.zeros(52)
    resting[INDEX["mouthSmileLeft"]], resting[INDEX["mouthFrownRight"]] = 0.15, 0.4
    resting[INDEX["eyeLookDownLeft"]], resting[INDEX["eyeLookDownRight"]] = 0.2, 0.2
    shapes = clip.blendshapes + resting * (1 - clip.blendshapes)
    return Motion(shapes, rotation_from_angles(25, 5) @ clip.head_rotation, clip.fps)


def test_relative_transfer_takes_the_driver_s_own_face_out():
    driver, truth = driver_with_resting_face(), load_clip("talk")
    rest = torch.zeros(52)
    given = transferred(driver, rest, smooth=False)
    limits = {"mouthSmileLeft": 0.06, "mouthFrownRight": 0.06, "jawOpen": 0.05, "eyeLookDownLeft": 0.06}
    for name, most in {**limits, "eyeBlinkLeft": 0.1}.items():
        error = (given.blendshapes - truth.blendshapes)[:, INDEX[name]].abs().mean()
        assert error < most, name
    assert degrees_between(given.head_rotation, truth.head_rotation) < 5
    assert degrees_between(transferred(driver, rest, head_motion=0).head_rotation, torch.eye(3)) < 0.01
    yaw = angles(transferred(driver, rest, head_motion=0.5, smooth=False).head_rotation)[0]
    torch.testing.assert_close(yaw, angles(given.head_rotation)[0] / 2, atol=0.5, rtol=0)


@pytest.mark.parametrize(("begins", "least"), [(0.0, 0.75), (0.6, 0.95)])
def test_a_smile_that_is_held_all_through_is_no_resting_face(begins, least):
    """Held from the first frame on it mostly stays; if the clip begins before it, all of it."""
    clip, names = load_clip("talk"), ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "jawOpen")
    shapes = clip.blendshapes.clone()
    after = round(begins * clip.fps)
    for name in names:
        shapes[after:, INDEX[name]] = torch.maximum(shapes[after:, INDEX[name]], torch.tensor(0.7))
    given = transferred(Motion(shapes, clip.head_rotation, clip.fps), torch.zeros(52), smooth=False)
    for name in names:
        assert given.blendshapes[after:, INDEX[name]].min() > least * 0.7, name
    held = transferred(Motion(shapes, clip.head_rotation, clip.fps), torch.zeros(52), "absolute", smooth=False)
    assert torch.equal(held.blendshapes[:, INDEX["jawOpen"]], shapes[:, INDEX["jawOpen"]])


def test_absolute_transfer_does_not_double_the_avatar_s_rest():
    driver = with_curve(still(30), "mouthPressLeft", torch.linspace(0, 1, 30))
    rest = torch.zeros(52)
    press = INDEX["mouthPressLeft"]
    rest[press] = 0.5
    given = transferred(driver, rest, "absolute", smooth=False).blendshapes[:, press]
    shown = given + rest[press] * (1 - given)  # as Avatar.gaussians mixes it in
    torch.testing.assert_close(shown, driver.blendshapes[:, press].clamp_min(0.5), atol=1e-6, rtol=0)


def test_a_resting_driver_leaves_the_avatar_at_rest():
    driver = driver_with_resting_face()
    calm = estimate_neutral(driver)
    frames = replace(
        driver, blendshapes=calm.blendshapes.repeat(40, 1), head_rotation=driver.head_rotation[:1].repeat(40, 1, 1)
    )
    given = transferred(frames, torch.zeros(52))
    assert given.blendshapes.max() < 1e-4
    assert degrees_between(given.head_rotation, torch.eye(3)) < 0.1


@pytest.mark.parametrize("suffix", [".csv", ".json"])
@pytest.mark.parametrize("fps", [25.0, 29.97, 30.0, 60.0])
def test_files_keep_the_motion(tmp_path, suffix, fps):
    motion = load_clip("look_around").resampled(fps)
    path = tmp_path / f"motion{suffix}"
    write_motion(path, motion)
    again = read_motion(path)
    assert again.fps == pytest.approx(fps, rel=0.002) and abs(len(again) - len(motion)) <= 1
    count = min(len(again), len(motion)) - 2
    atol = 2e-5 if float(fps).is_integer() else 0.1  # timecodes count whole frames only
    torch.testing.assert_close(again.blendshapes[:count], motion.blendshapes[:count], atol=atol, rtol=0)
    assert degrees_between(again.head_rotation[:count], motion.head_rotation[:count]) < (0.05 if atol < 0.01 else 1)


def test_live_link_layout(tmp_path):
    path = tmp_path / "m.csv"
    motion = with_curve(still(61), "jawLeft", torch.linspace(0, 1, 61))
    write_motion(path, replace(motion, head_rotation=rotation_from_angles(yaw=18).repeat(61, 1, 1)))
    header, first, *rest = path.read_text().splitlines()
    names = header.split(",")
    assert len(names) == 63 and names[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"]
    assert names[16:20] == ["JawForward", "JawRight", "JawLeft", "JawOpen"] and names[-1] == "RightEyeRoll"
    assert first.split(",")[:2] == ["00:00:00:00.000", "61"]
    assert float(first.split(",")[names.index("HeadYaw")]) == pytest.approx(math.radians(18), abs=1e-4)
    assert rest[-1].startswith("00:00:02:00.000,") and float(rest[-1].split(",")[names.index("JawLeft")]) == 1


def test_live_link_as_the_phone_writes_it(tmp_path):
    """60 frames a second over midnight, one frame written twice, capital letters, a byte order mark."""
    path = tmp_path / "phone.csv"
    write_motion(path, load_clip("wink").resampled(60))
    header, *rows = path.read_text().splitlines()
    moved = []
    for number, row in enumerate(rows):
        seconds, frame = divmod(number + 17, 60)
        cells = row.split(",")
        clock = 86_398 + seconds
        cells[0] = f"{clock // 3600 % 24:02}:{clock // 60 % 60:02}:{clock % 60:02}:{frame:02}.207"
        moved.append(",".join(cells))
    path.write_text("\ufeff" + "\n".join([header, *moved[:50], *moved[49:]]) + "\n", encoding="utf-8")
    again = read_motion(path)
    assert again.fps == 60 and abs(len(again) - len(rows)) <= 1
    torch.testing.assert_close(
        again.blendshapes[:-2], load_clip("wink").resampled(60).blendshapes[: len(again) - 2], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "empty"),
        (lambda t: "a,b,c\n1,2,3\n", "line 1: this is no header"),
        (lambda t: t.replace("JawOpen", "JawOpened"), "line 1: the column JawOpen is missing"),
        (lambda t: t.splitlines()[0] + "\n", "no frames"),
        (lambda t: t.replace("00:00:00:02.000,61,0", "00:00:00:02.000,61,oops"), "line 4, column EyeBlinkLeft: 'oops"),
        (lambda t: t.replace("00:00:00:02.000,61,0", "00:00:00:02.000,61,7"), "line 4, column EyeBlinkLeft: 7"),
        (lambda t: t.replace("00:00:00:02.000,61,0", "00:00:00:02.000,61,nan"), "line 4.*is no number"),
        (lambda t: t.replace("00:00:00:02.000", "yesterday"), "line 4, column Timecode"),
        (lambda t: t.replace("00:00:00:02.000,61,", "00:00:00:02.000,"), "line 4: 62 columns instead of 63"),
    ],
)
def test_bad_csv_files(tmp_path, change, message):
    path = tmp_path / "bad.csv"
    write_motion(path, still(10))
    path.write_text(change(path.read_text()))
    with pytest.raises(BadMotionFile, match=message):
        read_motion(path)


def test_mediapipe_as_python_and_browsers_write_it(tmp_path):
    turn = rotation_from_angles(20, -10, 5)
    names = [{"category_name": "jawOpen", "score": 0.5}, {"category_name": "_neutral", "score": 0.1}]
    matrix = torch.eye(4)
    matrix[:3, :3] = turn
    python = {"face_blendshapes": [names], "facial_transformation_matrixes": [matrix.tolist()], "timestamp_ms": 0}
    browser = {
        "faceLandmarks": [[]],
        "faceBlendshapes": [{"categories": [{"categoryName": "jawOpen", "score": 0.5, "index": 25}]}],
        "facialTransformationMatrixes": [{"rows": 4, "columns": 4, "data": matrix.T.flatten().tolist()}],
    }
    lost = {"faceBlendshapes": [], "facialTransformationMatrixes": []}
    path = tmp_path / "m.json"
    path.write_text(json.dumps([{**frame, "timestampMs": 40 * i} for i, frame in enumerate([browser, lost, browser])]))
    motion = read_motion(path)
    assert motion.fps == 25 and len(motion) == 3
    assert motion.blendshapes[:, JAW].tolist() == [0.5, 0.5, 0.5], "the lost frame is bridged"
    assert degrees_between(motion.head_rotation, turn.expand(3, 3, 3)) < 0.05
    path.write_text(json.dumps({"fps": 50, "frames": [python]}))
    motion = read_motion(path)
    assert motion.fps == 50 and degrees_between(motion.head_rotation[0], turn) < 0.05


def test_mediapipe_recordings_that_pause_or_come_in_another_encoding(tmp_path):
    category = {"categoryName": "jawOpen", "score": 0.5}
    frame = {"faceBlendshapes": [{"categories": [category]}]}
    stamps = [40 * i + (3_600_000 if i >= 10 else 0) for i in range(20)]
    path = tmp_path / "m.json"
    path.write_text(json.dumps([{**frame, "timestampMs": stamp} for stamp in stamps]), encoding="utf-16")
    motion = read_motion(path)
    assert len(motion) == 29 and motion.blendshapes[:, JAW].unique().tolist() == [0.5]
    assert motion.warnings == ("The recording pauses for 60 minutes before frame 10; the pause is cut short.",)


FRAME = '{"faceBlendshapes": [{"categories": [{"categoryName": "jawOpen", "score": 0.5}]}]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[\n{,", "line 2, column 2: this is no JSON"),
        ("{}", "no list"),
        ("[]", "no list"),
        ("[3]", "frame 0: this is no FaceLandmarker result"),
        ("[{}, {}]", "no frame has blendshapes"),
        (f"[{FRAME}, {FRAME.replace('0.5', 'null')}]", "frame 1, score of jawOpen: None is no number"),
        (f"[{FRAME.replace('jawOpen', 'jaw')}]", "frame 0: faceBlendshapes holds no category"),
        (f'[{FRAME[:-1]}, "facialTransformationMatrixes": [[1, 2]]}}]', "frame 0.*16 numbers"),
        (f'[{FRAME[:-1]}, "timestampMs": 5}}, {FRAME[:-1]}, "timestampMs": 4}}]', "frame 1: its timestampMs"),
        (f'{{"fps": -1, "frames": [{FRAME}]}}', "fps: -1"),
    ],
)
def test_bad_json_files(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadMotionFile, match=message):
        read_motion(path)


def test_files_that_are_no_motion(tmp_path):
    for name in ("missing.csv", "missing.json"):
        with pytest.raises(BadMotionFile, match="no file"):
            read_motion(tmp_path / name)
    (tmp_path / "b.csv").write_bytes(bytes(range(256)))
    with pytest.raises(BadMotionFile, match="cannot be read"):
        read_motion(tmp_path / "b.csv")
    with pytest.raises(BadMotionFile, match="motion is read from"):
        read_motion("motion.bvh")
    with pytest.raises(CannotWrite, match="motion is written as"):
        write_motion(tmp_path / "motion.bvh", still(2))


def test_drivers_are_known_by_their_content(tmp_path):
    write_motion(tmp_path / "a.csv", still(20))
    write_motion(tmp_path / "a.json", still(20))
    for name in ("a.csv", "a.json"):
        assert not is_video(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "a.txt")
        assert not is_video(tmp_path / "a.txt") and len(read_motion(tmp_path / "a.txt")) == 20
    (tmp_path / "film.csv").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    assert is_video(tmp_path / "film.csv") and is_video(tmp_path / "missing.MTS") and not is_video("talk")


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_clips_are_alive(name):
    clip = load_clip(name)
    assert 3 <= clip.seconds <= 8 and clip.fps == 30
    assert transferred(clip, torch.zeros(52), smooth=False).blendshapes.max() > 0.5
    lids = clip.blendshapes[:, LID]
    assert lids.max() == 1 and (lids.diff().abs().max() < 0.8), "closes, and not within one frame"
    for end in (clip.blendshapes[0], clip.blendshapes[-1]):
        assert end.max() < 0.12, "starts and ends at rest"
    assert degrees_between(clip.head_rotation[:1], torch.eye(3)) < 1
    turning = rotation_log(clip.head_rotation[:-1].mT @ clip.head_rotation[1:]).norm(dim=-1)
    assert (turning[15:-15] > 1e-5).float().mean() > 0.95, "the head never stands still"
    assert torch.rad2deg(turning).max() < 8
    sides = (clip.blendshapes[:, INDEX["mouthSmileLeft"]] - clip.blendshapes[:, INDEX["mouthSmileRight"]]).abs()
    assert sides.max() > 0.01, "no face is symmetric"
    assert clip.neutral is not None and torch.equal(clip.neutral.blendshapes, Expression.neutral().blendshapes)


def test_clips_are_what_the_script_authors(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "author_clips.py"))
    assert tuple(script["CLIPS"]) == CLIP_NAMES
    for name, author in script["CLIPS"].items():
        write_motion(tmp_path / f"{name}.csv", author().motion())
        assert (tmp_path / f"{name}.csv").read_bytes() == clip_path(name).read_bytes()
        assert (ROOT / "examples" / "clips" / f"{name}.csv").is_file()
    with pytest.raises(ValueError, match="Choose one of talk"):
        load_clip("sneeze")
