"""`dgrec.Recorder`: recording from a program of one's own, without PySDK, cameras and commands."""

from __future__ import annotations

import doctest
import itertools
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pytest

import dgrec
from dgrec.errors import OutputError
from dgrec.format import Row
from dgrec.recorder.ending import Ending
from dgrec.recorder.outputs import output as output_module
from dgrec.recorder.program import recorder as recorder_module
from dgrec.recorder.program.session import Capture
from dgrec.recorder.results import recordable
from dgrec.recorder.video import encoder as video_encoder
from dgrec.replay.verify import verify
from tests.factory import make_detection, make_row, write_session
from tests.recorder.doubles import Options, PysdkDouble
from tests.recorder.test_outputs import writer_of
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((48, 64, 3), number * 8, np.uint8)


@pytest.mark.parametrize("module", [recorder_module, output_module])
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_a_program_records_a_session(output: Path) -> None:
    began = datetime.now(UTC)
    with dgrec.Recorder(output) as recorder:
        for i in range(20):
            recorder.add(
                [make_detection(i)] * (i % 3),
                captured_at=began - timedelta(milliseconds=20),
                media_time_s=i / 10,
            )
    assert verify(output) == []
    assert sorted(path.name for path in output.parent.iterdir()) == ["s.parquet"]
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [
            [make_detection(i)] * (i % 3) for i in range(20)
        ]
        rows = session.frames.to_pylist()
        assert [row["media_time_s"] for row in rows] == [i / 10 for i in range(20)]
        assert {row["captured_at"] for row in rows} == {began - timedelta(milliseconds=20)}
        assert all(row["latency_ms"] >= 20 for row in rows)
        assert session.metadata["end_reason"] == "finished"
        assert session.metadata["source"] == {"given": "s", "kind": "program"}
        totals = session.metadata["totals"]
        assert (totals["frames"], totals["detections"], totals["dropped"]) == (20, 19, 0)
        assert totals["source_frames"] == 20


def test_without_a_stamp_a_frame_has_no_latency(output: Path) -> None:
    with dgrec.Recorder(output) as recorder:
        before = datetime.now(UTC)
        recorder.add([])
        recorder.add([], captured_at=(before + timedelta(days=1)).timestamp())
    with dgrec.open(output) as session:
        assert session.frames.column("latency_ms").to_pylist() == [None, 0.0]
        first, second = session.frames.column("captured_at").to_pylist()
    assert abs(first - before) < timedelta(seconds=60)
    assert first <= second <= datetime.now(UTC) + timedelta(seconds=60)


def test_results_of_pysdk_bring_their_pixels(output: Path) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    with dgrec.Recorder(output, video="both") as recorder:
        for result in model.predict_batch(picture(i) for i in range(10)):
            recorder.add(result)
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert [frame.results for frame in session] == [[make_detection(i)] for i in range(10)]
        assert [video["frames"] for video in session.metadata["video"]] == [10, 10]
        assert session.frames.column("width").to_pylist() == [64] * 10


def test_the_video_has_what_the_image_was_when_it_was_added(output: Path) -> None:
    image = picture(0)
    with dgrec.Recorder(output, video="raw") as recorder:
        for i in range(20):
            image[:] = i * 8
            recorder.add([], image)
    with av.open(str(output.with_suffix(".mp4"))) as container:
        shown = [frame.to_ndarray(format="bgr24").mean() for frame in container.decode(video=0)]
    assert shown == pytest.approx([i * 8 for i in range(20)], abs=4)


@pytest.mark.parametrize("image", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "pixels"])
def test_a_video_needs_pixels(output: Path, image: Any) -> None:
    with dgrec.Recorder(output, video="raw") as recorder:
        with pytest.raises(dgrec.DgrecError, match="every frame needs an image"):
            recorder.add([], image)
        recorder.add([], picture(1))
    with dgrec.open(output) as session:
        assert len(session) == 1


