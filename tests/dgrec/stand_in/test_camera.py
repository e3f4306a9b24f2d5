"""`dgrec.camera`: the recorded pictures as a camera gives them, and the results that are theirs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from degirum.exceptions import DegirumException

import dgrec
from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError, ModelError, SourceError, VideoError
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import Splitting
from dgrec.recorder.sources import FileSource, open_source, parse_source
from dgrec.stand_in import given_pictures, session_camera
from tests.dgrec.stand_in.numbered import NumberReader, clip, number_in, record, wrong
from tests.factory import edited, without_column
from tests.footage import FRAMES, picture
from tests.recorder.doubles import new_stream
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

_ALL = list(range(FRAMES))
_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# OpenCV's names of properties.
_MSEC, _POSITION, _RATIO, _WIDTH, _HEIGHT, _FPS, _COUNT = 0, 1, 2, 3, 4, 5, 7


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("footage") / "numbered.mp4")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


@pytest.fixture(scope="module")
def session(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of every frame, whose pictures are the footage at its place."""
    return record(footage, tmp_path_factory.mktemp("session") / "s.parquet")


def numbers(session: Path, **how: Any) -> list[int]:
    with dgrec.camera(session, pace="fast", **how) as camera:
        return [number_in(image) for image in camera]


def predicted(model: Any, camera: Any) -> list[Any]:
    from degirum_tools import predict_stream

    return list(predict_stream(model, camera))


def add_numbered(output: Path, seconds: list[float], model: str = "a", **choices: Any) -> Path:
    """Record numbered pictures that were captured at these times."""
    reader = NumberReader(model)
    metadata = {"model": reader.describe()["model"] | {"name": model}}
    with dgrec.Recorder(output, metadata=metadata, **choices) as recorder:
        results = reader.predict_batch(picture(number) for number in range(len(seconds)))
        for result, second in zip(results, seconds, strict=True):
            recorder.add(result, captured_at=_AT + timedelta(seconds=second))
    return output


# --- each result is that of its own frame -----------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        pytest.param({}, _ALL, id="footage at its place"),
        pytest.param({"every": 3}, _ALL[::3], id="every third"),
        pytest.param({"fps": 15}, None, id="15 a second"),
        pytest.param({"video": "raw"}, _ALL, id="kept packets"),
        pytest.param({"video": "raw", "every": 3}, _ALL[::3], id="kept packets, every third"),
        pytest.param({"video": "raw", "video_quality": 20}, _ALL, id="encoded again"),
        pytest.param(
            {"video": "raw", "video_quality": 20, "every": 2}, _ALL[::2], id="encoded, every second"
        ),
        pytest.param({"video": "lossless", "fps": 7}, None, id="lossless, 7 a second"),
        pytest.param({"loop": True, "max_frames": 40}, [*_ALL, *_ALL[:16]], id="a loop"),
    ],
)
def test_every_picture_gets_the_result_of_its_own_frame(
    footage: Path, output: Path, choices: dict[str, Any], expected: list[int] | None
) -> None:
    moved = output.with_name("moved.mp4")
    moved.write_bytes(footage.read_bytes())
    record(moved, output, **choices)
    if "video" in choices:  # and not from the footage
        moved.unlink()
    with dgrec.open(output) as session:
        recorded = [row["source_frame"] % FRAMES for row in session.frames.to_pylist()]
    assert recorded == (expected or recorded)
    assert len(recorded) > 5
    camera = dgrec.camera(output, pace="fast")
    results = predicted(dgrec.model(output), camera)
    assert [number_in(result.image) for result in results] == recorded
    assert wrong(results) == 0
    assert not camera.isOpened()


def test_parts(footage: Path, output: Path) -> None:
    clock, model = Clock(), NumberReader()
    frames = FileSource(open_source(parse_source(str(footage))), clock)
    small = Splitting(size=20_000)
    stream = new_stream(
        model, Capture(frames), output, model.describe(), clock=clock, splitting=small, video="raw"
    )
    stream.run()
    with dgrec.open(output) as session:
        assert len(session.parts) > 1
    results = predicted(dgrec.model(output), dgrec.camera(output, pace="fast"))
    assert [number_in(result.image) for result in results] == _ALL
    assert wrong(results) == 0
    last = session.parts[-1]
    results = predicted(dgrec.model(output), dgrec.camera(last.path, pace="fast"))
    assert [number_in(result.image) for result in results] == _ALL[last.first_frame :]
    assert wrong(results) == 0


