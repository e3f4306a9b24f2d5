"""``--only-on-alert``: moments are whole, with the right pictures; everything else is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.alerts import parse_rule
from dgrec.clock import Clock
from dgrec.errors import ConfigError, StorageError
from dgrec.recorder import ring_writer
from dgrec.recorder.options import RecordingOptions, Splitting
from dgrec.recorder.outputs import Alerts
from dgrec.recorder.recovery import recover
from dgrec.recorder.stream import Stream
from dgrec.recorder.video import picture_encoder
from dgrec.recorder.writing import PartedJournal, find_earlier
from dgrec.replay.verify import verify
from tests.footage import Encoding, encode
from tests.recorder.alerted import check, pictures, record_alerted
from tests.recorder.doubles import ScriptedFrames
from tests.recorder.network_camera import RtspCamera
from tests.waiting import PATIENCE_S, wait_until

B_FRAMES = Encoding(b_frames=2, format="mpegts")
OPEN_GOP = Encoding(
    b_frames=2, options={"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}, format="mpegts"
)
JPEG = Encoding(codec="mjpeg", pix_fmt="yuvj420p", format="matroska")
#: At the very start, two that overlap, one by itself, and one that is on at the end.
ALERTS = [range(3), range(100, 104), range(109, 112), range(180, 181), range(286, 300)]
AROUND = {"before": 0.05, "after": 0.03}


def found(index: int) -> bool:
    return any(index in alert for alert in ALERTS)


def number_in(image: np.ndarray[Any, Any]) -> int:
    """Return the number that a picture of `tests.footage` shows."""
    blocks = image[2:6, : 8 * 8].reshape(4, 8, 8, 3).mean(axis=(0, 2, 3))
    return sum(1 << bit for bit in range(8) if blocks[bit] > 127)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "every"), [(B_FRAMES, 1), (OPEN_GOP, 3), (JPEG, 1)], ids=["b", "open-every-3", "jpeg"]
)
def test_moments_of_kept_packets(how: Encoding, every: int, tmp_path: Path) -> None:
    source = encode(tmp_path / "source", how, 120)
    output = tmp_path / "s.parquet"
    alerted = record_alerted(
        source, output, found, loop=True, every=every, max_frames=300, pause_s=0.004, **AROUND
    )

    parts = check(alerted, output, **AROUND)

    assert len(alerted.spans_us()) == 5
    assert 3 <= len([part for part in parts if part]) <= 5
    assert sum(map(len, parts)) < 250
    shown = pictures(output)
    assert shown == {number: alerted.seen[number] for number in shown}
    assert verify(output) == []
    with dgrec.open(output) as session:
        alerts = session.sql("SELECT name, ended IS NULL, source_frame FROM alerts").fetchall()
    assert [alert[1] for alert in alerts] == [False, False, False, False, True]
    # Each moment opens alone, with its alert.
    for part in sorted(tmp_path.glob("s-*.parquet")):
        with dgrec.open(part) as session:
            assert not len(session) or session.metadata["video"][0]["packets"] == "kept"
            fired = session.sql("SELECT count(*) FROM alerts").fetchall()[0][0]
            assert bool(fired) is bool(len(session))


@pytest.mark.slow
@pytest.mark.parametrize("video", ["raw", "lossless"])
def test_moments_of_encoded_pictures(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_encoder, "_KEY_FRAME_EVERY_US", 50_000)
    source = encode(tmp_path / "source.mkv", Encoding(options={"crf": "10"}), 120)
    output = tmp_path / "s.parquet"
    alerted = record_alerted(
        source, output, found, video=video, keeps=False, loop=True, max_frames=300, pause_s=0.004,
        **AROUND,
    )  # fmt: skip

    parts = check(alerted, output, **AROUND)

    assert len([part for part in parts if part]) >= 2
    if video == "lossless":
        shown = pictures(output)
        assert shown == {number: alerted.seen[number] for number in shown}
    else:
        shown = pictures(output, number_in)
        assert shown == {number: number % 120 for number in shown}
    assert len(shown) == sum(map(len, parts))
    assert verify(output) == []
    with dgrec.open(output) as session:
        entries = [entry for part in session.parts for entry in part.metadata["video"]]
    assert {entry["codec"] for entry in entries} == {"ffv1" if video == "lossless" else "h264"}
    assert not [entry for entry in entries if "packets" in entry]


@pytest.mark.slow
def test_an_encoder_that_stops_is_noted(tmp_path: Path) -> None:
    """Another one goes on, and all pictures are there."""
    source = encode(tmp_path / "source.mkv", Encoding(options={"crf": "10"}), 40)
    output = tmp_path / "s.parquet"

    def watch(count: int, stream: Stream) -> None:
        ring = stream.recorder._ring
        assert ring is not None
        wait_until(lambda: not ring.ring._encoding)
        if count == 20:
            process = ring._packets._encoder._process
            assert process is not None
            assert process._process is not None
            process._process.kill()

    alerted = record_alerted(
        source, output, lambda index: index == 20, keeps=False, watch=watch,
        codec="av1", before=9, after=9,
    )  # fmt: skip
    check(alerted, output, 9, 9)
    assert pictures(output, number_in) == {number: number for number in range(40)}
    (note,) = alerted.stream.recorder.notes
    assert "the av1 encoder stopped 1 time, and was started again" in note


@pytest.mark.slow
def test_an_encoder_that_is_too_slow_and_then_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows go on without pictures, and those that are there are the right ones."""
    source = encode(tmp_path / "source.mkv", Encoding(options={"crf": "10"}), 120)
    output = tmp_path / "s.parquet"
    gate = threading.Event()
    encode_one = picture_encoder.PictureEncoder.encode

    def slow(self: Any, image: Any, pts_us: int) -> list[Any]:
        number = number_in(image)
        if number == 10:
            gate.wait()
        if number == 110:
            raise ValueError("as asked for")
        return encode_one(self, image, pts_us)

    def watch(count: int, stream: Stream) -> None:
        if count == 90:
            gate.set()
        if count > 90:  # all that waits is encoded before the next picture
            ring = stream.recorder._ring
            assert ring is not None
            wait_until(lambda: not ring.ring._encoding)

    monkeypatch.setattr(picture_encoder.PictureEncoder, "encode", slow)
    try:
        alerted = record_alerted(
            source, output, lambda index: index in (30, 100), keeps=False, watch=watch,
            video_policy="leave-out", before=9, after=9,
        )  # fmt: skip
    finally:
        gate.set()
    check(alerted, output, 9, 9)
    with dgrec.open(output) as session:
        states = [session.row(at)["video_state"] for at in range(len(session))]
    assert len(states) == 120
    assert states[:10] == [None] * 10
    assert states.count("encoder_busy") > 10
    assert states[110:] == ["encoder_failed"] * 10
    shown = pictures(output, number_in)
    assert shown == {
        number: number if state is None else None for number, state in enumerate(states)
    }
    assert any("as asked for" in note for note in alerted.stream.notes)


