"""Is every frame that the page of `dgrec view` shows that of its row?

    python -m bench.view_frames [--frames 2000] [--count 60] [--screenshots 4]
                                [--only KIND ...] [--decode WAY ...]

Records footage whose pictures say their numbers, in each of the ways of `tests.replay.viewing.
numbered_sessions`: constant and variable rate, B-frames in kept packets, footage at its place,
decimated, with drops, clipped, in parts, cut off, recovered. The detections of each row say the
number, too. A real Chromium steps, jumps, follows links and plays, with each way of decoding,
in whole rounds until FRAMES frames were looked at. What its canvases show is read back and
compared with the row; of some, a screenshot is: the picture, the boxes over it, the frame's number.

Footage as others make it comes after that: open groups of pictures, interlaced, pixels that are not
square, turned by its container, steps of 2 ms and of 2 s, stamps below zero, VP8, VP9, H.265, and
what no browser plays. The page takes the best way there (``auto``), and that of a browser without
WebCodecs (``plain``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dgrec.replay.viewing.server import ViewServer
from tests.browser import Browser
from tests.replay.viewing.numbered_sessions import CASES, FOOTAGE_CASES
from tests.replay.viewing.shown_frames import Recording, ShownFrames, recording_of

#: mediabunny reads the first fragment of files that were cut off: the page plays them otherwise.
_CUT_OFF = ("killed", "recovered")
_STEPS = 40
_WAYS = ("webcodecs", "video", "server")
_WAYS_OF_FOOTAGE = ("auto", "plain")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--frames", type=int, default=2000, help="frames to look at, at least [2000]"
    )
    parser.add_argument("--count", type=int, default=60, help="frames of each recording [60]")
    parser.add_argument(
        "--screenshots", type=int, default=4, help="of each recording in each way, at least [4]"
    )
    every = {**CASES, **FOOTAGE_CASES}
    parser.add_argument("--only", nargs="*", choices=every, default=list(every))
    parser.add_argument("--decode", nargs="*", choices=[*_WAYS, *_WAYS_OF_FOOTAGE], default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions = folder / "sessions"
        sessions.mkdir()
        recordings = {
            kind: recording_of(every[kind](sessions, arguments.count)) for kind in arguments.only
        }
        server = ViewServer([sessions], "127.0.0.1", 0)
        try:
            with Browser(folder / "browser") as browser:
                shown = ShownFrames(browser, server.url)
                ours = {kind: made for kind, made in recordings.items() if kind in CASES}
                others = {kind: made for kind, made in recordings.items() if kind not in CASES}
                while ours and shown.checked < arguments.frames:
                    _look(shown, ours, arguments.decode or _WAYS, arguments.screenshots)
                _look(shown, others, arguments.decode or _WAYS_OF_FOOTAGE, arguments.screenshots)
        finally:
            server.close()
    for line in shown.wrong:
        print(line)
    print(
        f"{shown.checked} frames looked at, {shown.screenshots} of them in screenshots: "
        f"{len(shown.wrong)} mismatches"
    )
    for reason, count in shown.without_picture.items():
        print(f"{count} without a picture: {reason}")
    return 1 if shown.wrong else 0


def _look(
    shown: ShownFrames, recordings: dict[str, Recording], decode: Sequence[str], screenshots: int
) -> None:
    """Look at each recording, at other rows than before."""
    for way in decode:
        for kind, recording in recordings.items():
            if way == "webcodecs" and kind in _CUT_OFF:
                continue
            began, before, wrong = time.monotonic(), shown.checked, len(shown.wrong)
            played, seed = shown.played, shown.checked
            shown.open(recording, seed % len(recording), way)
            shown.step_and_jump(recording, way, _STEPS, seed)
            shown.take_screenshots(recording, way, screenshots, seed)
            shown.play(recording, way, speed=1)
            print(
                f"{kind:13} {way:10} {shown.checked - before:4} looked at, "
                f"{shown.played - played} of {len(recording)} rows shown while playing, "
                f"{len(shown.wrong) - wrong} wrong, {time.monotonic() - began:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
