"""Speed and memory of the page of `dgrec view` in a browser, for ten hours with video.

    python -m bench.view_page [--folder FOLDER] [--hours 10] [--play 1200]

Makes two sessions in FOLDER (a temporary one by default): one of HOURS at 30 frames a second with
10 detections each and a video of 320x240, whose packets are those of a second of video again and
again; and one of 720p at 60 a second with 50 detections. A real Chromium opens them, without a
graphics card. CPU is that of all processes of the browser, and of the server: a busy machine
disturbs it less than the clock. The floor is a bare <video> of the same file in the same browser.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from bench.day import make_day
from bench.view import Server
from dgrec.format import utc_text
from tests.browser import Browser
from tests.factory import START_NS

_TICK = Fraction(1, 1_000_000)
_STEPS = {"long": 33_333, "played": 16_667}
#: Sizes, and how many detections each frame has.
_SIZES = {"long": (320, 240), "played": (1280, 720)}
_BOXES = {"long": 10, "played": 50}
_CPU_TICKS = os.sysconf("SC_CLK_TCK")

#: Notes when the page first has what is waited for, by its own clock.
_WATCH = """
window.seen = {};
const there = (name, is) => { if (is && !(name in seen)) seen[name] = performance.now(); };
const look = () => {
  const stage = document.querySelector('.stage');
  const player = document.querySelector('[data-way]');
  there('picture', stage?.dataset.position && player?.dataset.way);
  there('overlay', stage?.dataset.overlay);
  there('rows', document.querySelector('.label-row'));
  there('lines', document.querySelector('[data-drawn]'));
  there('all', document.querySelector('[data-drawn] .line-area:not([aria-busy])'));
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


# --- the sessions --------------------------------------------------------------------------------


def make(folder: Path, name: str, frames: int) -> Path:
    """Write a session with its video, unless it is there."""
    session = folder / f"{name}.parquet"
    if session.exists():
        return session
    video = folder / f"{name}.mp4"
    width, height = _SIZES[name]
    _mux(video, _packets(folder, name), frames, _STEPS[name])
    with video.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    entry = {
        "file": video.name,
        "kind": "raw",
        "codec": "h264",
        "width": width,
        "height": height,
        "started_at": utc_text(START_NS),
        "frames": frames,
        "size": video.stat().st_size,
        "sha256": sha256,
    }
    return make_day(session, frames, _BOXES[name], step_us=_STEPS[name], video=entry)


def _packets(folder: Path, name: str) -> tuple[Any, list[tuple[bytes, bool]]]:
    """Return a stream to copy, and the packets of a second of moving pictures."""
    width, height = _SIZES[name]
    rate = round(1e6 / _STEPS[name])
    path = folder / f"{name}.one.mp4"
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    noise = np.repeat(np.repeat(noise[::16, ::16], 16, 0), 16, 1)[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "bf": "0", "g": str(rate)}
        for number in range(rate):
            picture = np.roll(noise, 4 * number, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    template = av.open(str(path))
    packets = template.demux(video=0)
    found = [(bytes(packet), packet.is_keyframe) for packet in packets if packet.size]
    path.unlink()
    return template, found


def _mux(path: Path, made: tuple[Any, list[tuple[bytes, bool]]], frames: int, step: int) -> None:
    """Write a video of packets, again and again, as the recorder writes its own."""
    template, packets = made
    options = {
        "movflags": "+hybrid_fragmented",
        "frag_duration": "500000",
        "video_track_timescale": "1000000",
    }
    with template, av.open(str(path), "w", options=options) as container:
        stream = container.add_stream_from_template(template.streams.video[0])
        stream.time_base = _TICK
        for number in range(frames):
            data, is_key = packets[number % len(packets)]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, _TICK
            # No step is like the one before, as with a camera: the table has an entry for each.
            packet.pts = packet.dts = number * step + number * 7919 % 400
            packet.duration, packet.is_keyframe = step, is_key
            container.mux(packet)


# --- processes -----------------------------------------------------------------------------------


def _stat(pid: str | int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _group(pid: int) -> list[str]:
    """Return the processes of a group."""
    found = []
    for each in (path.name for path in Path("/proc").iterdir() if path.name.isdecimal()):
        with contextlib.suppress(OSError):
            if _stat(each)[2] == str(pid):
                found.append(each)
    return found


def _cpu_s(pids: list[str]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat(pid)[11:13]))
    return total / _CPU_TICKS


def _memory_mb(pid: str | int) -> float:
    """Return the memory of a process that it does not share (its proportional part of the rest)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("\nPss:")[1].split()[0]) / 1000


def _kept_mb(pid: str | int) -> float:
    """Return the memory of decoded images that Chromium gives back when there is little."""
    kept, is_shared = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            is_shared = "shared-memory-region" in line
        elif is_shared and line.startswith("Pss:"):
            kept += int(line.split()[1])
    return kept / 1000


def _renderer_mb(browser: Browser) -> tuple[float, float]:
    """Return the memory of the page's process, and what it keeps of images."""
    found = [(0.0, 0.0)]
    for pid in _group(browser.pid):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append((_memory_mb(pid), _kept_mb(pid)))
    return max(found)


class _PageServer(Server):
    @property
    def cpu_s(self) -> float:
        return _cpu_s([str(self.process.pid)])


@contextlib.contextmanager
def _both(folder: Path) -> Iterator[tuple[_PageServer, Browser]]:
    server = _PageServer(folder)
    try:
        with (
            tempfile.TemporaryDirectory() as profile,
            Browser(Path(profile) / "browser", width=1400) as browser,
        ):
            browser.call("Performance.enable")
            yield server, browser
    finally:
        server.close()


def _say(name: str, text: str) -> None:
    print(f"| {name} | {text} |", flush=True)


# --- what is measured ----------------------------------------------------------------------------


def opening(folder: Path, server: _PageServer, browser: Browser, name: str, frame: int) -> None:
    """Open the page at a frame, with a server that has just started."""
    before, of_server = _cpu_s(_group(browser.pid)), server.cpu_s
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
    browser.call("Page.navigate", url=f"{server.url}#s={name}&f={frame}")
    browser.wait_for("'all' in (window.seen ?? {}) && 'rows' in seen && 'picture' in seen", 120)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)
    seen = browser.run("seen")
    for what, key in (
        ("first picture", "picture"),
        ("its overlay", "overlay"),
        ("labels", "rows"),
        ("lines", "lines"),
        ("all lines and marks", "all"),
    ):
        if key in seen:
            _say(what, f"{seen[key]:,.0f} ms")
    cpu = _cpu_s(_group(browser.pid)) - before
    _say("CPU until then", f"browser {cpu:.2f} s, server {server.cpu_s - of_server:.2f} s")


def jumps(browser: Browser, name: str, frames: int, count: int) -> None:
    """Jump by links, by the time line and by keys, to places that were not shown before."""
    rng = random.Random(1)
    browser.run(
        """window.jump = (go, isThere) => new Promise((resolve) => {
          const began = performance.now();
          const was = document.querySelector('.stage').dataset.position;
          go();
          const look = () => {
            const stage = document.querySelector('.stage');
            if (isThere ? isThere(stage.dataset) : stage.dataset.position !== was)
              resolve(performance.now() - began);
            else requestAnimationFrame(look);
          };
          look();
        }); 0"""
    )
    places = [rng.randrange(frames) for _ in range(count)]
    links = [
        browser.run(
            f"jump(() => {{ location.hash = '#s={name}&f={place}' }},"
            f" (at) => at.frame === '{place}')"
        )
        for place in places
    ]
    _say(f"{count} jumps by link", _spread(links))
    key = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}))"
    found = []
    for number in range(count):
        pressed = ("n", "p", "Home", "End")[number % 4] if number < 8 else "np"[number % 2]
        browser.run(f"location.hash = '#s={name}&f={rng.randrange(10, frames - 10)}'; 0")
        browser.wait_for(
            "document.querySelector('.stage').dataset.frame === "
            "new URLSearchParams(location.hash.slice(1)).get('f')"
        )
        found.append(browser.run(f"jump(() => {key % pressed})"))
    _say(f"{count} jumps by key (n, p, Home, End)", _spread(found))


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {ordered[len(ordered) // 2]:,.0f} ms, longest {ordered[-1]:,.0f} ms"


def memory(server: _PageServer, browser: Browser, when: str) -> None:
    browser.call("HeapProfiler.collectGarbage")
    metrics = browser.call("Performance.getMetrics")["metrics"]
    heap = next(item["value"] for item in metrics if item["name"] == "JSHeapUsedSize") / 1e6
    whole, kept = _renderer_mb(browser)
    parts = f"scripts {heap:,.1f} MB, images that Chromium keeps until it needs room {kept:,.0f} MB"
    _say(f"memory of the tab {when}", f"{whole:,.0f} MB, of which {parts}")
    _say("memory of the server, at most", f"{server.peak_mb():,.0f} MB")


def bare(server: _PageServer, browser: Browser, name: str, at_s: float) -> float:
    """Return the milliseconds until a bare <video> has its first picture, at a time."""
    browser.call("Page.navigate", url=server.url)
    browser.wait_for("document.readyState === 'complete' && !location.search")
    return float(
        browser.run(
            f"""new Promise((resolve) => {{
          document.body.replaceChildren();
          const video = document.createElement('video');
          video.muted = true;
          const began = performance.now();
          video.requestVideoFrameCallback(() => resolve(performance.now() - began));
          video.src = '/video?s={name}&k=0';
          video.currentTime = {at_s};
          document.body.append(video);
        }})"""
        )
    )


def playing(server: _PageServer, browser: Browser, name: str, frames: int) -> None:
    """Play, and count the rows that are shown; then the same file in a bare <video>."""
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=f"{server.url}#s={name}&f=0")
    browser.wait_for(
        "document.querySelector('.stage')?.dataset.position === '0'"
        " && !!document.querySelector('[data-drawn] .line-area:not([aria-busy])')"
    )
    memory(server, browser, "before playing")
    before, of_server = _cpu_s(_group(browser.pid)), server.cpu_s
    shown = browser.run(
        f"""new Promise((resolve) => {{
          const stage = document.querySelector('.stage');
          const began = performance.now();
          let count = 0;
          let done = false;
          new MutationObserver((changes) => {{
            count += 1;
            if (!done && Number(stage.dataset.position) >= {frames - 2}) {{
              done = true;
              resolve([count, (performance.now() - began) / 1000]);
            }}
          }}).observe(stage, {{attributeFilter: ['data-position']}});
          document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: ' ', bubbles: true}}));
        }})"""
    )
    count, seconds = shown
    cpu = _cpu_s(_group(browser.pid)) - before
    media = frames * _STEPS[name] / 1e6
    _say(
        f"playing {media:.0f} s of 720p, 60 a second, 50 boxes",
        f"{count:,} of {frames:,} frames shown in {seconds:.1f} s: {count / seconds:.1f} a second;"
        f" CPU browser {cpu / media:.2f}, server {(server.cpu_s - of_server) / media:.2f} a second",
    )
    memory(server, browser, "after playing")
    before = _cpu_s(_group(browser.pid))
    browser.run("document.body.replaceChildren(); 0")
    count, seconds = browser.run(
        f"""new Promise((resolve) => {{
          const video = document.createElement('video');
          video.muted = true;
          video.src = '/video?s={name}&k=0';
          document.body.append(video);
          let began;
          video.onended = () => {{
            const {{ totalVideoFrames, droppedVideoFrames }} = video.getVideoPlaybackQuality();
            resolve([totalVideoFrames - droppedVideoFrames, (performance.now() - began) / 1000]);
          }};
          video.onplaying = () => {{ began ??= performance.now(); }};
          video.play();
        }})"""
    )
    cpu = _cpu_s(_group(browser.pid)) - before
    _say(
        "the floor: a bare <video> of it",
        f"{count:,} frames in {seconds:.1f} s: {count / seconds:.1f} a second; "
        f"CPU {cpu / media:.2f} a second",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the sessions here")
    parser.add_argument("--hours", type=float, default=10)
    parser.add_argument("--play", type=int, default=1200, help="frames [1200]")
    parser.add_argument("--jumps", type=int, default=20)
    parser.add_argument("--only", choices=("long", "played"))
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        frames = round(options.hours * 3600 * 30)
        print("| of the page | |\n|---|---|")
        if options.only != "played":
            _long(folder / "long", frames, options.jumps)
        if options.only != "long":
            (folder / "played").mkdir(exist_ok=True)
            make(folder / "played", "played", options.play)
            with _both(folder / "played") as (server, browser):
                playing(server, browser, "played", options.play)


def _long(folder: Path, frames: int, count: int) -> None:
    folder.mkdir(exist_ok=True)
    session = make(folder, "long", frames)
    video = session.with_suffix(".mp4")
    _say(
        "session",
        f"{frames:,} frames, {session.stat().st_size / 1e6:,.0f} MB"
        f" and {video.stat().st_size / 1e6:,.0f} MB of video",
    )
    with _both(folder) as (server, browser):
        opening(folder, server, browser, "long", frames // 2)
        jumps(browser, "long", frames, count)
        memory(server, browser, "after the jumps")
        floor = bare(server, browser, "long", frames // 2 * _STEPS["long"] / 1e6)
        _say("the floor: first picture of a bare <video>", f"{floor:,.0f} ms")


if __name__ == "__main__":
    main()
