"""Encodes pictures until a call does not return: finds encoders that stop for good.

    python -m bench.encoder_stall [--codec av1] [--seconds 20] [--options NAME=VALUE;...]
    python -m bench.encoder_stall --recorded [--codec av1] [--seconds 20]

Encodes short files one after the other, each kind in a process of its own, and ends that when it
has been silent for ten seconds. Which picture it stops at is chance: run it several times. With
``--recorded`` the recorder's own video is written: it replaces an encoder that stops, and what is
in the file is compared with what was given.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import select
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

from dgrec.recorder.video.codecs import find_codec, open_stream
from dgrec.recorder.video.file import EncodedVideo
from dgrec.video import import_av
from tests.replay.clips import numbered_image

#: Of the pictures after the third: whether they equal it, and microseconds between them.
_KINDS = {
    "different, 25 a second": (False, 40_000),
    "different, 1,000 s apart": (False, 1_000_000_000),
    "the same, 25 a second": (True, 40_000),
    "the same, 1 s apart": (True, 1_000_000),
    "the same, 1,000 s apart": (True, 1_000_000_000),
}
_PICTURES = 14
_RECORDED = 2_000
_SILENCE_S = 10.0


def encode(codec_name: str, kind: str, seconds: float, options: str) -> None:
    """Encode files until the time is over; print a byte for each."""
    av = import_av()
    codec = find_codec(codec_name)
    if options:
        given = dict(item.split("=", 1) for item in options.split(";"))
        codec = dataclasses.replace(codec, options=given)
    is_same, step_us = _KINDS[kind]
    pictures = [
        av.VideoFrame.from_ndarray(numbered_image(i), format="bgr24").reformat(format="yuv420p")
        for i in range(_PICTURES)
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            stream = open_stream(container, codec, 70, (pictures[0].width, pictures[0].height))
            for i in range(_PICTURES):
                picture = pictures[min(i, 2) if is_same else i]
                picture.time_base = Fraction(1, 1_000_000)
                picture.pts = i * 40_000 if i < 3 else 80_000 + (i - 2) * step_us
                stream.encode(picture)
            stream.encode(None)
        sys.stdout.write(".")
        sys.stdout.flush()


def measure(codec: str, kind: str, seconds: float, options: str) -> tuple[int, bool]:
    """Return how many pictures were encoded, and whether it stopped."""
    words = [sys.executable, "-m", "bench.encoder_stall", "--codec", codec, "--options", options]
    words += ["--seconds", str(seconds), "--kind", kind]
    files = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while select.select([process.stdout], [], [], _SILENCE_S)[0]:
            data = process.stdout.read(4096)
            if not data:
                break
            files += len(data)
        else:
            process.kill()
            return files * _PICTURES, True
    if process.returncode:
        raise SystemExit(f"{kind}: it ended with {process.returncode}")
    return files * _PICTURES, False


def record(codec: str, kind: str, seconds: float) -> tuple[int, int, bool]:
    """Return how many pictures were recorded, the encoder's stops, and whether all can be read."""
    is_same, step_us = _KINDS[kind]
    images = [numbered_image(i) for i in range(_PICTURES)]
    end = time.monotonic() + seconds
    pictures = stops = 0
    is_whole = True
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            path = Path(folder, f"{pictures}.mp4")
            video = EncodedVideo(path, "raw", find_codec(codec), 70)
            stamps = [i * step_us for i in range(_RECORDED)]
            for i, stamp in enumerate(stamps):
                video.write(images[0 if is_same else i % _PICTURES], stamp)
            video.close()
            pictures += _RECORDED
            stops += video.restarts
            with import_av().open(str(path)) as container:
                is_whole &= [frame.pts for frame in container.decode(video=0)] == stamps
            path.unlink()
    return pictures, stops, is_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", default="av1")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--options", default="", help="of the encoder, instead of dgrec's")
    parser.add_argument("--recorded", action="store_true", help="as the recorder writes them")
    parser.add_argument("--kind", choices=_KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kind:
        encode(given.codec, given.kind, given.seconds, given.options)
        return
    for kind in _KINDS if given.recorded else ():
        count, stops, is_whole = record(given.codec, kind, given.seconds)
        what = "all are in their files" if is_whole else "NOT ALL ARE IN THEIR FILES"
        print(f"{kind:26} {count:7,} pictures, {stops:3} stops, {what}")
    for kind in () if given.recorded else _KINDS:
        count, has_stopped = measure(given.codec, kind, given.seconds, given.options)
        print(f"{kind:26} {count:7,} pictures, {'STOPPED' if has_stopped else 'did not stop'}")


if __name__ == "__main__":
    main()
