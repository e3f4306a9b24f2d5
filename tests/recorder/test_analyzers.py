"""Analyzers: recorded with a session, and drawn from it as they drew live."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import degirum_tools
import numpy as np
import pytest
from degirum_tools import (
    AnchorPoint,
    EventDetector,
    EventNotifier,
    LineCounter,
    ObjectSelector,
    ObjectTracker,
    ResultAnalyzerBase,
    SceneCutDetector,
    ZoneCounter,
)

import dgrec
from dgrec.analyzers import AnalyzerRequest, describe, drawing_of
from dgrec.format.metadata import given as checked
from dgrec.replay.analysis import write_analysis
from dgrec.replay.verify import verify
from tests.clips import FRAMES, short_clip
from tests.factory import START_NS, make_row, new_metadata, write_session
from tests.recorder.command import Command, error_of
from tests.recorder.test_program import load, pictures

LEFT = [[0, 100], [160, 100], [160, 300], [0, 300]]
MIDDLE = [[200, 100], [400, 100], [400, 300], [200, 300]]
LINES = [(550, 200, 550, 300), (110, 300, 110, 200), (0, 250, 639, 255)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every sixth picture: faces move, cross `LINES`, and leave."""
    return str(short_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", step=6))


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    assert dgrec.Recorder  # PySDK finds this Python for its worker from here on
    with load() as loaded:
        yield loaded


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


def tracker(**settings: Any) -> Any:
    return ObjectTracker(**{"track_thresh": 0.3, "trail_depth": 5, **settings})


def event(name: str, metric: str, **more: Any) -> dict[str, Any]:
    return {"Trigger": name, "when": metric, "is greater than": 0, "during": [1, "frame"], **more}


class Stamp(ResultAnalyzerBase):
    """A user's own: it adds a number, and draws a bar of that length."""

    def __init__(self, height: int = 4, api_key: str = "secret") -> None:
        self.height = height
        self.api_key = api_key
        self._seen = 0

    def analyze(self, result: Any) -> None:
        self._seen += 1
        result.stamp = self._seen

    def annotate(self, result: Any, image: Any) -> Any:
        image[: self.height, : 10 * result.stamp] = 255
        return image


ANALYZERS: dict[str, Callable[[], list[Any]]] = {
    "ids": lambda: [tracker(trail_depth=0)],
    "trails": lambda: [tracker()],
    "trails of centres": lambda: [
        tracker(anchor_point=AnchorPoint.CENTER, annotation_color=(255, 20, 0), class_list=["face"])
    ],
    "only ids": lambda: [tracker(show_only_track_ids=True)],
    "lines": lambda: [tracker(), LineCounter(LINES, return_direction_in_results=True)],
    "lines by class": lambda: [tracker(), LineCounter(LINES, per_class_display=True)],
    "lines in the picture": lambda: [
        tracker(show_overlay=False),
        LineCounter(
            LINES,
            AnchorPoint.CENTER,
            absolute_directions=True,
            per_class_display=True,
            accumulate=False,
            annotation_color=(0, 255, 0),
            annotation_line_width=5,
        ),
    ],
    "old zones": lambda: [ZoneCounter([np.array(LEFT), np.array(MIDDLE)])],
    "old zones by class": lambda: [
        ZoneCounter(count_polygons=[LEFT, MIDDLE], class_list=["face"], per_class_display=True)
    ],
    "zones": lambda: [
        tracker(),
        ZoneCounter(
            {"middle": MIDDLE, "door": LEFT},
            use_tracking=True,
            enable_zone_events=True,
            show_inzone_counters="all",
            timeout_frames=1,
            annotation_line_width=3,
        ),
    ],
    "events": lambda: [
        tracker(),
        ZoneCounter({"middle": MIDDLE}),
        EventDetector(event("somebody", "ZoneCount"), annotation_pos=(200, 40)),
        EventDetector(
            event("faces", "ObjectCount"),
            annotation_pos=AnchorPoint.TOP_RIGHT,
            annotation_font_scale=2.0,
            annotation_color=(9, 200, 9),
        ),
    ],
    "messages": lambda: [
        EventDetector(event("faces", "ObjectCount"), show_overlay=False),
        EventNotifier(
            "door",
            "faces",
            message="somebody is there",
            annotation_pos=AnchorPoint.TOP_LEFT,
            annotation_cool_down=10_000.0,
        ),
    ],
    "the best": lambda: [ObjectSelector(top_k=1, use_tracking=False)],
    "the best track": lambda: [tracker(), ObjectSelector(top_k=2, annotation_color=(1, 2, 250))],
    "scene cuts": lambda: [SceneCutDetector(), tracker(reset_at_scene_cut=True)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ANALYZERS)
def test_overlays_are_those_that_were_seen_live(
    model: Any, clip: str, output: Path, name: str
) -> None:
    live = list(dgrec.predict_stream(model, clip, output=output, analyzers=ANALYZERS[name]()))
    assert len(live) == FRAMES
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert drawing_of(session.metadata).missing == ()
        bare = dict(session.metadata)
        del bare["analyzers"]
        drawn = 0
        for frame, result in zip(session, live, strict=True):
            overlay = frame.overlay(result.image)
            assert overlay.tobytes() == result.image_overlay.tobytes()
            without = session.restored(frame.row, bare).overlay(result.image)
            drawn += overlay.tobytes() != without.tobytes()
        assert drawn > 3
        for pixels in (session.pixels(clip), session.pixels()):
            with pixels:
                seen = [frame.image_overlay.tobytes() for frame in pixels.results(session)]
            assert seen == [result.image_overlay.tobytes() for result in live]


#: What depends on when the model ran.
TIMES = ("time_in_zone", "zone_events")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trails", "lines by class", "zones", "events", "the best track"])
def test_later_equals_live(model: Any, clip: str, tmp_path: Path, name: str) -> None:
    live, bare, later = (tmp_path / f"{name}.parquet" for name in ("live", "bare", "later"))
    images = [
        result.image
        for result in dgrec.predict_stream(model, clip, output=live, analyzers=ANALYZERS[name]())
    ]
    list(dgrec.predict_stream(model, clip, output=bare))
    with dgrec.open(bare) as session:
        write_analysis(session, ANALYZERS[name], later)
    assert verify(later) == []
    with dgrec.open(live) as first, dgrec.open(later) as second:
        for one, other, image in zip(first, second, images, strict=True):
            assert list(map(without_times, one.results)) == list(map(without_times, other.results))
            assert without_times(one.attributes) == without_times(other.attributes)
            if name != "zones":  # which shows seconds
                assert one.overlay(image).tobytes() == other.overlay(image).tobytes()
        assert first.metadata["analyzers"] == second.metadata["analyzers"]


def without_times(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in TIMES}


@pytest.mark.slow
def test_a_frame_without_detections_is_not_drawn_on(model: Any, clip: str, output: Path) -> None:
    """PySDK gives the picture itself back where there is nothing to draw."""
    live = list(
        dgrec.predict_stream(model, clip, output=output, analyzers=ANALYZERS["old zones"]())
    )
    with dgrec.open(output) as session:
        frame = session[-1]
        assert frame.results == []
        picture = np.zeros_like(live[-1].image)
        for settings in ({}, {"alpha": 0.5}):
            assert frame.overlay(picture, settings).any()
            assert not picture.any()


@pytest.mark.slow
def test_what_the_metadata_says(model: Any, clip: str, output: Path) -> None:
    analyzers = [
        tracker(class_list=["face"]),
        ZoneCounter({"a": MIDDLE}, iopa_threshold=0.5, triggering_position=None),
        Stamp(),
    ]
    stream = dgrec.predict_stream(model, clip, output=output, max_frames=2, analyzers=analyzers)
    assert len(list(stream)) == 2
    with dgrec.open(output) as session:
        entries = session.metadata["analyzers"]
    assert [entry["class"] for entry in entries] == [
        "degirum_tools.ObjectTracker",
        "degirum_tools.ZoneCounter",
        f"{__name__}.Stamp",
    ]
    assert entries[0]["parameters"] == {
        "class_list": ["face"],
        "track_thresh": 0.3,
        "track_buffer": 30,
        "match_thresh": 0.8,
        "reset_at_scene_cut": False,
        "anchor_point": "BOTTOM_CENTER",
        "trail_depth": 5,
        "show_overlay": True,
        "annotation_color": None,
        "show_only_track_ids": False,
    }
    zone = entries[1]["parameters"]
    assert zone["zones"] == {"a": MIDDLE}
    assert (zone["iopa_threshold"], zone["triggering_position"]) == ([0.5], None)
    assert zone["frame_size"] is None
    assert entries[2]["parameters"] == {"height": 4}


@pytest.mark.parametrize("kind", ["ObjectTracker", "ZoneCounter", "LineCounter", "EventDetector"])
def test_every_setting_of_the_installed_degirum_tools_is_known(kind: str) -> None:
    import inspect

    made = {
        "ObjectTracker": tracker(),
        "ZoneCounter": ZoneCounter([MIDDLE]),
        "LineCounter": LineCounter(LINES),
        "EventDetector": EventDetector(event("x", "ObjectCount")),
    }[kind]
    settings = set(inspect.signature(getattr(degirum_tools, kind)).parameters)
    [entry] = describe([made])
    # One is another name of `zones`.
    assert set(entry["parameters"]) == settings - {"count_polygons"}


@pytest.mark.slow
def test_a_watched_model(model: Any, clip: str, output: Path) -> None:
    with dgrec.Recorder(output) as recorder, recorder.watch(model):
        live = list(
            degirum_tools.predict_stream(model, clip, analyzers=ANALYZERS["lines by class"]())
        )
    with dgrec.open(output) as session:
        for frame, result in zip(session, live, strict=True):
            assert frame.overlay(result.image).tobytes() == result.image_overlay.tobytes()
        assert len(session.metadata["analyzers"]) == 2


@pytest.mark.slow
def test_results_that_a_program_adds(model: Any, clip: str, output: Path) -> None:
    degirum_tools.attach_analyzers(model, ANALYZERS["zones"]())
    try:
        live = list(model.predict_batch(pictures(clip)))
    finally:
        degirum_tools.attach_analyzers(model, None)
    with dgrec.Recorder(output) as recorder:
        for result in live:
            recorder.add(result)
    with dgrec.open(output) as session:
        for frame, result in zip(session, live, strict=True):
            assert frame.overlay(result.image).tobytes() == result.image_overlay.tobytes()


@pytest.mark.slow
def test_an_annotated_video_shows_them(model: Any, clip: str, output: Path) -> None:
    """The encoder changes pixels, so that only large differences count."""
    analyzers = [LineCounter([(20, 20, 620, 20)], annotation_line_width=9)]
    options: dict[str, Any] = {"video": "annotated", "video_quality": 100, "max_frames": 4}
    live = list(dgrec.predict_stream(model, clip, output=output, analyzers=analyzers, **options))
    for picture, result in zip(
        pictures(str(output.with_suffix(".annotated.mp4"))), live, strict=True
    ):
        assert (
            np.abs(picture[20, 100:500].astype(int) - result.image_overlay[20, 100:500]).max() < 60
        )
        assert np.abs(picture[20, 100:500].astype(int) - result.image[20, 100:500]).max() > 100


@pytest.mark.slow
def test_a_users_own_analyzer_draws_where_it_is_named(model: Any, clip: str, output: Path) -> None:
    analyzers = [Stamp(), tracker()]
    live = list(dgrec.predict_stream(model, clip, output=output, analyzers=analyzers))
    with dgrec.open(output) as session:
        assert drawing_of(session.metadata).missing == (f"{__name__}.Stamp",)
        for frame, result in zip(session, live, strict=True):
            overlay = frame.overlay(result.image, analyzers=[Stamp()])
            assert overlay.tobytes() == result.image_overlay.tobytes()
            without = frame.overlay(result.image)
            assert (without[:4, :10] != 255).any()


@pytest.mark.slow
def test_analyzers_are_detached_and_finalized(model: Any, clip: str, output: Path) -> None:
    class Ends(Stamp):
        ended = 0

        def finalize(self) -> None:
            self.ended += 1

    each = Ends()
    for _ in dgrec.predict_stream(model, clip, output=output, analyzers=each):
        break
    assert each.ended == 1
    assert model._custom_postprocessor is None


@pytest.mark.slow
def test_an_analyzer_that_fails_at_its_end(model: Any, clip: str, output: Path) -> None:
    class Fails(Stamp):
        is_broken = True

        def finalize(self) -> None:
            if self.is_broken:
                self.is_broken = False
                raise ValueError("no way to\nend")

    class Ends(Stamp):
        ended = 0

        def finalize(self) -> None:
            self.ended += 1

    other = Ends()
    with pytest.raises(dgrec.DgrecError, match="an analyzer failed at its end: ValueError: no way"):
        list(
            dgrec.predict_stream(
                model, clip, output=output, analyzers=[Fails(), other], max_frames=3
            )
        )
    with dgrec.open(output) as session:
        assert len(session) == 3
    assert other.ended == 1
    assert model._custom_postprocessor is None


# --- files from somebody else ---


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.exec",
        "degirum_tools.NotificationServer",
        "degirum_tools.ClipSaver.mro",
        "degirum_tools.tools.ObjectTracker",
        "degirum_tools.analyzers.object_tracker.ObjectTracker",
        "ObjectTracker",
        "",
    ],
)
def test_a_file_names_no_other_class(name: str) -> None:
    [entry] = describe([tracker()])
    drawing = drawing_of(checked({"analyzers": [{**entry, "class": name}]}))
    assert (drawing.analyzers, drawing.missing) == ((), (name,))


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("trails", {"anchor_point": "__class__"}),
    ("trails", {"anchor_point": 5}),
    ("trails", {"trail_depth": 10**12}),
    ("trails", {"trail_depth": "5"}),
    ("trails", {"annotation_color": [1, 2, 256]}),
    ("trails", {"annotation_color": "red"}),
    ("trails", {"show_overlay": "yes"}),
    ("lines", {"lines": [[0, 0, 1e30, 1]]}),
    ("lines", {"lines": [["a", 0, 1, 1]]}),
    ("lines", {"lines": [[0, 0, 1]]}),
    ("lines", {"lines": [[0, 0, 1, 1]] * 300}),
    ("lines", {"lines": "x" * 100}),
    ("lines", {"annotation_line_width": 10**9}),
    ("old zones", {"zones": [[[0, 0, 0]]]}),
    ("old zones", {"zones": {"a": [[0, 0]] * 100_000}}),
    ("old zones", {"zones": {str(i): MIDDLE for i in range(300)}}),
    ("old zones", {"zones": {"a": MIDDLE, "b": [["x", 1]]}}),
    ("old zones", {"show_inzone_counters": "everything"}),
    ("old zones", {"class_list": ["a"] * 300}),
    ("old zones", {"class_list": ["a" * 300]}),
    ("old zones", {"zones": {"a" * 300: MIDDLE}}),
    ("events", {"event_description": {"Trigger": "a" * 300}}),
    ("events", {"event_description": "&a [*a, *a]"}),
    ("events", {"event_description": {"Trigger": ["a"]}}),
    ("events", {"annotation_pos": "nowhere"}),
    ("events", {"annotation_pos": [1, 2, 3]}),
    ("events", {"annotation_font_scale": 1e9}),
    ("the best", {"annotation_color": {"a": 1}}),
]


