"""Programs that record themselves in unusual ways: what must neither break them nor be lost."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.format import digest
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.program import unchanged_program
from dgrec.recorder.program.run import Recorded, run_program
from dgrec.recorder.program.session import Capture
from dgrec.replay.verify import verify
from tests.factory import make_detection, new_metadata, write_session
from tests.forks import forking
from tests.recorder.doubles import PysdkDouble
from tests.waiting import PATIENCE_S

IMAGE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


def double() -> PysdkDouble:
    return PysdkDouble("Detection", lambda index: [make_detection(index)])


def test_the_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with dgrec.Recorder("s.parquet") as recorder:
        recorder.add([])
        os.chdir("other")
        recorder.add([])
    assert recorder.files == [tmp_path / "s.parquet"]
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 2


def test_watching_without_a_block_lasts_until_the_recorder_is_closed(output: Path) -> None:
    model = double()
    own = dict(vars(model))
    with dgrec.Recorder(output) as recorder:
        recorder.watch(model)
        assert len(list(model.predict_batch([IMAGE] * 2))) == 2
        with pytest.raises(dgrec.ConfigError, match="watched already"):
            recorder.watch(model)
    assert len(list(model.predict_batch([IMAGE] * 3))) == 3
    assert vars(model).keys() == own.keys()
    with pytest.raises(dgrec.DgrecError, match="closed"):
        recorder.watch(model)

    with dgrec.open(output) as session:
        assert len(session) == 2


def test_a_closed_recorder_makes_no_gizmo(output: Path) -> None:
    """It would hand everything on, and record nothing."""
    with dgrec.Recorder(output) as recorder:
        recorder.add([])
    with pytest.raises(dgrec.DgrecError, match="the recorder is closed"):
        recorder.gizmo()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
def test_what_records_is_not_copied(output: Path, copied: Callable[[Any], Any]) -> None:
    """A second one would write to the same file, and end what the first one records."""
    stream = dgrec.predict_stream(double(), "sample", output=output, max_frames=3)
    next(stream)
    with dgrec.Recorder(output.with_name("own.parquet")) as recorder:
        recorder.add([])
        for each in (stream, recorder):
            with pytest.raises(TypeError, match=rf"^{each.output}: .* cannot be pickled or copied"):
                copied(each)
    assert len(list(stream)) == 2


def test_a_block_can_be_entered_again(output: Path) -> None:
    model = double()
    with dgrec.Recorder(output) as recorder:
        watch = recorder.watch(model)
        for _ in range(2):
            with watch:
                list(model.predict_batch([IMAGE]))
            list(model.predict_batch([IMAGE]))
    with dgrec.open(output) as session:
        assert len(session) == 2


def test_a_loop_that_outlasts_the_watching_goes_on(output: Path) -> None:
    model, reached, may_go_on = double(), threading.Event(), threading.Event()
    seen: list[Any] = []

    def frames() -> Iterator[Any]:
        for number in range(5):
            yield IMAGE.copy()
            if number == 2:
                reached.set()
                may_go_on.wait(30)

    loop = threading.Thread(target=lambda: seen.extend(model.predict_batch(frames())))
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        loop.start()
        assert reached.wait(30)
    may_go_on.set()
    loop.join()
    assert len(seen) == 5
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [result.results for result in seen[:3]]


def test_an_error_is_not_masked_where_the_recorder_is_closed_too_early(output: Path) -> None:
    model, error = double(), ZeroDivisionError("mine")

    def run() -> None:
        with dgrec.Recorder(output) as recorder, recorder.watch(model):
            list(model.predict_batch([IMAGE]))
            recorder.close()
            raise error

    with pytest.raises(ZeroDivisionError) as raised:
        run()
    assert raised.value is error


def test_one_array_for_all_frames(output: Path) -> None:
    model, buffer = double(), IMAGE.copy()

    def frames() -> Iterator[Any]:
        for _ in range(4):
            time.sleep(0.01)
            yield buffer

    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        list(model.predict_batch(frames()))
    assert verify(output) == []
    with dgrec.open(output) as session:
        rows = session.frames.to_pylist()
    assert [row["source_frame"] for row in rows] == [0, 1, 2, 3]
    stamps = [row["captured_at"] for row in rows]
    assert len(set(stamps)) == 4


@pytest.mark.parametrize("infos", [["cam0"] * 8, [f"frame {index}" for index in range(8)]])
def test_frames_without_a_result_are_passed_over(output: Path, infos: list[str]) -> None:
    """Also where all frames have the same info."""

    class Gate(PysdkDouble):
        def predict_batch(self, data: Any) -> Any:
            for index, (image, info) in enumerate(data):
                if index % 2:
                    (result,) = super().predict_batch([image])
                    result._frame_info = info
                    yield result

    pictures = [np.full_like(IMAGE, index) for index in range(8)]
    model = Gate("Detection", lambda index: [make_detection(index)])
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        list(model.predict_batch(zip(pictures, infos, strict=True)))
    with dgrec.open(output) as session:
        rows = [session.row(position) for position in range(len(session))]
    assert [row["source_frame"] for row in rows] == [1, 3, 5, 7]
    assert [row["pixel_digest"] for row in rows] == [digest(each) for each in pictures[1::2]]


def test_a_model_with_a_list_and_arguments_of_its_own(output: Path) -> None:
    class Listing(PysdkDouble):
        def predict_batch(self, frames: Any, *, offset: int = 0) -> Any:
            assert offset == 3
            return list(super().predict_batch(frames))

    model = Listing("Detection", lambda index: [make_detection(index)])
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        assert len(list(model.predict_batch([IMAGE, IMAGE], offset=3))) == 2
    with dgrec.open(output) as session:
        assert len(session) == 2


@pytest.mark.slow
def test_a_result_that_is_changed_all_the_time_is_not_lost(output: Path) -> None:
    model = double()
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        for result in model.predict_batch([IMAGE] * 2):
            result.note = {}
            end = time.monotonic() + 0.7  # longer than a result is held
            while time.monotonic() < end:
                for key in range(2000):
                    result.note[str(key)] = key
                result.note.clear()
    with dgrec.open(output) as session:
        assert len(session) == 2


def test_the_last_result_that_cannot_be_recorded_is_reported(output: Path) -> None:
    model = double()

    def run() -> None:
        with dgrec.Recorder(output) as recorder, recorder.watch(model):
            for number, result in enumerate(model.predict_batch([IMAGE] * 3)):
                if number == 1:
                    result.results.append({"lock": threading.Lock()})
                    break

    with pytest.raises(dgrec.DgrecError, match="cannot be copied"):
        run()
    with dgrec.open(output) as session:
        assert len(session) == 1


def test_a_fork_leaves_the_block_of_its_parent(output: Path) -> None:
    parent = os.getpid()
    code = 1
    try:
        with dgrec.Recorder(output) as recorder:
            recorder.add([])
            pid = os.fork()
        code = 0
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    with dgrec.open(output) as session:
        assert len(session) == 1


def forked(work: Callable[[], object]) -> int:
    """Return how a fork ends that does ``work``: 0, or by a signal where it hangs."""
    with forking():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(PATIENCE_S)
                work()
                code = 0
            finally:
                os._exit(code)
    return os.waitpid(pid, 0)[1]


@contextlib.contextmanager
def held_elsewhere(lock: Any) -> Iterator[None]:
    """Have another thread hold a lock, as one does that begins a session, or records."""
    is_held, gate = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            gate.wait(PATIENCE_S)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert is_held.wait(PATIENCE_S)
    try:
        yield
    finally:
        gate.set()
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("use", ["add", "mark", "log", "hold"])
def test_a_fork_gets_an_error_while_a_thread_of_its_parent_records(output: Path, use: str) -> None:
    """It waited for the thread, which it does not have, without end."""
    with dgrec.Recorder(output) as recorder:
        result = next(PysdkDouble("Detection", lambda index: []).predict_batch([IMAGE]))
        lock: Any = recorder._lock
        if use == "hold":
            recorder.add([])
            assert recorder._main is not None
            lock = recorder._main._adding

        uses: dict[str, Callable[[], object]] = {
            "add": lambda: recorder.add([]),
            "mark": lambda: recorder.mark("now"),
            "log": lambda: recorder.log("speed", 1.0),
            "hold": lambda: recorder._main and recorder._main.hold(result, Capture()),
        }

        def work() -> None:
            with pytest.raises(dgrec.DgrecError, match="belongs to another process"):
                uses[use]()

        with held_elsewhere(lock):
            assert forked(work) == 0


def test_a_fork_that_leaves_a_watched_loop_does_not_wait_for_an_output(output: Path) -> None:
    """It has no thread that empties the queue, which was full."""
    is_held, gate = threading.Event(), threading.Event()

    class Held(dgrec.Output):
        capacity = 1

        def frame(self, row: Any, result: Any) -> None:
            is_held.set()
            assert gate.wait(PATIENCE_S)

    model = PysdkDouble("Detection", lambda index: [])
    with dgrec.Recorder(output, outputs=[Held()]) as recorder:
        recorder.watch(model)
        loop = model.predict_batch([IMAGE] * 3)
        next(loop)
        next(loop)
        assert is_held.wait(PATIENCE_S)
        next(loop)
        assert forked(loop.close) == 0
        gate.set()
        loop.close()
    with dgrec.open(output) as session:
        assert len(session) == 3


def test_a_fork_of_an_unchanged_program_records_while_its_parent_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for the parent's thread, without end."""
    monkeypatch.setenv(unchanged_program.FOLDER, str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["app.py"])
    sessions = unchanged_program._sessions
    model = PysdkDouble("Detection", lambda index: [])

    def work() -> None:
        assert sessions.of(model) is not None
        sessions.close()

    with held_elsewhere(sessions._lock):
        assert forked(work) == 0
    assert len(list(tmp_path.glob("app*.parquet"))) == 1


