"""What native libraries print stays off stderr, and nothing else does."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from flexavatar.tracking import native_logs
from flexavatar.tracking.landmarks import FaceDetector
from flexavatar.tracking.native_logs import quiet_native_logs
from flexavatar.tracking.segmentation import SelfieSegmenter

NATIVE = b"W0000 00:00:1795808033.401178   11143 face_landmarker_graph.cc:181] Sets acceleration.\n"


def test_networks_start_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    picture = np.full((128, 128, 3), 120, np.uint8)
    detector, segmenter = FaceDetector(), SelfieSegmenter()
    assert detector.detect_once(picture) == [] and segmenter(picture).shape == (128, 128)
    detector.close()
    segmenter.close()
    assert capfd.readouterr().err == ""


def test_other_words_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_native_logs():
        os.write(2, NATIVE + b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        with quiet_native_logs():
            os.write(2, b"the disk is on fire\n")
    assert capfd.readouterr().err == "the disk is on fire\n"
    with pytest.raises(KeyError), quiet_native_logs():
        os.write(2, b"one more\n")
        raise KeyError
    assert capfd.readouterr().err == "one more\n"


def test_verbose_lets_them_through(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_logs.log, "isEnabledFor", lambda level: level >= logging.INFO)
    with quiet_native_logs():
        os.write(2, NATIVE)
    assert capfd.readouterr().err == NATIVE.decode()
