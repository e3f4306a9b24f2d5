"""The statements of `dgrec stats`, made of the SQL library, to be read, copied and changed."""

from __future__ import annotations

import textwrap

from dgrec.sql import library

#: What recordings can be grouped by, and the column of the answer.
_KEYS = {
    "session": "s.name",
    "model": "s.model",
    "device": "s.device",
    "label": "label",
    "hour": "strftime(time_bucket(INTERVAL 1 hour, captured_at), '%Y-%m-%d %H:00Z')",
}

#: The sessions, with the name that tables show; if two have the same name, the id follows.
NAMED_SESSIONS = """(
    SELECT session_id, started_at, live AS is_live, inference_host,
           coalesce(name, session_id)
           || CASE WHEN count(*) OVER (PARTITION BY name) > 1 THEN ' ' || session_id ELSE '' END
           AS session
    FROM sessions
)"""


def by_query(key: str) -> str:
    """Return a query for one row for each session, model, device, label or hour (UTC)."""
    if key == "label":
        return _BY_LABEL
    # Two recordings may have the same name.
    also = ", session_id" if key == "session" else ""
    return _BY.format(key=key, value=_KEYS[key], also=also)


_BY = """\
WITH keyed AS (
    SELECT coalesce({value}, 'unknown') AS {key}{also}, session_id AS of_session,
           captured_at, completed_at, latency_ms, inference_ms,
           len(f.detections) AS found
    FROM frames f JOIN sessions s USING (session_id)
), rates AS (
    SELECT {key}{also}, count(*) AS sessions,
           sum(steps) FILTER (fps IS NOT NULL) / sum(steps / fps) AS fps
    FROM (
        SELECT {key}{also}, of_session, rate(captured_at, completed_at) AS fps,
               count(captured_at) FILTER (completed_at IS NOT NULL) - 1 AS steps
        FROM keyed GROUP BY ALL
    ) GROUP BY ALL
), lost AS (
    SELECT coalesce({value}, 'unknown') AS {key}{also},
           _dropped(dropped_before, at_start) AS dropped,
           _dropped_at_start(dropped_before, at_start) AS dropped_at_start
    FROM frame_losses JOIN sessions s USING (session_id) GROUP BY ALL
), measured AS (
    SELECT {key}{also}, count(*) AS frames,
           _summary(latency_ms) AS latency, _summary(inference_ms) AS inference,
           sum(found)::BIGINT AS detections
    FROM keyed GROUP BY ALL
)
SELECT {key}{also}, sessions, frames, _rounded(fps) AS fps,
       _rounded(latency.p50_ms) AS latency_p50_ms, _rounded(latency.p95_ms) AS latency_p95_ms,
       _rounded(latency.p99_ms) AS latency_p99_ms, _rounded(inference.p50_ms) AS inference_p50_ms,
       dropped, dropped_at_start, detections
FROM measured JOIN rates USING ({key}{also}) JOIN lost USING ({key}{also})
ORDER BY ALL"""

_BY_LABEL = """\
SELECT label, count(DISTINCT session_id) AS sessions, sum(detections)::BIGINT AS detections,
       sum(frames)::BIGINT AS frames,
       _rounded(sum(detections) FILTER (per_second IS NOT NULL)
                / (SELECT sum(duration_s) FROM session_throughput)) AS per_second,
       _rounded(sum(mean_score * scored) / sum(scored)) AS mean_score
FROM label_rate GROUP BY label ORDER BY detections DESC, label"""


def window_query(seconds: float) -> str:
    """Return a query for the rate and the latency in windows of so many seconds."""
    return f"""\
SELECT session, window_start, _rounded(seconds) AS seconds, w.frames, _rounded(fps) AS fps,
       _rounded(latency_p50_ms) AS latency_p50_ms, _rounded(latency_p95_ms) AS latency_p95_ms,
       w.skipped, w.dropped, w.dropped_at_start
FROM throughput({seconds!r}) w JOIN {NAMED_SESSIONS} USING (session_id)
ORDER BY started_at, session_id, window_start"""


def late_query(top: int) -> str:
    """Return a query for the latest frames: by how much, and which part was to blame."""
    return f"""\
SELECT session, frame, captured_at, _rounded(total_ms) AS total_ms,
       _rounded(usual_ms) AS usual_ms, _rounded(late_by_ms) AS late_by_ms, blame,
       _rounded(blame_ms) AS blame_ms, behind_frame, _rounded(behind_ms) AS behind_ms
FROM late_causes({top}) l JOIN {NAMED_SESSIONS} USING (session_id)
ORDER BY l.total_ms DESC, session_id, frame"""


def script(*queries: str) -> str:
    """Return ``queries`` below the parts of the library that they use, in comments: one query runs
    as it is, with `dgrec query --file`, and several in turn, piped into `dgrec query`."""
    end = ";\n" if len(queries) > 1 else "\n"
    comments = [
        "".join(f"-- {line}\n".replace("--  \n", "--\n") for line in _lines(entry))
        for entry in library.used_by(*queries)
    ]
    return "\n".join([*comments, *(query.rstrip() + end for query in queries)])


def _lines(entry: library.Entry) -> list[str]:
    return [*textwrap.wrap(entry.description, 95), *f"{entry.sql};".splitlines()]
