"""Publishing changes, alerts and chosen detections: live and later the same."""

from __future__ import annotations

import json
import math
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import dgrec
from dgrec.alerts import alerts_of, parse_detection_condition, parse_rule
from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.format import RESTARTED, Row, utc_text
from dgrec.message import Message
from dgrec.publishing import (
    Messages,
    PayloadOptions,
    PublishedFrame,
    Target,
    check_target,
    parse_target,
)
from dgrec.publishing.changes import Changes
from dgrec.recorder.capture import Capture
from dgrec.recorder.outputs import AlertFeed, Alerts, Publisher
from dgrec.recorder.publishing import PublishRequest
from dgrec.recorder.writing import Earlier
from dgrec.replay.publishing import publish
from tests.factory import START_NS, later, make_detection, make_row, new_metadata, write_session
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, new_stream
from tests.waiting import PATIENCE_S

SCHEMAS = {
    path.name.partition(".")[0]: jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for path in (Path(__file__).parents[2] / "docs" / "payloads").glob("*.schema.json")
}
MS = 1_000_000
LABELS = ("person", "car", None, 7, 'a "label"\n\u2028\ud800', "")


def check(text: bytes) -> dict[str, Any]:
    """Return a message, which must be valid by its schema."""
    assert b"\n" not in text
    value: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    kind = next((kind for kind in ("alert", "change") if kind in value), "guide")
    SCHEMAS[kind].validate(value)
    return value


class Taken(Target):
    """Keeps messages."""

    name = "taken"
    is_waited_for = True

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)


# --- chosen detections ---

