"""Clips of alerts: all frames of their moments, each with the picture that the model saw."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import dgrec
from dgrec.alerts import RecordedAlert, clip_path, recorded_alerts, without_clip
from dgrec.errors import ConfigError, StorageError
from dgrec.format import RESTARTED, utc_text
from dgrec.paths import numbered_files
from dgrec.recorder.alerting import check_alert_options
from dgrec.recorder.options import RecordingOptions, Retention, Splitting
from dgrec.recorder.outputs import AlertClips, clips
from dgrec.recorder.recovery import recover
from dgrec.recorder.signals import StopSignals
from dgrec.replay.clip import Span, cut_alerts, write_clip
from dgrec.replay.clip import alert_clips as alert_clips_module
from dgrec.replay.clip.alert_clips import AlertClip
from dgrec.replay.commands.clip import clip_command
from dgrec.replay.verify import verify
from dgrec.session import open_session
from tests.factory import CLOSING, START_NS, edited, make_rows, new_metadata, write_session
from tests.footage import kinds
from tests.recorder.alert_recordings import AFTER_S, BEFORE_S, Recorded, record_alerts
from tests.recorder.command import Command
from tests.recorder.disks import Disk
from tests.recorder.doubles import journal_of, write_rows
from tests.recorder.test_disks import run
from tests.waiting import PATIENCE_S, wait_until

FRAMES = 200
US = START_NS // 1000


def is_on(number: int) -> bool:
    """Persons are there at the start, in the middle twice, and at the end."""
    return number < 4 or number in range(60, 70) or number == 72 or number >= FRAMES - 5


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("footage") / "h264-b.ts"
    next(kind for kind in kinds() if kind.name == path.name).make(path)
    return path


def cut(path: Path, made: list[Path]) -> list[str]:
    """Cut what can be; return problems."""
    problems = []
    for clip in cut_alerts(path, BEFORE_S, AFTER_S):
        if clip.report is not None:
            assert [is_copy for _, is_copy in clip.report.videos] == [True]
            assert clip.report.notes == []
            made.append(clip.path)
        elif clip.problem:
            problems.append(str(clip.problem))
    return problems


@pytest.mark.slow
@pytest.mark.parametrize(("keeps", "every_s"), [(True, None), (True, 0.25), (False, 0.25)])
def test_clips_hold_their_moments(
    footage: Path, tmp_path: Path, keeps: bool, every_s: float | None
) -> None:
    live: list[Path] = []

    def watch(count: int, recorded: Recorded) -> None:
        time.sleep(0.01)
        if count % 25 == 0:
            path = recorded.path if every_s else recorded.path.with_suffix(".arrows")
            assert cut(path, live) == []

    recorded = record_alerts(
        footage,
        tmp_path / "s.parquet",
        on=is_on,
        frames=FRAMES,
        watch=watch,
        keeps=keeps,
        splitting=Splitting(every_s=every_s),
    )
    alerts = recorded.alerts()
    assert len(alerts) == 4
    assert 1 <= len(live) < 4, "of the last one the end was not known"
    late: list[Path] = []
    assert cut(recorded.path, late) == []
    assert (
        sorted([*live, *late])
        == recorded.clips()
        == sorted(clip_path(recorded.path, alert) for alert in alerts)
    )
    for alert in alerts:
        recorded.assert_clip(clip_path(recorded.path, alert), alert, is_exact=keeps)
    assert verify(recorded.clips()[-1]) == []
    # Nothing is cut twice.
    assert [*cut_alerts(recorded.path)] == []
    with dgrec.open(recorded.clips()[1]) as clip:
        ((name, fired),) = clip.sql_rows("SELECT name, fired FROM alerts")[:1]
        assert name == "seen"
        assert fired is not None


@pytest.mark.slow
def test_a_clip_has_its_alert_wherever_it_was_recorded(footage: Path, tmp_path: Path) -> None:
    """On a busy machine, rules are asked while later parts are written already."""
    recorded = record_alerts(
        footage,
        tmp_path / "s.parquet",
        on=lambda number: number in range(10, 14),
        frames=FRAMES,
        watch=lambda *_: time.sleep(0.01),
        splitting=Splitting(every_s=0.1),
    )
    with dgrec.open(recorded.path) as session:
        parts = [part.path for part in session.parts]
        events = session.metadata["events"]
    assert len(parts) > 8
    for part in parts:
        edited(part, {}, events=events if part == parts[-1] else [])
    ((alert, report),) = ((clip.alert, clip.report) for clip in cut_alerts(recorded.path))
    assert report is not None
    with dgrec.open(clip_path(recorded.path, alert)) as clip:
        assert len(clip) < FRAMES / 2
        assert [row[0] for row in clip.sql("SELECT name FROM alerts").fetchall()] == ["seen"]


def test_a_clip_in_parts_has_only_the_alerts_of_its_time(tmp_path: Path) -> None:
    """Also where it begins with the first frame of the parts that are looked at."""
    rows = make_rows(20)
    journal = journal_of(tmp_path / "s.parquet", Splitting(every_s=0.001))
    events = [
        {"kind": kind, "at": utc_text(rows[at].completed_ns), "text": text}
        for text, fired in (("a", 2), ("b", 12), ("c", 17))
        for kind, at in (("alert", fired), ("alert_end", fired + 1))
    ]
    write_rows(journal, rows, events)
    journal.end(CLOSING)
    assert journal.seal() == []
    clips = [*cut_alerts(tmp_path / "s.parquet", 0.05, 0.05)]
    assert [clip.alert.name for clip in clips if clip.report] == ["a", "b", "c"]
    for clip in clips:
        with dgrec.open(clip.path) as session:
            assert [event["text"] for event in session.metadata["events"]] == [clip.alert.name] * 2


def test_a_link_to_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    (tmp_path / "s-0001.arrows").symlink_to("nothing")
    looks = itertools.count()

    def look(name: Path) -> list[tuple[int, Path]]:
        assert next(looks) < 3, "it looks for ever"
        return numbered_files(name)

    monkeypatch.setattr(alert_clips_module, "numbered_files", look)
    assert [*cut_alerts(path)] == []


@pytest.mark.slow
def test_only_parts_of_moments_are_kept(footage: Path, tmp_path: Path) -> None:
    recorded = record_alerts(
        footage,
        tmp_path / "s.parquet",
        on=lambda number: number in range(60, 64),
        frames=FRAMES,
        watch=lambda *_: time.sleep(0.01),
        splitting=Splitting(every_s=0.1, keep=Retention(only="alerts")),
    )
    (alert,) = recorded.alerts()
    made: list[Path] = []
    assert cut(recorded.path, made) == []
    recorded.assert_clip(made[0], alert)
    assert recorded.writer is not None
    with dgrec.open(recorded.path) as session:
        assert session.damage == []
        assert len(session) == recorded.writer.kept_frames < FRAMES - 50
        assert len(session) == session.metadata["totals"]["frames"]
        frames = session.frames.column("frame").to_pylist()
    assert verify(recorded.path) == []
    videos = {path.stem for path in tmp_path.glob("s-*.mp4")}
    assert videos == {path.stem for path in tmp_path.glob("s-*.parquet")}
    assert f"Parts removed, as asked for: {recorded.writer._journal.removed}." in (
        recorded.writer.notes
    )
    # A clip over the gaps says where it jumps.
    with dgrec.open(recorded.path) as session:
        write_clip(session, [Span(0, len(session))], tmp_path / "all.parquet")
    with dgrec.open(tmp_path / "all.parquet") as clip:
        ranges = clip.metadata["clip"]["ranges"]
        assert [
            number
            for item in ranges
            for number in range(item["from_frame"], item["from_frame"] + item["frames"])
        ] == frames
        jumps = sum(after != before + 1 for before, after in itertools.pairwise(frames))
        assert len(ranges) == jumps + 1 >= 2


def test_names_of_clips_are_safe_and_distinct() -> None:
    hostile = ["../../etc/passwd", "a/b", "a\\b", "a:b", "nul\0", "\n", "CON", ".", "x" * 300]
    hostile += ["Tür", "人" * 90, "a b", "a.b", "\ud800", "-rf", "$(id)", "%s", "*", "a/b ", ""]
    paths = [clip_path(Path("f/s.parquet"), RecordedAlert(name, "", US)) for name in hostile]
    assert len({str(path).lower() for path in paths}) == len(hostile)
    for path in paths:
        assert path.parent == Path("f")
        assert path.name.startswith("s.alert-")
        assert len(path.name.encode()) < 150
        assert not set(path.name) & set('/\\:\0\n*?"<>|$ %')
    one, other = (clip_path(Path("s.arrows"), RecordedAlert("a", "", US + n)) for n in (0, 1))
    assert one != other


def test_alerts_of_events() -> None:
    def event(kind: str, second: int, name: str = "a", **more: Any) -> dict[str, Any]:
        return {"kind": kind, "at": utc_text(START_NS + second * 10**9), "text": name, **more}

    at = utc_text(START_NS + 7 * 10**9)
    found = recorded_alerts(
        [
            event("alert", 1, rule="fps < 1"),
            event("mark", 2),
            event("alert", 2, "b"),
            event("alert_end", 3),
            event("alert_end", 4),
            event("alert", 5),
            event("gap", 8, **{"from": at, "reason": RESTARTED}),
            event("alert", 9, "b"),
            {"kind": "alert", "at": "soon", "text": 3},
            {"kind": "alert"},
            event("alert", 10, "b"),
        ]
    )
    assert [(a.name, (a.fired_us - US) // 10**6, a.ended_us) for a in found] == [
        ("a", 1, US + 3 * 10**6),
        ("b", 2, US + 7 * 10**6),
        ("a", 5, US + 7 * 10**6),
        ("b", 9, US + 10 * 10**6),
        ("b", 10, None),
    ]
    assert found[0].rule == "fps < 1"


@pytest.mark.slow
def test_a_recording_never_waits_for_a_clip(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began, at_once = threading.Event(), threading.Event(), []

    def hang(self: AlertClips, path: Path) -> list[str]:
        began.set()
        at_once.append(threading.current_thread().name)
        assert gate.wait(PATIENCE_S)
        return ["the disk is full"]

    monkeypatch.setattr(AlertClips, "_run_command", hang)
    said: list[str] = []

    def watch(count: int, recorded: Recorded) -> None:
        time.sleep(0.002)
        said[:] = recorded.said

    recorded = record_alerts(
        footage,
        tmp_path / "s.parquet",
        on=lambda number: number % 10 == 5,
        frames=FRAMES,
        watch=watch,
        cuts=True,
    )
    # It was sealed while the first one hung, and nothing else was started.
    assert began.is_set()
    assert at_once == ["dgrec-clips"]
    assert len(recorded.alerts()) == FRAMES // 10
    assert without_clip(recorded.path) == FRAMES // 10
    assert recorded.alerting is not None
    assert recorded.alerting.clips is not None
    gate.set()
    assert recorded.alerting.clips.left() == FRAMES // 10


def test_many_alerts_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(AlertClips, "_run_command", lambda *_: gate.wait(PATIENCE_S) and [])
    clips = AlertClips(tmp_path / "s.parquet", lambda: tmp_path, 1, 1, print)
    try:
        for number in range(30_000):
            clips.fired("a", number * 3_000_000)
            clips.ended("a", number * 3_000_000 + 1)
            clips.reached(number * 3_000_000 + 2_000_000)
        assert len(clips._due) + len(clips._over) <= 20_000
        assert clips._thread is not None
    finally:
        gate.set()
        clips.finish()


def test_a_frozen_program_cuts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no Python: as the command for a clip, it would record once more."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    clips = AlertClips(tmp_path / "s.parquet", lambda: tmp_path, 1, 1, print)
    (problem,) = clips._run_command(tmp_path)
    assert problem.startswith(f"clips of alerts: {sys.executable} cannot be started: a frozen or")


def test_no_room_for_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [{"kind": "alert", "at": utc_text(START_NS + 10**9), "text": "a", "rule": "fps < 1"}]
    path = write_session(
        tmp_path / "s.parquet", make_rows(100), {**new_metadata("s"), "events": events}
    )
    monkeypatch.setattr(alert_clips_module, "_RESERVE_BYTES", 10**18)
    (clip,) = cut_alerts(path)
    assert isinstance(clip.problem, StorageError)
    assert clip.problem.is_full
    assert not clip.path.exists()
    monkeypatch.undo()
    (clip,) = cut_alerts(path, 0.1, 0.1)
    assert clip.report is not None
    assert [file.name for file in tmp_path.iterdir() if "new" in file.name] == []


def test_the_clip_of_a_silence_has_the_last_frame_before_it(tmp_path: Path) -> None:
    def cut_at(second: int) -> AlertClip:
        at = utc_text(START_NS + second * 10**9)
        events = [{"kind": "alert", "at": at, "text": "a", "rule": "missing 30s"}]
        folder = tmp_path / str(second)
        folder.mkdir()
        metadata = {**new_metadata("s"), "events": events}
        (clip,) = cut_alerts(write_session(folder / "s.parquet", make_rows(100), metadata), 1, 1)
        return clip

    silent = cut_at(60)
    assert silent.report is not None
    with dgrec.open(silent.path) as session:
        assert [item["from_frame"] for item in session.metadata["clip"]["ranges"]] == [99]
    assert cut_at(0).report is not None


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"clip_on_alert": True}, "--clip-on-alert"),
        ({"keep_only": "alerts", "split_every": 5}, "--keep-only"),
        ({"before": 3}, "--before"),
    ],
)
def test_options_that_need_rules(options: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        check_alert_options((), "", RecordingOptions(**options))


def test_moments_alone_and_clips_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--clip-on-alert"):
        RecordingOptions(only_on_alert=True, clip_on_alert=True)


def lines_of(process: subprocess.Popen[str]) -> tuple[list[str], threading.Thread]:
    """Return the lines of stderr as they come, and the thread that reads them."""
    lines: list[str] = []

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return lines, thread


#: No face is there for the first second; the other rule holds to the end.
RECORD = ("--source", "sample", "--loop", "--alert", "none=count() == 0", "--alert", "on=fps > 0")
CLIPS = ("--clip-on-alert", "--before", "0.2", "--after", "0.2")


def stop(process: subprocess.Popen[str], thread: threading.Thread) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    thread.join(PATIENCE_S)


@pytest.mark.slow
def test_the_command_cuts_clips_and_the_rest_after_ctrl_c(dgrec: Command) -> None:
    process = dgrec.start(*RECORD, *CLIPS, "-o", "a b.parquet", "--video", "raw")
    try:
        lines, thread = lines_of(process)
        wait_until(lambda: any("Clip: a b.alert-none-" in line for line in lines))
        stop(process, thread)
    finally:
        process.kill()
    assert without_clip(dgrec.folder / "a b.parquet") == 0
    for name in ("none", "on"):
        clip = next(iter(dgrec.folder.glob(f"a b.alert-{name}-*.parquet")))
        assert verify(clip) == []
        assert clip.with_name(f"{clip.stem}.mp4").exists()


@pytest.mark.slow
def test_after_a_kill_recover_names_the_command(dgrec: Command) -> None:
    process = dgrec.start(
        *RECORD, *CLIPS, "-o", "a b.parquet", "--after", "1h", "--split-every", "2s"
    )
    try:
        lines, _ = lines_of(process)
        wait_until(lambda: any(line.endswith("none: over") for line in lines))
        wait_until(lambda: any(dgrec.folder.glob("*-000[2-9].*")))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
    for journal in sorted(dgrec.folder.glob("*.arrows")):
        found = recover(journal)
    assert found.without_clip >= 2
    assert found.recording == dgrec.folder / "a b.parquet"
    done = run(dgrec, "clip", "a b.parquet", "--alerts")
    assert done.returncode == 0, done.stderr
    assert without_clip(found.recording) == 0
    assert done.stdout.count(".parquet: ") == found.without_clip


@pytest.mark.slow
def test_a_full_disk_is_noted_and_the_recording_goes_on(
    dgrec: Command, new_disk: Callable[[int], Disk]
) -> None:
    disk = new_disk(30_000_000)
    path = disk.path / "s.parquet"
    process = dgrec.start(*RECORD, *CLIPS, "-o", str(path))
    try:
        lines, thread = lines_of(process)
        wait_until(lambda: any("not written: " in line for line in lines))
        stop(process, thread)
    finally:
        process.kill()
    assert lines[-1].endswith(f" without a clip: dgrec clip {path} --alerts")
    with open_session(path) as session:
        assert session.metadata["end_reason"] == "interrupted"
        (note,) = session.metadata["notes"]
        assert note.startswith(f"alerts: {disk.path}/s.alert-none-")
    disk.make_read_only()
    done = run(dgrec, "clip", str(path), "--alerts")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_a_recording_without_alerts_says_so(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    done = CliRunner().invoke(clip_command, [str(path), "--alerts"])
    assert (done.exit_code, done.stderr) == (0, f"{path}: has no alerts (dgrec record --alert)\n")


def test_a_recording_that_cannot_be_read_costs_no_clips_of_others(tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 this is none")
    good = write_session(tmp_path / "s.parquet", make_rows(3))
    done = CliRunner().invoke(clip_command, [str(bad), str(good), "--alerts"])
    assert done.exit_code == 1
    error, other = done.stderr.splitlines()
    assert error.startswith(f"Error: {bad}: ")
    assert other == f"{good}: has no alerts (dgrec record --alert)"


def test_clips_that_are_abandoned_are_not_cut_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the signals blocked of which the recorder takes note itself, they were."""
    slow = ["sh", "-c", f"exec sleep {PATIENCE_S}"]
    monkeypatch.setattr(clips, "module_command", lambda *_: [*slow])
    path = tmp_path / "s.parquet"
    made = AlertClips(path, lambda: path, 1.0, 1.0, lambda line: None)
    with StopSignals():
        cutting = threading.Thread(target=made._run_command, args=(path,), daemon=True)
        cutting.start()
        wait_until(lambda: made._process is not None)
        process = made._process
        assert process is not None
        try:
            made.abandon()
            assert process.wait(PATIENCE_S) == -signal.SIGTERM
        finally:
            process.kill()
            cutting.join(PATIENCE_S)


def test_a_part_that_is_sealed_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording goes on in a part that was not there when its files were listed."""
    output = tmp_path / "s.parquet"
    journal = journal_of(output, Splitting(every_s=1))
    old = journal.path
    for row in make_rows(60):
        write_rows(journal, [row])
    journal.wait_for_sealing()
    assert not old.exists()
    assert journal.path.exists()
    listings = [[(1, old)]]
    monkeypatch.setattr(
        alert_clips_module,
        "numbered_files",
        lambda path: listings.pop() if listings else numbered_files(path),
    )
    assert alert_clips_module._is_being_recorded(output)
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []
    assert not alert_clips_module._is_being_recorded(output)