@pytest.mark.parametrize(("name", "settings"), HOSTILE)
def test_settings_that_a_file_cannot_have(name: str, settings: dict[str, Any]) -> None:
    entry = describe(ANALYZERS[name]())[-1]
    assert len(drawing_of(checked({"analyzers": [entry]})).analyzers) == 1
    entry["parameters"] |= settings
    drawing = drawing_of(checked({"analyzers": [entry]}))
    assert (drawing.analyzers, drawing.missing) == ((), (entry["class"],))


@pytest.mark.parametrize("name", ANALYZERS)
def test_a_setting_that_is_missing_is_not_guessed(name: str) -> None:
    entry = describe(ANALYZERS[name]())[-1]
    del entry["parameters"]["show_overlay"]
    assert drawing_of(checked({"analyzers": [entry]})).missing == (entry["class"],)


@pytest.mark.slow
def test_recorded_values_that_cannot_be_drawn(model: Any, clip: str, output: Path) -> None:
    list(dgrec.predict_stream(model, clip, output=output, analyzers=ANALYZERS["lines"]()))
    picture = np.zeros((360, 640, 3), np.uint8)
    with dgrec.open(output) as session:
        frame = session[0]
        for attributes in (
            {"trails": 5},
            {"trails": {1: [["a", "b", "c", "d"]] * 2}},
            {"trails": {1: [(0, 0, 1, 1)] * 2}, "trail_classes": None},
            {"line_counts": 3},
            {"line_counts": [{"left": 1}]},
        ):
            row = {**frame.row, "attributes": dgrec.format.json_values.dumps(attributes)}
            with pytest.raises(dgrec.OverlayError, match="frame 0"):
                session.restored(row).overlay(picture)