ITEM = make_detection(1, label="cat", score=np.float32(0.75), bbox=np.array([1, 2.5, 11, 22.5]))


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("score > 0.5", True),
        ("score > 0.75", False),
        ("label == 'cat'", True),
        ("label != 'cat'", False),
        ("label in ('dog', 'cat')", True),
        ("label not in ['dog', 'cat']", False),
        ("x_min == 1 and y_min == 2.5 and x_max == 11 and y_max == 22.5", True),
        ("width == 10 and height == 20", True),
        ("0 < score < 1", True),
        ("track_id > 3", False),  # which it has not
        ("not track_id > 3", False),
        ("track_id > 3 or category_id == 1", True),
        ("'cat' == label", True),
    ],
)
def test_conditions_over_a_detection(condition: str, holds: bool) -> None:
    assert parse_detection_condition(condition).holds(ITEM) is holds


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"score": math.nan, "label": None, "bbox": None},
        {"score": True, "label": 3, "bbox": [1, 2, 3]},
        {"score": "0.9", "label": b"cat", "bbox": "abcd"},
        {"score": 10**400, "bbox": [10**400, None, math.nan, "x"]},
    ],
)
def test_what_is_unknown_fulfils_no_condition(item: dict[str, Any]) -> None:
    for condition in ("score > 0", "label == 'cat'", "x_min > 0", "width > 0"):
        assert not parse_detection_condition(condition).holds(item)
        assert not parse_detection_condition(f"not {condition}").holds(item)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("scores > 1", "'scores' is not a value; of a detection there are label, score, x_min"),
        ("score", "'score' is not a comparison, such as score > 0.5"),
        ("score > 'a'", "is not a comparison"),
        ("label > 'a'", "is not a comparison"),
        ("label == 1", "is not a comparison"),
        ("label in 'cat'", "is not a comparison"),
        ("label in (1, 2)", "is not a comparison"),
        ("label in (score,)", "is not a comparison"),
        ("score in (1, 2)", "is not a comparison"),
        ("label in ('a',) in ('b',)", "is not a comparison"),
        ("label is 'cat'", "is not a comparison"),
        ("1 < 2", ""),
        ("len(label) > 2", "'len(label)' is not a value"),
        ("label.upper() == 'A'", "is not a value"),
        ("score > " + "9" * 400, "is not a value"),
        ("score >", "is not a condition"),
        ("score > 1 or " * 200 + "score > 1", "is longer than 1,000 characters"),
    ],
)
def test_bad_conditions_are_refused_in_one_line(condition: str, words: str) -> None:
    if not words:  # a condition that asks for nothing is none of our business
        assert parse_detection_condition(condition).holds({})
        return
    with pytest.raises(ConfigError) as caught:
        PayloadOptions(where=condition)
    assert str(caught.value).startswith("--payload-where: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="has a payload of its own"):
        PayloadOptions(only_changes=True, form="full")
    with pytest.raises(ConfigError, match="belongs to --only-changes"):
        PayloadOptions(ended_after=2)


@pytest.mark.parametrize(
    ("option", "value"),
    [("only_changes", True), ("payload", "full"), ("publish_every", 5), ("mqtt_discovery", True)],
)
def test_options_of_publishing_take_a_target(option: str, value: Any) -> None:
    flag = f"--{option.replace('_', '-')}"
    with pytest.raises(ConfigError, match=f"{flag} belongs to --publish$"):
        PublishRequest(**{option: value})
    assert PublishRequest().addresses == []


@pytest.mark.parametrize("form", ["guide", "full"])
def test_only_chosen_detections_are_published(form: Any) -> None:
    scores = [0.2, math.nan, 0.5, 0.75, np.float32(0.9)]
    row = make_row(0, [make_detection(i, score=score) for i, score in enumerate(scores)])
    messages = Messages(PayloadOptions(form=form, where="score >= 0.5"), "s")
    (message,) = messages.frame(PublishedFrame.of_row(row, "s"))
    found = json.loads(message.text)["detections"]
    assert [item["score"] for item in found] == [0.5, 0.75, float(np.float32(0.9))]


# --- changes, against an evaluation of their definition ---


def random_rows(seed: int, count: int = 60) -> list[Row]:
    """Return frames in which tracks and labels come, go, change and come back."""
    chance = random.Random(seed)
    rows, stamp = [], START_NS
    tracks = {number: chance.choice(LABELS) for number in range(5)} if seed % 3 else {}
    for number in range(count):
        stamp += chance.choice((20, 33, 400)) * MS
        found: list[Any] = []
        for track in tracks:
            if chance.random() < 0.1:
                tracks[track] = chance.choice(LABELS)
            if chance.random() < 0.7:
                zones = chance.choice((..., [True, False], [False, False], np.array([True])))
                found.append(
                    make_detection(
                        number, label=tracks[track], track_id=np.int64(track), in_zone=zones
                    )
                )
        for _ in range(chance.choice((0, 0, 1, 2, 3))):
            score = chance.choice((0.9, 0.3, math.nan, math.inf))
            bbox = chance.choice(([1.0, 2.0, math.nan, math.inf], ...))
            odd = chance.choice((..., ..., True, "5", 2**70, None))
            found.append(
                make_detection(0, label=chance.choice(LABELS), score=score, bbox=bbox, track_id=odd)
            )
        found += chance.choice(([], [], ["none"]))
        chance.shuffle(found)
        rows.append(make_row(number, found, captured_ns=stamp, completed_ns=stamp + 7 * MS))
    return rows


def evaluated(frames: list[list[Any]], stamps: list[float], after_s: float) -> list[list[Any]]:
    """Return (change, what, facts) of each frame, by going through the definition from the start.

    The state before a frame is found anew for each frame, from all frames before it.
    """

    def key_of(item: Any, tracked: set[Any]) -> Any:
        track, label = item.get("track_id"), item.get("label")
        label = label if isinstance(label, str) else None
        is_number = isinstance(track, int | np.integer) and not isinstance(track, bool)
        if is_number and abs(int(track)) < 2**63:
            return ("track", int(track))
        return None if label in tracked else ("label", label)

    def facts_of(items: list[Any], key: Any) -> Any:
        if key[0] == "label":
            return len(items)
        label = items[0].get("label")
        zone = items[0].get("in_zone")
        return (
            label if isinstance(label, str) else None,
            None if zone is None else [bool(each) for each in zone],
        )

    there: list[dict[Any, Any]] = []
    tracked: set[Any] = set()
    for frame in frames:
        items = [item for item in frame if isinstance(item, dict)]
        for item in items:
            key = key_of(item, set())
            if key[0] == "track":
                label = item.get("label")
                tracked.add(label if isinstance(label, str) else None)
        keys = [key_of(item, tracked) for item in items]
        there.append(
            {
                key: facts_of([i for i, k in zip(items, keys, strict=True) if k == key], key)
                for key in dict.fromkeys(keys)
                if key is not None
            }
        )
    alive: dict[Any, tuple[float, Any]] = {}  # when it was seen last, and how
    found = []
    for now, stamp in zip(there, stamps, strict=True):
        changes = []
        for key, (seen, _) in list(alive.items()):
            if key not in now and stamp - seen >= after_s:
                del alive[key]
                changes.append(("ended", key, None))
        for key, facts in now.items():
            if key not in alive:
                changes.append(("started", key, facts))
            elif alive[key][1] != facts:
                changes.append(("updated", key, facts))
            alive[key] = stamp, facts
        found.append(changes)
    return [*found, [("ended", key, None) for key in alive]]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.5])