def test_a_model_that_first_runs_while_the_program_ends_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread: the end met a session more than it had begun with, and left them unsealed."""
    monkeypatch.setenv(unchanged_program.FOLDER, str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["app.py"])
    sessions = unchanged_program._Sessions()
    models = [double(), double()]
    for model in models:
        assert sessions.of(model) is not None
    end = unchanged_program._Session.end

    def end_late(session: Any, ending: Any) -> None:
        models.append(double())
        assert sessions.of(models[-1]) is None
        end(session, ending)

    monkeypatch.setattr(unchanged_program._Session, "end", end_late)
    sessions.close()
    assert [dgrec.open(path).sealed for path in tmp_path.iterdir()] == [True, True]


def test_an_output_that_leaves_by_any_exception_does_not_hang_the_program(output: Path) -> None:
    class Leaves(dgrec.Output):
        capacity = 2

        def frame(self, row: Any, result: Any) -> None:
            raise GeneratorExit

    recorder = dgrec.Recorder(output, outputs=[Leaves()])
    adding = threading.Thread(target=lambda: [recorder.add([]) for _ in range(10)], daemon=True)
    adding.start()
    adding.join(20)
    assert not adding.is_alive()
    assert "GeneratorExit" in recorder.close()["notes"][0]
    with dgrec.open(output) as session:
        assert len(session) == 10


@pytest.mark.parametrize(
    "choices",
    [{"max_frames": 3}, {"fps": 5}, {"loop": True}, {"metadata": {"format": {"name": "mine"}}}],
)
def test_what_a_recorder_would_not_heed_is_refused(output: Path, choices: Any) -> None:
    with pytest.raises(dgrec.ConfigError, match=r"reads no source|written by dgrec"):
        dgrec.Recorder(output, **choices)


def test_an_output_for_the_main_thread_is_refused(output: Path) -> None:
    class Window(dgrec.Output):
        needs_main_thread = True

    with pytest.raises(dgrec.ConfigError, match="needs the main thread"):
        dgrec.Recorder(output, outputs=[Window()])


HUGE, PICTURES = 10**5000, [np.zeros((9, 9))] * 9


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda r: dgrec.predict_stream(double(), PICTURES), "is not a source"),
        (
            lambda r: r.add([], media_time_s=HUGE),
            "media_time_s: this int is not a number of seconds",
        ),
        (
            lambda r: r.add([], captured_at="2026-01-02"),
            "captured_at: '2026-01-02' is neither a datetime nor seconds since 1970",
        ),
        (lambda r: r.log("x", PICTURES), "log: x: .* is not a number"),
        (lambda r: r.log(PICTURES, 1), "is not the name of a signal"),
        (lambda r: r.mark(PICTURES), "is not a text"),
        (lambda r: r.watch(double(), name=5), "name: 5 is not a text"),
        (lambda r: r.gizmo(name=b"cam"), "name: b'cam' is not a text"),
        (lambda r: dgrec.Recorder("x.parquet", video=PICTURES), "video: .* is not one of auto"),
        (lambda r: dgrec.Recorder("x.parquet", split_every=HUGE), "--split-every: this int is not"),
        (lambda r: dgrec.Recorder("x.parquet", outputs=[PICTURES]), "is not a dgrec.Output"),
    ],
)
def test_what_is_not_what_it_should_be_is_named_in_one_line(
    output: Path, misuse: Any, words: str
) -> None:
    with dgrec.Recorder(output) as recorder:
        with pytest.raises(dgrec.ConfigError, match=words) as raised:
            misuse(recorder)
        recorder.add([])
    assert len(str(raised.value)) < 250
    assert "\n" not in str(raised.value)


def test_an_array_with_a_mask_is_a_picture(output: Path) -> None:
    with dgrec.Recorder(output, video="raw") as recorder:
        recorder.add([], np.ma.masked_equal(IMAGE, 0))
        recorder.add([], IMAGE)
    with dgrec.open(output) as session:
        first, second = session.frames.column("pixel_digest").to_pylist()
        assert first == second
    assert verify(output) == []


@pytest.mark.parametrize("stamp", [1.8e12, 1e300, 10**400], ids=["ms", "large", "huge"])
def test_a_stamp_that_is_no_second(output: Path, stamp: float) -> None:
    with dgrec.Recorder(output) as recorder:
        with pytest.raises(dgrec.ConfigError, match=r"captured_at: .* (future|seconds)"):
            recorder.add([], captured_at=stamp)
        recorder.add([])
    with dgrec.open(output) as session:
        assert len(session) == 1


# --- programs ---

HEAD = """
import dgrec, os, sys
import numpy as np
from degirum_tools.compound_models.compound_models import ModelLike
from tests.recorder.doubles import PysdkDouble
IMAGE = np.zeros((48, 64, 3), np.uint8)

