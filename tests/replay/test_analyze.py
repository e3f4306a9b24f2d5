"""`dgrec analyze`: analyzers over recorded results, held against analyzers that ran live."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from degirum_tools import (
    EventDetector,
    LineCounter,
    ObjectSelector,
    ObjectTracker,
    ResultAnalyzerBase,
    SceneCutDetector,
    ZoneCounter,
)

import dgrec
from dgrec.errors import OutputError, VideoError
from dgrec.format import digest
from dgrec.replay.analysis import write_analysis
from dgrec.replay.cli import COMMANDS
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.commands.replay import replay_command
from dgrec.replay.verify import verify
from tests.analyzed import SIZE, record_analyzed
from tests.factory import make_detection, make_row, new_metadata, restart, write_session
from tests.replay.test_parts import write_parts

WHOLE = [[0, 0], [319, 0], [319, 239], [0, 239]]
LEFT = [[0, 0], [150, 0], [150, 239], [0, 239]]
[ANALYZE] = [command for command in COMMANDS if command.name == "analyze"]

KINDS: dict[str, Callable[[], list[Any]]] = {
    "tracker": lambda: [ObjectTracker(class_list=["person"], trail_depth=6)],
    "lines": lambda: [
        ObjectTracker(trail_depth=6),
        LineCounter([(160, 0, 160, 239)], per_class_display=True),
        EventDetector(
            {
                "Trigger": "crossed",
                "when": "LineCount",
                "with": {"classes": ["car"]},
                "is greater than": 0,
                "during": [1, "frame"],
            }
        ),
    ],
    "zones": lambda: [ObjectTracker(), ZoneCounter({"left": LEFT}, use_tracking=True)],
    "selected": lambda: [ObjectTracker(), ObjectSelector(top_k=1)],
}


def analyze(path: Path, analyzers: list[Any], output: Path, **options: Any) -> list[Path]:
    with dgrec.open(path) as session:
        return write_analysis(session, lambda: analyzers, output, **options)


def untimed(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != "time_in_zone"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_later_equals_live(tmp_path: Path, kind: str) -> None:
    live, bare, later = (tmp_path / f"{name}.parquet" for name in ("live", "bare", "later"))
    results = record_analyzed(live, KINDS[kind](), frames=60)
    record_analyzed(bare, [], frames=60)
    analyze(bare, KINDS[kind](), later)
    assert verify(later) == []
    with dgrec.open(live) as first, dgrec.open(later) as second, dgrec.open(bare) as before:
        for one, other in zip(
            first.metadata["analyzers"], second.metadata["analyzers"], strict=True
        ):
            one["parameters"].pop("frame_size", None)  # known once a frame was there
            other["parameters"].pop("frame_size", None)
            assert one == other
        assert second.metadata["analyzed"]["session_id"] == before.id != second.id
        for one, other, old, result in zip(first, second, before, results, strict=True):
            assert list(map(untimed, other.results)) == list(map(untimed, result.results))
            assert other.attributes == one.attributes
            assert other.overlay(result.image).tobytes() == result.image_overlay.tobytes()
            assert old.row["pixel_digest"] == digest(result.image)
            unchanged = old.row.keys() - {"detections", "attributes", "restore"}
            assert {k: other.row[k] for k in unchanged} == {k: old.row[k] for k in unchanged}


@pytest.mark.slow
def test_what_analyzers_added_before_is_replaced(tmp_path: Path) -> None:
    first, second, plain = (tmp_path / f"{name}.parquet" for name in ("a", "b", "c"))
    record_analyzed(first, [*KINDS["lines"](), ZoneCounter({"left": LEFT})])
    record_analyzed(plain, [])
    analyze(first, [ObjectTracker(class_list=["car"])], second)
    analyze(plain, [ObjectTracker(class_list=["car"])], tmp_path / "d.parquet")
    with dgrec.open(second) as session, dgrec.open(tmp_path / "d.parquet") as expected:
        assert [entry["class"].rpartition(".")[2] for entry in session.metadata["analyzers"]] == [
            "LineCounter",
            "EventDetector",
            "ZoneCounter",
            "ObjectTracker",
        ]
        for one, other in zip(session, expected, strict=True):
            assert [d.get("track_id") for d in one.results] == [
                d.get("track_id") for d in other.results
            ]
            assert one.trails == other.trails == {}
            assert "trail_classes" not in one.attributes
            assert one.line_counts[0].to_dict()["for_class"].keys() <= {"person", "car"}
            assert "in_zone" in one.results[0]


def test_analyzers_get_the_recorded_time(tmp_path: Path) -> None:
    """0.1 s a frame; the zone holds the person from the beginning on."""
    rows = [
        make_row(i, [make_detection(bbox=[10.0, 10.0, 50.0, 90.0], label="person")])._replace(
            captured_ns=10**18 + i * 10**8, completed_ns=10**18 + i * 10**8 + 5 * 10**6
        )
        for i in range(20)
    ]
    source = write_session(tmp_path / "s.parquet", rows)
    seen = []

    class Clock(ResultAnalyzerBase):
        def analyze(self, result: Any) -> None:
            seen.append((time.time(), time.time_ns()))

    real = time.time, time.time_ns
    long_enough = {
        "Trigger": "long",
        "when": "ObjectCount",
        "is greater than": 0,
        "during": [0.95, "seconds"],
    }
    analyze(
        source,
        [
            ObjectTracker(),
            ZoneCounter([WHOLE], use_tracking=True),
            EventDetector(long_enough),
            Clock(),
        ],
        tmp_path / "out.parquet",
    )
    assert (time.time, time.time_ns) == real
    assert [ns for _, ns in seen] == [10**18 + i * 10**8 + 5 * 10**6 for i in range(20)]
    assert [s for s, _ in seen] == [ns / 1e9 for _, ns in seen]
    with dgrec.open(tmp_path / "out.parquet") as session:
        times = [frame.results[0]["time_in_zone"][0] for frame in session]
        assert times == pytest.approx([i * 0.1 for i in range(20)], abs=1e-5)
        events = [bool(frame.events_detected) for frame in session]
        assert events == [i >= 10 for i in range(20)]


class Count(ResultAnalyzerBase):
    seen = 0

    def analyze(self, result: Any) -> None:
        self.seen += 1
        result.count = self.seen


class Mean(ResultAnalyzerBase):
    """Needs pixels."""

    def analyze(self, result: Any) -> None:
        result.mean = float(np.mean(result.image))
        assert result.image_overlay.shape == result.image.shape


def test_pixels_come_from_the_recorded_video(tmp_path: Path) -> None:
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    results = record_analyzed(source, [], frames=8, video="raw")
    analyze(source, [Mean(), SceneCutDetector()], output)
    with dgrec.open(output) as session:
        means = [frame.mean for frame in session]
        assert means == pytest.approx([float(r.image.mean()) for r in results], abs=4)
        assert [frame.scene_cut for frame in session] == [False] * 8
        with session.pixels() as pixels:
            assert len([frame.image for frame in pixels.results(session)]) == 8


def test_a_video_is_not_removed_with_what_was_made_from_its_session(tmp_path: Path) -> None:
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    record_analyzed(source, [], frames=4, video="raw")
    analyze(source, [ObjectTracker()], output)
    record_analyzed(output, [], frames=4, overwrite=True)
    assert (tmp_path / "s.mp4").exists()
    assert verify(source) == []


def test_pixels_that_there_are_not(tmp_path: Path) -> None:
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    record_analyzed(source, [], frames=4)
    with pytest.raises(VideoError, match="SceneCutDetector needs the pixels, and there are none"):
        analyze(source, [SceneCutDetector()], output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.parquet"]
    with av.open(str(tmp_path / "v.mp4"), "w") as target:
        stream = target.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        for _ in range(4):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        target.mux(stream.encode(None))
    analyze(source, [Mean()], output, video=tmp_path / "v.mp4")
    with dgrec.open(output) as session:
        assert max(frame.mean for frame in session) < 3


def test_an_analyzer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Fails(ResultAnalyzerBase):
        ended = 0

        def analyze(self, result: Any) -> None:
            if len(result.results) == 1:
                raise KeyError("one\nis not enough")

        def finalize(self) -> None:
            self.ended += 1

    source = tmp_path / "s.parquet"
    record_analyzed(source, [])
    each = Fails()
    with pytest.raises(dgrec.DgrecError, match=r"^Fails failed at frame 7: KeyError: 'one"):
        analyze(source, [each], tmp_path / "out.parquet")
    assert each.ended == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


def test_results_of_every_kind_stay(tmp_path: Path) -> None:
    odd = [
        [make_detection(label="nobody knows", category_id=...)],
        [{"label": "a", "score": 0.5, "mine": (1, {2})}, {"score": 1}],
        [{"mask": {"x_min": 1, "y_min": 2, "data": np.ones((3, 4), np.float32)}, "label": "m"}],
        [],
        {"not": "a list"},
    ]
    timing = {"CoreInferenceDuration_ms": 5, "other": "text"}
    rows = [
        make_row(i, found, timing=timing, attributes={"kept": i, "tags": {1, 2}}, info={"n": i})
        for i, found in enumerate(odd)
    ]
    source = write_session(tmp_path / "s.parquet", rows)

    class Adds(ResultAnalyzerBase):
        def analyze(self, result: Any) -> None:
            result.added = len(result._inference_results)

    analyze(source, [Adds()], tmp_path / "out.parquet")
    with dgrec.open(source) as old, dgrec.open(tmp_path / "out.parquet") as new:
        for one, other in zip(old, new, strict=True):
            assert repr(one.results) == repr(other.results)
            assert one.timing == other.timing
            assert one.info == other.info
            assert {**one.attributes, "added": len(one.results)} == other.attributes
            assert one._restored.label_hashes == other._restored.label_hashes


@pytest.mark.slow
@pytest.mark.parametrize("journal", [False, True])
def test_of_a_recording_in_parts(tmp_path: Path, journal: bool) -> None:
    """One tracker follows the objects through all of them, and every part stays one."""
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    write_parts(source, journal=journal)
    with dgrec.open(source) as session:
        frames = len(session)
        analyzers = [ObjectTracker(track_buffer=1000), Count()]
        written = write_analysis(session, lambda: analyzers, output)
    assert len(written) > 1
    assert not output.exists()
    with dgrec.open(output) as session:
        assert len(session.parts) == len(written)
        assert [frame.count for frame in session] == list(range(1, frames + 1))
        assert [frame.frame for frame in session] == list(range(frames))
        assert session.damage == []
    assert verify(output) == []
    with dgrec.open(source) as session, pytest.raises(OutputError, match="exists"):
        write_analysis(session, lambda: [Count()], output)


@pytest.mark.slow
def test_analyzers_begin_anew_in_each_run(tmp_path: Path) -> None:
    """Nothing moves, so one tracker would follow it from one run into the next."""
    still = make_detection(bbox=[10.0, 10.0, 50.0, 90.0], label="person")
    rows = [make_row(i, [still]) for i in range(30)]
    events = [restart(rows[0]), restart(rows[10]), restart(rows[20])]
    source = write_session(tmp_path / "s.parquet", rows, new_metadata(events=events))
    made, ended = [], []

    class Ends(Count):
        def finalize(self) -> None:
            ended.append(self.seen)

    def make() -> list[Any]:
        made.append(Ends())
        assert len(ended) == len(made) - 1
        return [ObjectTracker(), ZoneCounter([WHOLE], use_tracking=True), made[-1]]

    with dgrec.open(source) as session:
        write_analysis(session, make, tmp_path / "out.parquet")
    assert ended == [10, 10, 10]
    with dgrec.open(tmp_path / "out.parquet") as session:
        assert session.sql_rows("SELECT run, track_id, first_frame, last_frame FROM tracks") == [
            (1, 1, 0, 9),
            (2, 1, 10, 19),
            (3, 1, 20, 29),
        ]
        assert [frame.count for frame in session] == [*range(1, 11)] * 3
        zones = [frame.results[0]["frames_in_zone"][0] for frame in session]
        assert zones[:10] == zones[10:20] == zones[20:]


def test_columns_of_another_tool_stay(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    source = tmp_path / "s.parquet"
    record_analyzed(source, [], frames=5)
    known = pq.read_metadata(source).metadata
    table = pq.read_table(source).append_column("mine", pa.array(range(5)))
    table = table.drop_columns(["attributes"]).replace_schema_metadata(known)
    pq.write_table(table, source)
    analyze(source, [ObjectTracker(trail_depth=3)], tmp_path / "out.parquet")
    with dgrec.open(tmp_path / "out.parquet") as session:
        assert session.sql_rows("SELECT mine FROM frames ORDER BY frame") == [
            (i,) for i in range(5)
        ]
        assert session[4].trails


def test_a_clip_of_it_draws_the_same(tmp_path: Path) -> None:
    """Trails and totals of a frame need no frame before it."""
    results = record_analyzed(tmp_path / "s.parquet", KINDS["lines"](), video="raw")
    with dgrec.open(tmp_path / "s.parquet") as session:
        write_clip(session, [Span(18, 24)], tmp_path / "clip.parquet")
    analyze(tmp_path / "clip.parquet", [Count()], tmp_path / "counted.parquet")
    for name in ("clip", "counted"):
        with dgrec.open(tmp_path / f"{name}.parquet") as session:
            for frame, result in zip(session, results[18:24], strict=True):
                assert frame.overlay(result.image).tobytes() == result.image_overlay.tobytes()
    with dgrec.open(tmp_path / "counted.parquet") as session:
        write_clip(session, [Span(0, 3)], tmp_path / "again.parquet")
    with dgrec.open(tmp_path / "again.parquet") as session:
        assert "analyzed" not in session.metadata  # its video is its own


# --- the command ---


def run(*arguments: object) -> Any:
    return CliRunner().invoke(ANALYZE, [*map(str, arguments)])


def test_the_command(tmp_path: Path) -> None:
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    record_analyzed(source, [])
    (tmp_path / "mine.py").write_text(
        "from degirum_tools import LineCounter\n"
        "def line():\n    return LineCounter([(160, 0, 160, 239)])\n"
    )
    done = run(
        source,
        "-o",
        output,
        "--tracker",
        "trail_depth=4",
        "--analyzers",
        f"{tmp_path / 'mine.py'}:line",
    )
    assert (done.exit_code, done.stdout) == (
        0,
        f"{output}: 30 frames with ObjectTracker, LineCounter\n",
    )
    with dgrec.open(output) as session:
        assert session[-1].line_counts[0].to_dict()["right"] >= 1
    again = run(source, "-o", output, "--tracker")
    assert isinstance(again.exception, OutputError)
    assert run(source, "-o", output, "--tracker", "--overwrite", "--quiet").stdout == ""


def test_a_users_file_runs_again_in_each_run(tmp_path: Path) -> None:
    """As live: it may hold its analyzers itself."""
    rows = [make_row(i, []) for i in range(6)]
    events = [restart(rows[2]), restart(rows[4])]
    source = write_session(tmp_path / "s.parquet", rows, new_metadata(events=events))
    (tmp_path / "held.py").write_text(
        "from degirum_tools import ResultAnalyzerBase\n"
        "class Counts(ResultAnalyzerBase):\n"
        "    seen = 0\n"
        "    def analyze(self, result):\n"
        "        self.seen += 1\n"
        "        result.count = self.seen\n"
        "held = [Counts()]\n"
        "def counts():\n    return held\n"
    )
    done = run(source, "-o", tmp_path / "o.parquet", "--analyzers", f"{tmp_path}/held.py:counts")
    assert done.stdout == f"{tmp_path / 'o.parquet'}: 6 frames with Counts\n"
    with dgrec.open(tmp_path / "o.parquet") as session:
        assert [frame.count for frame in session] == [1, 2] * 3
        assert session.metadata["analyzers"][0]["class"] == "held.Counts"


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ((), 2, "say what to run: --tracker"),
        (("--tracker", "x=1"), 2, "ObjectTracker has no setting 'x'"),
        (("--tracker", "class_list=bird"), 1, "the model has no label 'bird'; it has car, person"),
        (("--analyzers", "nosuch.py:f"), 1, "nosuch.py: no such file"),
    ],
)
def test_what_cannot_be_run(
    tmp_path: Path, arguments: tuple[str, ...], code: int, what: str
) -> None:
    source = tmp_path / "s.parquet"
    record_analyzed(source, [], frames=2)
    done = run(source, "-o", tmp_path / "out.parquet", *arguments)
    assert done.exit_code == code
    assert what in (str(done.exception) + done.output)
    assert not (tmp_path / "out.parquet").exists()


def test_the_session_itself_is_never_replaced(tmp_path: Path) -> None:
    source = tmp_path / "s.parquet"
    record_analyzed(source, [], frames=2)
    done = run(source, "-o", source, "--tracker", "--overwrite")
    assert "is the session itself" in str(done.exception)
    done = run(source, "-o", tmp_path / "out.mp4", "--tracker")
    assert "choose a name that ends in .parquet" in str(done.exception)


def test_the_metadata_is_json(tmp_path: Path) -> None:
    record_analyzed(tmp_path / "s.parquet", KINDS["zones"](), frames=2)
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert json.loads(json.dumps(session.metadata)) == session.metadata


# --- drawing it ---


def test_replay_draws_a_users_own_where_it_is_named(tmp_path: Path) -> None:
    code = """