def test_changes_are_those_of_their_definition(after_s: float) -> None:
    options = PayloadOptions(only_changes=True, ended_after=after_s)
    kinds: Counter[str] = Counter()
    for seed in range(40):
        rows = random_rows(seed)
        stamps = [row.completed_ns / 1e9 for row in rows]
        expected = evaluated([row.results for row in rows], stamps, after_s)
        messages = Messages(options, "s")
        sent = [messages.frame(PublishedFrame.of_row(row, "s")) for row in rows]
        sent.append(messages.end())
        keys = [message.key for each in sent for message in each]
        assert len({*keys}) == len(keys)
        present = 0
        for each, wanted in zip(sent, expected, strict=True):
            values = [check(message.text) for message in each]
            given = []
            for value in values:
                is_track = "track_id" in value
                what = ("track", value["track_id"]) if is_track else ("label", value["label"])
                facts = (value["label"], value["in_zone"]) if is_track else value.get("count")
                given.append((value["change"], what, facts if value["change"] != "ended" else None))
                kinds[value["change"]] += 1
                assert value["since"] <= value["last_seen"] <= value["timestamp"]
            assert given == wanted, seed
            present += sum({"started": 1, "ended": -1}.get(v["change"], 0) for v in values)
            assert all(value["objects"] >= 0 for value in values)
        assert present == 0  # what starts ends
    assert min(kinds.values()) > 100


def test_what_a_message_says_of_a_track_is_made_when_one_is_due() -> None:
    made = []

    class Box:
        def __init__(self, left: int) -> None:
            self.left = left

        def to_dict(self) -> dict[str, int]:
            made.append(self.left)
            return {"left": self.left}

    changes = Changes()
    for number in range(10):
        found = changes.frame([{"track_id": 1, "label": "cat", "bbox": Box(number)}], number)
        assert [each.kind for each in found] == (["started"] if number == 0 else [])
    (end,) = changes.frame([], 10)

    assert (end.kind, end.seen_us, end.facts["bbox"]) == ("ended", 9, {"left": 9})
    assert made == [0, 9]


# --- live, and later from the session: the same bytes ---

RULES = [
    parse_rule(text)
    for text in (
        "two=count('person') >= 2",
        "some=count() > 0 for 100ms",
        "silent=missing 350ms",
        "quiet=missing 200ms",
    )
]


def live_messages(path: Path, rows: list[Row], options: PayloadOptions) -> list[Message]:
    """Return what is published of rows while they are recorded with rules, and record them."""
    metadata = new_metadata()
    messages, events = live_run(metadata, rows, options)
    write_session(path, rows, {**metadata, "events": events})
    return messages