class Model(PysdkDouble, ModelLike):
    non_blocking_batch_predict = False

    def __init__(self):
        super().__init__("Detection", lambda index: [])

    def __eq__(self, other):  # and so it has no hash
        return True

    def predict(self, image, threshold=0.5):
        return next(PysdkDouble.predict_batch(self, [image]))

    def __call__(self, image):
        return self.predict(image)

    def predict_batch(self, frames):
        return PysdkDouble.predict_batch(self, frames)
"""


def write_program(folder: Path, text: str) -> list[str]:
    program = folder / "app.py"
    program.write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
    return [sys.executable, str(program)]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def run(text: str, **options: Any) -> tuple[int, list[Recorded]]:
        command = write_program(tmp_path, text)
        return run_program(command, tmp_path / "recorded", RecordingOptions(**options))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_at_once_are_all_recorded(
    recorded: Any, capfd: pytest.CaptureFixture[str], method: str
) -> None:
    code, found = recorded(
        f"""
        import multiprocessing

        def work(barrier):
            model = Model()
            barrier.wait(60)
            model(IMAGE), model(IMAGE)
            assert len(list(model.predict_batch([IMAGE] * 3))) == 3

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            barrier = context.Barrier(3)
            processes = [context.Process(target=work, args=(barrier,)) for _ in range(3)]
            for each in processes:
                each.start()
            for each in processes:
                each.join()
            sys.exit(sum(each.exitcode for each in processes))
        """
    )
    assert (code, capfd.readouterr().err) == (0, "")
    assert sorted(each.frames for each in found) == [5, 5, 5]
    assert [each.recovery for each in found] == [None] * 3
    assert [verify(each.path) for each in found] == [[]] * 3


@pytest.mark.slow
def test_an_odd_program_is_not_disturbed(recorded: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code, found = recorded(
        """
        sys.argv.clear()
        one, other = Model(), Model()
        one.predict(IMAGE, threshold=0.1), other(IMAGE), one.predict(image=IMAGE)
        list(one.predict_batch(frames=[IMAGE] * 3))
        open(os.path.join(os.environ["DGREC_RECORD"], "mine.parquet"), "w").write("my own file")
        sys.exit(5)
        """
    )
    assert (code, capfd.readouterr().err) == (5, "")
    assert sorted(each.frames for each in found) == [1, 5]


@pytest.mark.slow
def test_what_cannot_be_recorded_is_said_once_and_does_not_disturb(
    recorded: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    code, found = recorded(
        """
        grey, other = IMAGE[:, :, 0], Model()
        model = Model()
        assert len(list(model.predict_batch([IMAGE, grey, IMAGE, grey, IMAGE]))) == 5
        for _ in range(3):
            model.predict(grey)
        other(IMAGE)
        sys.exit(7)
        """,
        video="raw",
    )
    (line,) = capfd.readouterr().err.splitlines()
    assert (code, line.startswith("dgrec run: ")) == (7, True)
    assert line.endswith("the program goes on, and is not recorded any more")
    assert sorted(each.frames for each in found) == [1, 1]
    assert [each.recovery for each in found] == [None] * 2


@pytest.mark.slow
def test_models_that_are_gone_keep_no_threads_and_files(
    recorded: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    code, found = recorded(
        """
        import threading, time, weakref

        def used():
            model = Model()
            model.predict(IMAGE)
            known = weakref.ref(model)
            del model
            while known() is not None:  # its result is recorded a moment later
                time.sleep(0.01)
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        first = used()
        assert [used() for _ in range(5)][-1] <= first
        """
    )
    assert (code, capfd.readouterr().err) == (0, "")
    assert [each.frames for each in found] == [1] * 6
    assert [each.recovery for each in found] == [None] * 6


@pytest.mark.slow
def test_a_program_that_removes_the_folder(recorded: Any) -> None:
    assert recorded("import shutil; shutil.rmtree(os.environ['DGREC_RECORD']); sys.exit(6)") == (
        6,
        [],
    )


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        ("echo hi", 0o755, "cannot be started: Exec format error .a script needs"),
        ("echo hi", 0o644, "is not executable"),
    ],
)
def test_what_is_no_program(tmp_path: Path, text: str, mode: int, what: str) -> None:
    script = tmp_path / "script"
    script.write_text(text)
    script.chmod(mode)
    with pytest.raises(dgrec.ConfigError, match=f"script: {what}"):
        run_program([str(script)], tmp_path / "recorded", RecordingOptions())


def test_a_python_file_is_named_as_to_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("print(1)")
    (tmp_path / "app").write_text("print(1)")
    with pytest.raises(dgrec.ConfigError, match=r"app.py: is not a program; .* python app.py"):
        run_program(["app.py"], tmp_path / "recorded", RecordingOptions())
    for name in ("app", "no.py"):
        with pytest.raises(dgrec.ConfigError, match=f"^{name}: no such program"):
            run_program([name], tmp_path / "recorded", RecordingOptions())


@pytest.mark.slow
def test_a_recorder_that_is_dropped_is_sealed_at_the_end(tmp_path: Path) -> None:
    command = write_program(
        tmp_path,
        """
        def work(name):
            recorder = dgrec.Recorder(name)
            recorder.mark("begin")
            if name == "s.parquet":
                recorder.add([])

        work("s.parquet")
        work("marks.parquet")
        dgrec.Recorder("values.parquet").log("rpm", 1200)
        """,
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for name, frames in (("s.parquet", 1), ("marks.parquet", 0)):
        assert verify(tmp_path / name) == []
        with dgrec.open(tmp_path / name) as session:
            assert len(session) == frames
            assert [event["text"] for event in session.metadata["events"]] == ["begin"]
    with dgrec.open(tmp_path / "values.parquet") as session:
        assert session.sql_rows("SELECT name, value FROM signals") == [("rpm", 1200.0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", ["for result in stream", "with stream:\n    for result in stream"]
)
def test_a_fork_that_leaves_the_loop_ends(tmp_path: Path, block: str) -> None:
    command = write_program(
        tmp_path,
        f"""
