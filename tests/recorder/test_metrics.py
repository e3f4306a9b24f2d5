"""Figures for Prometheus, as its own parser reads them, against SQL over the same session."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import dgrec
from dgrec import sample
from dgrec.errors import ConfigError, OutputError
from dgrec.publishing import open_target, parse_target
from dgrec.recorder.outputs import Metrics, Publisher, parse_metrics_address
from tests.factory import make_detection, make_row, make_rows, write_session
from tests.live_clients import get
from tests.recorder.broker import free_port
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples" / "prometheus"

Samples = dict[tuple[str, ...], float]


def scrape(port: int, source: str = "cam") -> Samples:
    """Return the figures by name and labels (without ``source``)."""
    status, answer = get(port, "/metrics")
    assert status == 200
    found: Samples = {}
    assert b"\0" not in answer  # for Prometheus itself there is nothing behind it
    for family in text_string_to_metric_families(answer.partition(b"\r\n\r\n")[2].decode()):
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        for each in family.samples:
            labels = dict(each.labels)
            assert labels.pop("source") == source
            key = (each.name, *(value for _, value in sorted(labels.items())))
            assert key not in found
            found[key] = each.value
    return found


@pytest.mark.slow
def test_a_scrape_agrees_with_sql(tmp_path: Path) -> None:
    port, path, lines = free_port(), tmp_path / "s.parquet", tmp_path / "lines.jsonl"
    from degirum_tools import predict_stream

    model = dgrec.model(sample.SESSION)
    model.measure_time = True
    outputs = [Metrics(str(port), "cam"), Publisher(open_target(parse_target(str(lines)), {}))]
    with dgrec.Recorder(path, outputs=outputs) as recorder:
        with recorder.watch(model):
            frames = sum(1 for _ in predict_stream(model, str(sample.CLIP)))
        wait_until(lambda: scrape(port).get(("dgrec_frames_total",)) == frames)
        wait_until(lambda: scrape(port)["dgrec_published_messages_total", str(lines)] == frames)
        found = scrape(port)
    assert frames > 100
    rows = dgrec.connect(path)

    def ask(text: str) -> Any:
        return rows.execute(f"SELECT {text} FROM frames").fetchall()[0][0]

    assert found["dgrec_frames_total",] == ask("count(*)") == frames
    for stage, column in (
        ("end_to_end", "latency_ms"),
        ("read", "read_ms"),
        ("preprocess", "preprocess_ms"),
        ("inference", "inference_ms"),
        ("postprocess", "postprocess_ms"),
    ):
        name = "dgrec_stage_duration_seconds"
        assert found[f"{name}_count", stage] == ask(f"count({column})") == frames
        # Rows have milliseconds with three digits.
        total_s = ask(f"sum({column}) / 1e3")
        assert found[f"{name}_sum", stage] == pytest.approx(total_s, abs=frames * 1e-6)
        below = found[f"{name}_bucket", "0.1", stage]
        assert below == ask(f"count(*) FILTER ({column} <= 100)")
        assert found[f"{name}_bucket", "+Inf", stage] == frames
    labels = rows.execute("SELECT label, count(*) FROM detections GROUP BY 1").fetchall()
    assert labels
    assert {
        key[1]: value for key, value in found.items() if key[0] == "dgrec_detections_total"
    } == {label: float(count) for label, count in labels}
    assert found["dgrec_recorder_seconds_total",] == pytest.approx(
        ask("sum(recorder_ms) / 1e3"), abs=frames * 1e-6
    )
    for place in ("camera", "queue", "writer"):
        assert found["dgrec_frames_dropped_total", place] == ask(f"sum(dropped_{place})")
    assert found["dgrec_output_left_out_frames_total", str(lines)] == 0
    assert found["dgrec_output_queue_frames", str(lines)] == 0
    assert found["dgrec_disk_free_bytes",] > 0
    assert found["dgrec_source_gaps_total",] == 0
    with pytest.raises(ConnectionRefusedError):
        scrape(port)
    assert not [each for each in threading.enumerate() if each.name == "dgrec-server"]
    # The examples use what there is.
    known = {key[0] for key in found}
    for name in ("alerts.yml", "dashboard.json"):
        used = {*re.findall(r"dgrec_\w+", (EXAMPLES / name).read_text())}
        assert used
        assert used <= known
    assert len(json.loads((EXAMPLES / "dashboard.json").read_text())["panels"]) > 5


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    port = free_port()
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "dgrec", "record", "--source", "sample", "--loop", "--quiet"),
            *("--metrics", str(port), "--publish", f"ws://127.0.0.1:{port}"),
            *("--output", tmp_path / "s.parquet"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )

    def has_frames() -> bool:
        try:
            status, answer = get(port, "/metrics")
        except OSError:
            return False
        figure = re.search(rb'\ndgrec_frames_total\{source="sample"\} (\S+)', answer)
        return status == 200 and figure is not None and float(figure[1]) > 0

    try:
        wait_until(has_frames, process=running)
        _, answer = get(port, "/metrics")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, errors
    assert f'dgrec_published_messages_total{{source="sample",target="ws://127.0.0.1:{port}"}}' in (
        answer.decode()
    )


@pytest.mark.slow
def test_gaps_and_losses(tmp_path: Path) -> None:
    port = free_port()
    metrics = Metrics(str(port), "cam")
    for row in make_rows(4, dropped_camera=2, dropped_queue=1):
        metrics.frame(row, None)
    for kind in ("gap", "mark", "gap"):
        metrics.event({"kind": kind})
    found = scrape(port)
    metrics.close()
    assert found["dgrec_source_gaps_total",] == 2
    assert found["dgrec_frames_dropped_total", "camera"] == 8
    assert found["dgrec_frames_dropped_total", "queue"] == 4


@pytest.mark.slow
def test_labels_are_bounded(tmp_path: Path) -> None:
    port = free_port()
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=[Metrics(str(port), "cam")]) as recorder:
        for index in range(300):
            recorder.add([make_detection(0, label=f'na"me\n{index}')])
        wait_until(lambda: scrape(port).get(("dgrec_frames_total",)) == 300)
        found = {k: v for k, v in scrape(port).items() if k[0] == "dgrec_detections_total"}
    assert len(found) == 101
    assert sum(found.values()) == 300
    assert found["dgrec_detections_total", "other"] == 200
    assert found["dgrec_detections_total", 'na"me\n7'] == 1


@pytest.mark.slow
def test_odd_values_agree_with_sql(tmp_path: Path) -> None:
    port = free_port()
    labels: list[Any] = ["cat", "", None, 'a"b\\n\\"} 5\n# HELP x', "a\0\r\x1b[31m\u2028"]
    labels += ["{}", "\\"]
    labels += ["a\ud800b", 5, 10**5000, ["cat"], np.str_("cat")]
    durations = [7.5, 3, 0.0, math.nan, math.inf, "9", True, np.float32(9), 10**400, None]
    rows = [make_row(i, [make_detection(i, label=label)]) for i, label in enumerate(labels)]
    rows += [make_row(50, ["no detection", {}]), make_row(51, {"a": 1}), make_row(52, None)]
    cat: dict[Any, Any] = {"label": "cat"}
    odd = [cat | {5: 1}, cat | {"$x": 1}, MappingProxyType(cat), OrderedDict(cat)]
    rows.append(make_row(53, odd))
    rows += [
        make_row(60 + i, timing={"CoreInferenceDuration_ms": each, "inference": 0.25})
        for i, each in enumerate(durations)
    ]
    metrics = Metrics(str(port), "cam")
    try:
        for row in rows:
            metrics.frame(row, None)
        found = scrape(port)
    finally:
        metrics.close()
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.connect(path) as connection:
        counted = connection.execute(
            "SELECT coalesce(label, ''), count(*) FROM detections GROUP BY 1"
        ).fetchall()
        inferred = connection.execute(
            "SELECT count(inference_ms), sum(inference_ms) / 1e3 FROM frames"
        ).fetchone()
    assert len(counted) == 10
    labelled = {key[1]: n for key, n in found.items() if key[0] == "dgrec_detections_total"}
    assert labelled == {label.replace("\0", "\\0"): float(count) for label, count in counted}
    name = "dgrec_stage_duration_seconds"
    assert inferred is not None
    assert found[f"{name}_count", "inference"] == inferred[0]
    assert found[f"{name}_sum", "inference"] == pytest.approx(inferred[1])


@pytest.mark.slow
def test_names_that_are_not_text_or_in_use_twice(tmp_path: Path) -> None:
    port = free_port()
    odd = dgrec.Output()
    odd.name = "to \udcff\0"
    metrics = Metrics(str(port), "cam \udcff\0")
    outputs = [metrics, dgrec.Output(), dgrec.Output(), odd]
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=outputs) as recorder:
        recorder.add([make_detection(0, label="x" * 100_000)])
        wait_until(lambda: metrics.figures.frames == 1)

        def waiting() -> dict[tuple[str, ...], float]:
            found = scrape(port, "cam \\udcff\\0")
            return {key[1:]: value for key, value in found.items() if "queue_frames" in key[0]}

        wait_until(lambda: waiting() == {("output",): 0, ("to \\udcff\\0",): 0})
        found = scrape(port, "cam \\udcff\\0")
    assert found["dgrec_detections_total", "other"] == 1


@pytest.mark.slow
def test_recordings_share_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("DGREC_TOKEN", "of my own")
    one, other = Metrics(str(port), "one"), Metrics(f"localhost:{port}", "other")
    try:
        with pytest.raises(OutputError, match="the metrics of one are served already"):
            Metrics(str(port), "one")
        assert get(port, "/metrics")[0] == 401
        status, answer = get(port, "/metrics?token=of%20my%20own")
        assert status == 200
        for source in ("one", "other"):
            assert f'dgrec_frames_total{{source="{source}"}} 0.0\n' in answer.decode()
        one.close()
        assert b'source="one"' not in get(port, "/metrics?token=of%20my%20own")[1]
        one = Metrics(str(port), "one")
    finally:
        one.close()
        other.close()


@pytest.mark.slow
def test_other_addresses_need_no_token_of_metrics(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.delenv("DGREC_TOKEN", raising=False)
    metrics = Metrics(f"0.0.0.0:{port}", "cam")
    try:
        assert scrape(port)["dgrec_frames_total",] == 0
        assert get(port, "/metrics", "Host: evil.example")[0] == 403
        assert capfd.readouterr().err == ""
        with open_target(parse_target(f"sse://0.0.0.0:{port}"), {}):
            assert get(port, "/sse")[0] == 401
            assert "asks for this token" in capfd.readouterr().err
    finally:
        metrics.close()


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "\udcff"])
def test_hosts_that_there_cannot_be(host: str) -> None:
    with pytest.raises(OutputError, match="is not an address to serve"):
        Metrics(f"{host}:9100", "cam")


@pytest.mark.parametrize(
    "text", ["", "x", "0", "65536", "9" * 5000, "host:", ":9100", "1.5", "٣", "?cert=c"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="expected PORT or HOST:PORT"):
        parse_metrics_address(text)


def test_addresses() -> None:
    assert parse_metrics_address("9100")[:2] == ("127.0.0.1", 9100)
    assert parse_metrics_address("0.0.0.0:9100")[:2] == ("0.0.0.0", 9100)
    assert parse_metrics_address("[::1]:9100?cert=c.pem") == ("::1", 9100, "c.pem", "")