@pytest.mark.parametrize("result", [None, "cat", 5, [1, 2], {"label": "cat"}])
def test_what_cannot_be_recorded(output: Path, result: Any) -> None:
    with dgrec.Recorder(output) as recorder:
        with pytest.raises(dgrec.DgrecError, match="cannot be recorded: expected a PySDK result"):
            recorder.add(result)
        with pytest.raises(dgrec.ConfigError, match="has no time zone"):
            recorder.add([], captured_at=datetime(2026, 1, 2))


def test_detections_may_be_changed_after_they_were_added(output: Path) -> None:
    found = [make_detection(0)]
    with dgrec.Recorder(output) as recorder:
        recorder.add(found)
        found[0]["label"] = "changed"
        found.clear()
    with dgrec.open(output) as session:
        assert session.result(0).results == [make_detection(0)]


def test_closing_twice_and_adding_after_that(output: Path) -> None:
    recorder = dgrec.Recorder(output)
    recorder.add([])
    assert recorder.close() == recorder.close()
    for _ in range(2):
        with pytest.raises(dgrec.DgrecError, match=r"s\.parquet: the recorder is closed"):
            recorder.add([])
    with recorder:
        pass
    assert verify(output) == []


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError("odd"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_program_that_fails_leaves_a_sealed_session(
    output: Path, error: BaseException, reason: str
) -> None:
    def record() -> None:
        with dgrec.Recorder(output) as recorder:
            recorder.add([])
            raise error

    with pytest.raises(type(error)):
        record()
    with dgrec.open(output) as session:
        assert (len(session), session.sealed) == (1, True)
        assert session.metadata["end_reason"] == reason
        detail = session.metadata.get("end_detail")
        assert detail == ("ValueError: odd" if reason == "failed" else None)


def test_a_reason_of_ones_own(output: Path) -> None:
    recorder = dgrec.Recorder(output)
    recorder.close(Ending(reason="limit", detail="enough"))
    with dgrec.open(output) as session:
        assert session.metadata["end_reason"] == "limit"
        assert session.metadata["end_detail"] == "enough"


def test_what_is_there_is_not_replaced_unless_asked_for(output: Path) -> None:
    write_session(output, [make_row(0)])
    with pytest.raises(dgrec.OutputError, match="exists already"):
        dgrec.Recorder(output)
    with dgrec.Recorder(output, overwrite=True) as recorder:
        with dgrec.open(output) as session:
            assert len(session) == 1
        second = dgrec.Recorder(output, overwrite=True)
        recorder.add([])
        with pytest.raises(dgrec.OutputError, match="is being recorded now"):
            second.add([])
        with pytest.raises(dgrec.OutputError, match="is being recorded now"):
            dgrec.Recorder(output, overwrite=True)
        recorder.add([])
    with dgrec.open(output) as session:
        assert len(session) == 2


def test_a_video_in_the_way_is_somebodys(output: Path) -> None:
    output.with_suffix(".mp4").write_bytes(b"footage")
    with pytest.raises(dgrec.OutputError, match=r"s\.mp4: exists already"):
        dgrec.Recorder(output, video="raw")
    assert sorted(path.name for path in output.parent.iterdir()) == ["s.mp4"]


@pytest.mark.parametrize("is_renamed", [False, True])
def test_the_video_of_another_session_is_not_replaced(output: Path, is_renamed: bool) -> None:
    """A copy of a session file names the same video, and so does one that was renamed."""
    with dgrec.Recorder(output, video="raw") as recorder:
        recorder.add([], picture(1))
    copy = output.with_name("copy.parquet")
    shutil.copy(output, copy)
    kept = output
    if is_renamed:
        kept = output.rename(output.with_name("renamed.parquet"))
    with dgrec.Recorder(copy, video="raw", overwrite=True) as recorder:
        recorder.add([], picture(2))
    assert verify(kept) == []
    assert verify(copy) == []
    assert output.with_suffix(".mp4").exists()


@pytest.mark.parametrize("choices", [{"fps": 5.0, "every": 2}, {"video_quality": 0}])
def test_choices_are_checked(output: Path, choices: dict[str, Any]) -> None:
    with pytest.raises(dgrec.ConfigError):
        dgrec.Recorder(output, **choices)
    misspelt = r"Recorder\(\) got an unexpected keyword argument 'vidoe'; did you mean 'video'\?"
    with pytest.raises(TypeError, match=misspelt):
        dgrec.Recorder(output, vidoe="raw")


@pytest.mark.slow
def test_parts(output: Path) -> None:
    with dgrec.Recorder(output, Options(split_size=20_000, durability="frame")) as recorder:
        for i in range(30):
            recorder.add([make_detection(i)])
            wait_until(lambda i=i: writer_of(recorder)._journal.frames == i + 1)
    with dgrec.open(output) as session:
        assert len(session) == 30
        assert len(session.parts) > 2
    sizes = [path.stat().st_size for path in output.parent.iterdir()]
    assert len(sizes) == len(session.parts) == len(recorder.files)


def test_parts_with_video_are_no_larger_than_they_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is faster than the encoder: pictures wait, and fill a fragment in no time."""
    monkeypatch.setattr(video_encoder, "_QUEUE_FRAMES", 5)  # until one was encoded, none is known
    output, limit = tmp_path / "s.parquet", 1_000_000
    noise = np.random.default_rng(0)
    with dgrec.Recorder(output, video="lossless", split_size=limit) as recorder:
        for _ in range(40):
            recorder.add([], image=noise.integers(0, 40, (120, 160, 3), dtype=np.uint8))
    videos = sorted(tmp_path.glob("s-*.mp4"))
    assert len(videos) > 1
    for video in videos:
        assert video.stat().st_size + video.with_suffix(".parquet").stat().st_size <= limit
    with dgrec.open(output) as session:
        assert len(session) == 40


def test_threads_may_share_a_recorder(output: Path) -> None:
    with dgrec.Recorder(output) as recorder:

        def add() -> None:
            for _ in range(200):
                recorder.add([])

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(800))
        stamps = session.frames.column("completed_at").to_pylist()
    assert all(before <= after for before, after in itertools.pairwise(stamps))


def test_results_of_two_threads_are_in_the_order_of_their_times(output: Path) -> None:
    """One thread stands still between its look at the clock and the rest."""
    with dgrec.Recorder(output) as recorder:
        recorder.add([])
        session = recorder._main
        assert session is not None
        clock, has_looked, gate = session.clock, threading.Event(), threading.Event()

        def hold() -> None:
            session.hold(recordable([]), Capture())

        first, second = (threading.Thread(target=hold, daemon=True) for _ in range(2))

        class Clock:
            @staticmethod
            def now_ns() -> int:
                now = clock.now_ns()
                if threading.current_thread() is first:
                    has_looked.set()
                    assert gate.wait(PATIENCE_S)
                return now

        session.clock = Clock()  # type: ignore[assignment]
        first.start()
        assert has_looked.wait(PATIENCE_S)
        second.start()
        second.join(0.3)  # it may wait for the other one
        gate.set()
        for thread in (first, second):
            thread.join(PATIENCE_S)
        session.clock = clock
    with dgrec.open(output) as found:
        stamps = found.frames.column("completed_at").to_pylist()
    assert len(stamps) == 3
    assert stamps == sorted(stamps)


def test_a_disk_with_too_little_room_ends_it(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    with dgrec.Recorder(output, min_free=1000) as recorder:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": 10}))
        recorder.add([])
        wait_until(lambda: writer_of(recorder)._writer.is_disk_low)
        with pytest.raises(dgrec.StorageError, match="no more room to spare"):
            recorder.add([])
    with dgrec.open(output) as session:
        assert (len(session), session.metadata["end_reason"]) == (1, "disk_full")


def test_a_row_is_never_changed() -> None:
    row = Row(*make_row(0))
    for name in Row._fields:
        with pytest.raises(AttributeError):
            setattr(row, name, 1)


@pytest.mark.parametrize(
    "choices",
    [
        {"split_every": "10s"},
        {"split_every": float("nan")},
        {"min_free": "1GB"},
        {"max_frames": 2.5},
        {"every": True},
        {"video": None},
        {"masks": None},
        {"codec": 264},
        {"video_quality": "best"},
        {"video_size": "640x360"},
        {"video_size": 640},
        {"video_size": (640.0, 360)},
        {"metadata": 5},
        {"metadata": {"source": 5}},
        {"metadata": {"session_id": 5}},
        {"metadata": {"mine": object()}},
        {"outputs": [5]},
        {"outputs": [dgrec.Output]},
    ],
)
def test_values_of_another_type_leave_nothing_behind(output: Path, choices: dict[str, Any]) -> None:
    with pytest.raises(dgrec.ConfigError, match=next(iter(choices)).replace("_", ".")):
        dgrec.Recorder(output, **choices)
    assert list(output.parent.iterdir()) == []


def test_metadata_is_recorded_as_it_is_read(output: Path) -> None:
    metadata = {"source": {"width": "wide"}, "mine": {"scores": (1, float("nan"))}}
    with dgrec.Recorder(output, metadata=metadata) as recorder:
        recorder.add([])
    with dgrec.open(output) as session:
        assert len(session) == 1
        assert session.metadata["mine"] == {"scores": [1, None]}


class Odd:
    """Like a result of PySDK, but for its timing."""

    results: ClassVar[list[Any]] = []
    info = ""

    def __init__(self, timing: Any) -> None:
        self.timing = timing


@pytest.mark.parametrize(
    ("result", "more"),
    [
        ([], {"captured_at": float("nan")}),
        ([], {"captured_at": "now"}),
        ([], {"captured_at": -1}),
        ([], {"captured_at": datetime(1, 1, 1, tzinfo=UTC)}),
        ([], {"media_time_s": "now"}),
        ([], {"media_time_s": float("inf")}),
        ([], {"image": np.zeros((0, 0, 3), np.uint8)}),
        ([{"label": threading.Lock()}], {}),
        (Odd(None), {}),
        (Odd(5), {}),
    ],
)
def test_what_cannot_be_recorded_costs_nothing_else(
    output: Path, result: Any, more: dict[str, Any]
) -> None:
    with dgrec.Recorder(output, video="raw") as recorder:
        recorder.add([], picture(1))
        with pytest.raises(dgrec.DgrecError):
            recorder.add(result, **{"image": picture(2), **more})
        recorder.add([], picture(3))
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert session.frames.column("video_frame").to_pylist() == [0, 1]


def test_an_annotated_video_needs_results_of_pysdk(output: Path) -> None:
    with (
        dgrec.Recorder(output, video="annotated") as recorder,
        pytest.raises(dgrec.DgrecError, match="needs results of PySDK"),
    ):
        recorder.add([], picture(1))


_UNCLOSED = """
import os, sys, dgrec
recorder = dgrec.Recorder(sys.argv[1])
recorder.add([])
if not os.fork():
    try:
        recorder.add([])
    except dgrec.DgrecError as error:
        print(error, flush=True)
    sys.exit(0)
os.wait()
recorder.add([])
"""


@pytest.mark.slow
def test_a_program_that_ends_without_closing_leaves_a_sealed_session(output: Path) -> None:
    program = [sys.executable, "-c", _UNCLOSED, str(output)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ended.stdout == f"{output}: the recorder belongs to another process\n"
    assert verify(output) == []
    assert [path.name for path in output.parent.iterdir()] == ["s.parquet"]
    with dgrec.open(output) as session:
        assert len(session) == 2
        assert session.metadata["end_reason"] == "interrupted"


def test_a_session_has_the_name_that_was_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "session.of.today.parquet"
    for _ in range(2):
        with dgrec.Recorder(output, overwrite=True) as recorder:
            recorder.add([])
        assert recorder.files == [output]
        assert [path.name for path in tmp_path.iterdir()] == [output.name]
        assert verify(output) == []


def test_a_program_s_error_goes_before_one_of_sealing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OutputError("cannot be sealed")

    recorder = dgrec.Recorder(tmp_path / "s.parquet")
    recorder.add([])
    writer = writer_of(recorder)
    end = writer._end
    monkeypatch.setattr(writer, "_end", fail)
    with pytest.raises(ZeroDivisionError) as caught, recorder:
        _ = 1 // 0
    assert caught.value.__notes__ == ["cannot be sealed"]
    end(Ending())  # what the test kept from being written and closed
