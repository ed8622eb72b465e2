"""The place for driving by speech; no implementation comes with the package.

What was looked at for an offline route from sound to visemes, and why it is not used (November 2026):

* `pylipsync` 0.2.1 (MIT; MFCC templates of five vowels after uLipSync) asks for numpy < 2.4 and librosa, and its five
  templates come from one voice. `wlipsync` 1.3.1 and `wawa-lipsync` 0.0.2 are the same idea for browsers.
* `@met4citizen/headaudio` 0.1.0 (MIT; 14 KB of Gaussian prototypes of 15 visemes over MFCCs) is the best fit: a port is
  a page of numpy. On sustained sounds of espeak-ng it told a, i, s and sh, but not e, o, u, f and m.
* `pocketsphinx` 5.1.1 (BSD; a wheel of 29 MB with its English models, over 10 times real time) is the most promising:
  its phone loop (`allphone` with `en-us-phone.lm.bin`) needs no transcript. Of 24 sentences by three espeak-ng voices
  it heard open, round and wide vowels at a recall of 0.69, 0.77 and 0.73, but closed lips (p, b, m) at 0.27 and lip on
  teeth (f, v) at 0.10, or 0.40 and 0.05 with `lw=1`; and closed lips are what people miss first. Recordings of people,
  which it is trained on, may do much better: there were none to measure it by.
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