from degirum_tools import ObjectTracker, ResultAnalyzerBase


class Bar(ResultAnalyzerBase):
    def analyze(self, result):
        result.bar = len(result.results)

    def annotate(self, result, image):
        image[:10, : 20 * result.bar] = (0, 0, 255)
        return image


def bar():
    return Bar()


def red():
    return [Bar(), ObjectTracker(annotation_color=(255, 0, 0), trail_depth=1)]
"""
    (tmp_path / "own.py").write_text(code)
    source, output = tmp_path / "s.parquet", tmp_path / "out.parquet"
    record_analyzed(source, [], frames=6, video="raw")
    own = f"{tmp_path / 'own.py'}:bar"
    assert (
        run(source, "-o", output, "--tracker", "trail_depth=5", "--analyzers", own).exit_code == 0
    )

    def pictures(*arguments: str) -> tuple[list[np.ndarray[Any, Any]], str]:
        folder = tmp_path / "pictures"
        given = (str(output), "--frames", "png", "-o", f"{folder}/", "--overwrite", *arguments)
        done = CliRunner().invoke(replay_command, given)
        assert done.exit_code == 0, done.output
        return [cv2.imread(str(path)) for path in sorted(folder.iterdir())], done.stderr

    without, said = pictures()
    assert "what own.Bar drew is not shown" in said
    drawn, said = pictures("--analyzers", own)
    assert "own.Bar" not in said
    assert all((one[:10, :20] == (0, 0, 255)).all() for one in drawn)
    for one, other in zip(drawn, without, strict=True):
        assert not (other[:10, :20] == (0, 0, 255)).all()
        assert (one[10:] == other[10:]).all()
    red, _ = pictures("--analyzers", own.replace(":bar", ":red"))
    assert (red[5][10:] == (0, 0, 255)).all(axis=2).sum() > 5
    assert not (drawn[5][10:] == (0, 0, 255)).all(axis=2).any()
    bare, _ = pictures("--no-overlay")
    assert any((one != other).any() for one, other in zip(bare, without, strict=True))


def test_several_colors_are_no_obstacle(tmp_path: Path) -> None:
    """degirum_tools takes a complement of one colour only; live such a model fails."""
    [result, *_] = record_analyzed(tmp_path / "s.parquet", KINDS["tracker"](), frames=3)
    with dgrec.open(tmp_path / "s.parquet") as session:
        colors = {"color": [(255, 0, 0), (0, 255, 0)]}
        assert session[2].overlay(result.image, colors).any()


def test_filtered_detections_have_their_own_trails_only(tmp_path: Path) -> None:
    results = record_analyzed(tmp_path / "s.parquet", [ObjectTracker(trail_depth=5)], frames=6)
    with dgrec.open(tmp_path / "s.parquet") as session:
        frame = session[5]
        kept = frame.keep([0])
        assert [found["label"] for found in kept.results] == ["person"]
        assert kept.trails == {kept.results[0]["track_id"]: frame.trails[1]}
        assert len(frame.trails) == 2
        assert kept.overlay(results[5].image).any()


def test_a_users_own_drawing_gets_the_recorded_time(tmp_path: Path) -> None:
    """In several threads at once, too: a player draws ahead."""

    class Clock(ResultAnalyzerBase):
        def __init__(self) -> None:
            self.asked: list[float] = []

        def analyze(self, result: Any) -> None:
            pass

        def annotate(self, result: Any, image: Any) -> Any:
            self.asked.append(time.time())
            return image

    record_analyzed(tmp_path / "s.parquet", [], frames=20)
    real = time.time, time.time_ns
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    with dgrec.open(tmp_path / "s.parquet") as session:
        frames = list(session)

    def draw(clock: Clock) -> None:
        for frame in frames:
            frame.overlay(picture, analyzers=[clock])

    clocks = [Clock() for _ in range(4)]
    threads = [threading.Thread(target=draw, args=[clock]) for clock in clocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (time.time, time.time_ns) == real
    expected = [frame.row["completed_at"].timestamp() for frame in frames]
    for clock in clocks:
        assert clock.asked == pytest.approx(expected, abs=1e-5)
