"""The place for driving by speech; no implementation comes with the package.

What was looked at for an offline route from sound to visemes, and why it is not used (November 2026):

* `pylipsync` 0.2.1 (MIT; MFCC templates of five vowels after uLipSync) asks for numpy < 2.4 and librosa, and its five
  templates come from one voice. `wlipsync` 1.3.1 and `wawa-lipsync` 0.0.2 are the same idea for browsers.
* `@met4citizen/headaudio` 0.1.0 (MIT; 14 KB of Gaussian prototypes of 15 visemes over MFCCs) is the best fit: a port is
  a page of numpy. On sustained sounds of espeak-ng it told a, i, s and sh, but not e, o, u, f and m.
* `openfacefx` 0.24.0 (MIT, numpy only) needs the transcript; without one it opens the jaw by loudness.
* `allosaurus` 1.0.2 (phones; GPL) and speech recognisers such as vosk download their models; `lipsync` 0.1.0 is
  Wav2Lip, which needs weights that are not openly licensed; `rhubarbpy` 0.0.7 wraps a program that is not included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from flexavatar.driving.motion import Motion


class SpeechDriver(Protocol):
    """Whatever turns a sound file into motion; `drive` takes what it returns."""

    def __call__(self, audio: str | Path, fps: float) -> Motion: ...