# --- the command ---


def test_settings_of_the_tracker() -> None:
    request = AnalyzerRequest(
        ("class_list='traffic light',car track_thresh=0.5", "trail_depth=7 anchor_point=top-left")
    )
    [made] = request.make(["car", "traffic light"])
    [entry] = describe([made])
    assert entry["class"] == "degirum_tools.ObjectTracker"
    chosen = {"class_list": ["traffic light", "car"], "track_thresh": 0.5, "trail_depth": 7}
    assert chosen.items() <= entry["parameters"].items()
    assert entry["parameters"]["anchor_point"] == "TOP_LEFT"
    assert [type(each) for each in AnalyzerRequest(("reset_at_scene_cut=yes",)).make()] == [
        SceneCutDetector,
        ObjectTracker,
    ]
    [plain] = AnalyzerRequest(("",)).make()
    assert describe([plain]) == describe([ObjectTracker()])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("trail_depth", "'trail_depth' is not NAME=VALUE"),
        ("trails=5", "no setting 'trails'; it has class_list, track_thresh"),
        ("track_thresh=2", "track_thresh=2: expected 0 to 1"),
        ("track_thresh=nan", "track_thresh=nan: expected 0 to 1"),
        ("trail_depth=1.5", "trail_depth=1.5: expected a number"),
        ("show_overlay=maybe", "show_overlay=maybe: expected true or false"),
        ("anchor_point=middle", "expected one of CENTER"),
        ("annotation_color=1,2", "expected red, green and blue"),
        ("class_list=", "expected labels"),
        ("class_list='a", "no closing quotation"),
    ],
)
def test_settings_that_the_tracker_has_not(text: str, what: str) -> None:
    with pytest.raises(dgrec.ConfigError, match="^--tracker: .*" + re.escape(what)) as raised:
        AnalyzerRequest((text,))
    assert "\n" not in str(raised.value)


