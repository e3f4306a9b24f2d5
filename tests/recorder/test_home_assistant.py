"""MQTT's last will, and what Home Assistant gets to know: with a real broker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest

import dgrec
from dgrec.errors import ConfigError
from dgrec.message import Message
from dgrec.publishing import (
    Device,
    Messages,
    PayloadOptions,
    PublishedFrame,
    open_target,
    parse_target,
)
from dgrec.recorder.outputs import AlertFeed, Publisher
from dgrec.recorder.publishing import PublishRequest
from dgrec.replay.publishing import publish
from tests.factory import make_detection, make_row
from tests.recorder.broker import Broker, Subscriber
from tests.recorder.command import Command
from tests.waiting import wait_until

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "payloads" / "homeassistant.schema.json").read_text()
)
#: What Home Assistant accepts below its prefix (its documentation: "Discovery topic").
DISCOVERY_TOPIC = re.compile(r"homeassistant/device/[a-zA-Z0-9_-]+/config")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


def retained(broker: Broker, topic: str) -> dict[str, bytes]:
    """Return what a client gets that subscribes now, up to a message that is sent afterwards."""
    with Subscriber(broker.port, topic) as subscriber, Subscriber(broker.port, "end") as other:
        other._client.publish("end", b"", qos=1)
        wait_until(lambda: other.messages == [b""])
        # Mosquitto sends what is retained right after its answer to the subscription.
        wait_until(lambda: subscriber.messages)
        return dict(zip(subscriber.topics, subscriber.messages, strict=True))


@pytest.mark.slow
def test_the_status_of_a_recorder_that_is_killed(tmp_path: Path, broker: Broker) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time, dgrec\n"
        "from dgrec.publishing import open_target, parse_target\n"
        "from dgrec.recorder.outputs import Publisher\n"
        "target = open_target(parse_target(sys.argv[1]), {'source': 'cam', 'session': 's'})\n"
        "with dgrec.Recorder(sys.argv[2], outputs=[Publisher(target)]) as recorder:\n"
        "    while True:\n"
        "        recorder.add([])\n"
        "        time.sleep(0.01)\n"
    )
    address = f"mqtt://127.0.0.1:{broker.port}/cams/{{source}}"
    session = str(tmp_path / "s.parquet")
    with Subscriber(broker.port, "cams/cam/status") as status:
        process = subprocess.Popen([sys.executable, str(program), address, session])
        wait_until(lambda: status.messages == [b"online"] or process.poll() is not None)
        assert retained(broker, "cams/cam/status") == {"cams/cam/status": b"online"}
        process.kill()
        process.wait()
        wait_until(lambda: status.messages[-1] == b"offline")
    assert retained(broker, "cams/cam/status") == {"cams/cam/status": b"offline"}


@pytest.mark.slow
def test_the_status_of_a_recorder_that_ends(tmp_path: Path, broker: Broker) -> None:
    with Subscriber(broker.port, "found/status") as status:
        target = open_target(parse_target(f"mqtt://127.0.0.1:{broker.port}/found"), {})
        target.send(Message("1", b"{}"))
        wait_until(lambda: status.messages == [b"online"])
        target.close()
        wait_until(lambda: len(status.messages) == 2)
        assert status.messages == [b"online", b"offline"]
        assert target.delivered == 1
    assert retained(broker, "found/status") == {"found/status": b"offline"}


@pytest.mark.slow
def test_the_status_after_a_broker_was_killed(tmp_path: Path, broker: Broker) -> None:
    target = open_target(parse_target(f"mqtt://127.0.0.1:{broker.port}/found"), {})
    with Subscriber(broker.port, "found/status") as status:
        wait_until(lambda: status.messages == [b"online"])
        broker.kill()
        broker.start()
        status.wait_for_subscription()
        wait_until(lambda: len(status.messages) > 1)
        assert status.messages[-1] == b"online"
        target.close()


# --- Home Assistant ---

ALERTS = ("crowd", "fast cars", "\u0444\u044b", "a.b", "a-b")


@pytest.mark.parametrize(
    "options", [PayloadOptions(), PayloadOptions(form="full"), PayloadOptions(only_changes=True)]
)
@pytest.mark.parametrize("topic", ["cams/door/found", "a", "\u0444/\u044b", "x" * 300, "a b"])
def test_the_discovery_of_a_device(options: PayloadOptions, topic: str) -> None:
    device = Device('the "door"\n', "face\ud800", ALERTS, options)
    config_topic, text = device.discovery(topic)
    assert DISCOVERY_TOPIC.fullmatch(config_topic)
    value = json.loads(text)
    jsonschema.validate(value, SCHEMA)
    assert value["availability_topic"] == f"{topic}/status"
    identifiers = [each["unique_id"] for each in value["components"].values()]
    assert len({*identifiers}) == len(identifiers)
    sensors = [each for each in value["components"].values() if each["platform"] == "sensor"]
    assert all(each["state_topic"] == topic for each in sensors)
    alerts = {each["name"] for each in value["components"].values() if each not in sensors}
    assert alerts == {*ALERTS}
    states = device.alert_topics(topic)
    assert len({*states.values()}) == len(ALERTS)
    assert not [each for each in states.values() if each in (topic, f"{topic}/status")]


def test_two_topics_are_two_devices() -> None:
    topics = {Device("cam").discovery(topic)[0] for topic in ("a/b", "a_b", "a b", "A/b", "a/b/")}
    assert len(topics) == 5


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (PayloadOptions(), {"detections": "2"}),
        (PayloadOptions(form="full"), {"detections": "2", "latency": "None"}),
        (PayloadOptions(only_changes=True), {"detections": "2"}),
    ],
)
def test_templates_give_the_values_of_messages(
    options: PayloadOptions, wanted: dict[str, str]
) -> None:
    row = make_row(0, [make_detection(0), make_detection(1)], is_capture_known=False)
    message = Messages(options, "s").frame(PublishedFrame.of_row(row, "s"))[-1]
    components = json.loads(Device("cam", options=options).discovery("t")[1])["components"]
    shown = {
        name: jinja2.Template(each["value_template"]).render(value_json=json.loads(message.text))
        for name, each in components.items()
    }
    assert shown == wanted  # "None" is an unknown value there


@pytest.mark.slow
def test_alerts_become_states(tmp_path: Path, broker: Broker) -> None:
    address = parse_target(f"mqtt://127.0.0.1:{broker.port}/found")
    feed = AlertFeed()
    device = Device("cam", alerts=("crowd", "quiet"))
    crowd, quiet = device.alert_topics("found").values()
    publisher = Publisher(open_target(address, {}, device=device), alerts=feed)
    publisher.begin("s")
    with (
        Subscriber(broker.port, crowd) as states,
        Subscriber(broker.port, "found/alerts") as alerts,
        Subscriber(broker.port, "homeassistant/#") as discovery,
    ):
        wait_until(lambda: states.messages == [b"OFF"] and discovery.messages)
        for number, kind in enumerate(("alert", "alert_end", "alert")):
            feed.add({"kind": kind, "at": f"2026-01-02T03:04:0{number}Z", "text": "crowd"})
        feed.end()
        publisher.close()
        wait_until(lambda: len(states.messages) == 4 and len(alerts.messages) == 3)
        assert states.messages == [b"OFF", b"ON", b"OFF", b"ON"]
        given = [json.loads(text)["state"] for text in alerts.messages]
        assert given == ["started", "ended", "started"]
        assert dict(zip(discovery.topics, discovery.messages, strict=True)) == dict(
            [device.discovery("found")]
        )
    assert publisher.delivered == 3
    assert retained(broker, quiet) == {quiet: b"OFF"}


def test_discovery_needs_a_broker() -> None:
    with pytest.raises(ConfigError, match="--mqtt-discovery needs a broker"):
        PublishRequest(publish=("lines.jsonl",), mqtt_discovery=True)


def test_several_sources_are_several_devices() -> None:
    one = PublishRequest(publish=("mqtt://host/found",), mqtt_discovery=True)
    with pytest.raises(ConfigError, match=r"put \{source\} into it"):
        one.check_several()
    PublishRequest(publish=("mqtt://host/{source}",), mqtt_discovery=True).check_several()


# --- the commands ---


@pytest.mark.slow
def test_a_recording_and_later_the_session(tmp_path: Path, broker: Broker, dgrec: Command) -> None:
    """Live and from the session: the same messages at each topic, and the same lines."""
    address = f"mqtt://127.0.0.1:{broker.port}/cams/{{source}}"
    condition = "score > 0.5 and label == 'face'"
    rules = ["face=count('face') > 0", "none=count('face') == 0"]
    with Subscriber(broker.port, "#") as all_:
        done = dgrec.record(
            *("--source", "sample", "--every", "5", "--max-frames", "40", "--output", "s.parquet"),
            *("--publish", address, "--publish", "live.jsonl", "--mqtt-discovery"),
            *("--only-changes", "--payload-where", condition),
            *(f"--alert={rule}" for rule in rules),
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "live.jsonl").read_bytes().splitlines()
        values = list(map(json.loads, lines))
        wait_until(lambda: b"offline" in all_.messages)
        live = sorted(zip(all_.topics, all_.messages, strict=True))
        topics = {*all_.topics}
        del all_.messages[:], all_.topics[:]
        options = PayloadOptions(only_changes=True, where=condition)
        with _open(tmp_path / "s.parquet") as session:
            targets = [address, str(tmp_path / "later.jsonl")]
            publish(session, list(map(parse_target, targets)), options, discovery=True, speed=None)
        wait_until(lambda: b"offline" in all_.messages)
        later = sorted(zip(all_.topics, all_.messages, strict=True))
    assert (tmp_path / "later.jsonl").read_bytes().splitlines() == lines
    assert {"started", "ended"} <= {value.get("change") for value in values}
    alerts = [value for value in values if "alert" in value]
    assert [alert["alert"] for alert in alerts if alert["state"] == "started"] == [
        "none",
        "face",
    ]
    of_recording = {"cams/sample", "cams/sample/alerts"}
    assert of_recording < topics

    def sent(messages: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        return [each for each in messages if each[0] in of_recording]

    assert sent(live) == sent(later)
    assert len(sent(live)) == len(lines)


def _open(path: Path) -> Any:
    return dgrec.open(path)
