"""Live sources: network cameras that are killed, paused, slowed and changed in the middle."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgrec.clock import Clock
from dgrec.errors import SourceError
from dgrec.recorder.capture import Capture
from dgrec.recorder.model import LoadedModel
from dgrec.recorder.sources import Frame, LiveSource, open_source, parse_source
from dgrec.recorder.sources.live import LossMeter
from dgrec.session import open_session
from dgrec.video import Picture, VideoReader
from tests.recorder import camera_loss
from tests.recorder.command import Command, error_of, names
from tests.recorder.doubles import PysdkDouble, record
from tests.recorder.network_camera import (
    GROWS_AT,
    SLOW_FPS,
    MjpegCamera,
    RtspCamera,
    frame_number,
    free_port,
)
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture(scope="session")
def rtsp_server() -> None:
    missing = RtspCamera.missing()
    if missing is not None:
        assert os.environ.get("CI") != "true", f"in CI nothing may be missing: {missing}"
        pytest.skip(missing)


@pytest.fixture
def mjpeg() -> Iterator[MjpegCamera]:
    with MjpegCamera() as camera:
        yield camera


@pytest.fixture
def rtsp(rtsp_server: None) -> Iterator[RtspCamera]:
    with RtspCamera(fps=25) as camera:
        yield camera


@pytest.fixture
def live() -> Iterator[Callable[..., LiveSource]]:
    """Opens live sources, and closes them after the test."""
    opened = []

    def open_live(url: str, *, stall_timeout_s: float = 2.0, **options: Any) -> LiveSource:
        source = parse_source(url)
        opened.append(
            LiveSource(
                open_source(source, stall_timeout_s=stall_timeout_s),
                source,
                Clock(),
                reopen=lambda: open_source(source, stall_timeout_s=stall_timeout_s),
                stall_timeout_s=stall_timeout_s,
                **options,
            )
        )
        return opened[-1]

    yield open_live
    for source in opened:
        source.release()


def take(source: LiveSource, count: int) -> list[Frame]:
    frames = []
    for _ in range(count):
        frame = source.read()
        assert frame is not None
        frames.append(frame)
    return frames


def take_until(source: LiveSource, done: Callable[[list[Frame]], bool]) -> list[Frame]:
    frames: list[Frame] = []

    def are_there() -> bool:
        frames.extend(take(source, 1))
        return done(frames)

    wait_until(are_there, pause_s=0)
    return frames


def explain(
    frames: list[Frame], events: list[dict[str, Any]], *, is_exact: bool = True
) -> list[str]:
    rows = [
        {
            "source_frame": frame.source_frame,
            "dropped_camera": frame.dropped_camera,
            "dropped_queue": frame.dropped_queue,
            "dropped_writer": 0,
            "captured_at": frame.captured_ns,
            "completed_at": frame.captured_ns,
            "media_time_s": frame.media_time_s,
        }
        for frame in frames
    ]
    gaps = [event for event in events if event["kind"] == "gap"]
    numbers = [frame_number(frame.image) for frame in frames]
    return camera_loss.problems(rows, numbers, gaps, is_exact=is_exact)


# --- lost and found again ---


def check_story(story: camera_loss.Story, losses: int, *, is_exact: bool = True) -> None:
    assert story.problems(is_exact=is_exact) == []
    assert {number // camera_loss.EPOCH for number in story.numbers} == set(range(losses + 1))
    assert len(story.gaps) == losses
    assert len(story.rows) >= 20 * (losses + 1)
    totals = story.metadata["totals"]
    for where in ("camera", "queue", "writer"):
        counted = sum(row[f"dropped_{where}"] for row in story.rows)
        assert totals[f"dropped_{where}"] >= counted
    for old, new in itertools.pairwise(zip(story.numbers, story.rows, strict=True)):
        crossed = [
            g
            for g in story.gaps
            if old[1]["source_frame"] < g["source_frame"] <= new[1]["source_frame"]
        ]
        assert len(crossed) == new[0] // camera_loss.EPOCH - old[0] // camera_loss.EPOCH
    for gap in story.gaps:
        assert gap["back"] is True
        assert gap["seconds"] > 0.3
        assert gap["attempts"] >= 1
        assert gap["reason"].startswith("the stream ended")
        after = next(row for row in story.rows if row["source_frame"] >= gap["source_frame"])
        assert seconds_of(gap["from"]) < seconds_of(gap["to"]) <= after["captured_at"].timestamp()


def seconds_of(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def no_boxes(frame: int) -> list[Any]:
    return []


@pytest.mark.slow
def test_mjpeg_camera_killed_and_restarted(mjpeg: MjpegCamera, tmp_path: Path) -> None:
    model = PysdkDouble("Detection", no_boxes)
    story = camera_loss.run(mjpeg, 2, tmp_path / "s.parquet", model, model.describe())
    check_story(story, 2)
    assert {row["media_time_s"] for row in story.rows} == {None}, "JPEG over HTTP has no stamps"


@pytest.mark.slow
def test_rtsp_camera_killed_and_restarted(rtsp: RtspCamera, tmp_path: Path) -> None:
    model = PysdkDouble("Detection", no_boxes)
    began = dt.datetime.now(dt.UTC)
    story = camera_loss.run(rtsp, 2, tmp_path / "s.parquet", model, model.describe())
    check_story(story, 2, is_exact=False)
    # The stream's own time goes on over the gaps, as the clock does.
    # (The first frames of a connection may have no stamp.)
    stamped = [row for row in story.rows if row["media_time_s"] is not None]
    first, last = stamped[0], stamped[-1]
    media_s = last["media_time_s"] - first["media_time_s"]
    clock_s = (last["captured_at"] - first["captured_at"]).total_seconds()
    # It begins with the first reading. What opening had buffered comes at once, and late.
    late_s = (first["captured_at"] - began).total_seconds() - first["media_time_s"]
    assert late_s > -0.5
    assert media_s == pytest.approx(clock_s, abs=1.5 + max(late_s, 1))


def test_what_explains_nothing_is_found() -> None:
    """The check that the tests above rest on."""

    def row(source_frame: int, **more: Any) -> dict[str, Any]:
        stamps = dict.fromkeys(("captured_at", "completed_at", "media_time_s"), source_frame)
        drops = dict.fromkeys(("dropped_camera", "dropped_queue", "dropped_writer"), 0)
        return {"source_frame": source_frame, **stamps, **drops, **more}

    gap = {"source_frame": 1, "back": True, "reason": "the stream ended"}
    check = camera_loss.problems
    assert check([row(0), row(1)], [5, 6], []) == []
    assert check([row(0), row(1)], [5, 1000], [gap]) == []
    assert check([row(0), row(2, dropped_queue=1)], [5, 7], []) == []
    assert check([row(0), row(1, dropped_camera=3)], [5, 9], []) == []
    assert len(check([row(0), row(1)], [5, 7], [])) == 1
    assert check([row(0), row(1)], [5, 7], [], is_exact=False) == []
    assert len(check([row(0), row(1, dropped_camera=2)], [5, 7], [], is_exact=False)) == 1
    assert len(check([row(0), row(1)], [5, 5], [])) == 2
    assert len(check([row(0), row(1)], [5, 4], [gap])) == 1
    assert check([row(0), row(1, captured_at=-1)], [5, 6], []) == ["captured_at steps back 1 times"]
    assert check([row(0), row(1, media_time_s=None)], [5, 6], []) == []
    assert len(check([row(0), row(1)], [5, 1000], [])) == 1
    assert len(check([row(0), row(1)], [5, 1000], [{**gap, "reason": ""}])) == 1
    assert len(check([row(0)], [5, 6], [])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_pause_longer_than_the_stall_timeout(
    kind: str, request: pytest.FixtureRequest, live: Callable[..., LiveSource]
) -> None:
    camera = request.getfixturevalue(kind)
    source = live(camera.url, stall_timeout_s=1.0)
    frames = take(source, 10)
    camera.send_signal(signal.SIGSTOP)
    threading.Timer(1.8, camera.send_signal, [signal.SIGCONT]).start()
    gone: list[Frame] = []

    def is_back(new: list[Frame]) -> bool:
        if not gone and new[-1].captured_ns - frames[-1].captured_ns > 1.8e9:
            gone.append(new[-1])
        return bool(gone) and len(new) > 20

    frames += take_until(source, is_back)
    events = source.take_events()
    # What an RTSP camera's encoder drops while it catches up leaves no trace in its stamps.
    assert explain(frames, events, is_exact=kind != "rtsp") == []
    # On a busy machine a second of silence may come by itself, too.
    assert all(event["kind"] == "gap" and event["back"] for event in events)
    gap = max(events, key=lambda event: event["seconds"])
    assert gap["reason"].startswith("no frame for 1 s")
    assert 1.5 < gap["seconds"] < 20


@pytest.mark.slow
def test_a_pause_that_the_stall_timeout_allows(
    mjpeg: MjpegCamera, live: Callable[..., LiveSource]
) -> None:
    source = live(mjpeg.url, stall_timeout_s=10.0)
    frames = take(source, 10)

    def is_felt() -> bool:
        mjpeg.send_signal(signal.SIGSTOP)
        while source.wait(1.0):  # what is still on its way when the camera pauses
            frames.extend(take(source, 1))
        mjpeg.send_signal(signal.SIGCONT)
        after = take(source, 20)
        frames.extend(after)
        return max(frame.read_ns for frame in after) > 0.8e9

    # A thread that gets no turn for a second on a busy machine feels no pause.
    wait_until(is_felt)
    assert source.take_events() == []
    assert explain(frames, []) == []


@pytest.mark.slow
def test_a_camera_that_becomes_slow(mjpeg: MjpegCamera, live: Callable[..., LiveSource]) -> None:
    source = live(mjpeg.url)
    frames = take(source, 10)
    mjpeg.send_signal(signal.SIGUSR1)

    def is_felt() -> bool:
        frames.extend(take(source, 1))
        return bool(frames[-1].read_ns == pytest.approx(1e9 / SLOW_FPS, rel=0.3))

    wait_until(is_felt)
    mjpeg.send_signal(signal.SIGUSR1)
    frames += take(source, 20)
    assert source.take_events() == []
    assert explain(frames, []) == []


# --- lost for good ---


@pytest.mark.slow
def test_a_camera_that_does_not_come_back(
    mjpeg: MjpegCamera, live: Callable[..., LiveSource]
) -> None:
    source = live(mjpeg.url, reconnect_for_s=1.2)
    capture = Capture(source)
    count = 0
    while capture.read()[0]:
        count += 1
        if count == 5:
            mjpeg.kill()
    assert count >= 5, "what had been read comes before the end"
    assert capture.end_reason == "source_lost"
    assert str(capture.error) == (
        f"{mjpeg.url}: lost, and not back within 1.2 s (cannot be opened: connection refused)"
    )
    (gap,) = capture.take_events()
    assert gap["back"] is False
    assert gap["attempts"] >= 2, "with pauses in between"
    assert 1.2 <= gap["seconds"] < 10
    assert gap["reason"] == "the stream ended; then: cannot be opened: connection refused"


def test_no_patience_at_all(mjpeg: MjpegCamera, live: Callable[..., LiveSource]) -> None:
    source = live(mjpeg.url, reconnect_for_s=0)
    take(source, 3)
    mjpeg.kill()
    with pytest.raises(SourceError, match=r"lost \(the stream ended\)"):
        take(source, 1000)
    assert source.take_events()[0]["attempts"] == 0


@pytest.mark.slow
def test_a_duration_ends_in_a_gap(mjpeg: MjpegCamera, live: Callable[..., LiveSource]) -> None:
    capture = Capture(live(mjpeg.url, max_duration_s=1.5), max_duration_s=1.5)
    count = 0
    while capture.read()[0]:
        count += 1
        if count == 5:
            mjpeg.kill()
    assert capture.end_reason == "limit"
    assert capture.error is None
    assert [event["back"] for event in capture.take_events()] == [False]


class SilentReader:
    """Gives some frames, and then hangs in a read until it is let go."""

    fps = 30.0
    size = (320, 240)

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.opening_s = time.monotonic()
        self.freed = threading.Event()
        self.released = False

    def read(self) -> Picture | None:
        if self._frames == 0:
            self.freed.wait(PATIENCE_S)
        self._frames -= 1
        time.sleep(0.01)
        return Picture(np.zeros((240, 320, 3), np.uint8), None)

    def missing(self) -> str:
        return ""

    def release(self) -> None:
        self.released = True


def silent(readers: list[SilentReader], **options: Any) -> LiveSource:
    following = iter(readers[1:])
    return LiveSource(
        readers[0],  # type: ignore[arg-type]
        parse_source("cam0"),
        Clock(),
        reopen=lambda: next(following),  # type: ignore[arg-type, return-value]
        stall_timeout_s=0.1,
        **options,
    )


def test_a_camera_that_is_down_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Noted(threading.Event):
        """Does not wait, but notes for how long it was to."""

        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None or threading.current_thread().name != "dgrec-camera":
                return super().wait(timeout)
            pauses.append(timeout)
            return self.is_set()

    def refuse() -> Any:
        if len(pauses) > 8:
            source.interrupt()
        raise SourceError("http://camera/: refused")

    monkeypatch.setattr(threading, "Event", Noted)
    reader = SilentReader(3)
    monkeypatch.setattr(reader, "read", lambda: None)
    ready = threading.Semaphore(0)

    def reopen() -> Any:
        ready.acquire()
        ready.release()
        return refuse()

    source = LiveSource(
        reader,  # type: ignore[arg-type]
        parse_source("http://camera/"),
        Clock(),
        reopen=reopen,
    )
    ready.release()
    assert source.read() is None
    source.release()
    assert pauses[0] == 0.5, "it hung up at once"
    assert pauses[1:8] == [0.5, 1, 2, 4, 8, 10, 10]


def test_what_the_decoder_had_when_a_stream_fell_silent_is_before_the_gap() -> None:
    began_ns = 1_700_000_000_000_000_000

    class Moved(Clock):
        moved_ns = began_ns

        def now_ns(self) -> int:
            return self.moved_ns

    clock = Moved()

    class Drained(SilentReader):
        """Gives a frame, times out, and gives three that were in its decoder."""

        @property
        def waiting(self) -> int:
            return self._frames

        def read(self) -> Picture | None:
            self._frames -= 1
            if self._frames == 2:
                clock.moved_ns += 10_000_000_000
            image = np.zeros((240, 320, 3), np.uint8)
            return Picture(image, None) if self._frames >= 0 else None

    def refuse() -> Any:
        raise SourceError("refused")

    source = LiveSource(
        Drained(4),  # type: ignore[arg-type]
        parse_source("http://camera/"),
        clock,
        reopen=refuse,
        reconnect_for_s=0,
    )
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="no frame for 10 s"):
        frames.extend(iter(source.read, None))
    source.release()
    assert sum(1 + frame.dropped_queue for frame in frames) == 4
    (gap,) = source.take_events()
    assert (gap["source_frame"], gap["back"], gap["seconds"]) == (4, False, 10.0)


@pytest.mark.slow
def test_a_read_that_never_comes_back_is_left_to_itself() -> None:
    readers = [SilentReader(5), SilentReader(1000)]
    source = silent(readers)
    frames = take_until(source, lambda new: new[-1].source_frame >= 10)
    (gap,) = source.take_events()
    assert gap["reason"] == "reading did not come back"
    assert gap["source_frame"] == 5
    assert readers[0].released, "it may still get data, and is to end then"
    readers[0].freed.set()  # too late: its frames are nobody's
    frames += take(source, 20)
    indexes = [frame.source_frame for frame in frames]
    steps = [
        after.source_frame - before.source_frame for before, after in itertools.pairwise(frames)
    ]
    assert indexes == sorted(set(indexes))
    assert steps == [1 + frame.dropped_queue for frame in frames[1:]]
    source.release()
    assert readers[1].released


@pytest.mark.slow
def test_a_read_that_never_comes_back_does_not_hold_up_the_end() -> None:
    readers = [SilentReader(5)]
    source = silent(readers)
    frame = None
    while frame is None or frame.source_frame < 4:
        frame = source.read()
    source.interrupt()
    assert source.read() is None
    source.release()  # it comes back, although the read does not
    assert not readers[0].freed.is_set()
    assert not readers[0].released, "not under the hands of the one who reads"
    readers[0].freed.set()
    source._thread.join(PATIENCE_S)
    assert readers[0].released


@pytest.mark.slow
def test_a_reader_is_not_released_while_it_reads(mjpeg: MjpegCamera) -> None:
    reader = open_source(parse_source(mjpeg.url), stall_timeout_s=2.0)
    assert isinstance(reader, VideoReader)
    assert reader.read() is not None
    mjpeg.send_signal(signal.SIGSTOP)
    answers: list[Picture | None] = []
    thread = threading.Thread(target=lambda: answers.extend(iter(reader.read, None)), daemon=True)
    thread.start()
    time.sleep(0.5)
    reader.release()
    assert reader._packets is not None, "it is in use"
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert reader._packets is None
    assert reader.read() is None
    mjpeg.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_read_that_finds_no_picture_ends_when_the_reader_is_released(mjpeg: MjpegCamera) -> None:
    """What such a camera sends would be read, and kept, for ever."""
    reader = open_source(parse_source(mjpeg.url_of("spoils")), stall_timeout_s=PATIENCE_S)
    numbers: list[int] = []

    def read() -> None:
        numbers.extend(frame_number(picture.image) for picture in iter(reader.read, None))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    wait_until(lambda: GROWS_AT - 1 in numbers)
    reader.release()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert numbers[-1] == GROWS_AT - 1


# --- what the camera lost ---


@pytest.mark.slow
def test_frames_lost_by_the_camera(rtsp: RtspCamera, live: Callable[..., LiveSource]) -> None:
    source = live(rtsp.url)

    def is_explained() -> bool:
        frames = take(source, 30)
        for _ in range(2):
            rtsp.send_signal(signal.SIGUSR1)
            frames += take(source, 30)
        # What was lost while the camera started comes before the first of them.
        lost = sum(frame.dropped_camera for frame in frames[1:])
        taken = frame_number(frames[-1].image) - frame_number(frames[0].image) + 1
        replaced = sum(frame.dropped_queue for frame in frames[1:])
        return (
            source.take_events() == []
            and explain(frames, []) == []
            and lost == taken - len(frames) - replaced
            and lost >= 10
        )

    # On a busy machine the camera itself may be late, and what it leaves out then has no trace.
    wait_until(is_explained)


def lost(positions: list[float], *, opening_s: float = 0.0, behind_s: float = 0.0) -> list[int]:
    meter = LossMeter(opening_s)
    return [meter.lost_before(at, opening_s + at - behind_s) for at in positions]


def steps(*lengths: float) -> list[float]:
    return list(itertools.accumulate(lengths, initial=0.0))


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        pytest.param([0.04] * 40, [], id="regular"),
        pytest.param([0.04] * 20 + [0.12] + [0.04] * 20, [(21, 2)], id="two lost"),
        pytest.param([0.04] * 20 + [0.058] + [0.04] * 20, [], id="late, not lost"),
        pytest.param([0.04, 0.05, 0.03] * 10 + [0.09] + [0.04] * 9, [(31, 1)], id="jitter"),
        pytest.param([0.04] * 5 + [0.4] + [0.04] * 20, [], id="too early to tell"),
        pytest.param([0.04] * 20 + [0.08] * 40 + [0.04] * 40, [(21, 1)], id="half the rate"),
        pytest.param([0.0] * 40 + [1.0], [], id="no clock"),
    ],
)
def test_counting_what_the_camera_lost(
    lengths: list[float], expected: list[tuple[int, int]]
) -> None:
    found = [(index, count) for index, count in enumerate(lost(steps(*lengths))) if count]
    assert found == expected


def test_stamps_that_run_ahead_of_the_clock_say_nothing() -> None:
    meter = LossMeter(0.0)
    for index in range(30):
        assert meter.lost_before(index * 0.04, index * 0.04) == 0
    assert meter.lost_before(3600.0, 1.24) == 0


def test_a_clock_that_is_set_back_and_forward_again_says_nothing() -> None:
    meter = LossMeter(0.0)
    times = [index * 0.04 for index in range(100)]
    stamps = [at - 3600 * (40 <= index < 60) for index, at in enumerate(times)]
    found = [meter.lost_before(stamp, at) for stamp, at in zip(stamps, times, strict=True)]
    assert not any(found)
    # What is lost while the clock is back is counted as before.
    assert [meter.lost_before(at - 3600, at) for at in (4.0, 4.04, 4.08, 4.2)] == [0, 0, 0, 2]


def test_a_frame_without_a_stamp_is_not_one_that_was_lost() -> None:
    stamps = [index * 0.04 for index in range(30)]
    meter = LossMeter(0.0)
    for stamp in stamps[:20]:
        assert meter.lost_before(stamp, stamp) == 0
    assert meter.lost_before(None, stamps[20]) == 0
    for stamp in stamps[21:]:
        assert meter.lost_before(stamp, stamp) == 0


# --- other things that cameras do ---


@pytest.mark.slow
def test_a_camera_that_comes_back_with_another_picture(
    mjpeg: MjpegCamera, live: Callable[..., LiveSource], loaded: LoadedModel, tmp_path: Path
) -> None:
    source = live(mjpeg.url_of("grows"))
    numbers: list[int] = []
    capture = Capture(source)

    def note(row: Any, result: Any) -> None:
        numbers.append(frame_number(result.image))
        if len(numbers) == 3:
            mjpeg.kill()
            mjpeg.start(GROWS_AT + 1000)
        if numbers[-1] >= GROWS_AT + 1010:
            capture.stop()

    described = {"model": loaded.description, "overlay": loaded.overlay}
    path = tmp_path / "grows.parquet"
    record(loaded.model, capture, path, described, clock=source._clock, watchers=(note,))
    with open_session(path) as session:
        rows = session.frames.to_pylist()
        gap, change = sorted(session.metadata["events"], key=lambda event: event["kind"])
    for row, number in zip(rows, numbers, strict=True):
        large = number >= GROWS_AT
        assert (row["width"], row["height"]) == ((640, 480) if large else (320, 240))
        assert (row["source_frame"] >= change["source_frame"]) == large
        assert (row["source_frame"] >= gap["source_frame"]) == (number >= 1000)
    assert numbers[-1] >= GROWS_AT + 1010
    assert (change["kind"], change["width"], change["height"]) == ("size", 640, 480)


@pytest.mark.slow
def test_a_camera_that_changes_its_picture_in_one_connection(
    mjpeg: MjpegCamera, live: Callable[..., LiveSource]
) -> None:
    """No picture is stretched, and where the size turns there is an event."""
    source = live(mjpeg.url_of("grows"))
    frames = take_until(source, lambda new: frame_number(new[-1].image) > GROWS_AT + 10)
    for frame in frames:
        size = (640, 480) if frame_number(frame.image) >= GROWS_AT else (320, 240)
        assert (frame.width, frame.height) == frame.image.shape[1::-1] == size
    (event,) = source.take_events()
    large = [frame.source_frame for frame in frames if frame.width == 640]
    small = [frame.source_frame for frame in frames if frame.width == 320]
    assert small[-1] < event["source_frame"] <= large[0]
    assert (event["kind"], event["width"], event["height"]) == ("size", 640, 480)


@pytest.mark.slow
def test_a_camera_whose_every_fifth_picture_is_cut_in_half(
    mjpeg: MjpegCamera, live: Callable[..., LiveSource]
) -> None:
    """What cannot be decoded is passed over and counted, without opening the camera again."""
    source = live(mjpeg.url_of("halves"))
    frames = take_until(source, lambda new: frame_number(new[-1].image) > 40)
    source.interrupt()
    events = source.take_events()
    assert explain(frames, events) == []
    numbers = [frame_number(frame.image) for frame in frames]
    assert all(number % 5 != 4 for number in numbers)
    assert [event["kind"] for event in events] == ["damage"]
    counted = sum(frame.dropped_camera for frame in frames)
    assert counted == sum(number % 5 == 4 for number in range(numbers[0], numbers[-1]))
    assert events[0]["lost"] >= counted > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("status/401", "server returned 401 unauthorized (authorization failed); check the user"),
        ("status/404", "server returned 404 not found; check the path in the address"),
        ("status/503", "server returned 5xx server error reply; the camera is not ready"),
        ("garbage", "invalid data found when processing input; no video that can be read"),
    ],
)
def test_what_is_no_video(mjpeg: MjpegCamera, path: str, why: str) -> None:
    url = mjpeg.url_of(f"{path}?token=t0ps3cret", "admin:s3cret@")
    with pytest.raises(SourceError) as caught:
        open_source(parse_source(url), stall_timeout_s=3)
    message = str(caught.value)
    host = f"http://***@127.0.0.1:{mjpeg.port}/{path}?token=***"
    assert message.startswith(f"{host}: cannot be opened: {why}")
    assert "s3cret" not in message
    assert "\n" not in message


def test_no_such_stream_on_an_rtsp_camera(rtsp: RtspCamera) -> None:
    with pytest.raises(SourceError, match="server returned 404 not found; check the path"):
        open_source(parse_source(rtsp.url_of("other")), stall_timeout_s=3)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (
            b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n",
            "server returned 401 unauthorized (authorization failed); check the user name",
        ),
        (b"RTSP/1.0 454 s3cret\r\nCSeq: 1\r\n\r\n", "server returned 4xx client error"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid data found when processing input; no video"),
        (None, "invalid data found when processing input; no video"),
    ],
)
def test_what_other_things_answer(reply: bytes | None, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                if reply is None:
                    done.wait(PATIENCE_S)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"rtsp://a%40b:s3cret@127.0.0.1:{server.getsockname()[1]}/cam"
        with pytest.raises(SourceError) as caught:
            open_source(parse_source(url), stall_timeout_s=0.3)
        done.set()
        thread.join()
    assert f": cannot be opened: {why}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rtsp://127.0.0.1:{}/cam", "connection refused"),
        ("rtsp://camera.invalid/cam", "input/output error; check the host in the address"),
    ],
)
def test_nobody_answers(url: str, why: str) -> None:
    with pytest.raises(SourceError, match=f": cannot be opened: {why}"):
        open_source(parse_source(url.format(free_port())))


# --- latency ---


@pytest.mark.slow
def test_latency_does_not_grow_when_inference_is_slow(
    loaded: LoadedModel, live: Callable[..., LiveSource], tmp_path: Path
) -> None:
    """60 frames a second come, fewer than 20 are inferred: with a queue, two thirds of all frames
    that have come would be waiting. How many wait can be told without trusting the machine's speed:
    those that were captured, and had not come out, when a frame came out."""
    loaded.model(np.zeros((240, 320, 3), np.uint8))  # warm
    with MjpegCamera(fps=60) as camera:
        source = live(camera.url)
        capture = Capture(source, max_frames=60)
        numbers: list[int] = []

        def slow(row: Any, result: Any) -> None:
            numbers.append(frame_number(result.image))
            time.sleep(0.05)

        described = {"model": loaded.description, "overlay": loaded.overlay}
        path = tmp_path / "slow.parquet"
        record(loaded.model, capture, path, described, clock=source._clock, watchers=(slow,))
    with open_session(path) as session:
        rows = session.frames.to_pylist()
        events = session.metadata.get("events", [])
    # A busy machine may have none for a while.
    gaps = [event for event in events if event["kind"] == "gap"]
    assert camera_loss.problems(rows, numbers, gaps) == []
    assert len(rows) == 60
    completed = [row["completed_at"] for row in rows]
    captured = [row["captured_at"] for row in rows]
    waiting = [
        sum(stamp < out for stamp in captured[index + 1 :]) for index, out in enumerate(completed)
    ]
    # PySDK itself has up to some ten in hand when the runtime stalls; a queue would hold hundreds.
    assert max(waiting) < 40, waiting
    assert numbers[-1] > 2 * len(numbers), "the camera was faster"


# --- the command ---


def is_recording(journal: Path) -> bool:
    if not journal.exists() or journal.stat().st_size == 0:
        return False
    with open_session(journal) as session:
        return len(session) > 10


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["gone", "silent"])
def test_ctrl_c_while_the_camera_is_away(dgrec: Command, mjpeg: MjpegCamera, trouble: str) -> None:
    journal = dgrec.folder / "s.arrows"
    timeout = str(2 * PATIENCE_S) if trouble == "silent" else "5"
    recorder = dgrec.start(
        "--source", mjpeg.url, "--output", "s.parquet", "--stall-timeout", timeout
    )
    try:
        wait_until(lambda: is_recording(journal), process=recorder)
        if trouble == "gone":
            mjpeg.kill()
        else:
            mjpeg.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        recorder.send_signal(signal.SIGINT)
        _, said = recorder.communicate(timeout=PATIENCE_S)  # long before a read times out
    finally:
        recorder.kill()
        recorder.wait()
    assert recorder.returncode == 0, said
    assert "interrupted" in said
    assert names(dgrec.folder) == ["s.mp4", "s.parquet"]
    with open_session(dgrec.folder / "s.parquet") as session:
        assert session.sealed
        assert session.metadata["end_reason"] == "interrupted"
        events = session.metadata.get("events", [])
    assert [event["back"] for event in events] == ([False] if trouble == "gone" else [])


@pytest.mark.slow
def test_an_outage_is_told_while_it_lasts_and_at_the_end(
    dgrec: Command, mjpeg: MjpegCamera
) -> None:
    """Nobody looks at an unattended recording but through its log."""
    journal = dgrec.folder / "s.arrows"
    recorder = dgrec.start("--source", mjpeg.url, "--output", "s.parquet")
    assert recorder.stderr is not None
    said: list[str] = []
    patience = threading.Timer(2 * PATIENCE_S, os.killpg, [recorder.pid, signal.SIGKILL])
    patience.start()
    try:
        wait_until(lambda: is_recording(journal), process=recorder)
        mjpeg.kill()
        said.append(next(line for line in recorder.stderr if ": lost (" in line))
        mjpeg.start()
        said.append(next(line for line in recorder.stderr if ": back after " in line))
        recorder.send_signal(signal.SIGINT)
        _, rest = recorder.communicate(timeout=PATIENCE_S)
    finally:
        patience.cancel()
        recorder.kill()
        recorder.wait()
    assert recorder.returncode == 0, rest
    with open_session(dgrec.folder / "s.parquet") as session:
        (gap,) = session.metadata["events"]
    lost, back = (line.split(maxsplit=2) for line in said)
    assert lost[2].startswith(f"{mjpeg.url}: lost (the stream ended)")
    assert back[2] == f"{mjpeg.url}: back after {gap['seconds']:.1f} s\n"
    assert dt.datetime.fromisoformat(f"{lost[0]} {lost[1]}") <= dt.datetime.now()
    assert f"Source lost: 1 gap, {gap['seconds']:.1f} s." in rest


@pytest.mark.slow
def test_the_command_gives_up(dgrec: Command, mjpeg: MjpegCamera) -> None:
    journal = dgrec.folder / "s.arrows"
    recorder = dgrec.start(
        "--source",
        mjpeg.url_of("video.mjpg", "admin:s3cret@"),
        "--output",
        "s.parquet",
        "--reconnect-for",
        "1",
    )
    try:
        wait_until(lambda: is_recording(journal), process=recorder)
        mjpeg.kill()
        _, said = recorder.communicate(timeout=PATIENCE_S)
    finally:
        recorder.kill()
        recorder.wait()
    assert recorder.returncode == 1
    error = said.strip().splitlines()[-1]
    with open_session(dgrec.folder / "s.parquet") as session:
        assert session.sealed
        assert session.metadata["end_reason"] == "source_lost"
        assert "lost, and not back within 1 s (cannot be opened: " in error
        assert f"the {len(session)} frames before are in s.parquet" in error
        reason = session.metadata["events"][-1]["reason"]
        assert "connection refused" in reason or "connection reset by peer" in reason
        assert "s3cret" not in said + str(session.metadata)


@pytest.mark.slow
def test_a_camera_that_is_down_at_the_start(dgrec: Command) -> None:
    url = f"rtsp://admin:s3cret@127.0.0.1:{free_port()}/cam"
    error = error_of(dgrec.record("--source", url, "--reconnect-for", "60"))
    assert error.endswith("/cam: cannot be opened: connection refused")
    assert "s3cret" not in error