import faulthandler

class Stream(Model):
    def predict_batch(self, frames):
        for image in frames:
            yield None if image is None else self.predict(image)

stream = dgrec.predict_stream(Stream(), "sample", output="s.parquet", max_frames=5)
pid = None
{block}:
        if pid is None:
            pid = os.fork()
            if pid == 0:
                faulthandler.dump_traceback_later(20, exit=True)
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
""",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert verify(tmp_path / "s.parquet") == []
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 5


@pytest.mark.slow
def test_the_end_of_a_program_waits_for_a_thread_that_closes_its_recorder(tmp_path: Path) -> None:
    """The thread was cut off, and what it sealed was left as a journal."""
    program = textwrap.dedent(
        """
        import threading, time
        import dgrec

        is_closing = threading.Event()

        class Slow(dgrec.Output):
            def close(self):
                is_closing.set()
                time.sleep(1)

        recorder = dgrec.Recorder("s.parquet", outputs=[Slow()])
        recorder.add([])
        threading.Thread(target=recorder.close, daemon=True).start()
        is_closing.wait()
        """
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        timeout=PATIENCE_S,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert session.sealed
        assert session.metadata["end_reason"] == "finished"
        assert len(session) == 1


def test_ctrl_c_while_it_is_sealed_waits_for_the_end(output: Path) -> None:
    recorder = dgrec.Recorder(output)
    for _ in range(5):
        recorder.add([])
    session = recorder._main
    assert session is not None
    close = session.writer._writer.close

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        close()

    session.writer._writer.close = interrupted  # type: ignore[method-assign]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            recorder.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert verify(output) == []
    with dgrec.open(output) as sealed:
        assert len(sealed) == 5


def test_streams_without_names_that_are_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    streams = [dgrec.predict_stream(double(), "sample", max_frames=count) for count in (1, 2, 3)]
    for stream in streams:
        next(stream)
    assert [sum(1 for _ in stream) for stream in streams] == [0, 1, 2]
    assert [len(dgrec.open(stream.output)) for stream in streams] == [1, 2, 3]


def test_the_name_of_a_session_that_was_removed_is_free_again(output: Path) -> None:
    for _ in range(2):
        with dgrec.Recorder(output) as recorder:
            for model in (double(), double()):
                recorder.watch(model)
                list(model.predict_batch([IMAGE]))
        assert len(recorder.files) == 2
        assert not any(path.stem.endswith("-2") for path in recorder.files)
        for path in recorder.files:
            path.unlink()


@pytest.mark.slow
def test_names_of_all_scripts_are_told_apart(output: Path) -> None:
    """Different names are different sessions, also where a file's name cannot tell them apart."""
    names = [
        "front/door",
        "front door",
        "front-door",
        "前门",
        "后门",
        "хвост" * 20,
        "é" + "x" * 80,
        "?",
        "पानी",
        "पाना",
        "cafe\u0301",
    ]
    models = [double() for _ in names]
    with dgrec.Recorder(output) as recorder:
        for name, model in zip(names, models, strict=True):
            recorder.watch(model, name=name)
        for count, model in enumerate(models, 1):
            list(model.predict_batch([IMAGE] * count))
    assert [len(dgrec.open(path)) for path in recorder.files] == [*range(1, 12)]
    assert [path.stem for path in recorder.files] == [
        "s-front-door",
        "s-front-door-2",
        "s-front-door-3",
        "s-前门",
        "s-后门",
        "s-" + "хвост" * 6,
        "s-é" + "x" * 58,
        "s-session",
        "s-पानी",
        "s-पाना",
        "s-caf\u00e9",
    ]