@pytest.mark.slow
def test_a_long_moment_in_parts_and_a_later_run(tmp_path: Path) -> None:
    source = encode(tmp_path / "source.ts", B_FRAMES, 120)
    output = tmp_path / "s.parquet"
    first = record_alerted(
        source, output, lambda index: index >= 60, splitting=Splitting(0.1), pause_s=0.004,
        **AROUND,
    )  # fmt: skip
    parts = [part for part in check(first, output, **AROUND) if part]
    assert len(parts) > 2
    assert pictures(output) == {number: first.seen[number] for part in parts for number in part}

    earlier = find_earlier(output)
    second = record_alerted(
        source, output, lambda index: index == 50, earlier=earlier, clock=Clock(), pause_s=0.004,
        **AROUND,
    )  # fmt: skip
    with dgrec.open(output) as session:
        numbers = [session.row(at)["frame"] for at in range(len(session))]
        alerts = session.sql("SELECT source_frame FROM alerts ORDER BY fired").fetchall()
    assert numbers == list(range(len(numbers)))
    assert alerts == [(60,), (170,)]
    assert pictures(output) == {
        number: {**first.seen, **second.seen}[number] for number in pictures(output)
    }


@pytest.mark.slow
def test_a_network_camera(tmp_path: Path) -> None:
    if missing := RtspCamera.missing():
        pytest.skip(missing)
    output = tmp_path / "s.parquet"
    around = {"before": 0.5, "after": 0.2}
    with RtspCamera(fps=30.0) as camera:
        alerted = record_alerted(
            camera.url, output, lambda index: 40 <= index < 45, max_frames=75, **around
        )

    (moment, *rest) = check(alerted, output, **around)

    assert 45 - 40 + 15 <= len(moment) < 75
    assert not any(rest)
    shown = pictures(output)
    assert shown == {number: alerted.seen[number] for number in shown}
    assert verify(output) == []


@pytest.mark.slow
def test_a_moment_is_sealed_soon(tmp_path: Path) -> None:
    """Also where the camera falls silent: here at the row after which nothing else is kept."""
    sealed = tmp_path / "s-0001.parquet"

    def watch(count: int, stream: Stream) -> None:
        if count == 60:
            wait_until(sealed.exists)
            with dgrec.open(sealed) as session:
                assert session.metadata["end_reason"] == "split"

    alerted = record_alerted(
        ScriptedFrames([0.0] * 61),
        tmp_path / "s.parquet",
        lambda index: index == 10,
        video="raw",
        watch=watch,
        pause_s=0.002,
        **AROUND,
    )
    first, last = check(alerted, tmp_path / "s.parquet", **AROUND)
    assert 10 in first
    assert not last or last == [60]