def live_run(
    metadata: dict[str, Any], rows: list[Row], options: PayloadOptions
) -> tuple[list[Message], list[dict[str, Any]]]:
    """Return what is published of a run of a recorder, and its events."""
    taken, feed = Taken(), AlertFeed()
    events: list[dict[str, Any]] = []
    alerts = Alerts(RULES, events.append, Clock(), lambda line: None, feed=feed)
    publisher = Publisher(taken, options, alerts=feed)
    publisher.begin(metadata["session_id"])
    for row in rows:
        alerts.frame(row, None)
        if publisher.wants(row):
            publisher.frame(row, publisher.result_for(row, None))
        for event in events[-3:]:
            publisher.event(event)  # it may come at any time after its frame
    publisher.end_of_frames()
    alerts.close()
    publisher.close()
    return taken.messages, events


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        PayloadOptions(),
        PayloadOptions(form="full", where="score > 0.5"),
        PayloadOptions(only_changes=True),
        PayloadOptions(only_changes=True, every=3, ended_after=0.4, where="label != 'car'"),
    ],
    ids=["guide", "full", "changes", "some"],
)
def test_live_and_later_are_the_same_bytes(tmp_path: Path, options: PayloadOptions) -> None:
    alerts = 0
    for seed in range(6):
        path = tmp_path / f"{seed}.parquet"
        live = live_messages(path, random_rows(seed), options)
        lines = tmp_path / f"{seed}.jsonl"
        with dgrec.open(path) as session:
            publish(session, [parse_target(str(lines))], options, speed=None)
        assert lines.read_bytes().splitlines() == [message.text for message in live]
        values = [json.loads(message.text) for message in live]
        for value in values:
            if "detections" not in value:
                check(json.dumps(value).encode())
        alerts += sum("alert" in value for value in values)
        is_end = ["-end-" in message.key for message in live]
        stamps = [v["timestamp"] for v, last in zip(values, is_end, strict=True) if not last]
        assert stamps == sorted(stamps)
        assert len({message.key for message in live}) == len(live)
    assert alerts > 50


@pytest.mark.parametrize("only_changes", [False, True])
def test_each_run_of_a_continued_recording_begins_anew(tmp_path: Path, only_changes: bool) -> None:
    """Nobody was there to see what ended, or that nothing came, between two runs."""
    options = PayloadOptions(only_changes=only_changes)
    path, lines, metadata = tmp_path / "s.parquet", tmp_path / "s.jsonl", new_metadata()
    people = [make_detection(0, label="person"), make_detection(1, label="person")]
    rows = [make_row(i, people if i > 2 else []) for i in range(20)]
    # Two people are there at the end of the first run, and when the second one begins.
    runs = rows[:10], [make_row(10, people), *(later(row, 10**10) for row in rows[11:])]
    runs[1][0] = later(runs[1][0], 10**10)
    (first, before), (second, after) = [live_run(metadata, run, options) for run in runs]
    gap = {
        "kind": "gap",
        "reason": RESTARTED,
        "from": utc_text(runs[0][-1].captured_ns),
        "to": utc_text(runs[1][0].captured_ns - 1000),
        "source_frame": 10,
    }
    write_session(path, [*runs[0], *runs[1]], {**metadata, "events": [*before, gap, *after]})
    with dgrec.open(path) as session:
        publish(session, [parse_target(str(lines))], options, speed=None)
        found = [(a.name, a.since_us, a.fired_us) for a in alerts_of(session, RULES)]
    live = [*first, *second]
    assert lines.read_bytes().splitlines() == [message.text for message in live]
    # Who gets a message twice can tell by its key.
    assert len({message.key for message in live}) == len(live)
    started = [each for each in [*before, *after] if each["kind"] == "alert"]
    names = [name for name, _, _ in found[:4]]
    assert names == [each["text"] for each in started] == ["two", "some"] * 2
    fired = [utc_text(fired_us * 1000) for _, _, fired_us in found[:4]]
    assert fired == [each["at"] for each in started]
    # The file of a recording that was made long ago ends later than its last frame.
    assert {since_us for _, since_us, _ in found[4:]} <= {rows[-1].completed_ns // 1000 + 10**7}


@pytest.mark.slow
def test_alerts_of_a_continued_recording_name_its_frames(tmp_path: Path) -> None:
    """Rows have the numbers of all runs already, and alerts are found in rows."""
    path = tmp_path / "s.parquet"
    model = PysdkDouble("DetectionYolo", lambda index: [make_detection(index)])
    alerts: list[Alerts] = []
    stream = new_stream(
        model,
        Capture(ScriptedFrames(i / 30 for i in range(2))),
        path,
        new_metadata("s", **model.describe()),
        earlier=Earlier(source_frames=100),
        watchers=(lambda row, result: alerts[0].frame(row, None),),
    )
    rules = [parse_rule("some=count() > 0")]
    alerts.append(Alerts(rules, stream.recorder.note, Clock(), lambda line: None))
    stream.run()
    with dgrec.open(path) as session:
        assert session.sql("SELECT source_frame FROM alerts").fetchall() == [(100,)]
        assert session.sql("SELECT min(source_frame) FROM frames").fetchall() == [(100,)]


def test_lines_may_be_added_to_changes_and_alerts(tmp_path: Path) -> None:
    messages = Messages(PayloadOptions(only_changes=True), "s")
    (change,) = messages.frame(PublishedFrame.of_row(make_row(0), "s"))
    alert = messages.alert({"kind": "alert", "at": "2026-01-02T03:04:05Z", "text": "crowd"})
    for number, message in enumerate((change, alert)):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(message.text + b"\n")
        check_target(str(path), tmp_path / "s.parquet")


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "alert"},
        {"kind": "alert_end", "text": "never started", "at": "2026-01-02T03:04:05Z"},
        {
            "kind": "alert",
            "at": "yesterday",
            "from": 3,
            "text": "a\u2028b\nc",
            "rule": {"a": math.nan},
        },
        {
            "kind": "alert",
            "at": "2026-01-02T03:04:05",
            "source_frame": math.inf,
            "rule": "x" * 5000,
        },
    ],
)
def test_alerts_of_damaged_sessions(event: dict[str, Any]) -> None:
    check(Messages(PayloadOptions(), 'odd\r\nid: "1"').alert(event).text)
    assert Messages(PayloadOptions(), "odd\r\nX: 1").alert(event).key.startswith("odd__X__1-alert-")


