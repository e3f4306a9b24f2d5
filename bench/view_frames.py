"""Is every frame that the page of `dgrec view` shows that of its row?

    python -m bench.view_frames [--frames 2000] [--count 60] [--only KIND ...] [--decode WAY ...]

Records footage whose pictures say their numbers, in each of the ways of `tests.replay.viewing.
numbered_sessions`: constant and variable rate, B-frames in kept packets, footage at its place,
decimated, with drops, clipped, in parts, cut off, recovered. The detections of each row say the
number, too. A real Chromium steps, jumps, follows links and plays, with each way of decoding,
in whole rounds until FRAMES frames were looked at. What its canvases show is read back and
compared with the row.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from dgrec.replay.viewing import ViewServer
from tests.browser import Browser
from tests.replay.viewing.numbered_sessions import CASES
from tests.replay.viewing.shown_frames import Recording, ShownFrames, recording_of

#: mediabunny reads the first fragment of files that were cut off: the page plays them otherwise.
_CUT_OFF = ("killed", "recovered")
_STEPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--frames", type=int, default=2000, help="frames to look at, at least [2000]"
    )
    parser.add_argument("--count", type=int, default=60, help="frames of each recording [60]")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    ways = ["webcodecs", "video", "server"]
    parser.add_argument("--decode", nargs="*", choices=[*ways, "auto"], default=ways)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions = folder / "sessions"
        sessions.mkdir()
        recordings = {
            kind: recording_of(CASES[kind](sessions, arguments.count)) for kind in arguments.only
        }
        server = ViewServer([sessions], "127.0.0.1", 0)
        try:
            with Browser(folder / "browser") as browser:
                shown = ShownFrames(browser, server.url)
                _look(shown, recordings, arguments.decode, arguments.frames)
        finally:
            server.close()
    for line in shown.wrong:
        print(line)
    print(f"{shown.checked} frames looked at: {len(shown.wrong)} mismatches")
    for reason, count in shown.without_picture.items():
        print(f"{count} without a picture: {reason}")
    return 1 if shown.wrong else 0


def _look(
    shown: ShownFrames, recordings: dict[str, Recording], decode: list[str], frames: int
) -> None:
    rounds = 0
    while shown.checked < frames:
        for way in decode:
            for kind, recording in recordings.items():
                if way == "webcodecs" and kind in _CUT_OFF:
                    continue
                began, before = time.monotonic(), shown.checked
                shown.open(recording, (7 * rounds + 3) % len(recording), way)
                shown.step_and_jump(recording, way, _STEPS, seed=rounds)
                played = shown.played
                shown.play(recording, way, speed=1)
                print(
                    f"{kind:12} {way:10} {shown.checked - before:4} looked at, "
                    f"{shown.played - played} of {len(recording)} rows shown while playing, "
                    f"{len(shown.wrong)} wrong so far, {time.monotonic() - began:.1f} s",
                    flush=True,
                )
        rounds += 1


if __name__ == "__main__":
    sys.exit(main())