@pytest.mark.parametrize("fps", [5, 10, 24])
def test_a_program_may_leave_frames_out(session: Path, fps: int) -> None:
    from degirum_tools import predict_stream

    results = list(predict_stream(dgrec.model(session), f"{session}?pace=fast", fps=fps))
    assert 0 < len(results) < FRAMES
    assert wrong(results) == 0


def test_a_session_without_digests(footage: Path, output: Path) -> None:
    record(footage, output, every=3)
    old = without_column(without_column(output, "pixel_digest"), "pixel_signature")
    with pytest.raises(ModelError, match="has no digests of"):
        dgrec.model(old)  # a picture of its footage could be any frame
    results = predicted(dgrec.model(old, match="camera"), dgrec.camera(old, pace="fast"))
    assert [number_in(result.image) for result in results] == _ALL[::3]
    assert wrong(results) == 0


def test_pictures_of_pil(output: Path) -> None:
    from PIL import Image

    add_numbered(output, [number / 25 for number in range(5)], video="raw", video_quality=1)
    model = dgrec.model(output)
    model.image_backend = "pil"
    with dgrec.camera(output, pace="fast") as camera:
        for number, image in enumerate(camera):
            for given in (image, Image.fromarray(image[..., ::-1])):
                assert model(given).results[0]["score"] == number / 256


def test_a_loop_begins_again(session: Path) -> None:
    with dgrec.camera(session, pace="fast", loop=True) as camera, dgrec.model(session) as model:
        assert camera.get(_COUNT) == 0
        pictures = (image for image, _ in zip(camera, range(60), strict=False))
        results = list(model.predict_batch(pictures))
    assert [number_in(result.image) for result in results] == [i % FRAMES for i in range(60)]
    assert wrong(results) == 0


def test_frames_that_were_lost_are_not_there(output: Path) -> None:
    add_numbered(output, [0.0, 0.04, 0.08, 0.12, 0.16], video="raw")
    edited(output, {"video_frame": [0, None, 2, 3, None]})
    with dgrec.camera(output, pace="fast") as camera, dgrec.model(output) as model:
        assert camera.get(_COUNT) == 3
        results = list(model.predict_batch(camera))
    assert [number_in(result.image) for result in results] == [0, 2, 3]
    assert wrong(results) == 0


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda image: image.copy(), id="a copy"),
        pytest.param(lambda image: image[:], id="a view"),
        pytest.param(lambda image: np.ascontiguousarray(image[..., ::-1]), id="red and blue"),
    ],
)
def test_copies_are_recognised(output: Path, changed: Callable[[Any], Any]) -> None:
    # Encoded: none of the pictures has the pixels that the model saw.
    add_numbered(output, [number / 25 for number in range(9)], video="raw", video_quality=1)
    with dgrec.camera(output, pace="fast") as camera:
        pictures = list(camera)
    model = dgrec.model(output)
    for number in (4, 0, 8, 3):
        result = model(changed(pictures[number]))
        assert [item["score"] for item in result.results] == [number / 256]


def test_a_picture_that_the_program_drew_on_is_recognised(session: Path) -> None:
    with dgrec.camera(session, pace="fast") as camera:
        image = next(iter(camera))
    image[:] = 0
    assert dgrec.model(session)(image).results[0]["score"] == 0


def test_an_array_that_is_filled_with_another_picture_is_that_one(session: Path) -> None:
    with dgrec.camera(session, pace="fast") as camera:
        pictures = list(camera)
    model = dgrec.model(session)
    buffer = pictures[3]
    buffer[:] = pictures[7]  # given out, too
    assert model(buffer).results[0]["score"] == 7 / 256
    with dgrec.camera(session, pace="fast") as camera:
        buffer = next(iter(camera))
    buffer[:] = pictures[9] // 2
    assert model(buffer).results[0]["score"] == 0  # drawn on


def test_an_array_that_is_filled_with_a_recorded_picture_is_that_one(output: Path) -> None:
    add_numbered(output, [number / 25 for number in range(9)], video="raw", video_quality=1)
    with dgrec.camera(output, pace="fast") as camera:
        buffer = next(iter(camera))
    buffer[:] = picture(5)
    assert dgrec.model(output)(buffer).results[0]["score"] == 5 / 256