def test_a_frame_waits_for_its_alerts() -> None:
    """Rules are followed in a thread of their own, which may be behind."""
    taken, feed = Taken(), AlertFeed()
    alerts = Alerts(RULES[:1], lambda event: None, Clock(), lambda line: None, feed=feed)
    publisher = Publisher(taken, alerts=feed)
    rows = [make_row(i, [make_detection(0, label="person")] * (2 * i)) for i in range(2)]

    def publish_rows() -> None:
        for row in rows:
            publisher.frame(row, None)
        publisher.close()

    thread = threading.Thread(target=publish_rows, daemon=True)
    thread.start()
    for row in rows:
        alerts.frame(row, None)
    alerts.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert [message.event for message in taken.messages] == ["", "alert", ""]


def test_rules_that_fail_hold_no_publisher_up() -> None:
    taken, feed = Taken(), AlertFeed()
    alerts = Alerts([], lambda event: None, Clock(), lambda line: None, feed=feed)
    publisher = Publisher(taken, alerts=feed)
    alerts.close()  # as its queue does then
    publisher.frame(make_row(0), None)
    publisher.close()
    assert len(taken.messages) == 1


def test_a_feed_of_alerts_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording may go on for months; whoever reads on misses none that is still there."""
    monkeypatch.setattr("dgrec.recorder.outputs.publisher._MOST_ALERTS", 3)
    feed = AlertFeed()
    for number in range(2):
        feed.add({"kind": "alert", "at": f"2026-01-01T00:00:0{number}Z", "text": str(number)})
    assert [each.event["text"] for each in feed.known(0, 10**18)] == ["0", "1"]
    for number in range(2, 6):
        feed.add({"kind": "alert", "at": f"2026-01-01T00:00:0{number}Z", "text": str(number)})
    feed.end()
    assert [each.number for each in feed.after(2, None)] == [3, 4, 5]
    assert [each.event["text"] for each in feed.after(5, None)] == ["5"]
    assert feed.after(6, None) == []