def test_a_label_that_the_model_has_not() -> None:
    with pytest.raises(dgrec.ConfigError, match="no label 'persn'; it has face"):
        AnalyzerRequest(("class_list=persn",)).make(["face"])


MINE = """
from degirum_tools import LineCounter, ResultAnalyzerBase


class Mine(ResultAnalyzerBase):
    def analyze(self, result):
        self.seen = getattr(self, "seen", 0) + 1
        result.mine = 12 / (4 - self.seen)


def line():
    return LineCounter([(550, 200, 550, 300)])


def both():
    return [line(), Mine()]


def number():
    return 5


def broken():
    return 1 / 0
"""


@pytest.mark.parametrize(
    ("code", "name", "what"),
    [
        (MINE, "nothing", r"mine\.py: has no function 'nothing'"),
        (MINE, "number", r"mine\.py: number\(\) returned a int; expected an analyzer"),
        (MINE, "broken", r"mine\.py:24: ZeroDivisionError: division by zero"),
        ("x = 1\nimport nosuch_module_at_all\n", "f", r"mine\.py:2: ModuleNotFoundError: No mod"),
        ("def f(:\n", "f", r"mine\.py:1: SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "f", r"mine\.py:2: SystemExit: 3"),
        (None, "f", r"mine\.py: no such file"),
    ],
)
def test_a_file_that_does_not_work(tmp_path: Path, code: str | None, name: str, what: str) -> None:
    path = tmp_path / "mine.py"
    if code is not None:
        path.write_text(code)
    with pytest.raises(dgrec.DgrecError, match=what) as raised:
        AnalyzerRequest(functions=(f"{path}:{name}",)).make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["mine.py", "mine.py:", ":f", "mine.py:a b"])
