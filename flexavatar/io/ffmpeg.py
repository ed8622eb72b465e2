"""The bundled ffmpeg: how it is started on files that may be hostile, and what it says of them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flexavatar.files import expanded

# An uploaded playlist could otherwise make ffmpeg open other files and addresses.
SAFETY = ("-protocol_whitelist", "file", "-format_whitelist",
          "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,gif,dv,mxf,ivf")  # fmt: skip
_INTERLACED = ("h264", "hevc", "mpeg2video", "mpeg4", "dvvideo", "vc1", "wmv3", "prores", "ffv1", "mjpeg", "rawvideo")
_HDR = ("smpte2084", "arib-std-b67")  # transfer functions: PQ and HLG
_WIDE = ("bt2020", "smpte431", "smpte432")  # primaries: BT.2020 and two of P3
_SAR_LIMIT = 4.0  # height or width of a pixel, in the other; more is a damaged header
_WHITE = 203  # nits of a diffuse white (ITU-R BT.2408), which becomes the white of sRGB
_PEAK = 5  # times white, from which on highlights are white; 1,000 nits


@dataclass(frozen=True)
class Described:
    """What ffmpeg says of a file before it decodes anything."""

    text: str

    @cached_property
    def video(self) -> str:
        """The line about the first stream of moving pictures; "" if there is none. Cover pictures are none."""
        lines = (line for line in self._streams if " Video: " in line and "(attached pic)" not in line)
        return next(lines, "")

    @cached_property
    def sounds(self) -> list[str]:
        """The lines about streams of sound."""
        return [line for line in self._streams if " Audio: " in line]

    @property
    def fps(self) -> float:
        """Average frames per second; 0 if it is not said."""
        found = re.search(r" ([\d.]+)(k?) fps", self.video)
        return float(found[1]) * (1000 if found[2] else 1) if found else 0.0

    @property
    def duration(self) -> float:
        """Seconds; 0 if it is not said."""
        found = re.search(r"Duration: (\d+):(\d\d):(\d\d\.\d+)", self.text)
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else 0.0

    @property
    def _streams(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.lstrip().startswith("Stream #")]

    def upright(self, in_color: bool = True) -> list[str]:
        """Filters for what players do beside decoding: whole frames of square pixels, in the colours of sRGB.

        The turn that phones note is taken by ffmpeg itself. Without `in_color` HDR and wide gamuts stay as they are.
        """
        filters: list[str] = []
        codec = re.search(r"Video: (\w+)", self.video)
        if codec and codec[1] in _INTERLACED and "progressive" not in self.video:
            filters.append("bwdif=mode=send_frame:deint=interlaced")
        sar = re.search(r"SAR (\d+):(\d+)", self.video)
        ratio = int(sar[1]) / int(sar[2]) if sar and int(sar[2]) else 1.0
        if ratio != 1 and 1 / _SAR_LIMIT <= ratio <= _SAR_LIMIT:
            filters.append("scale=w='if(gt(sar,1),iw*sar,iw)':h='if(gt(sar,1),ih,ih/sar)',setsar=1")
        return filters + (self._colors() if in_color else [])

    def _colors(self) -> list[str]:
        found = re.search(r"Video: [^,]*(?:\([^)]*\)[^,]*)*, \w+\(([^)]*)\)", self.video)
        said = [part.strip() for part in found[1].split(",")] if found else []
        names = next((part.split("/") for part in said if "/" in part), ["", "", ""])
        matrix, primaries, transfer = (names + ["", "", ""])[:3]
        full = "pc" if "pc" in said else "tv"
        known = lambda name, otherwise: otherwise if name in ("", "unknown", "reserved") else name  # noqa: E731
        if transfer not in _HDR and primaries not in _WIDE:
            return []
        curve = transfer if transfer in _HDR else "bt709"  # which is BT.2020's without HDR, too
        given = f"tin={curve}:pin={known(primaries, 'bt2020')}:min={known(matrix, 'bt2020nc')}:rin={full}"
        peaks = [f"tonemap=mobius:param=0.8:peak={_PEAK}:desat=0"] if transfer in _HDR else []
        return [
            f"zscale={given}:t=linear:npl={_WHITE}", "format=gbrpf32le", "zscale=p=bt709", *peaks,
            "zscale=t=bt709:m=gbr:r=pc", "format=rgb24",
        ]  # fmt: skip


def source(path: str | Path) -> list[str]:
    """Options that make a file an input of ffmpeg."""
    return [*SAFETY, "-i", f"file:{expanded(path).resolve()}"]


def command(*options: str) -> list[str]:
    """A call of ffmpeg that says nothing but errors and never asks."""
    from imageio_ffmpeg import get_ffmpeg_exe

    return [get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *options]


def described(path: str | Path) -> Described:
    """What ffmpeg says of a file that is there."""
    told = subprocess.run(command(*source(path)), capture_output=True, check=False).stderr
    return Described(told.decode(errors="replace"))
