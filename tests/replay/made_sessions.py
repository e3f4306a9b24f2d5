"""About sixty small sessions of every kind, for what has to hold of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dgrec.format import Journal, JournalWriter, Row, seal
from dgrec.paths import part_path
from dgrec.replay.clip import Span, write_clip
from dgrec.session import Session
from tests.factory import (
    CAMERA,
    START_NS,
    edited,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    without_column,
    write_journal,
    write_session,
)
from tests.replay.conftest import uneven_rows

MS = 1_000_000
STAMPS = ("captured_at", "completed_at")
DURATIONS = (
    "read_ms",
    "preprocess_ms",
    "inference_ms",
    "postprocess_ms",
    "latency_ms",
    "recorder_ms",
)
COUNTS = (
    "skipped_before",
    "dropped_before",
    "dropped_camera",
    "dropped_queue",
    "dropped_writer",
)


def make_sessions(folder: Path) -> dict[str, Path]:
    """Write the sessions and return them by name. Each is in a folder of its own."""
    made: dict[str, Path] = {}

    def add(name: str, write: Callable[[Path], Path]) -> None:
        place = folder / name.replace(" ", "-")
        place.mkdir()
        made[name] = write(place / f"{name.replace(' ', '-')}.parquet")

    for name, rows in recordings().items():
        add(name, lambda path, rows=rows: write_session(path, rows, new_metadata(path.stem)))
    for name in ("losses", "uneven 40", "uneven 400", "late at first", "one row", "no rows"):
        rows = recordings()[name]
        add(f"live {name}", lambda path, rows=rows: _live(path, rows))
    add("live, as recorded before", _live_before)
    for name, columns in edits().items():
        add(name, lambda path, columns=columns: edited(_plain(path), columns))
    for column in ("captured_at", "completed_at", "latency_ms", "inference_ms", "dropped_queue"):
        add(f"without {column}", lambda path, column=column: without_column(_plain(path), column))
    add("parts", lambda path: _parts(path, sealed=3))
    add("parts cut while the model started", lambda path: _parts(path, sealed=2, late_ms=1500))
    add("parts and a journal", lambda path: _parts(path, sealed=2))
    add("ended journal", lambda path: _journal(path, end=True))
    add("killed journal", lambda path: _journal(path, end=False))
    add("journal of frames in another order", _journal_in_another_order)
    add("recovered", lambda path: write_session(path, uneven_rows(70), end=False))
    add("damaged journal", _damaged)
    add("clip", lambda path: _clip(path, Span(20, 60)))
    add("clip of moments", lambda path: _clip(path, Span(3, 9), Span(30, 55), Span(70, 71)))
    return made


def recordings() -> dict[str, list[Row]]:
    """Return what dgrec itself records."""
    return {
        "no rows": [],
        "one row": uneven_rows(1),
        "two rows": uneven_rows(2),
        "three rows": uneven_rows(3),
        **{f"uneven {count}": uneven_rows(count, seed=count) for count in (40, 101, 400)},
        "ties": [make_row(i, captured_ns=START_NS + i // 3 * 90 * MS) for i in range(60)],
        "all alike": [
            make_row(i, captured_ns=START_NS, completed_ns=START_NS + 9 * MS) for i in range(12)
        ],
        "no latency": [
            make_row(i, completed_ns=START_NS + i * 33_366_700, timing={}) for i in range(30)
        ],
        "no detections": make_rows(30, results=[]),
        "labels with ties": [
            make_row(i, [make_detection(i % 4), make_detection(i % 3)]) for i in range(36)
        ],
        "no labels": [make_row(i, [make_detection(label=..., score=...)]) for i in range(20)],
        "scores of NaN": [
            make_row(i, [make_detection(score=math.nan if i % 2 else 0.5)]) for i in range(21)
        ],
        "stages of NaN": [
            make_row(i, timing={"CoreInferenceDuration_ms": math.nan if i % 3 else 7.5 + i})
            for i in range(40)
        ],
        "no stages": make_rows(40, timing={}),
        "a stage now and then": [
            make_row(i, timing={"CorePreprocessDuration_ms": 2.0 + i} if i % 4 else {})
            for i in range(40)
        ],
        "losses": make_rows(
            50, skipped_before=2, dropped_camera=1, dropped_queue=3, dropped_writer=5
        ),
        "stalls": [
            make_row(i, captured_ns=START_NS + (i + i // 15 * 40) * 40 * MS) for i in range(90)
        ],
        "late at first": [
            make_row(i, completed_ns=START_NS + i * 33_366_700 + max(9, 900 - 20 * i) * MS)
            for i in range(120)
        ],
        "slow": [make_row(i, captured_ns=START_NS + i * 5_000 * MS) for i in range(9)],
    }


def edits() -> dict[str, dict[str, list[Any]]]:
    """Return columns as another tool might leave them in the 40 rows of `_plain`."""
    rows = uneven_rows(40)
    stamps = {
        "captured_at": [row.captured_ns // 1000 for row in rows],
        "completed_at": [row.completed_ns // 1000 for row in rows],
    }
    values: dict[str, list[Any]] = {
        **stamps,
        **{name: [1.5 + (i * 7) % 11 for i in range(40)] for name in DURATIONS},
        **{name: [i % 3 for i in range(40)] for name in COUNTS},
    }
    found: dict[str, dict[str, list[Any]]] = {}
    for name, column in values.items():
        found[f"{name} NULL"] = {name: [None if i % 5 == 2 else v for i, v in enumerate(column)]}
    for name in ("captured_at", "completed_at", "latency_ms", "inference_ms", "dropped_before"):
        found[f"{name} all NULL"] = {name: [None] * 40}
        found[f"{name} first and last NULL"] = {name: [None, *values[name][1:-1], None]}
    for name in DURATIONS:
        odd = {3: math.nan, 17: math.nan, 39: math.inf if name == "read_ms" else math.nan}
        found[f"{name} NaN"] = {name: [odd.get(i, v) for i, v in enumerate(values[name])]}
    found["inference_ms all NaN"] = {"inference_ms": [math.nan] * 40}
    backwards = list(stamps["completed_at"])
    backwards[10:20] = reversed(backwards[10:20])
    found["results that run backwards"] = {"completed_at": backwards}
    found["captures that run backwards"] = {"captured_at": stamps["captured_at"][::-1]}
    found["source_frame NULL"] = {"source_frame": [None if i % 4 else i for i in range(40)]}
    return found


def _live(path: Path, rows: list[Row]) -> Path:
    return write_session(path, rows, new_metadata(path.stem, source=CAMERA))


def _live_before(path: Path) -> Path:
    """A camera's session that does not say that it is live, nor what was lost at its start."""
    source = {key: value for key, value in CAMERA.items() if key != "live"}
    return edited(_live(path, uneven_rows(40)), {}, source=source, totals={"dropped": 3})