def test_an_output_that_fails_is_in_the_recorder_s_notes(output: Path) -> None:
    class Failing(dgrec.Output):
        name = "mine"

        def frame(self, row: Any, result: Any) -> None:
            raise ValueError("a password: rtsp://ann:secret@192.0.2.1/")

    with dgrec.Recorder(output, outputs=[Failing()]) as recorder:
        recorder.add([])
    (note,) = recorder.notes
    assert note.startswith("mine: ended early: ValueError(")
    assert "secret" not in note
    with dgrec.open(output) as session:
        assert session.metadata["notes"] == [note]


def test_models_without_a_hash_are_distinguished(output: Path) -> None:
    class Equal(PysdkDouble):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    one, other = (Equal("Detection", lambda index: [make_detection(index)]) for _ in range(2))
    with dgrec.Recorder(output) as recorder, recorder.watch(one), recorder.watch(other, name="b"):
        list(one.predict_batch([IMAGE] * 2))
        list(other.predict_batch([IMAGE] * 3))
    assert [len(dgrec.open(path)) for path in recorder.files] == [2, 3]


def test_what_is_added_is_not_in_the_session_of_a_model(output: Path) -> None:
    model = double()
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        list(model.predict_batch([IMAGE]))
        recorder.add([])
        list(model.predict_batch([IMAGE]))
        recorder.add([])
        recorder.add([])
    assert [path.name for path in recorder.files] == ["s.parquet", "s-session.parquet"]
    assert [len(dgrec.open(path)) for path in recorder.files] == [2, 3]


