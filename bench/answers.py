"""The cost of an answer of the SQL library, next to hand-written SQL and to JSON lines.

    python -m bench.answers [--frames 9000] [--boxes 10] [--sessions 4] [--repetitions 31] [--cpu]

Every question is asked of one recording, in turn, several times over, of

- the library's view or macro;
- DuckDB over the same Parquet file, written by hand for this one file;
- the same, by hand, over the same rows as JSON lines, and pandas over those (left out if it is
  missing);

and then of several recordings at once, of the library and of DuckDB over the same files, written by
hand for each file there is (by ``filename``).

All must give the same numbers. The time is from the text of the query to the last row in Python;
the connection and its views are there before, as they are for one question after another.
With ``--cpu`` it is the processor time of this process, of all threads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

import dgrec
from bench.questions import QUESTIONS, Question
from dgrec.format import Journal, JournalWriter, seal
from dgrec.sql import views
from tests.factory import CAMERA, CLOSING, START_NS, make_row, new_metadata, smooth_boxes

try:
    import pandas as pd
except ImportError:
    pd = None

_COLUMNS = (
    "frame",
    "captured_at",
    "completed_at",
    "read_ms",
    "preprocess_ms",
    "inference_ms",
    "postprocess_ms",
    "latency_ms",
    "recorder_ms",
    "skipped_before",
    "dropped_camera",
    "dropped_queue",
    "dropped_writer",
)


def record(path: Path, frames: int, boxes: int, seed: int = 1) -> Path:
    """Write a session in which every number varies, tracks come and go, and frames are lost."""
    rng = np.random.default_rng(seed)
    found = smooth_boxes(frames, boxes)
    journal = path.with_suffix(".arrows")
    writer = JournalWriter(journal, new_metadata(path.stem, source=CAMERA), durability="never")
    rows = []
    completed = 0
    for i in range(frames):
        captured = START_NS + i * 33_366_700 + int(rng.normal(0, 500_000))
        timing = {
            "CorePreprocessDuration_ms": float(rng.gamma(4, 0.3)),
            "CoreInferenceDuration_ms": float(
                rng.gamma(30, 0.4) * (8 if rng.random() < 0.01 else 1)
            ),
            "CorePostprocessDuration_ms": float(rng.gamma(4, 0.2)),
        }
        stages = int(sum(timing.values()) * 1e6)
        completed = max(completed, captured + stages + int(rng.gamma(2, 2e6)))
        for index, detection in enumerate(found[i]):
            detection["track_id"] = index + 100 * (i // (200 + 10 * index))
        rows.append(
            make_row(
                i,
                found[i],
                captured_ns=captured,
                completed_ns=completed,
                read_ns=int(rng.gamma(30, 1e6)),
                recorder_ns=int(rng.gamma(4, 10_000)),
                timing=timing,
                dropped_queue=int(rng.random() < 0.02),
            )
        )
        if len(rows) == 100:
            writer.write(rows)
            rows = []
    writer.write(rows)
    writer.end(CLOSING)
    writer.close()
    seal(Journal.open(journal), path)
    journal.unlink()
    return path


def write_json_lines(session: Path, path: Path) -> None:
    """Write the rows as someone would log them: one object a frame, stamps in microseconds."""
    with dgrec.open(session) as opened, path.open("w") as file:
        for batch in opened.batches():
            for row in batch.to_pylist():
                kept = {name: row[name] for name in _COLUMNS}
                for name in ("captured_at", "completed_at"):
                    kept[name] = round(row[name].timestamp() * 1e6)
                kept["detections"] = [
                    {
                        "label": d["label"],
                        "score": d["score"],
                        "bbox": [d["x_min"], d["y_min"], d["x_max"], d["y_max"]],
                        "track_id": d["track_id"],
                    }
                    for d in row["detections"]
                ]
                file.write(json.dumps(kept) + "\n")


Way = Callable[[], list[tuple[Any, ...]]]
Clock = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=9000)
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=4, help="how many for the second table")
    parser.add_argument("--repetitions", type=int, default=31)
    parser.add_argument("--only", default="", help="questions with this in their name")
    parser.add_argument("--cpu", action="store_true", help="processor time, on a busy machine")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    questions = [question for question in QUESTIONS if arguments.only in question.name]
    with tempfile.TemporaryDirectory() as name:
        paths = [
            record(Path(name) / f"{seed}.parquet", arguments.frames, arguments.boxes, seed)
            for seed in range(1, arguments.sessions + 1)
        ]
        lines = Path(name) / "1.jsonl"
        write_json_lines(paths[0], lines)
        print(f"Parquet {paths[0].stat().st_size:,} bytes, JSON lines {lines.stat().st_size:,}")
        one = ask_one(paths[0], lines, questions, arguments.repetitions, clock)
        several = ask_several(paths, questions, arguments.repetitions, clock)
    print(f"at most {one:.2f} times what is written by hand for one file, ", end="")
    print(f"{several:.2f} times what is written for several")


def ask_one(
    path: Path, lines: Path, questions: list[Question], repetitions: int, clock: Clock
) -> float:
    """Ask everything of one session, print a table, and return the largest ratio."""
    plain = _plain()
    table = f"read_parquet('{path}')"
    json_lines = f"read_json('{lines}', format = 'newline_delimited')"
    print(f"\n{'one session, ms':22}{'library':>9}{'by hand':>9}{'ratio':>7}", end="")
    print(f"{'JSON: DuckDB':>14}{'pandas':>8}")
    with dgrec.open(path) as session, views.connect([session]) as library:
        (steady,) = library.execute("SELECT first_steady_frame FROM warm_up").fetchall()[0]
        worst = 0.0
        for question in questions:
            ways = {
                "library": _asks(library, question.library),
                "hand": _asks(plain, question.text(table, "epoch_us(")),
                "json": _asks(plain, question.text(json_lines, "(")),
            }
            if pd is not None:
                ways["pandas"] = _asks_pandas(question, lines, steady)
            expected = _flatten(ways["library"]())
            for way, ask in ways.items():
                assert _same(expected, _flatten(ask())), (question.name, way)
            times = _times(ways, repetitions, clock, few=("json", "pandas"))
            ratio = _ratio(times)
            worst = max(worst, ratio)
            middle = {way: statistics.median(values) for way, values in times.items()}
            print(f"{question.name:22}{middle['library']:9.2f}{middle['hand']:9.2f}", end="")
            print(f"{ratio:7.2f}{middle['json']:14.0f}{middle.get('pandas', math.nan):8.0f}")
    return worst


def ask_several(
    paths: list[Path], questions: list[Question], repetitions: int, clock: Clock
) -> float:
    """Ask everything of several sessions at once, likewise."""
    plain = _plain()
    table = f"read_parquet({[str(path) for path in paths]}, filename = true)"
    print(f"\n{f'{len(paths)} sessions, ms':22}{'library':>9}{'by hand':>9}{'ratio':>7}")
    names = {str(path) for path in paths}
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(dgrec.open(path)) for path in paths]
        library = stack.enter_context(views.connect(sessions))
        worst = 0.0
        # It gives the latest of all sessions, and by hand it would be something else.
        for question in (q for q in questions if "late_causes" not in q.library):
            ways = {
                "library": _asks(library, question.library),
                "hand": _asks(plain, question.text(table, "epoch_us(", each=True)),
            }
            # Neither need give the sessions in an order.
            one, other = (
                sorted((v for v in _flatten(ask()) if v not in names), key=_order)
                for ask in ways.values()
            )
            assert _same(one, other), question.name
            times = _times(ways, repetitions, clock)
            ratio = _ratio(times)
            worst = max(worst, ratio)
            middle = {way: statistics.median(values) for way, values in times.items()}
            print(f"{question.name:22}{middle['library']:9.2f}{middle['hand']:9.2f}{ratio:7.2f}")
    return worst


def _plain() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _times(
    ways: dict[str, Way], repetitions: int, clock: Clock, few: tuple[str, ...] = ()
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repetition in range(repetitions):
        # The slow ones a few times; and turn about: what comes second finds the caches warm.
        turn = [way for way in ways if repetition < 3 or way not in few]
        for way in turn if repetition % 2 else reversed(turn):
            start = clock()
            ways[way]()
            times[way].append((clock() - start) * 1e3)
    return times


def _ratio(times: dict[str, list[float]]) -> float:
    return statistics.median(a / b for a, b in zip(times["library"], times["hand"], strict=True))


def _order(value: Any) -> tuple[str, Any]:
    return ("", value) if isinstance(value, int | float) else (type(value).__name__, str(value))


def _asks(connection: duckdb.DuckDBPyConnection, text: str) -> Way:
    return lambda: connection.execute(text).fetchall()


def _asks_pandas(question: Question, lines: Path, steady: int) -> Way:
    return lambda: question.pandas(pd.read_json(lines, lines=True, dtype=False), steady)


def _flatten(rows: list[tuple[Any, ...]]) -> list[Any]:
    """Return all values in one list: a hand-written answer may stand in one row."""
    flat: list[Any] = []
    for row in rows:
        for value in row:
            flat += value if isinstance(value, list) else [value]
    return flat


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
        if isinstance(a, int | float) and isinstance(b, int | float)
        else a == b
        for a, b in zip(one, other, strict=True)
    )


if __name__ == "__main__":
    main()
