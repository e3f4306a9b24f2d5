"""The questions of `bench.answers`, as the library, hand-written SQL and pandas have them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    import pandas as pd
except ImportError:
    pd = None


@dataclass
class Question:
    """One question, as the library, SQL written by hand, and pandas have it.

    In the SQL ``us(x)`` stands for the microseconds of a stamp, ``<rows>`` for the file, and the
    other marks for what a query over each of several files has and one over a single file has not.
    """

    name: str
    library: str
    by_hand: str
    #: Takes the rows, and the first frame after the warm-up.
    pandas: Callable[[Any, int], list[tuple[Any, ...]]]

    def text(self, rows: str, us: str, *, each: bool = False) -> str:
        marks = {
            "<file>": "filename," if each else "",
            "<group>": "GROUP BY filename" if each else "",
            "<partition>": "PARTITION BY filename" if each else "",
            "<join>": "JOIN" if each else "CROSS JOIN",
            "<using>": "USING (filename)" if each else "",
            "us(": us,
            "<rows>": rows,
        }
        text = self.by_hand
        for mark, meaning in marks.items():
            text = text.replace(mark, meaning)
        return text


_QUANTILES = [0.5, 0.95, 0.99]


def _rate(df: Any) -> float:
    """Return frames a second by the library's definition (docs/views.md, "What a rate is")."""
    captured, completed = (df[c].max() - df[c].min() for c in ("captured_at", "completed_at"))
    return float((len(df) - 1) * 1e6 / max(captured, completed))


def _running(df: Any, steady: int) -> Any:
    """Return the frames after the warm-up that were captured after the first result."""
    df = df[df.frame >= steady]
    later = df[df.captured_at > df.completed_at.min()] if steady == 0 else df
    return later if len(later) >= 10 else df


def _summary(column: Any) -> tuple[Any, ...]:
    return int(column.count()), column.mean(), *column.quantile(_QUANTILES), column.max()


def _stages(df: Any, _: int) -> list[tuple[Any, ...]]:
    waiting = df.latency_ms - df.preprocess_ms - df.inference_ms - df.postprocess_ms
    columns = [
        *(df[f"{name}_ms"] for name in ("read", "preprocess", "inference", "postprocess")),
        waiting.clip(lower=0),
        df.latency_ms,
        df.recorder_ms,
    ]
    return [_summary(column) for column in columns]