@pytest.mark.parametrize("first", ["watch", "gizmo", "add"])
def test_moments_of_alerts_are_those_of_one_source(output: Path, first: str) -> None:
    """Alerts watch the first session. A second one broke the model's loop with another error."""
    alerts = dgrec.Alerts("any=fps >= 0")
    with dgrec.Recorder(output, outputs=alerts, only_on_alert=True) as recorder:
        uses: dict[str, Callable[[], object]] = {
            "watch": lambda: recorder.watch(double()),
            "gizmo": recorder.gizmo,
            "add": lambda: recorder.add([]),
        }
        uses[first]()
        for name in uses.keys() - ({"add"} & {first}):
            with pytest.raises(dgrec.ConfigError, match="only_on_alert: the alerts watch one"):
                uses[name]()
        if first == "add":
            recorder.add([])


def test_a_model_that_could_not_be_watched_is_not_the_one_source(output: Path) -> None:
    taken, free = double(), double()
    alerts = dgrec.Alerts("any=fps >= 0")
    with (
        dgrec.Recorder(output.with_name("other.parquet")) as other,
        other.watch(taken),
        dgrec.Recorder(output, outputs=alerts, only_on_alert=True) as recorder,
    ):
        with pytest.raises(dgrec.DgrecError, match="watched already"):
            recorder.watch(taken)
        recorder.watch(free)