def test_copies_in_a_scene_that_does_not_change(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, count = NumberReader(), 60
    with dgrec.Recorder(output, metadata=dict(reader.describe()), video="lossless") as recorder:
        for index, result in enumerate(reader.predict_batch(picture(3) for _ in range(count))):
            result._inference_results[0]["track_id"] = index
            recorder.add(result)
    looked_up: list[given_pictures.Origin] = []
    positions_of = given_pictures.Pairing._positions_of

    def counted(self: given_pictures.Pairing, origin: given_pictures.Origin) -> Any:
        looked_up.append(origin)
        return positions_of(self, origin)

    monkeypatch.setattr(given_pictures.Pairing, "_positions_of", counted)
    model = dgrec.model(output)
    with dgrec.camera(output, pace="fast") as camera:
        results = model.predict_batch(image.copy() for image in camera)
        assert [result.results[0]["track_id"] for result in results] == list(range(count))
    assert len(looked_up) <= 2 * count


def test_pictures_that_were_given_out_are_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(given_pictures, "_MOST_PICTURES", 10)
    pictures = given_pictures._GivenOut()
    facts = given_pictures.SessionFacts("id", "", "")
    for row in range(35):
        pictures.note(picture(row // 15), given_pictures.Origin(facts, row, row, row, -1))
    held = [origin for alike in pictures._contents.values() for origin in alike.origins]
    assert [origin.frame for origin in held] == list(range(25, 35))


def test_what_a_camera_did_not_give_out_is_refused(output: Path) -> None:
    add_numbered(output, [0.0, 0.04], video="raw", video_quality=1)
    with dgrec.camera(output, pace="fast") as camera:
        encoded = [image + 1 for image in camera]  # other pixels
    with pytest.raises(DegirumException, match="none of its 2 frames has the pixels"):
        dgrec.model(output)(encoded[1])
    assert dgrec.model(output)(picture(1)).results[0]["score"] == 1 / 256
    with pytest.raises(DegirumException, match="none of its 2 frames has the pixels"):
        dgrec.model(output, match="camera")(picture(1))


def test_a_part_of_a_picture_is_not_the_picture(session: Path) -> None:
    with dgrec.camera(session, pace="fast") as camera:
        image = next(iter(camera))
    with pytest.raises(DegirumException, match="none of its 24 frames has the pixels"):
        dgrec.model(session)(image[8:])


# --- the camera of one session, the model of another ------------------------------------------


def test_two_sessions_of_the_same_footage(footage: Path, tmp_path: Path) -> None:
    all_frames = record(footage, tmp_path / "all.parquet", video="raw", video_quality=1)
    some = record(footage, tmp_path / "some.parquet", every=3)
    footage_is_gone = edited(all_frames, {}, source={})  # so its own video is used
    assert footage_is_gone == all_frames
    with dgrec.camera(some, pace="fast") as camera:
        results = list(dgrec.model(all_frames).predict_batch(camera))
    assert [number_in(result.image) for result in results] == _ALL[::3]
    assert wrong(results) == 0
    with dgrec.camera(all_frames, pace="fast") as camera:
        model = dgrec.model(some, missing="empty")
        results = list(model.predict_batch(camera))
    assert [bool(result.results) for result in results] == [i % 3 == 0 for i in _ALL]
    assert wrong(result for result in results if result.results) == 0


def test_two_models_on_the_pictures_of_a_program(tmp_path: Path) -> None:
    seconds = [number / 25 for number in range(9)]
    first = add_numbered(tmp_path / "a.parquet", seconds, video="raw", video_quality=1)
    second = add_numbered(tmp_path / "b.parquet", seconds, "b")
    with dgrec.camera(first, pace="fast") as camera:
        results = list(dgrec.model(second).predict_batch(camera))
    assert wrong(results) == 0
    assert len(results) == 9


@pytest.mark.parametrize("group", ["one", "another"])
def test_sessions_with_one_clock(tmp_path: Path, group: str) -> None:
    seconds = [number / 25 for number in range(5)]
    first = add_numbered(tmp_path / "a.parquet", seconds, video="raw", video_quality=1)
    second = add_numbered(tmp_path / "b.parquet", seconds, "b")
    edited(first, {"pixel_digest": [None] * 5}, group={"id": "one"})
    edited(second, {"pixel_digest": [None] * 5}, group={"id": group})
    with dgrec.camera(first, pace="fast") as camera:
        pictures = list(camera)
    model = dgrec.model(second, match="camera")
    if group == "one":
        assert wrong(model.predict_batch(iter(pictures))) == 0
    else:
        with pytest.raises(DegirumException, match="none of its 5 frames"):
            model(pictures[0])


def test_other_footage_is_refused(session: Path, output: Path) -> None:
    other = record(clip(output.with_name("other.mp4"), 5, size=(320, 96)), output)
    with (
        dgrec.camera(other, pace="fast") as camera,
        pytest.raises(DegirumException, match="has the"),
    ):
        dgrec.model(session)(next(iter(camera)))


# --- OpenCV's calls ---------------------------------------------------------------------------


def test_the_calls_of_opencv(session: Path, footage: Path) -> None:
    import cv2

    theirs = cv2.VideoCapture(str(footage))
    ours = dgrec.camera(session, pace="fast")
    properties = (_MSEC, _POSITION, _WIDTH, _HEIGHT, _FPS, _COUNT)
    assert [ours.get(each) for each in properties] == [theirs.get(each) for each in properties]
    for place in (3, 20, 0, 7):
        assert ours.set(_POSITION, place)
        assert theirs.set(_POSITION, place)
        assert ours.grab()
        assert theirs.grab()
        assert ours.get(_POSITION) == theirs.get(_POSITION) == place + 1
        assert ours.get(_MSEC) == pytest.approx(theirs.get(_MSEC))
        (_, one), (_, again), (_, other) = ours.retrieve(), ours.retrieve(), theirs.retrieve()
        assert (one == other).all()
        assert (again == other).all()
    held = np.zeros_like(one)
    ok, image = ours.read(held)
    assert ok
    assert image is held
    assert number_in(held) == 8
    assert dgrec.model(session)(held).results[0]["score"] == 8 / 256
    assert ours.set(_RATIO, 0.5)
    assert number_in(ours.read()[1]) == 12
    assert ours.set(_MSEC, 200)
    assert number_in(ours.read()[1]) == 5
    assert not ours.set(_WIDTH, 320)
    assert not ours.set(_POSITION, float("nan"))
    assert ours.set(_POSITION, 1000)
    assert ours.read() == (False, None)
    assert not ours.grab()
    assert ours.retrieve() == (False, None)
    assert ours.isOpened()
    assert not ours.open(0)
    ours.release()
    ours.release()
    assert not ours.isOpened()
    assert ours.read() == (False, None)
    assert not ours.set(_POSITION, 1)
    assert ours.getBackendName() == "DGREC"
    assert ours.get(-1) == 0


def test_the_rate_is_that_of_the_pictures(footage: Path, tmp_path: Path) -> None:
    rates = {}
    for name, choices in {"all": {}, "third": {"every": 5}, "ten": {"fps": 10}}.items():
        with dgrec.camera(record(footage, tmp_path / f"{name}.parquet", **choices)) as camera:
            rates[name] = camera.get(_FPS)
    assert rates == {"all": 25, "third": 5, "ten": 10}
    at = [0.0, 0.1, 0.2, 0.9, 1.0]
    with dgrec.camera(add_numbered(tmp_path / "s.parquet", at, video="raw")) as camera:
        assert camera.get(_FPS) == 10


# --- pace -------------------------------------------------------------------------------------


class FakeTime:
    """A clock that only waiting moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 5_000_000_000
        monkeypatch.setattr(session_camera.time, "monotonic_ns", lambda: self.now_ns)

    def attach(self, camera: Any) -> None:
        camera._ended.wait = self.wait

    def wait(self, seconds: float) -> bool:
        self.now_ns += round(seconds * 1e9)
        return False


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime(monkeypatch)


def test_pictures_come_when_they_were_captured(fake_time: FakeTime, output: Path) -> None:
    seconds = [0.0, 0.1, 0.2, 7.2, 7.3]
    add_numbered(output, seconds, video="raw")
    edited(output, {"video_frame": [0, None, 2, 3, 4]})  # the pause of the second stays
    came = []
    with dgrec.camera(output) as camera:
        fake_time.attach(camera)
        fake_time.now_ns += 3_000_000_000  # the first read begins the time
        began = fake_time.now_ns
        for image in camera:
            came.append((number_in(image), (fake_time.now_ns - began) / 1e9))
            if number_in(image) == 2:
                fake_time.now_ns += 7_050_000_000  # a slow program gets the next at once
    assert came == [(0, 0.0), (2, 0.2), (3, 7.25), (4, 7.3)]


def test_a_loop_at_the_recorded_pace(fake_time: FakeTime, output: Path) -> None:
    add_numbered(output, [0.0, 0.1, 0.4], video="raw")
    came = []
    with dgrec.camera(output, loop=True) as camera:
        fake_time.attach(camera)
        began = fake_time.now_ns
        for _ in range(7):
            image = camera.read()[1]
            came.append((number_in(image), round((fake_time.now_ns - began) / 1e9, 6)))
    assert came == [(0, 0.0), (1, 0.1), (2, 0.4), (0, 0.7), (1, 0.8), (2, 1.1), (0, 1.4)]


def test_a_jump_begins_the_time_again(fake_time: FakeTime, output: Path) -> None:
    add_numbered(output, [0.0, 100.0, 100.5], video="raw")
    with dgrec.camera(output) as camera:
        fake_time.attach(camera)
        camera.read()
        camera.set(_POSITION, 1)
        began = fake_time.now_ns
        camera.read()
        assert fake_time.now_ns == began
        camera.read()
        assert fake_time.now_ns == began + 500_000_000


def test_fast_waits_for_nothing(fake_time: FakeTime, output: Path) -> None:
    add_numbered(output, [0.0, 100.0, 200.0], video="raw")
    before = fake_time.now_ns
    assert numbers(output) == [0, 1, 2]
    assert fake_time.now_ns == before


def test_release_ends_a_read_that_waits(output: Path) -> None:
    add_numbered(output, [0.0, 3600.0], video="raw")
    camera = dgrec.camera(output)
    assert camera.read()[0]
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(camera.read()))
    thread.start()
    camera.release()
    thread.join(timeout=PATIENCE_S)
    assert got == [(False, None)]


# --- what is missing --------------------------------------------------------------------------


def test_a_session_without_pictures(output: Path) -> None:
    add_numbered(output, [0.0, 0.1])
    with pytest.raises(VideoError, match="the source was a program; record with --video raw") as e:
        dgrec.camera(output)
    assert "\n" not in str(e.value)


def test_a_video_without_any_of_the_frames(output: Path) -> None:
    add_numbered(output, [0.0, 0.1], video="raw")
    edited(output, {"video_frame": [None, None]})
    with pytest.raises(VideoError, match="none of its frames is in its video"):
        dgrec.camera(output)


def test_pictures_that_should_be_there_are_missed(session: Path, output: Path) -> None:
    add_numbered(output, [0.0, 0.1, 0.2], video="raw")
    other = clip(output.with_name("other.mp4"), 2)
    output.with_suffix(".mp4").write_bytes(other.read_bytes())
    with dgrec.camera(output, pace="fast") as camera, pytest.raises(SourceError) as error:
        list(camera)
    assert str(error.value).startswith(f"{output}: frame 0: s.mp4 is another video: ")
    assert "\n" not in str(error.value)
    assert "left out" not in str(error.value)


@pytest.mark.parametrize("loop", [False, True])
def test_numbers_that_no_frame_has(footage: Path, output: Path, loop: bool) -> None:
    edited(record(footage, output), {"source_frame": list(range(1000, 1000 + FRAMES))})
    camera = dgrec.camera(output, pace="fast", loop=loop)
    with camera, pytest.raises(SourceError, match=r"no pictures to give: numbered\.mp4 ends after"):
        camera.read()


@pytest.mark.parametrize(
    "columns",
    [
        {"media_time_s": [float("nan"), float("inf")] * 12},
        {"captured_at": [None] * FRAMES},
        {"captured_at": list(range(FRAMES, 0, -1))},
    ],
)
def test_impossible_stamps(footage: Path, output: Path, columns: dict[str, Any]) -> None:
    edited(record(footage, output), columns)
    assert numbers(output) == _ALL
    again = record(output, output.with_name("again.parquet"))
    assert numbers(again) == _ALL


def test_footage_that_was_moved_can_be_named(footage: Path, tmp_path: Path, output: Path) -> None:
    moved = tmp_path / "gone.mp4"
    moved.write_bytes(footage.read_bytes())
    record(moved, output)
    there = moved.rename(tmp_path / "there.mp4")
    with pytest.raises(VideoError, match=r"gone\.mp4 is not where it was"):
        dgrec.camera(output)
    assert numbers(output, video=there) == _ALL


def test_what_cannot_be_a_camera(session: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pace='slow': expected recorded or fast"):
        dgrec.camera(session, pace="slow")
    with pytest.raises(DgrecError, match="No such file"):
        dgrec.camera(tmp_path / "none.parquet")


# --- degirum_tools ----------------------------------------------------------------------------


def gizmo_results(source: str) -> list[Any]:
    from degirum_tools import streams

    class Sink(streams.Gizmo):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__([(0, False)])
            self.got: list[Any] = []

        def run(self) -> None:
            self.got += [data.data for data in self.get_input(0)]

    sink = Sink()
    streams.Composition(streams.VideoSourceGizmo(source) >> sink).start(wait=True)
    return sink.got


def opened(source: str) -> list[Any]:
    from degirum_tools import open_video_stream, video_source

    with open_video_stream(source) as stream:
        return list(video_source(stream))


@pytest.mark.parametrize("pictures", [opened, gizmo_results])
def test_wherever_degirum_tools_takes_a_source(
    pictures: Callable[[str], list[Any]], session: Path, footage: Path
) -> None:
    given = pictures(f"{session}?pace=fast")
    assert [number_in(image) for image in given] == _ALL
    results = dgrec.model(session).predict_batch(iter(given))
    assert wrong(results) == 0
    assert [image.tobytes() for image in pictures(str(footage))] == [
        image.tobytes() for image in given
    ]


def test_predict_stream_and_annotate_video(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from degirum_tools import get_video_stream_properties, inference_support, predict_stream

    source, model = f"{session}?pace=fast", dgrec.model(session)
    results = list(predict_stream(model, source))
    assert len(results) == FRAMES
    assert wrong(results) == 0
    assert get_video_stream_properties(source) == (160, 96, 25)
    written: list[Any] = []

    @contextlib.contextmanager
    def writer(path: str, width: int, height: int, fps: float) -> Iterator[Any]:
        assert (width, height, fps) == (160, 96, 25)
        yield SimpleNamespace(write=written.append)

    monkeypatch.setattr(inference_support, "open_video_writer", writer)
    options = {"show_progress": False, "visual_display": False}
    inference_support.annotate_video(model, source, "never.mp4", **options)
    assert [image.tobytes() for image in written] == [
        result.image_overlay.tobytes() for result in results
    ]


def test_a_source_from_the_environment(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from degirum_tools import open_video_stream

    monkeypatch.setenv("CAMERA_ID", str(session))
    with open_video_stream() as stream:
        assert stream.getBackendName() == "DGREC"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none.parquet", "none.parquet: cannot be read: No such file"),
        ("{session}?pase=fast", "'pase' is not an option; expected pace, loop, video"),
        ("{session}?pace=slow", "pace='slow'"),
        ("{session}?loop=often", "loop='often': expected 1 or 0"),
    ],
)
def test_sources_that_are_refused(session: Path, name: str, complaint: str) -> None:
    from degirum_tools import open_video_stream

    opening = open_video_stream(name.format(session=session))
    with pytest.raises(DgrecError, match=complaint):
        opening.__enter__()


def test_other_sources_are_opened_by_degirum_tools(
    footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2
    from degirum_tools import create_video_stream
    from degirum_tools.tools import video_support

    with pytest.raises(Exception, match="Error opening 'missing"):
        create_video_stream("missing.mp4")
    stream = create_video_stream(footage, apiPreference=cv2.CAP_FFMPEG)
    assert type(stream) is cv2.VideoCapture
    assert create_video_stream(stream) is stream
    stream.release()
    pipelines: list[Any] = []

    def pipeline(source: Any) -> str:
        pipelines.append(source)
        raise RuntimeError("no GStreamer here")

    monkeypatch.setattr(video_support, "build_gst_pipeline", pipeline)
    with pytest.raises(Exception, match="GStreamer failed: no GStreamer here"):
        create_video_stream(str(footage), use_gstreamer=True)
    assert pipelines == [str(footage)]