def test_without_an_alert_there_is_an_empty_session(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    alerted = record_alerted(
        ScriptedFrames([0.0] * 30), output, lambda index: False, video="raw", keeps=False
    )
    assert check(alerted, output, 10, 10) == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["s-0001.parquet"]
    assert alerted.metadata["totals"]["skipped_after"] == 30
    assert verify(output) == []


@pytest.mark.slow
def test_frames_that_stay_away(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"

    def watch(count: int, stream: Stream) -> None:
        if count == 40:
            wait_until(lambda: len(alerted_events) == 1)

    alerted_events: list[Any] = []
    original = Alerts._changed

    def changed(self: Alerts, alert: Any) -> None:
        original(self, alert)
        alerted_events.append(alert)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Alerts, "_changed", changed)
        alerted = record_alerted(
            ScriptedFrames([0.0] * 80),
            output,
            lambda index: False,
            rules=("gone=missing 300ms",),
            video="none",
            watch=watch,
            **AROUND,
        )
    parts = check(alerted, output, **AROUND)
    assert any({39, 40} <= {*part} for part in parts)


@pytest.mark.slow
def test_a_disk_that_hangs_costs_rows_that_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "s.parquet"
    gate = threading.Event()
    write = PartedJournal.write
    largest = 0

    def hang(self: PartedJournal, placed: Any, *more: Any) -> None:
        if placed:
            gate.wait()
        write(self, placed, *more)

    def watch(count: int, stream: Stream) -> None:
        nonlocal largest
        ring = stream.recorder._ring
        assert ring is not None
        ring.ring.limit = 50_000
        largest = max(largest, ring.ring.size)
        if count == 2000:
            gate.set()

    monkeypatch.setattr(PartedJournal, "write", hang)
    try:
        alerted = record_alerted(
            ScriptedFrames([0.0] * 2500),
            output,
            lambda index: index >= 20,
            video="none",
            policy="drop-oldest",
            watch=watch,
        )
    finally:
        gate.set()
    totals = alerted.metadata["totals"]
    assert totals["dropped_writer"] > 100
    assert totals["frames"] + totals["skipped"] + totals["dropped_writer"] == 2500
    assert largest <= 50_000 + 3000
    with dgrec.open(output) as session:
        assert session.row(len(session) - 1)["source_frame"] == 2499
        dropped = sum(session.row(at)["dropped_writer"] for at in range(len(session)))
    assert dropped == totals["dropped_writer"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
def test_a_full_disk_ends_the_recording(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sealed before stays, and nothing hangs, however full the ring is."""
    output = tmp_path / "s.parquet"
    write = PartedJournal.write

    def fail(self: PartedJournal, placed: Any, *more: Any) -> None:
        if any(each.row.source_frame > 300 for each in placed):
            raise StorageError("no space left on device", is_full=True)
        write(self, placed, *more)

    def watch(count: int, stream: Stream) -> None:
        ring = stream.recorder._ring
        assert ring is not None
        ring.ring.limit = 50_000
        if count == 200:
            wait_until((tmp_path / "s-0001.parquet").exists)

    monkeypatch.setattr(PartedJournal, "write", fail)
    with pytest.raises(StorageError, match="no space left"):
        record_alerted(
            ScriptedFrames([0.0] * 100_000),
            output,
            lambda index: index == 20 or index > 250,
            video="none",
            policy=policy,
            watch=watch,
            pause_s=0.001,
            **AROUND,
        )
    with dgrec.open(tmp_path / "s-0001.parquet") as session:
        assert 20 in [session.row(at)["source_frame"] for at in range(len(session))]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.recorder import alerted
digest_of = alerted.digest_of
def watch(count, stream):
    if count == 260:
        os.kill(os.getpid(), signal.SIGKILL)
def printed(image):
    found = digest_of(image)
    print(found, flush=True)
    return found
alerted.digest_of = printed
alerted.record_alerted(
    Path(sys.argv[1]), Path(sys.argv[2]), lambda index: 50 <= index < 53 or index >= 110,
    loop=True, watch=watch, pause_s=0.01, before=0.2, after=0.1,
)
"""


@pytest.mark.slow
def test_killed_in_a_moment(tmp_path: Path) -> None:
    source = encode(tmp_path / "source.ts", B_FRAMES, 120)
    output = tmp_path / "s.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(output)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-500:]
    seen = dict(enumerate(killed.stdout.split()))
    (journal,) = tmp_path.glob("s-*.arrows")
    with dgrec.open(output) as session:
        assert [part.sealed for part in session.parts] == [True, False]

    recover(journal)

    assert verify(output) == []
    with dgrec.open(output) as session:
        kept = [session.row(at)["source_frame"] for at in range(len(session))]
        alerts = session.sql("SELECT source_frame, ended IS NULL FROM alerts").fetchall()
    assert alerts == [(50, False), (110, True)]
    cut = next(at for at in range(1, len(kept)) if kept[at] > kept[at - 1] + 1)
    moments = [kept[:cut], kept[cut:]]
    for moment, fired in zip(moments, (50, 110), strict=True):
        assert moment == list(range(moment[0], moment[-1] + 1))
        assert fired in moment
    # Half a second of rows may be lost, and of pictures half a second more.
    assert kept[-1] >= 260 - 1 - 60
    shown = pictures(output)
    assert {number: seen[number] for number, digest in shown.items() if digest} == {
        number: digest for number, digest in shown.items() if digest
    }
    assert list(shown.values()).count(None) <= 60


@pytest.mark.slow
def test_ctrl_c_while_an_alert_is_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dgrec", "record", "--source", "sample", "--loop", "-o", "s"]
    rule = ["--only-on-alert", "--alert", "face=count('face') > 0", "--before", "1s"]
    running = subprocess.Popen(
        [*command, *rule, "--video", "raw"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )

    def has_rows() -> bool:
        for path in tmp_path.glob("s-*.arrows"):
            with dgrec.open(path) as session:
                return len(session) > 0
        return False

    try:
        wait_until(has_rows, process=running)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, errors
    assert "Recorded 1 moment: " in errors
    with dgrec.open(tmp_path / "s.parquet") as session:
        totals = session.metadata["totals"]
        skipped = totals["skipped"] + totals.get("skipped_after", 0)
        assert totals["frames"] + skipped == totals["source_frames"]
        assert session.metadata["end_reason"] == "interrupted"
        assert len(session) == totals["frames"] > 0
    assert verify(tmp_path / "s.parquet") == []


@pytest.mark.slow
def test_a_program_with_events_and_values(tmp_path: Path) -> None:
    """Events are all kept; values that are logged only with the moments."""
    output = tmp_path / "s.parquet"
    alerts = Alerts([parse_rule("seen=count() > 0")])
    with dgrec.Recorder(
        output, outputs=[alerts], only_on_alert=True, before=0.05, after=0.02
    ) as recorder:
        for number in range(200):
            recorder.log("number", number)
            if number in (10, 100, 190):
                recorder.mark(f"mark {number}")
            item = {"label": "cat", "score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0]}
            recorder.add([item] if number in (100, 101) else [])
            time.sleep(0.002)
    with dgrec.open(output) as session:
        kept = [session.row(at)["source_frame"] for at in range(len(session))]
        values = session.sql("SELECT value::INT FROM signals ORDER BY time").fetchall()
        marks = [event["text"] for event in session.metadata["events"] if event["kind"] == "mark"]
    assert {100, 101} <= {*kept}
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert len(kept) < 150
    assert marks == ["mark 10", "mark 100", "mark 190"]
    logged = [value for (value,) in values]
    assert {*kept} <= {*logged}
    assert len(logged) <= len(kept) + 60
    assert verify(output) == []


@pytest.mark.slow
def test_values_that_the_memory_has_no_room_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_writer, "_MOST_SIGNALS", 100)
    output = tmp_path / "s.parquet"
    alerts = Alerts([parse_rule("seen=count() > 0")])
    with dgrec.Recorder(
        output, outputs=[alerts], only_on_alert=True, before=0.4, after=0.0
    ) as recorder:
        for number in range(30):
            time.sleep(0.7 if number == 15 else 0.002)  # what was lost before belongs to no alert
            recorder.add([])
            for value in range(20):
                recorder.log("value", value)
        time.sleep(0.002)
        recorder.add([{"label": "cat", "score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0]}])
    with dgrec.open(output) as session:
        rows = len(session)
        kept = session.sql("SELECT count(*) FROM signals").fetchall()[0][0]
        lost = session.metadata["totals"]["signals_left_out"]
    assert rows < 31
    assert lost > 0
    # Those between the first row and the one before it belong to the alert, unless a busy machine
    # took its time there.
    assert 20 * (rows - 1) <= kept + lost <= 20 * rows


def test_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without alerts nothing would be recorded"):
        dgrec.Recorder(tmp_path / "s.parquet", only_on_alert=True)  # not only with the first frame
    assert list(tmp_path.iterdir()) == []
    for options, words in (
        ({"only_on_alert": True, "video": "both"}, "use --video raw"),
        ({"before": -1.0}, "--before"),
        ({"after": float("nan")}, "--after"),
        ({"before": 1e9}, "--before"),
    ):
        with pytest.raises(ConfigError, match=words):
            RecordingOptions(**options)  # type: ignore[arg-type]