def test_a_function_that_is_none(text: str) -> None:
    with pytest.raises(dgrec.ConfigError, match=re.escape(f"{text!r} is not FILE.py:function")):
        AnalyzerRequest(functions=(text,))


@pytest.mark.slow
def test_the_command_records_with_a_tracker_and_a_file(
    dgrec: Command, clip: str, tmp_path: Path
) -> None:
    import dgrec as library

    (tmp_path / "mine.py").write_text(MINE)
    done = dgrec.record(
        "--source",
        clip,
        "-o",
        "s.parquet",
        "--tracker",
        "class_list=face trail_depth=9",
        "--analyzers",
        "mine.py:line",
    )
    assert done.returncode == 0, done.stderr
    with library.open(tmp_path / "s.parquet") as session:
        assert [entry["class"] for entry in session.metadata["analyzers"]] == [
            "degirum_tools.ObjectTracker",
            "degirum_tools.LineCounter",
        ]
        assert max(len(trail) for frame in session for trail in frame.trails.values()) == 9
        assert session[-1].line_counts[0].to_dict() == {"right": 0, "left": 1, "for_class": {}}


@pytest.mark.slow
def test_an_analyzer_that_fails_in_the_middle(dgrec: Command, clip: str, tmp_path: Path) -> None:
    import dgrec as library

    (tmp_path / "mine.py").write_text(MINE)
    done = dgrec.record(
        "--source", clip, "-o", "s.parquet", "--tracker", "--analyzers", "mine.py:both"
    )
    assert done.returncode == 1
    assert "mine.py:8: ZeroDivisionError: division by zero" in error_of(done)
    # PySDK goes on with what it has in hand, so that more than the 3 before are recorded.
    with library.open(tmp_path / "s.parquet") as session:
        rows = session.frames.to_pylist()
        assert [frame.mine for frame in session][:3] == [4, 6, 12]
        assert 3 not in [row["source_frame"] for row in rows]