def _windows(df: Any, _: int) -> list[tuple[Any, ...]]:
    start, end, width = df.captured_at.min(), df.completed_at.max(), 10_000_000
    number = ((df.completed_at - start) // width).clip(upper=(end - start - 1) // width)
    rows = []
    for index, group in df.groupby(number):
        quantiles = group.latency_ms.quantile([0.5, 0.95])
        steps = len(group) - (0 in group.index)
        since = max(df.completed_at.min(), start + index * width)
        completed = min(end, start + (index + 1) * width) - since
        if len(group) > 1:
            interval = (group.captured_at.max() - group.captured_at.min()) / (len(group) - 1)
        else:
            interval = df.captured_at.diff()[group.index[0]]
        fps = steps * 1e6 / max(steps * interval, completed) if steps else 0
        rows.append((len(group), fps, *quantiles))
    return rows


def _jitter(df: Any, _: int) -> list[tuple[Any, ...]]:
    captured, completed = (df[c].diff() / 1e3 for c in ("captured_at", "completed_at"))
    return [
        (
            captured.median(),
            captured.diff().abs().mean(),
            completed.median(),
            completed.diff().abs().mean(),
            completed.quantile(0.99),
        )
    ]


def _stalls(df: Any, _: int) -> list[tuple[Any, ...]]:
    gaps = df.completed_at.diff() / 1e3
    usual = gaps.median()
    found = df[gaps > max(1.5 * usual, 20)]
    return [
        (int(frame), gap, usual) for frame, gap in zip(found.frame, gaps[found.index], strict=True)
    ]


def _losses(df: Any, _: int) -> list[tuple[Any, ...]]:
    columns = ("skipped_before", "dropped_camera", "dropped_queue", "dropped_writer")
    lost = [int(df[name].sum()) for name in columns]
    at_start = df[(df.frame == 0) | (df.captured_at.shift(1) <= df.completed_at.min())]
    early = [0, *(int(at_start[name].sum()) for name in columns[1:])]
    return [
        (count - start, start, count / (len(df) + sum(lost)))
        for count, start in zip(lost, early, strict=True)
    ]


def _parts(df: Any) -> Any:
    waiting = (df.latency_ms - df.preprocess_ms - df.inference_ms - df.postprocess_ms).clip(lower=0)
    consumer = np.minimum(waiting, df.recorder_ms.shift(1).fillna(0))
    return pd.DataFrame(
        {
            "capture": df.read_ms,
            "preprocess": df.preprocess_ms,
            "inference": df.inference_ms,
            "postprocess": df.postprocess_ms,
            "queue": waiting - consumer,
            "consumer": consumer,
        }
    )


def _mean_parts(df: Any, _: int) -> list[tuple[Any, ...]]:
    parts = _parts(df)
    return [(parts.sum(axis=1).mean(), parts.queue.mean(), parts.consumer.mean())]


def _late(df: Any, _: int) -> list[tuple[Any, ...]]:
    parts = _parts(df)
    total = df.read_ms + df.latency_ms
    usual = total.median()
    late = (total > 1.5 * usual) & (total - usual >= 10)
    over = (parts - parts.median())[late]
    found = pd.DataFrame({"frame": df.frame, "total": total, "by": total - usual})[late]
    found["blame"], found["ms"] = over.idxmax(axis=1), over.max(axis=1)
    return [
        tuple(row) for row in found.sort_values("total", ascending=False).itertuples(index=False)
    ]


def _causes(df: Any, steady: int) -> list[tuple[Any, ...]]:
    parts = _parts(df)
    own = parts[["preprocess", "inference", "postprocess", "consumer"]].sum(axis=1)
    noticeable = max((df.read_ms + df.latency_ms).median() / 4, 5)
    waited = parts.queue > parts.queue.median() + noticeable
    took_longer = own > own.median() + noticeable
    rows = []
    for frame, total, _, blame, _ in _late(df, steady)[:10]:
        behind: tuple[Any, ...] = (None, None)
        level = df.frame[(df.frame < frame) & ~waited].max()
        if blame == "queue" and not math.isnan(level):
            on_the_way = (df.frame > level) | (df.completed_at > df.captured_at[level + 1])
            before = (df.frame < frame) & on_the_way
            for marked in (before & took_longer, before & waited):
                if marked.any():
                    behind = int(marked.idxmax()), own[marked.idxmax()]
                    break
        rows.append((frame, total, blame, *behind))
    return rows


def _labels(df: Any, _: int) -> list[tuple[Any, ...]]:
    flat = _flat(df)
    seconds = (df.completed_at.max() - df.captured_at.min()) / 1e6
    grouped = flat.groupby("label")
    return sorted(
        (label, len(g), int(g.frame.nunique()), len(g) / seconds, g.score.mean())
        for label, g in grouped
    )


def _tracks(df: Any, _: int) -> list[tuple[Any, ...]]:
    return [
        (
            int(track),
            int(g.frame.nunique()),
            int(g.frame.min()),
            int(g.frame.max()),
            (g.captured_at.max() - g.captured_at.min()) / 1e6,
            g.label.mode()[0],
        )
        for track, g in _flat(df).groupby("track_id")
    ]


def _flat(df: Any) -> Any:
    flat = df[["frame", "captured_at", "detections"]].explode("detections", ignore_index=True)
    return flat.drop(columns="detections").join(pd.DataFrame(flat.detections.tolist()))


def _in_flight(df: Any, steady: int) -> list[tuple[Any, ...]]:
    df = _running(df, steady)
    return [(_rate(df), df.latency_ms.mean(), _rate(df) * df.latency_ms.mean() / 1e3)]


def _load(df: Any, steady: int) -> list[tuple[Any, ...]]:
    df = _running(df, steady)
    inferred = _rate(df) * (1 + df.dropped_writer[1:].sum() / (len(df) - 1)) / 1e3
    waiting = (df.latency_ms - df.preprocess_ms - df.inference_ms - df.postprocess_ms).clip(lower=0)
    read = 1 + (df.skipped_before + df.dropped_queue).sum() / len(df)
    columns = [df.preprocess_ms, df.inference_ms, df.postprocess_ms, waiting, df.recorder_ms]
    return [
        (df.read_ms.mean(), df.read_ms.mean() * read * inferred),
        *((column.mean(), column.mean() * inferred) for column in columns),
    ]


_SUMMARY = ", ".join(
    f"count({c}), avg({c}), quantile_cont({c}, [0.5, 0.95, 0.99]), max({c})"
    for c in (
        "read_ms",
        "preprocess_ms",
        "inference_ms",
        "postprocess_ms",
        "greatest(0, latency_ms - preprocess_ms - inference_ms - postprocess_ms)",
        "latency_ms",
        "recorder_ms",
    )
)

#: Where the warm-up ends, by the library's rule.
_STEADY = """
s AS (SELECT <file> min(us(captured_at)) AS t0, max(us(completed_at)) AS t1, count(*) AS n
      FROM <rows> <group>),
w AS (SELECT <file> frame // size AS k, max(us(completed_at)) AS t, median(latency_ms) AS m,
             any_value(t0) AS t0, any_value(n // size) AS whole, any_value(size) AS size
      FROM <rows> <join> (SELECT *, greatest(10, round(n * 1e6 / (t1 - t0)))::BIGINT AS size FROM s)
      <using> GROUP BY ALL),
r AS (SELECT *, 1e6 / (t - coalesce(lag(t) OVER (<partition> ORDER BY k), t0)) AS f FROM w),
c AS (SELECT *, lead(f) OVER x AS f1, lead(f, 2) OVER x AS f2, lead(m) OVER x AS m1,
             lead(m, 2) OVER x AS m2 FROM r WINDOW x AS (<partition> ORDER BY k)),
b AS (SELECT <file> min(k * size) AS steady FROM c WHERE k + 2 < whole
      AND greatest(f, f1, f2) <= 1.1 * least(f, f1, f2)
      AND greatest(m, m1, m2) <= 1.1 * least(m, m1, m2) <group>)
"""

#: The rate of some rows, by the library's definition.
_RATE = """(count(*) - 1) * 1e6 / greatest(
    us(max(captured_at)) - us(min(captured_at)), us(max(completed_at)) - us(min(completed_at)))"""

#: The frames after the warm-up that were captured after the first result.
_RUNNING = f"""{_STEADY},
f AS (SELECT <file> min(completed_at) AS first_result FROM <rows> <group>),
a AS (SELECT <file> any_value(steady) AS steady, count(*) AS later, min(frame) AS first_later
      FROM <rows> <join> b <using> <join> f <using>
      WHERE frame >= steady AND captured_at > first_result <group>),
running AS (SELECT <file> CASE WHEN later < 10 THEN steady ELSE first_later END AS first_running
            FROM a)
"""

#: Where each frame's time went, and which frames are late and why, by the library's rules.
_PARTS = """
w AS (SELECT <file> frame, captured_at, completed_at, read_ms, latency_ms, preprocess_ms AS p,
             inference_ms AS i, postprocess_ms AS o, greatest(0, latency_ms - p - i - o) AS waiting,
             coalesce(lag(recorder_ms) OVER (<partition> ORDER BY frame), 0) AS before FROM <rows>),
x AS <once> (SELECT <file> frame, captured_at, completed_at, read_ms + latency_ms AS t,
             read_ms AS c, p, i, o, waiting - least(waiting, before) AS q,
             least(waiting, before) AS r FROM w)
"""
_LATE = f"""
{_PARTS.replace("<once>", "MATERIALIZED")},
m AS (SELECT <file> median(t) AS mt, median(c) AS mc, median(p) AS mp, median(i) AS mi,
      median(o) AS mo, median(q) AS mq, median(r) AS mr FROM x <group>),
l AS (SELECT <file> frame, captured_at, t, t - mt AS late_by, list_max([
      {{'ms': c - mc, 'part': 'capture'}}, {{'ms': p - mp, 'part': 'preprocess'}},
      {{'ms': i - mi, 'part': 'inference'}}, {{'ms': o - mo, 'part': 'postprocess'}},
      {{'ms': q - mq, 'part': 'queue'}}, {{'ms': r - mr, 'part': 'consumer'}}]) AS b
      FROM x <join> m <using> WHERE t > 1.5 * mt AND t - mt >= 10)
"""

QUESTIONS = [
    Question(
        "p95 of the latency",
        "SELECT latency_ms FROM latency_quantile(0.95)",
        "SELECT <file> quantile_cont(latency_ms, 0.95) FROM <rows> <group>",
        lambda df, _: [(df.latency_ms.quantile(0.95),)],
    ),
    Question(
        "latency, all of it",
        "SELECT frames, mean_ms, p50_ms, p95_ms, p99_ms, max_ms FROM end_to_end_latency",
        "SELECT <file> count(latency_ms), avg(latency_ms), "
        "quantile_cont(latency_ms, [0.5, 0.95, 0.99]), max(latency_ms) FROM <rows> <group>",
        lambda df, _: [_summary(df.latency_ms)],
    ),
    Question(
        "latency by stage",
        "SELECT frames, mean_ms, p50_ms, p95_ms, p99_ms, max_ms FROM stage_latency "
        "WHERE stage <> 'published'",
        f"SELECT <file> {_SUMMARY} FROM <rows> <group>",
        _stages,
    ),
    Question(
        "throughput",
        "SELECT frames, fps FROM session_throughput",
        f"SELECT <file> count(*), {_RATE} FROM <rows> <group>",
        lambda df, _: [(len(df), _rate(df))],
    ),
    Question(
        "rate in windows",
        "SELECT frames, fps, latency_p50_ms, latency_p95_ms FROM throughput(10)",
        """
        WITH s AS (SELECT <file> min(us(captured_at)) AS t0, min(us(completed_at)) AS r0,
                          max(us(completed_at)) AS t1 FROM <rows> <group>),
        g AS (SELECT <file> us(captured_at) AS a, us(completed_at) AS r, latency_ms,
                     lag(us(captured_at)) OVER (<partition> ORDER BY frame) AS before FROM <rows>),
        c AS (SELECT <file> least((r - t0) // 10000000, (t1 - t0 - 1) // 10000000) AS k,
                     count(*) AS n, count(before) AS steps,
                     CASE WHEN n > 1 THEN (max(a) - min(a)) / (n - 1)
                          ELSE max(a) - max(before) END AS step,
                     quantile_cont(latency_ms, [0.5, 0.95]) AS q
              FROM g <join> s <using> GROUP BY ALL),
        w AS (SELECT *, unnest(range((t1 - t0 - 1) // 10000000 + 1)) AS k FROM s)
        SELECT <file> coalesce(n, 0),
               CASE WHEN steps > 0 THEN steps * 1e6 / greatest(steps * step,
                   least(t1, t0 + (k + 1) * 10000000) - greatest(r0, t0 + k * 10000000))
                   ELSE 0 END, q[1], q[2]
        FROM w LEFT JOIN c USING (<file> k) ORDER BY <file> k""",
        _windows,
    ),
    Question(
        "warm-up",
        "SELECT warm_up_frames FROM warm_up",
        f"WITH {_STEADY} SELECT <file> steady FROM b",
        lambda _, steady: [(steady,)],
    ),
    Question(
        "frames in flight",
        "SELECT fps, latency_ms, in_flight FROM pipeline",
        f"""WITH {_RUNNING}
        SELECT <file> {_RATE} AS fps, avg(latency_ms) AS ms, fps * ms / 1e3
        FROM <rows> <join> running <using> WHERE frame >= first_running <group>""",
        _in_flight,
    ),
    Question(
        "load of the stages",
        "SELECT mean_ms, frames_in_it FROM stage_load",
        f"""WITH {_RUNNING},
        v AS (SELECT *, greatest(0, latency_ms - preprocess_ms - inference_ms - postprocess_ms)
              AS waiting FROM <rows> <join> running <using> WHERE frame >= first_running),
        e AS (SELECT <file> {_RATE} / 1e3 * (count(*) - 1 + sum(dropped_writer)
                  - arg_min(dropped_writer, frame)) / (count(*) - 1) AS f,
              1 + sum(skipped_before + dropped_queue) / count(*) AS times,
              avg(read_ms) AS r, avg(preprocess_ms) AS p, avg(inference_ms) AS i,
              avg(postprocess_ms) AS o, avg(waiting) AS w, avg(recorder_ms) AS c FROM v <group>)
        SELECT <file> r, r * times * f, p, p * f, i, i * f, o, o * f, w, w * f, c, c * f FROM e""",
        _load,
    ),
    Question(
        "jitter",
        "SELECT capture_interval_ms, capture_jitter_ms, result_interval_ms, result_jitter_ms, "
        "result_interval_p99_ms FROM jitter",
        """
        WITH g AS (SELECT <file> (us(captured_at) - lag(us(captured_at)) OVER w) / 1e3 AS a,
                   (us(captured_at) - lag(us(captured_at), 2) OVER w) / 1e3 AS a2,
                   (us(completed_at) - lag(us(completed_at)) OVER w) / 1e3 AS b,
                   (us(completed_at) - lag(us(completed_at), 2) OVER w) / 1e3 AS b2
                   FROM <rows> WINDOW w AS (<partition> ORDER BY frame))
        SELECT <file> median(a), avg(abs(2 * a - a2)), median(b), avg(abs(2 * b - b2)),
               quantile_cont(b, 0.99) FROM g <group>""",
        _jitter,
    ),
    Question(
        "losses by place",
        "SELECT frames, at_start, share FROM losses",
        """
        WITH f AS (SELECT <file> min(completed_at) AS first_result FROM <rows> <group>),
        g AS (SELECT <file> frame, skipped_before, dropped_camera, dropped_queue, dropped_writer,
                     lag(captured_at) OVER (<partition> ORDER BY frame) AS before FROM <rows>),
        k AS (SELECT *, frame = 0 OR before <= first_result AS early FROM g <join> f <using>),
        c AS (SELECT <file> count(*) AS n, sum(skipped_before)::BIGINT AS s,
                     sum(dropped_camera)::BIGINT AS c, sum(dropped_queue)::BIGINT AS q,
                     sum(dropped_writer)::BIGINT AS w,
                     coalesce(sum(dropped_camera) FILTER (early), 0)::BIGINT AS c0,
                     coalesce(sum(dropped_queue) FILTER (early), 0)::BIGINT AS q0,
                     coalesce(sum(dropped_writer) FILTER (early), 0)::BIGINT AS w0
              FROM k <group>)
        SELECT <file> s, 0, s / (n + s + c + q + w), c - c0, c0, c / (n + s + c + q + w),
               q - q0, q0, q / (n + s + c + q + w), w - w0, w0, w / (n + s + c + q + w) FROM c""",
        _losses,
    ),
    Question(
        "stalls",
        "SELECT frame, gap_ms, usual_ms FROM stalls(1.5, 20)",
        """
        WITH g AS (SELECT <file> frame, (us(completed_at) - lag(us(completed_at))
                   OVER (<partition> ORDER BY frame)) / 1e3 AS gap FROM <rows>),
        m AS (SELECT <file> median(gap) AS usual FROM g <group>)
        SELECT <file> frame, gap, usual FROM g <join> m <using>
        WHERE gap > greatest(1.5 * usual, 20) ORDER BY <file> frame""",
        _stalls,
    ),
    Question(
        "late frames, blame",
        "SELECT frame, total_ms, late_by_ms, blame, blame_ms FROM late_frames()",
        f"WITH {_LATE} SELECT <file> frame, t, late_by, b.part, b.ms FROM l ORDER BY t DESC",
        _late,
    ),
    Question(
        "what they waited for",
        "SELECT frame, total_ms, blame, behind_frame, behind_ms FROM late_causes()",
        f"""
        WITH {_LATE}, k AS (FROM l ORDER BY t DESC LIMIT 10),
        u AS (SELECT greatest(median(t) / 4, 5) AS noticeable, median(q) AS usual_wait,
                     median(p + i + o + r) AS usual_own FROM x),
        y AS MATERIALIZED (
            SELECT frame, captured_at, completed_at, p + i + o + r AS own,
                   q > usual_wait + noticeable AS waited,
                   p + i + o + r > usual_own + noticeable AS took_longer FROM x CROSS JOIN u),
        v AS (SELECT k.frame, max(y.frame) + 1 AS first FROM k CROSS JOIN y
              WHERE k.b.part = 'queue' AND y.frame < k.frame AND NOT y.waited GROUP BY k.frame),
        z AS (SELECT v.frame, first, captured_at FROM v JOIN y ON y.frame = first),
        h AS (SELECT z.frame, coalesce(min(y.frame) FILTER (took_longer),
                                       min(y.frame) FILTER (waited)) AS f,
                     coalesce(arg_min(own, y.frame) FILTER (took_longer),
                              arg_min(own, y.frame) FILTER (waited)) AS ms
              FROM z CROSS JOIN y WHERE y.frame < z.frame
              AND (y.frame >= first OR y.completed_at > z.captured_at) GROUP BY z.frame)
        SELECT frame, t, b.part, f, ms FROM k LEFT JOIN h USING (frame) ORDER BY t DESC""",
        _causes,
    ),
    Question(
        "parts of the frames",
        "SELECT avg(total_ms), avg(queue_ms), avg(consumer_ms) FROM frame_parts "
        "GROUP BY session_id",
        f"WITH {_PARTS.replace('<once>', '')} SELECT <file> avg(t), avg(q), avg(r) FROM x <group>",
        _mean_parts,
    ),
    Question(
        "labels",
        "SELECT label, detections, frames, per_second, mean_score FROM label_rate ORDER BY label",
        """
        WITH s AS (SELECT <file> (us(max(completed_at)) - us(min(captured_at))) / 1e6 AS seconds
                   FROM <rows> <group>),
        c AS (SELECT <file> d.label AS label, count(*) AS n, count(DISTINCT frame) AS frames,
              avg(d.score) AS score
              FROM (SELECT <file> frame, unnest(detections) AS d FROM <rows>) GROUP BY ALL)
        SELECT <file> label, n, frames, n / seconds, score FROM c <join> s <using>
        ORDER BY <file> label""",
        _labels,
    ),
    Question(
        "tracks and dwell",
        "SELECT track_id, frames, first_frame, last_frame, dwell_s, label FROM tracks "
        "ORDER BY track_id",
        """
        SELECT <file> d.track_id AS track_id, count(DISTINCT frame), min(frame), max(frame),
               (us(max(captured_at)) - us(min(captured_at))) / 1e6, mode(d.label)
        FROM (SELECT <file> frame, captured_at, unnest(detections) AS d FROM <rows>)
        WHERE track_id IS NOT NULL GROUP BY <file> track_id ORDER BY <file> track_id""",
        _tracks,
    ),
    Question(
        "detections in all",
        "SELECT detections, per_frame FROM detection_rate",
        "SELECT <file> sum(len(detections))::BIGINT, avg(len(detections)) FROM <rows> <group>",
        lambda df, _: [(int(df.detections.map(len).sum()), df.detections.map(len).mean())],
    ),
]
