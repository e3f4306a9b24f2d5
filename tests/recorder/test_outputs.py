"""Outputs get everything that is recorded, and cost the recording nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.errors import DgrecError, OutputError
from dgrec.format import Event, Metadata, Row
from dgrec.message import Message
from dgrec.publishing import Lines, Outgoing, Target
from dgrec.recorder import session_writer
from dgrec.recorder.ending import Ending
from dgrec.recorder.outputs import Output, OutputQueue, Publisher
from dgrec.recorder.outputs import output as output_module
from dgrec.recorder.program.session import Capture, ProgramSession
from dgrec.recorder.session_writer import SessionWriter
from tests.factory import make_detection, make_row
from tests.recorder.doubles import PysdkDouble
from tests.waiting import PATIENCE_S, wait_until


class Watching(Output):
    """Notes its calls; ``gate`` holds it up in the middle."""

    capacity = 4
    wants_results = True

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.is_held = threading.Event()

    def start(self, metadata: Metadata) -> None:
        self.calls.append(("start", metadata["name"]))

    def frame(self, row: Row, result: Any) -> None:
        self.is_held.set()
        assert self.gate.wait(PATIENCE_S)
        self.threads.add(threading.current_thread())
        self.calls.append((row.source_frame, result))

    def event(self, event: Event) -> None:
        self.calls.append(event)

    def close(self) -> None:
        self.calls.append("close")


class Held(Watching):
    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()


def writer_of(recorder: dgrec.Recorder) -> SessionWriter:
    """Return what a recorder writes its session with, begun if it is not."""
    return (recorder._main or recorder._begin(None, {})).writer


def test_an_output_sees_all_of_it_in_order(tmp_path: Path) -> None:
    watching = Watching()
    gap = {"kind": "gap", "seconds": 1.5, "source_frame": 1}
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=[watching]) as recorder:
        recorder.add([{"label": "cat"}])
        writer_of(recorder).note(gap)
        recorder.add([])
    start, first, event, second, close = watching.calls
    assert start == ("start", "s")
    assert (first[0], first[1].results) == (0, [{"label": "cat"}])
    assert event == gap
    assert (second[0], close) == (1, "close")
    (thread,) = watching.threads
    assert thread not in (threading.current_thread(), threading.main_thread())


def test_a_slow_output_of_a_live_source_loses_frames_and_no_events(tmp_path: Path) -> None:
    held = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", policy="drop-oldest", outputs=[held])
    recorder.add([])
    assert held.is_held.wait(PATIENCE_S)
    for _ in range(20):
        recorder.add([])
    writer_of(recorder).note({"kind": "gap", "seconds": 2.0})
    (queue,) = writer_of(recorder).outputs
    assert queue.left_out == 16
    held.gate.set()
    recorder.close()
    frames = [call[0] for call in held.calls if isinstance(call, tuple) and call[0] != "start"]
    assert frames == [0, 17, 18, 19, 20]
    assert {"kind": "gap", "seconds": 2.0} in held.calls
    assert queue.note == "output: 16 frames left out: it was too slow"
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 21
        assert session.metadata["notes"] == [queue.note]


def test_a_recording_that_can_wait_waits_for_a_slow_output(tmp_path: Path) -> None:
    held = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[held])

    def add() -> None:
        for _ in range(20):
            recorder.add([])

    adding = threading.Thread(target=add)
    adding.start()
    assert held.is_held.wait(PATIENCE_S)
    wait_until(lambda: writer_of(recorder).outputs[0]._frames == Held.capacity)
    assert adding.is_alive()
    held.gate.set()
    adding.join(PATIENCE_S)
    recorder.close()
    assert [call[0] for call in held.calls[1:-1]] == list(range(20))
    assert writer_of(recorder).outputs[0].note == ""


def test_who_is_in_a_hurry_does_not_wait(tmp_path: Path) -> None:
    """Ctrl-C ends a recording whose lines nobody reads, and the session is sealed."""
    held = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[held])
    recorder.add([])

    def add() -> None:
        for _ in range(20):
            recorder.add([])

    adding = threading.Thread(target=add)
    adding.start()
    (queue,) = writer_of(recorder).outputs
    wait_until(lambda: queue._frames == Held.capacity)
    queue.hurry()
    adding.join(PATIENCE_S)
    assert not adding.is_alive()
    held.gate.set()
    recorder.close()
    assert queue.left_out > 0


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(output_module, "_PATIENCE_IN_A_HURRY_S", 0.2)


@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
@pytest.mark.parametrize("options", [{}, {"split_every": 3600.0}])
@pytest.mark.usefixtures("in_a_hurry")
def test_an_output_that_takes_nothing_is_left_behind(
    tmp_path: Path, policy: Any, options: dict[str, Any]
) -> None:
    held = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", policy=policy, outputs=[held], **options)
    recorder.add([])
    assert held.is_held.wait(PATIENCE_S)
    recorder.add([])
    metadata = recorder.close()
    (queue,) = writer_of(recorder).outputs
    assert queue.note == (
        "output: left behind: it took nothing for 0.2 s; output: 1 frame left out: it was too slow"
    )
    assert metadata["notes"] == [queue.note]
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert (session.sealed, session.metadata["notes"]) == (True, [queue.note])
    held.gate.set()
    wait_until(lambda: held.calls[-1] == "close")
    assert [call[0] for call in held.calls[1:-1]] == [0]  # nothing after it was left behind
    assert all(thread.daemon for thread in held.threads)


@pytest.mark.usefixtures("in_a_hurry")
def test_an_output_that_never_ends_is_left_behind(tmp_path: Path) -> None:
    class NeverEnds(Watching):
        def close(self) -> None:
            self.gate.clear()
            assert self.gate.wait(PATIENCE_S)

    output = NeverEnds()
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=[output]) as recorder:
        recorder.add([])
    try:
        with dgrec.open(tmp_path / "s.parquet") as session:
            assert session.metadata["notes"] == ["output: left behind: it took nothing for 0.2 s"]
    finally:
        output.gate.set()
    assert len(output.calls) == 2
    assert writer_of(recorder).outputs[0]._has_ended.wait(PATIENCE_S)


def test_another_thread_that_closes_waits_until_the_session_is_sealed(tmp_path: Path) -> None:
    output = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[output])
    recorder.add([])
    assert output.is_held.wait(PATIENCE_S)
    found: list[Any] = []

    def close() -> None:
        metadata = recorder.close()
        found.append((metadata.get("totals"), (tmp_path / "s.parquet").exists()))

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: writer_of(recorder).is_closed)
    threads[1].join(0.2)  # (what did not wait came back at once)
    assert found == []
    output.gate.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(found) == 2
    assert found[0] == found[1]
    assert found[0][0]["frames"] == 1
    assert found[0][1]


def test_another_thread_that_waited_hears_that_it_could_not_be_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = dgrec.Recorder(tmp_path / "s.parquet")
    recorder.add([])
    writer = writer_of(recorder)
    is_ending, gate, end = threading.Event(), threading.Event(), writer._end
    is_waiting = threading.Event()
    said: list[str] = []

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            is_waiting.set()
            return super().wait(timeout)

    def fail(ending: Ending) -> Any:
        is_ending.set()
        assert gate.wait(PATIENCE_S)
        end(ending)
        raise OutputError("it cannot be sealed")

    def close() -> None:
        try:
            recorder.close()
        except DgrecError as error:
            said.append(str(error))

    monkeypatch.setattr(writer, "_end", fail)
    monkeypatch.setattr(writer, "_has_ended", Ended())
    threads = [threading.Thread(target=close) for _ in range(2)]
    threads[0].start()
    assert is_ending.wait(PATIENCE_S)
    threads[1].start()
    assert is_waiting.wait(PATIENCE_S)
    gate.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert said[0] == "it cannot be sealed"
    assert said == said[:1] * 2
    recorder.close()  # which was said once


def test_an_output_cannot_add_frames_to_its_own_recording(tmp_path: Path) -> None:
    """It waited for itself, without end."""

    class Adds(Watching):
        def frame(self, row: Row, result: Any) -> None:
            recorder.add([])

    with dgrec.Recorder(tmp_path / "s.parquet", outputs=[Adds()]) as recorder:
        for _ in range(20):
            recorder.add([])
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 20
        (note,) = session.metadata["notes"]
    assert "an output cannot add frames to the recording that it watches" in note


@pytest.mark.parametrize("use", ["close", "predict", "predict_batch"])
def test_an_output_neither_closes_its_recording_nor_runs_its_model(
    tmp_path: Path, use: str
) -> None:
    """It waited for the thread that adds frames, and that one for it, without end."""

    class Model(PysdkDouble):
        def predict(self, data: Any) -> Any:
            return next(self.predict_batch([data]))

    model = Model("Detection", lambda index: [make_detection(index)])
    image = np.zeros((48, 64, 3), np.uint8)

    class Uses(Held):
        capacity = 1

        def frame(self, row: Row, result: Any) -> None:
            super().frame(row, result)
            if use == "close":
                recorder.close()
            elif use == "predict":
                model.predict(image)
            else:
                list(model.predict_batch([image]))

    def record() -> None:
        with recorder:
            list(model.predict_batch([image] * 5))

    output = Uses()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[output])
    recorder.watch(model)
    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    assert output.is_held.wait(PATIENCE_S)
    wait_until(lambda: writer_of(recorder).outputs[0].depth == 1)
    output.gate.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 5
        (note,) = session.metadata["notes"]
    assert "an output cannot " in note


def test_an_output_cannot_close_its_recording_while_that_begins(tmp_path: Path) -> None:
    """The end waited a minute for the output, which waited for the end."""
    is_closing = threading.Event()

    class Closes(Watching):
        def start(self, metadata: Metadata) -> None:
            is_closing.set()
            recorder.close()

    class Begins(Watching):
        def watch(self, writer: SessionWriter) -> None:
            assert is_closing.wait(PATIENCE_S)
            threading.Event().wait(0.2)  # (the session was not known yet)

    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[Closes(), Begins()])
    recorder.add([])
    wait_until(lambda: writer_of(recorder).outputs[0].failure is not None)
    recorder.close()
    with dgrec.open(tmp_path / "s.parquet") as session:
        (note,) = session.metadata["notes"]
    assert "an output cannot close the recording that it watches" in note


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_hurry")
def test_the_end_does_not_wait_for_a_thread_that_waits_for_an_output(tmp_path: Path) -> None:
    """It waited for the lock of the thread, without end."""
    output = Held()
    output.capacity = 1  # type: ignore[misc]
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[output])

    def add() -> None:
        with contextlib.suppress(DgrecError):  # it is closed
            while True:
                recorder.add([])

    threads = [threading.Thread(target=each, daemon=True) for each in (add, recorder.close)]
    threads[0].start()
    assert output.is_held.wait(PATIENCE_S)
    writer = writer_of(recorder)
    wait_until(lambda: writer.progress.frames == 3)  # two are with the output
    try:
        threads[1].start()
        threads[1].join(PATIENCE_S)
        assert not threads[1].is_alive()
    finally:
        output.gate.set()
    threads[0].join(PATIENCE_S)
    assert not threads[0].is_alive()
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) >= 3
        (note,) = session.metadata["notes"]
    assert "left behind" in note


def test_an_output_that_leaves_at_the_end_costs_no_session(tmp_path: Path) -> None:
    class Leaves(Watching):
        def end_of_frames(self) -> None:
            raise SystemExit

    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[Leaves()])
    recorder.add([])
    recorder.close()
    thread = threading.Thread(target=recorder.close, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert session.metadata["notes"] == ["output: ended early: SystemExit()"]


def test_a_signal_handler_may_close_it_while_closing_waits_for_an_output(tmp_path: Path) -> None:
    """It was sealed twice: the second time failed, and said that the disk had."""
    output, handled = Held(), []
    output.capacity = 1  # type: ignore[misc]
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[output])
    recorder.add([])
    assert output.is_held.wait(PATIENCE_S)
    recorder.add([])
    writer = writer_of(recorder)
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    result = next(model.predict_batch([np.zeros((48, 64, 3), np.uint8)]))

    def handle(*_: object) -> None:
        output.gate.set()
        handled.append(recorder.close())

    def interrupt() -> None:
        wait_until(lambda: writer.progress.frames == 3)  # the last one waits for the full queue
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=interrupt, daemon=True)
    try:
        with writer._lock:  # nobody takes it before it is closed
            main = recorder._main
            assert main is not None
            main.hold(result, Capture())
            thread.start()
            metadata = recorder.close()
    finally:
        thread.join(PATIENCE_S)
        signal.signal(signal.SIGUSR1, before)
    assert handled == [metadata]
    assert metadata["totals"]["frames"] == 3
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 3


def test_a_signal_handler_may_close_it_where_closing_has_just_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python calls it after any call of a function: it was sealed twice."""
    recorder = dgrec.Recorder(tmp_path / "s.parquet")
    recorder.add([])
    handled: list[Metadata] = []
    signals: list[int] = []

    def handle(*_: object) -> None:
        handled.append(recorder.close())

    def interrupted() -> int:
        if not signals:
            signals.append(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        return threading.get_ident()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with monkeypatch.context() as patched:
            double = SimpleNamespace(get_ident=interrupted, Event=threading.Event)
            patched.setattr(session_writer, "threading", double)
            metadata = recorder.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [metadata]
    assert metadata["totals"]["frames"] == 1


def test_a_signal_handler_may_add_a_frame_in_any_moment(tmp_path: Path) -> None:
    """It waited for the lock under which a frame was numbered, without end."""
    recorder = dgrec.Recorder(tmp_path / "s.parquet")
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not ProgramSession.number.__code__:
            return trace
        if event == "line":
            seen.append(event)
            recorder.add([])
        return trace

    def add() -> None:
        sys.settrace(trace)
        try:
            recorder.add([])
        finally:
            sys.settrace(None)

    recorder.add([])
    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    recorder.close()
    with dgrec.open(tmp_path / "s.parquet") as session:
        frames = sorted(session.row(i)["source_frame"] for i in range(len(session)))
    assert seen
    assert frames == list(range(2 + len(seen)))


def test_an_output_may_close_the_recording_that_is_being_closed(tmp_path: Path) -> None:
    class Closes(Watching):
        def close(self) -> None:
            self.calls.append(recorder.close())

    output = Closes()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", outputs=[output])
    recorder.add([])
    recorder.close()
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert "notes" not in session.metadata
    assert len(output.calls) == 3


def test_a_session_without_trouble_has_no_notes(tmp_path: Path) -> None:
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=[Watching()]) as recorder:
        recorder.add([])
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert "notes" not in session.metadata