def test_models_of_one_name_have_a_session_each(output: Path) -> None:
    one, other = double(), double()
    with (
        dgrec.Recorder(output) as recorder,
        recorder.watch(one, name="x"),
        recorder.watch(other, name="x"),
    ):
        list(one.predict_batch([IMAGE]))
        list(other.predict_batch([IMAGE] * 2))
        list(one.predict_batch([IMAGE]))
        list(one.predict_batch([IMAGE]))
    assert [path.name for path in recorder.files] == ["s-x.parquet", "s-x-2.parquet"]
    assert [len(dgrec.open(path)) for path in recorder.files] == [3, 2]


@pytest.mark.parametrize("group", [None, {"id": "x"}, {"id": "x", "name": "site"}])
def test_all_sessions_of_a_recorder_are_replaced(output: Path, group: Any) -> None:
    metadata = None if group is None else {"group": group}
    for count in (1, 2):
        one, other = double(), double()
        with (
            dgrec.Recorder(output, overwrite=True, metadata=metadata) as recorder,
            recorder.watch(one),
            recorder.watch(other),
        ):
            list(one.predict_batch([IMAGE] * count))
            list(other.predict_batch([IMAGE] * count))
    assert sorted(output.parent.iterdir()) == sorted(recorder.files)
    assert [len(dgrec.open(path)) for path in recorder.files] == [2, 2]


@pytest.mark.parametrize(
    "metadata",
    [
        {"group": {"name": "s-session"}},
        {"group": {"name": "s", "members": ["s-session.parquet", "s-door.parquet"]}},
        {"group": {"name": "s"}, "analyzed": {"name": "s-double"}},
        {"group": {"name": "s"}, "clip": {"name": "s"}},
    ],
    ids=["recorder", "--together", "analysis", "clip"],
)
def test_a_session_of_another_recording_is_not_replaced(output: Path, metadata: Any) -> None:
    """Nobody had named it: it was deleted without a word."""
    other = write_session(output.with_name("s-session.parquet"), [], new_metadata(**metadata))
    before = other.read_bytes()
    for count in (1, 2):
        with dgrec.Recorder(output, overwrite=True) as recorder, recorder.watch(model := double()):
            list(model.predict_batch([IMAGE]))
            for _ in range(count):
                recorder.add([])
        assert [path.name for path in recorder.files] == ["s.parquet", "s-session-2.parquet"]
        assert [len(dgrec.open(path)) for path in recorder.files] == [1, count]
    assert other.read_bytes() == before
