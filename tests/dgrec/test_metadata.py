"""Metadata: identifiers that sort by time, versions that are refused, secrets that are not kept."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import pytest

from dgrec import metadata
from dgrec.errors import DamagedSessionError, FormatVersionError, NotASessionError
from dgrec.metadata import redact, redact_text, utc_text, uuid7
from dgrec.schema import FORMAT_VERSION

# --- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("rtsp://192.168.1.5:554/stream1", "rtsp://192.168.1.5:554/stream1"),
        ("rtsp://admin:SECRET@192.168.1.5:554/s", "rtsp://***@192.168.1.5:554/s"),
        ("rtsp://admin@host/s", "rtsp://***@host/s"),
        ("rtsp://:SECRET@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:SEC@RET@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:SECRET%40%2F@host/s", "rtsp://***@host/s"),
        ("rtsp://u:SECRET@[fe80::1]:8554/s", "rtsp://***@[fe80::1]:8554/s"),
        ("rtsp://[2001:db8::1]/s", "rtsp://[2001:db8::1]/s"),
        ("rtsps://u:SECRET@Host/s", "rtsps://***@host/s"),
        ("https://h/live.m3u8?token=SECRET&q=hd", "https://h/live.m3u8?token=***&q=***"),
        ("https://u:SECRET@h/?a=SECRET#SECRET", "https://***@h/?a=***"),
        ("https://h/x#access_token=SECRET", "https://h/x"),
        (
            "rtsp://h/user=a_password=SECRET_channel=1_stream=0.sdp",
            "rtsp://h/user=a_password=***_channel=1_stream=0.sdp",
        ),
        ("srt://h:9000?passphrase=SECRET", "srt://h:9000?passphrase=***"),
        ("clips/street.mp4", "clips/street.mp4"),
        ("/data/a@b.mp4", "/data/a@b.mp4"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
        ("0", "0"),
        ("/dev/video0", "/dev/video0"),
        ("file:///clips/a.mp4", "file:///clips/a.mp4"),
        ("", ""),
    ],
)
def test_redact(url: str, kept: str) -> None:
    assert redact(url) == kept
    assert redact(kept) == kept


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://u:SECRET/x@host/s",
        "rtsp://u:SECRET#x@host/s",
        "rtsp://u:SECRET?x@host/s",
        "rtsp://u:[SECRET@host/s",
        "rtsp://u:SEC RET@host/s",
        "rtsp://host:SECRET/s",
        "https://h/?a=1;b=SECRET",
        "https://h/?u=rtsp://x:SECRET@y",
        "rtsp://u:12/34SECRET@host/s",
        "rtsp://u:12?34SECRET@host/s",
        "rtsp://u:12#34SECRET@host/s",
        "http://proxy/rtsp://u:SECRET@h/s",
        "admin:SECRET@192.168.1.5/s",
        "admin:SEC@RET@192.168.1.5/s",
        "//u:SECRET@h/x",
        "rtsp:/u:SECRET@h/x",
        "http://h/?SECRET",
        "http://h/?a=1&SECRET",
        "h/x?token=SECRET",
        "rtsp://h/user=admin_password=SECRET_channel=1_stream=0.sdp",
        "http://h/live;token=SECRET/x",
    ],
)
def test_redact_of_urls_that_cannot_be_taken_apart(url: str) -> None:
    assert "SECRET" not in redact(url)
    assert "RET" not in redact(url)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot open rtsp://u:SECRET@h/s", "cannot open rtsp://***@h/s"),
        ('failed: "rtsp://u:SECRET@h/s" (404)', 'failed: "rtsp://***@h/s" (404)'),
        ("<http://h/?k=SECRET> and http://u:SECRET@i", "<http://h/?k=***> and http://***@i"),
        ("cannot open 'rtsp://u:SE'CRET@h/x'.", "cannot open 'rtsp://***@h/x'."),
        ('x "rtsp://u:SE"CRET@h/x"', 'x "rtsp://***@h/x"'),
        ("see (rtsp://u:SE<CRET@h/x)", "see (rtsp://***@h/x)"),
        ("rtspsrc user-id=a user-pw=SECRET ! x", "rtspsrc user-id=a user-pw=*** ! x"),
        ("no url, 5 : 3 @ noon", "no url, 5 : 3 @ noon"),
        ("ratio 16://9", "ratio 16://9"),
        ("", ""),
    ],
)
def test_redact_text(text: str, kept: str) -> None:
    assert redact_text(text) == kept


# --- identifiers and stamps --------------------------------------------------------------------


def test_uuid7_sorts_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_767_323_045_678_901_234
    monkeypatch.setattr("time.time_ns", lambda: now)
    made = []
    for step in (0, 1_000_000, 2_000_000, 10**12, 10**15):
        now = 1_767_323_045_678_901_234 + step
        made.append(str(uuid7()))
    assert made == sorted(made)
    parsed = uuid.UUID(made[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_767_323_045_678


def test_uuid7_is_unique() -> None:
    assert len({uuid7() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_323_045_678_901_999, "2026-01-02T03:04:05.678901Z"),
        (1_767_323_045_000_000_000, "2026-01-02T03:04:05.000000Z"),
        (4_102_444_799_999_999_999, "2099-12-31T23:59:59.999999Z"),
    ],
)
def test_utc_text(ns: int, text: str) -> None:
    assert utc_text(ns) == text
    assert dt.datetime.fromisoformat(text).timestamp() == pytest.approx(ns / 1e9)


# --- form and version --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"), [("source", "cam"), ("name", 5), ("events", {}), ("totals", [1])]
)
def test_a_value_of_another_type_is_left_out_and_named(key: str, value: Any) -> None:
    made = metadata.new("s", 0)
    text = metadata.dumps({**made, key: value})
    assert metadata.loads(text, "s.parquet") == {k: v for k, v in made.items() if k != key}
    assert metadata.problems(text, "s.parquet") == [key]
    # Null is what was not known.
    text = metadata.dumps({**made, "model": None})
    assert metadata.loads(text, "s") == made
    assert metadata.problems(text, "s") == []


def test_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGREC_HOST", "gate-3")
    made = metadata.new("street", 0)
    assert made["format"] == {"name": "dgrec", "version": FORMAT_VERSION}
    assert made["started_at"] == "1970-01-01T00:00:00.000000Z"
    assert made["host"]["name"] == "gate-3"
    assert metadata.loads(metadata.dumps(made), "x") == made


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 99, "2", 1.5, None])
def test_a_newer_version_is_refused_naming_both(version: object) -> None:
    text = json.dumps({"format": {"name": "dgrec", "version": version}})
    with pytest.raises(FormatVersionError, match=f"a.parquet.*{version}.* up to {FORMAT_VERSION}"):
        metadata.loads(text, "a.parquet")


@pytest.mark.parametrize("text", ["", "{", "nul", b"\xff\xfe\x00"])
def test_damaged_text(text: str | bytes) -> None:
    with pytest.raises(DamagedSessionError, match="metadata is damaged"):
        metadata.loads(text, "a.parquet")


@pytest.mark.parametrize("text", ["1", "[]", "{}", '{"format": 1}', '{"format": {"name": "x"}}'])
def test_json_of_somebody_else(text: str) -> None:
    with pytest.raises(NotASessionError):
        metadata.loads(text, "a.parquet")