@pytest.mark.parametrize("at", ["wants", "start", "frame", "event", "end_of_frames", "close"])
@pytest.mark.parametrize(
    ("error", "note"),
    [
        (DgrecError("the broker is gone"), "the broker is gone"),
        (ZeroDivisionError("by zero"), "by zero"),
    ],
)
def test_a_defect_ends_the_output_and_not_the_recording(
    tmp_path: Path, at: str, error: Exception, note: str
) -> None:
    class Broken(Watching):
        pass

    def fail(self: Broken, *_: Any) -> None:
        raise error

    setattr(Broken, at, fail)
    broken, watching = Broken(), Watching()
    outputs = [broken, watching]
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=outputs) as recorder:
        for _ in range(20):
            recorder.add([])
        writer_of(recorder).note({"kind": "gap", "seconds": 1.0})
    assert note in writer_of(recorder).outputs[0].note
    assert at == "close" or broken.calls[-1] == "close"
    assert writer_of(recorder).outputs[1].note == ""
    assert len(watching.calls) == 23
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 20
        assert session.metadata["notes"] == [writer_of(recorder).outputs[0].note]


@pytest.mark.slow
@pytest.mark.usefixtures("in_a_hurry")
def test_lines_that_nobody_reads_hold_nothing_up(tmp_path: Path) -> None:
    """A pipe takes 64 KB; its reader has stopped reading, and does not close it either."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        lines = Publisher(Lines(str(pipe)))
        path = tmp_path / "s.parquet"
        with dgrec.Recorder(path, outputs=[lines]) as recorder:
            writer_of(recorder).outputs[0].hurry()  # rows are waited for, lines are not
            for i in range(5000):
                recorder.add([{"label": "x" * 50, "score": 0.5, "bbox": [0.0, 0.0, 1.0, i]}])
        (queue,) = writer_of(recorder).outputs
        assert "left behind" in queue.note
        assert queue.left_out > 3000
        with dgrec.open(path) as session:
            assert (len(session), session.sealed) == (5000, True)
            assert session.metadata["notes"] == [queue.note]
        read = b""
        while not queue._has_ended.is_set():
            read += _read(reading)
        read += _read(reading)
        written = [json.loads(line) for line in read.splitlines()]
        assert len(written) + queue.left_out == 5000
    finally:
        os.close(reading)


def _read(file: int) -> bytes:
    try:
        return os.read(file, 1 << 16)
    except BlockingIOError:
        return b""


def test_an_output_that_needs_the_main_thread_is_run_there() -> None:
    class Window(Watching):
        needs_main_thread = True

    window = Window()
    queue = OutputQueue(window, "drop-oldest")
    queue.start({"name": "s"})
    adding = threading.Thread(target=lambda: (queue.put_frame(make_row(0), None), queue.close()))
    adding.start()
    queue.run()
    adding.join(PATIENCE_S)
    assert window.threads == {threading.current_thread()}
    assert window.calls[-1] == "close"


def test_a_program_that_fails_does_not_wait_for_a_stuck_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "_PATIENCE_IN_A_HURRY_S", 0.2)
    held = Held()
    recorder = dgrec.Recorder(tmp_path / "s.parquet", policy="block", outputs=[held])

    def fail() -> None:
        with recorder:
            recorder.add([])
            assert held.is_held.wait(PATIENCE_S)
            raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            fail()
    finally:
        held.gate.set()
    assert "left behind" in writer_of(recorder).outputs[0].note


def test_an_output_that_ends_its_thread_does_not_hang_the_recording(tmp_path: Path) -> None:
    class Leaves(dgrec.Output):
        def frame(self, row: Row, result: Any) -> None:
            raise SystemExit(3)

    with dgrec.Recorder(tmp_path / "s.parquet", policy="block", outputs=[Leaves()]) as recorder:
        recorder.add([])
    assert "SystemExit" in writer_of(recorder).outputs[0].note


def test_there_is_room_for_one_frame_at_least(tmp_path: Path) -> None:
    class Narrow(dgrec.Output):
        capacity = 0
        seen = 0

        def frame(self, row: Row, result: Any) -> None:
            self.seen += 1

    output = Narrow()
    with dgrec.Recorder(tmp_path / "s.parquet", policy="block", outputs=[output]) as recorder:
        for _ in range(3):
            recorder.add([])
    assert output.seen == 3


@pytest.mark.slow
def test_a_target_that_is_opened_again_is_not_closed_by_who_was_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_module, "_PATIENCE_S", 0.0)

    class Slow(Target):
        """Takes nothing until it may, and then gives up."""

        name = "slow"

        def __init__(self) -> None:
            super().__init__()
            self.gate, self.is_sending = threading.Event(), threading.Event()
            self.is_closed = False

        def send(self, message: Message) -> None:
            self.is_sending.set()
            assert self.gate.wait(PATIENCE_S)
            raise OutputError("slow: is away")

        def close(self) -> None:
            self.is_closed = True

    class Quick(Slow):
        def send(self, message: Message) -> None:
            self._take(message.key)

    old, new = Slow(), Quick()
    publisher = Publisher(old, reopen=lambda: new)
    queue = OutputQueue(publisher, "block")
    queue.start({})
    queue.put_frame(make_row(0), None)
    assert old.is_sending.wait(PATIENCE_S)
    queue.close()
    assert publisher.open_again() is new
    old.gate.set()
    assert queue._has_ended.wait(PATIENCE_S)
    assert old.is_closed
    assert not new.is_closed
    publisher.send_again(Outgoing(0, None, [Message("key", b"{}")]))
    assert publisher.delivered == new.delivered == 1