@pytest.mark.slow
def test_a_usage_error(dgrec: Command) -> None:
    done = dgrec.record("--source", "sample", "--tracker", "trails=5")
    assert done.returncode == 2
    assert "ObjectTracker has no setting 'trails'" in done.stderr
    assert list(dgrec.folder.iterdir()) == []


def test_entries_are_json() -> None:
    for make in ANALYZERS.values():
        entries = describe(make())
        assert checked({"analyzers": entries})["analyzers"] == json.loads(json.dumps(entries))


# --- messages, which are shown for a while ------------------------------------------------------


def notified(path: Path, messages: dict[int, Any], cool_down: float = 0.1) -> Path:
    """Write a session in which frames gave messages; results come 33 ms one after the other."""
    notifier = EventNotifier("door", "x", annotation_cool_down=cool_down)
    rows = [
        make_row(
            number,
            [],
            completed_ns=START_NS + number * 33_000_000 + 5_000_000,
            attributes={"notifications": messages[number]} if number in messages else None,
        )
        for number in range(12)
    ]
    return write_session(path, rows, new_metadata(analyzers=describe([notifier])))


@pytest.mark.parametrize("order", ["forwards", "backwards", "one alone"])
def test_a_message_is_shown_for_as_long_as_it_was(tmp_path: Path, order: str) -> None:
    path = notified(tmp_path / "s.parquet", {0: {}, 3: {"door": "hello"}, 8: {"window": "no"}})
    picture = np.zeros((480, 640, 3), np.uint8)
    shown = {}
    numbers = {"forwards": range(12), "backwards": range(11, -1, -1), "one alone": [5]}[order]
    with dgrec.open(path) as session:
        assert session[0].analyzers_not_drawn() == ()
        for number in numbers:
            shown[number] = bool(session[number].overlay(picture).any())
        model = dgrec.model(path, match="order")
        stood_in = [result.image_overlay.any() for result in model.predict_batch([picture] * 12)]
    assert stood_in == [3 <= number <= 6 for number in range(12)]
    # 0.1 s: three further frames.
    assert shown == {number: 3 <= number <= 6 for number in numbers}


@pytest.mark.parametrize(
    "messages", [{3: 5}, {3: {"door": 5}}, {3: {"door": ["hello"]}}, {3: [["door", "hello"]]}]
)
def test_odd_messages_of_a_file_are_left_out(tmp_path: Path, messages: dict[int, Any]) -> None:
    path = notified(tmp_path / "s.parquet", messages)
    with dgrec.open(path) as session:
        assert not session[4].overlay(np.zeros((480, 640, 3), np.uint8)).any()