def _plain(path: Path) -> Path:
    return write_session(path, uneven_rows(40), new_metadata(path.stem))


def _parts(path: Path, *, sealed: int, late_ms: int = 0) -> Path:
    rows = uneven_rows(90, seed=5)
    for i, row in enumerate(rows):
        row.completed_ns = max(row.completed_ns, START_NS + (late_ms + i) * MS)
    live = sealed == 2
    for number in (1, 2, 3):
        start = (number - 1) * 30
        file = part_path(path, number)
        part = {"number": number, "set_id": f"set-{path.stem}", "first_frame": start}
        writer = JournalWriter(
            file.with_suffix(".arrows"),
            new_metadata(file.stem, part=part, **({"source": CAMERA} if live else {})),
            durability="never",
            first_frame=start,
        )
        writer.write(rows[start : start + 30])
        if number <= sealed:
            # 4 more are read after the last row of the last part, and none of them is kept.
            totals = {"frames": 30, "detections": 0, "skipped": 99, "dropped": 0}
            writer.end({"end_reason": "split", "ended_at": None, "totals": totals})
        writer.close()
        if number <= sealed:
            seal(Journal.open(writer.path), file)
            writer.path.unlink()
    return path


def _journal(path: Path, *, end: bool) -> Path:
    return write_journal(
        path.with_suffix(".arrows"), uneven_rows(77, seed=3), new_metadata(source=CAMERA), end=end
    )


def _journal_in_another_order(path: Path) -> Path:
    """A program says when its frames were captured, and adds them as they come."""
    rows = uneven_rows(60, seed=6)
    rows[25].captured_ns = START_NS - 900 * MS
    return write_journal(path.with_suffix(".arrows"), rows, new_metadata(source=CAMERA))


def _damaged(path: Path) -> Path:
    journal = write_journal(path.with_suffix(".arrows"), uneven_rows(80, seed=8), end=False)
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 255
    journal.write_bytes(data)
    return journal


def _clip(path: Path, *spans: Span) -> Path:
    original = _live(path.with_name("original.parquet"), uneven_rows(100, seed=4))
    with Session(original) as session:
        write_clip(session, list(spans), path)
    original.unlink()
    return path
