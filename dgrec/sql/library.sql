-- dgrec's library: questions that are asked of every recording, as views and table macros over the
-- views frames, detections and sessions. docs/sql.md shows each of them at work.
--
-- Every answer is per session_id. Names that end in _ms are milliseconds, in _s seconds.
-- lag(...) OVER () is the row before: rows come session by session, and in each by frame, as in the
-- files. So nothing has to be sorted or held in memory.
-- Each entry is one statement with a comment above it. "SELECT sql FROM library" shows the
-- statements; for another rule, copy one and change it.

-- A number, but at least low. NULL stays NULL: greatest(low, NULL) would be low.
CREATE MACRO _at_least(low, value) AS CASE WHEN value < low THEN low ELSE value END;

-- The time between two rows; NULL where the stamps run backwards.
CREATE MACRO _interval(value) AS CASE WHEN value >= 0 THEN value END;

-- A figure as answers show it: with three decimals; below 0.1, with three significant digits, as
-- even a camera that sends a frame an hour has a rate.
CREATE MACRO _rounded(value) AS
    CASE WHEN abs(value) >= 0.1 OR value = 0 THEN round(value, 3)
         ELSE round(value, 2 - floor(log10(nullif(abs(value), 0)))::INTEGER) END;

-- The summary of durations. Quantiles are interpolated, as numpy's are; exact ones hold their
-- column in memory, estimated ones (t-digest) next to nothing.
CREATE MACRO _described(duration, quantiles) AS {
    'frames': count(duration), 'mean_ms': avg(duration), 'p50_ms': quantiles[1],
    'p90_ms': quantiles[2], 'p95_ms': quantiles[3], 'p99_ms': quantiles[4], 'max_ms': max(duration)
};

CREATE MACRO _summary(duration) AS
    _described(duration, quantile_cont(duration, [0.5, 0.9, 0.95, 0.99]));

CREATE MACRO _estimated_summary(duration) AS
    _described(duration, approx_quantile(duration, [0.5, 0.9, 0.95, 0.99]));

-- Seconds from the first capture to the last result of some rows.
CREATE MACRO _seconds(captured_at, completed_at) AS
    (epoch_us(max(completed_at)) - epoch_us(min(captured_at))) / 1e6;

-- The longer of two times; NULL where one of them is: greatest(1, NULL) would be 1.
CREATE MACRO _longer(a, b) AS CASE WHEN a < b THEN b WHEN b <= a THEN a END;

-- Frames a second of some rows, the one definition of a rate: the steps from one frame to the next
-- (rows - 1), divided by the time that they took. That is the time from the first capture to the
-- last, or from the first result to the last, whichever is longer. So a rate is never more than
-- what the source sent, however late the first result came out, nor more than what the pipeline
-- gave. Only rows that have both stamps count; NULL for fewer than two.
CREATE MACRO rate(captured_at, completed_at) AS
    (count(epoch_us(captured_at) + epoch_us(completed_at)) - 1) * 1e6 / nullif(_longer(
        epoch_us(max(captured_at) FILTER (completed_at IS NOT NULL))
            - epoch_us(min(captured_at) FILTER (completed_at IS NOT NULL)),
        epoch_us(max(completed_at) FILTER (captured_at IS NOT NULL))
            - epoch_us(min(completed_at) FILTER (captured_at IS NOT NULL))), 0);

-- Frames lost between some rows: what was lost before the first row does not count.
CREATE MACRO _after_first(frame, lost) AS sum(lost) - coalesce(arg_min_null(lost, frame), 0);

-- The rate of some rows, including those that were lost at the writer between them.
CREATE MACRO _inferred_rate(frame, captured_at, completed_at, dropped_writer) AS
    rate(captured_at, completed_at)
        * (count(*) - 1 + _after_first(frame, dropped_writer))
        / nullif(count(*) - 1, 0);

-- Whether the losses before a frame happened while the model started: before the first frame, or if
-- the frame before it was captured no later than the first result came out (losses_until in
-- model_start).
CREATE MACRO _at_start(frame, captured_before, losses_until) AS
    losses_until IS NOT NULL
    AND (frame = 0 OR coalesce(captured_before <= losses_until, false));

-- Frames lost before some rows once the model had started.
CREATE MACRO _dropped(lost, at_start) AS
    sum(CASE WHEN at_start AND lost IS NOT NULL THEN 0 ELSE lost END)::BIGINT;

-- Frames lost before some rows while it started.
CREATE MACRO _dropped_at_start(lost, at_start) AS
    sum(CASE WHEN at_start OR lost IS NULL THEN lost ELSE 0 END)::BIGINT;

-- Milliseconds of a frame's latency in which none of the runtime's stages worked on it: waiting
-- for its turn, and whatever the runtime does not time. Null where the runtime reported no times.
CREATE MACRO _waiting_ms(latency, preprocess, inference, postprocess) AS
    CASE WHEN latency + coalesce(preprocess, inference, postprocess) IS NOT NULL THEN
        greatest(0, latency - coalesce(preprocess, 0) - coalesce(inference, 0)
                            - coalesce(postprocess, 0))
    END;

-- The length of the warm-up: one row a session. Frames are counted in windows of about one second
-- (as many frames as the session's mean rate, at least 10). The warm-up ends where, for three
-- windows in a row, both the throughput and the median latency stay within 10% (largest at most 1.1
-- times the smallest), the rule of Triton's Perf Analyzer. If they never do in the first half, the
-- session has not settled, and nothing counts as warm-up; nor does it where has_settled is NULL:
-- three windows do not fit, nothing was timed, or all stamps are the same. Warm-up frames are only
-- flagged: frames has them all.
CREATE VIEW warm_up AS
WITH span AS (
    SELECT *, CASE WHEN ended > started
                   THEN _at_least(10, round(frames * 1e6 / (ended - started)))::BIGINT
              END AS window_frames
    FROM (
        SELECT session_id, count(*) AS frames, min(frame) AS first_frame,
               max(frame) AS last_frame, count(latency_ms) AS timed,
               epoch_us(min(captured_at)) AS started, epoch_us(max(completed_at)) AS ended
        FROM frames GROUP BY session_id
    )
), windows AS (
    SELECT session_id, (frame - first_frame) // window_frames AS number, count(*) AS frames,
           epoch_us(max(completed_at)) AS ended, median(latency_ms) AS latency,
           any_value(started) AS started,
           any_value((last_frame - first_frame + 1) // window_frames) AS whole_windows
    FROM frames JOIN span USING (session_id) GROUP BY ALL
), rates AS (
    SELECT session_id, number, whole_windows, latency,
           frames / _at_least(1, ended - CASE WHEN number = 0 THEN started
                                              ELSE lag(ended) OVER session END) AS rate,
           sum(frames) OVER session - frames AS frames_before
    FROM windows
    WINDOW session AS (PARTITION BY session_id ORDER BY number)
), compared AS (
    SELECT session_id, number, frames_before, whole_windows,
           lead(rate) OVER session AS rate_1, lead(rate, 2) OVER session AS rate_2, rate,
           latency, lead(latency) OVER session AS latency_1,
           lead(latency, 2) OVER session AS latency_2
    FROM rates
    WINDOW session AS (PARTITION BY session_id ORDER BY number)
), settled AS (
    SELECT session_id, min(number) AS number, arg_min(frames_before, number) AS frames_before
    FROM compared
    WHERE number + 2 < whole_windows
      AND rate + rate_1 + rate_2 + latency + latency_1 + latency_2 IS NOT NULL
      AND greatest(rate, rate_1, rate_2) <= 1.1 * least(rate, rate_1, rate_2)
      AND greatest(latency, latency_1, latency_2) <= 1.1 * least(latency, latency_1, latency_2)
    GROUP BY session_id
)
SELECT session_id, span.frames, window_frames,
       CASE WHEN (last_frame - first_frame + 1) // window_frames >= 3 AND timed > 0
            THEN coalesce(2 * frames_before <= span.frames, false) END AS has_settled,
       CASE WHEN 2 * frames_before <= span.frames THEN frames_before ELSE 0 END::BIGINT
           AS warm_up_frames,
       first_frame + CASE WHEN 2 * frames_before <= span.frames THEN number * window_frames ELSE 0
                     END AS first_steady_frame
FROM span LEFT JOIN settled USING (session_id);

-- The rows of frames after the warm-up (all of a session that has not settled).
CREATE VIEW steady_frames AS
SELECT frames.* FROM frames JOIN warm_up USING (session_id) WHERE frame >= first_steady_frame;

-- The duration of each stage: a row for each session and stage. Stages are read, preprocess,
-- inference, postprocess, waiting (the latency without the last three), latency (end to end, from
-- captured to completed), published (from captured until the slowest target of --publish had taken
-- it) and recorder. Quantiles are interpolated, as numpy's are.
CREATE VIEW stage_latency AS
SELECT session_id, 'read' AS stage, unnest(_summary(read_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'preprocess' AS stage, unnest(_summary(preprocess_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'inference' AS stage, unnest(_summary(inference_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'postprocess' AS stage, unnest(_summary(postprocess_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'waiting' AS stage, unnest(_summary(_waiting_ms(latency_ms, preprocess_ms, inference_ms, postprocess_ms)))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'latency' AS stage, unnest(_summary(latency_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'published' AS stage, unnest(_summary(published_ms))
FROM frames GROUP BY session_id
UNION ALL
SELECT session_id, 'recorder' AS stage, unnest(_summary(recorder_ms))
FROM frames GROUP BY session_id;

-- What each target of --publish took of a session: a row for each. frames is how many frames it was
-- to get messages of, left_out how many of them it had not taken when the recording ended.
CREATE VIEW targets AS
SELECT session_id, target ->> '$.target' AS target, target ->> '$.payload' AS payload,
       (target ->> '$.every')::BIGINT AS every,
       (target ->> '$.frames')::BIGINT AS frames,
       (target ->> '$.delivered')::BIGINT AS delivered,
       (target ->> '$.frames')::BIGINT - (target ->> '$.delivered')::BIGINT AS left_out
FROM (SELECT session_id, unnest(json_extract(metadata, '$.targets[*]')) AS target FROM sessions);

-- Only the latency end to end: stage_latency has it too, but computes every stage.
CREATE VIEW end_to_end_latency AS
SELECT session_id, unnest(_summary(latency_ms)) FROM frames GROUP BY session_id;

-- One quantile of the latency end to end, 0 to 1: latency_quantile(0.999).
CREATE MACRO latency_quantile(q := 0.95) AS TABLE
SELECT session_id, quantile_cont(latency_ms, q) AS latency_ms FROM frames GROUP BY session_id;

-- Frames a second (rate, above) over the whole session, the warm-up included, and how long it took
-- from the first capture to the last result.
CREATE VIEW session_throughput AS
SELECT session_id, count(*) AS frames,
       _seconds(captured_at, completed_at) AS duration_s,
       rate(captured_at, completed_at) AS fps
FROM frames GROUP BY session_id;

-- When the model had started: its first result came out. NULL where the rows do not begin with the
-- recording: in a clip, and in a part that follows others. losses_until is the same for a live
-- source: its losses up to then are counted separately. NULL for footage: it waits for the model,
-- and loses frames only to damage.
CREATE VIEW model_start AS
SELECT session_id, first_result_at, CASE WHEN live THEN first_result_at END AS losses_until
FROM (
    SELECT session_id, live, CASE WHEN first_frame = 0 AND json_type(metadata, '$.clip') IS NULL
                                  THEN first_result_at END AS first_result_at
    FROM (
        SELECT session_id, min(frame) AS first_frame, min(completed_at) AS first_result_at
        FROM frames GROUP BY session_id
    ) JOIN sessions USING (session_id)
);

-- Frames a second, and their latency, in windows of the given seconds from the first frame's
-- capture. The rate is that of the whole session, cut at the windows: the steps that ended in a
-- window, divided by its time between the session's first and last result, or by the time in which
-- these frames were captured, whichever is longer. A window without results has 0; the last one
-- ends with the last result. dropped is what was lost once the model had started. A row without
-- completed_at is in no window, a session without stamps has no windows.
CREATE MACRO throughput(seconds := 10) AS TABLE
WITH span AS (
    SELECT *, CASE WHEN (ended - started) // window_us > 50_000_000
                   THEN error('throughput(seconds): the stamps of ' || session_id || ' are '
                       || ((ended - started) // 86_400_000_000)::VARCHAR || ' days apart: more than '
                       || '50 million windows; give more seconds')::BIGINT
                   ELSE _at_least(0, (ended - started - 1) // window_us) END AS last
    FROM (
        SELECT session_id, epoch_us(min(captured_at)) AS started,
               epoch_us(max(completed_at)) AS ended,
               epoch_us(min(completed_at) FILTER (captured_at IS NOT NULL)) AS first_result,
               epoch_us(max(completed_at) FILTER (captured_at IS NOT NULL)) AS last_result,
               CASE WHEN seconds * 1e6 >= 1 THEN (seconds * 1e6)::BIGINT
                    ELSE error('throughput(seconds): give more than 0')::BIGINT END AS window_us
        FROM frames GROUP BY session_id
    ) JOIN model_start USING (session_id)
), steps AS NOT MATERIALIZED (
    SELECT session_id, frame, captured_at, completed_at, latency_ms, skipped_before, dropped_before,
           CASE WHEN lag(session_id) OVER () = session_id
                THEN lag(captured_at) OVER () END AS captured_before
    FROM frames
), counted AS (
    SELECT session_id,
           CASE WHEN completed_at IS NOT NULL THEN greatest(0, least(
               (epoch_us(completed_at) - started) // window_us, last)) END AS number,
           count(*) AS frames,
           -- The very first result ends no step.
           count(captured_at) - CASE WHEN count(*) FILTER (captured_at IS NOT NULL
               AND epoch_us(completed_at) = first_result) > 0 THEN 1 ELSE 0 END AS steps,
           CASE WHEN count(captured_at) > 1
                THEN (epoch_us(max(captured_at)) - epoch_us(min(captured_at)))
                     / (count(captured_at) - 1)
                ELSE epoch_us(max(captured_at)) - epoch_us(max(captured_before)) END AS step_us,
           quantile_cont(latency_ms, [0.5, 0.95]) AS latency,
           sum(skipped_before)::BIGINT AS skipped,
           _dropped(dropped_before, _at_start(frame, captured_before, losses_until)) AS dropped,
           _dropped_at_start(dropped_before, _at_start(frame, captured_before, losses_until))
               AS dropped_at_start
    FROM steps JOIN span USING (session_id) GROUP BY ALL
), windows AS (
    SELECT *, unnest(range(last + 1)) AS number FROM span
)
SELECT session_id, make_timestamptz(started + number * window_us) AS window_start,
       (least(window_us, greatest(1, ended - started - number * window_us))) / 1e6 AS seconds,
       coalesce(frames, 0) AS frames,
       CASE WHEN coalesce(steps, 0) = 0 THEN 0
            ELSE steps * 1e6 / nullif(_longer(steps * step_us,
                least(last_result, started + (number + 1) * window_us)
                    - greatest(first_result, started + number * window_us)), 0) END AS fps,
       latency[1] AS latency_p50_ms, latency[2] AS latency_p95_ms,
       CASE WHEN frames > 0 THEN skipped ELSE 0 END AS skipped,
       CASE WHEN frames > 0 THEN dropped ELSE 0 END AS dropped,
       CASE WHEN frames > 0 THEN dropped_at_start ELSE 0 END AS dropped_at_start
FROM windows LEFT JOIN counted USING (session_id, number)
ORDER BY session_id, number;

-- How evenly frames were captured, and results came out. An interval is the time from one row to
-- the next (none where a stamp is missing, or earlier than the one before); jitter is the mean of
-- |interval - the interval before|, which a steady change of the rate hardly affects.
CREATE VIEW jitter AS
WITH intervals AS (
    SELECT session_id,
           CASE WHEN lag(session_id) OVER () = session_id
                THEN (epoch_us(captured_at) - lag(epoch_us(captured_at)) OVER ()) / 1e3
           END AS captured,
           CASE WHEN lag(session_id) OVER () = session_id
                THEN (epoch_us(completed_at) - lag(epoch_us(completed_at)) OVER ()) / 1e3
           END AS completed,
           CASE WHEN lag(session_id, 2) OVER () = session_id
                THEN (epoch_us(captured_at) - lag(epoch_us(captured_at), 2) OVER ()) / 1e3
           END AS captured_twice,
           CASE WHEN lag(session_id, 2) OVER () = session_id
                THEN (epoch_us(completed_at) - lag(epoch_us(completed_at), 2) OVER ()) / 1e3
           END AS completed_twice
    FROM frames
)
SELECT session_id, count(_interval(completed)) AS intervals,
       median(_interval(captured)) AS capture_interval_ms,
       avg(abs(_interval(captured) - _interval(captured_twice - captured))) AS capture_jitter_ms,
       median(_interval(completed)) AS result_interval_ms,
       avg(abs(_interval(completed) - _interval(completed_twice - completed))) AS result_jitter_ms,
       quantile_cont(_interval(completed), 0.99) AS result_interval_p99_ms
FROM intervals GROUP BY session_id;

-- Losses before each frame, and whether they happened while the model started (at_start).
CREATE VIEW frame_losses AS
WITH steps AS NOT MATERIALIZED (
    SELECT session_id, frame, captured_at, completed_at, skipped_before, dropped_before,
           dropped_camera, dropped_queue, dropped_writer,
           CASE WHEN lag(session_id) OVER () = session_id
                THEN lag(captured_at) OVER () END AS captured_before
    FROM frames
)
SELECT session_id, frame, captured_at, completed_at, skipped_before, dropped_before,
       dropped_camera, dropped_queue, dropped_writer,
       _at_start(frame, captured_before, losses_until) AS at_start
FROM steps JOIN model_start USING (session_id);

-- Each session's losses by place: once the model had started, and while it started.
CREATE VIEW _session_losses AS
SELECT session_id, count(*) AS recorded, sum(skipped_before)::BIGINT AS skipped,
       _dropped(dropped_before, at_start) AS dropped,
       _dropped(dropped_camera, at_start) AS camera,
       _dropped(dropped_queue, at_start) AS queue,
       _dropped(dropped_writer, at_start) AS writer,
       _dropped_at_start(dropped_before, at_start) AS at_start,
       _dropped_at_start(dropped_camera, at_start) AS camera_at_start,
       _dropped_at_start(dropped_queue, at_start) AS queue_at_start,
       _dropped_at_start(dropped_writer, at_start) AS writer_at_start
FROM frame_losses GROUP BY session_id;

-- Source frames that are not in the recording, by place: skipped (left out on purpose), or dropped
-- at the camera, in the queue or at the writer. Dropped frames were lost once the model had started
-- (frames), or while it started (at_start). share is both, as a part of all the source's frames.
CREATE VIEW losses AS
SELECT session_id, p.place, p.frames, p.at_start,
       (p.frames + p.at_start) / source_frames AS share
FROM (
    SELECT session_id,
           recorded + skipped + camera + queue + writer
               + camera_at_start + queue_at_start + writer_at_start AS source_frames,
           unnest([
               {'place': 'skipped', 'frames': skipped, 'at_start': 0},
               {'place': 'camera', 'frames': camera, 'at_start': camera_at_start},
               {'place': 'queue', 'frames': queue, 'at_start': queue_at_start},
               {'place': 'writer', 'frames': writer, 'at_start': writer_at_start}]) AS p
    FROM _session_losses
);

-- Times without a result: gaps longer than factor times the session's median and longer than
-- at_least_ms. frame is the first one after the gap; captured_gap_ms, how far apart the two frames
-- were captured, shows whether the source or the pipeline stood still.
CREATE MACRO stalls(factor := 3, at_least_ms := 100) AS TABLE
WITH gaps AS NOT MATERIALIZED (
    SELECT session_id, frame, lag(completed_at) OVER () AS from_at, completed_at AS to_at,
           CASE WHEN lag(session_id) OVER () = session_id
                THEN (epoch_us(completed_at) - lag(epoch_us(completed_at)) OVER ()) / 1e3
           END AS gap_ms,
           (epoch_us(captured_at) - lag(epoch_us(captured_at)) OVER ()) / 1e3 AS captured_gap_ms
    FROM frames
), usual AS (
    SELECT session_id, median(_interval(gap_ms)) AS usual_ms FROM gaps GROUP BY session_id
)
SELECT session_id, frame, from_at, to_at, gap_ms, usual_ms, captured_gap_ms
FROM gaps JOIN usual USING (session_id)
WHERE gap_ms > greatest(factor * usual_ms, at_least_ms)
ORDER BY session_id, frame;

-- Where each frame's time went, in milliseconds: total_ms is read_ms + latency_ms, and the parts
-- add up to it. capture: the source's read. preprocess, inference, postprocess: as the runtime
-- says. consumer: the part of its wait in which the recorder (with display, video, publisher) was
-- busy with the result before. queue: the rest. Where the runtime reports no times, everything but
-- capture and consumer is untimed.
CREATE VIEW frame_parts AS
WITH waiting AS (
    SELECT session_id, frame, captured_at, completed_at, read_ms, latency_ms,
           preprocess_ms, inference_ms, postprocess_ms,
           _waiting_ms(latency_ms, preprocess_ms, inference_ms, postprocess_ms) AS waiting_ms,
           coalesce(CASE WHEN lag(session_id) OVER () = session_id
                         THEN lag(recorder_ms) OVER () END, 0) AS before_ms
    FROM frames
)
SELECT session_id, frame, captured_at, completed_at, read_ms + latency_ms AS total_ms,
       read_ms AS capture_ms, preprocess_ms, inference_ms, postprocess_ms,
       waiting_ms - least(waiting_ms, before_ms) AS queue_ms,
       CASE WHEN latency_ms IS NOT NULL
            THEN least(coalesce(waiting_ms, latency_ms), before_ms) END AS consumer_ms,
       CASE WHEN waiting_ms IS NULL THEN latency_ms - least(latency_ms, before_ms) END AS untimed_ms
FROM waiting;

-- Late frames, and what was to blame: those whose total_ms is more than factor times the session's
-- median and at least at_least_ms above it. blame is the part that was furthest above its own
-- median; blame_ms, by how much.
CREATE MACRO late_frames(factor := 1.5, at_least_ms := 10) AS TABLE
WITH usual AS (
    -- Half of the medians at a time: each holds its column in memory.
    SELECT * FROM (
        SELECT session_id, median(total_ms) AS total, median(queue_ms) AS queue,
               median(consumer_ms) AS consumer, median(untimed_ms) AS untimed
        FROM frame_parts GROUP BY session_id
    ) JOIN (
        SELECT session_id, median(capture_ms) AS capture, median(preprocess_ms) AS preprocess,
               median(inference_ms) AS inference, median(postprocess_ms) AS postprocess
        FROM frame_parts GROUP BY session_id
    ) USING (session_id)
), late AS (
    SELECT frame_parts.*, total AS usual_ms, total_ms - total AS late_by_ms, list_max(list_filter([
        {'ms': capture_ms - capture, 'part': 'capture'},
        {'ms': preprocess_ms - preprocess, 'part': 'preprocess'},
        {'ms': inference_ms - inference, 'part': 'inference'},
        {'ms': postprocess_ms - postprocess, 'part': 'postprocess'},
        {'ms': queue_ms - queue, 'part': 'queue'},
        {'ms': consumer_ms - consumer, 'part': 'consumer'},
        {'ms': untimed_ms - coalesce(untimed, 0), 'part': 'untimed'}
    ], lambda over: over.ms IS NOT NULL)) AS blamed
    FROM frame_parts JOIN usual USING (session_id)
    WHERE total_ms > factor * total AND total_ms - total >= at_least_ms
)
SELECT session_id, frame, captured_at, total_ms, usual_ms, late_by_ms, blamed.part AS blame,
       blamed.ms AS blame_ms, capture_ms, preprocess_ms, inference_ms, postprocess_ms, queue_ms,
       consumer_ms, untimed_ms
FROM late ORDER BY total_ms DESC, session_id, frame;

-- The late frames that took longest. For those that the queue made late, behind_frame began the
-- backlog they waited in: a run of frames that each waited noticeably longer than usual (by half of
-- what makes a frame late). Among these, and the frames in progress when the first of them was
-- captured, it is the first that took noticeably longer itself (behind_ms: its stages, and the
-- consumer before it); where none did, the first that waited.
CREATE MACRO late_causes(top := 10) AS TABLE
WITH late AS (
    FROM late_frames() LIMIT top
), own AS NOT MATERIALIZED (
    SELECT session_id, frame, captured_at, completed_at, total_ms,
           coalesce(queue_ms, untimed_ms) AS waited_ms,
           coalesce(preprocess_ms, 0) + coalesce(inference_ms, 0) + coalesce(postprocess_ms, 0)
               + consumer_ms AS own_ms
    FROM frame_parts
), usual AS (
    SELECT session_id, greatest(median(total_ms) / 4, 5) AS noticeable_ms,
           median(waited_ms) AS usual_wait_ms, median(own_ms) AS usual_own_ms
    FROM own GROUP BY session_id
), marked AS MATERIALIZED (
    SELECT session_id, frame, captured_at, completed_at, own_ms,
           coalesce(waited_ms > usual_wait_ms + noticeable_ms, false) AS waited,
           coalesce(own_ms > usual_own_ms + noticeable_ms, false) AS took_longer
    FROM own JOIN usual USING (session_id)
), level AS (
    SELECT session_id, late.frame, max(marked.frame) AS level_frame
    FROM late JOIN marked USING (session_id)
    WHERE late.blame IN ('queue', 'untimed') AND marked.frame < late.frame AND NOT marked.waited
    GROUP BY ALL
), backlog AS (
    SELECT session_id, level.frame, min(marked.frame) AS first_frame,
           arg_min(marked.captured_at, marked.frame) AS first_captured_at
    FROM level JOIN marked USING (session_id)
    WHERE marked.frame > level_frame AND marked.frame <= level.frame
    GROUP BY ALL
), behind AS (
    SELECT session_id, backlog.frame,
           coalesce(min(marked.frame) FILTER (took_longer),
                    min(marked.frame) FILTER (waited)) AS behind_frame,
           coalesce(arg_min(own_ms, marked.frame) FILTER (took_longer),
                    arg_min(own_ms, marked.frame) FILTER (waited)) AS behind_ms
    FROM backlog JOIN marked USING (session_id)
    WHERE marked.frame < backlog.frame
      AND (marked.frame >= first_frame OR marked.completed_at > first_captured_at)
    GROUP BY ALL
)
SELECT session_id, frame, captured_at, total_ms, usual_ms, late_by_ms, blame, blame_ms,
       behind_frame, behind_ms
FROM late LEFT JOIN behind USING (session_id, frame)
ORDER BY total_ms DESC, session_id, frame;

-- Values over time: what the program logged, what the recorder measured of the machine, and what an
-- accelerator says of itself with each result (timing's Device..., except durations). frame is the
-- last one whose result had come out by then; NULL before the first.
CREATE VIEW signals AS
SELECT session_id, s.name AS name, s.at AS time,
       CASE WHEN s.at >= completed_at THEN frame ELSE frame_before END AS frame, s.value AS value
FROM (
    SELECT session_id, frame, completed_at, frame_before, unnest(signals) AS s
    FROM (
        SELECT session_id, frame, completed_at, signals,
               CASE WHEN lag(session_id) OVER () = session_id THEN lag(frame) OVER () END
                   AS frame_before
        FROM frames
    )
)
WHERE s.name IS NOT NULL AND isfinite(s.value) AND s.at BETWEEN
    TIMESTAMPTZ '0001-01-01 00:00:00+00' AND TIMESTAMPTZ '9999-12-31 23:59:59+00'
UNION ALL SELECT * FROM _late_signals WHERE isfinite(value)
UNION ALL SELECT * FROM _device_signals WHERE isfinite(value);

-- Events while recording: gaps, lost AI servers, pictures of another size or that could not be
-- decoded, and the program's marks. text is the mark's text, or the reason; details (JSON) are the
-- mark's own, or what else is known (docs/format.md). frame is the last one whose result had come
-- out by then; NULL before the first.
CREATE VIEW events AS SELECT * FROM _events;

-- Whether an event begins another run: the recorder was started again, or recordings were merged.
-- Older files say so by the reason alone.
CREATE MACRO _is_restart(kind, text, details) AS
    kind = 'gap' AND (json_exists(details, '$.ended') OR text = 'the recorder was started again');

-- Runs after the first one: their numbers, from 1, and their frames by the numbers in the source,
-- up to the one before next_source_frame. Analyzers begin anew in each run.
CREATE VIEW _later_runs AS
SELECT session_id, source_frame,
       lead(source_frame, 1, 9223372036854775807) OVER numbers AS next_source_frame,
       row_number() OVER numbers AS run
FROM (
    SELECT session_id, TRY_CAST(details->>'source_frame' AS BIGINT) AS source_frame
    FROM _events WHERE _is_restart(kind, text, details)
) WHERE source_frame IS NOT NULL
WINDOW numbers AS (PARTITION BY session_id ORDER BY source_frame);

-- Alerts of rules, as the recorder gave them: since when the rule held, when it fired, and when it
-- was over (NULL: it held to the end). One that held at the end of a run, with others after it,
-- ended with that run.
CREATE VIEW alerts AS
SELECT session_id, text AS name, details->>'rule' AS rule, from_at AS since, to_at AS fired,
       (SELECT arg_min(greatest(coalesce(TRY_CAST(e.details->>'ended' AS TIMESTAMPTZ), e.from_at), a.to_at), e.to_at)
        FROM _events e WHERE e.session_id = a.session_id AND e.to_at >= a.to_at
          AND ((e.kind = 'alert_end' AND e.text = a.text)
               OR _is_restart(e.kind, e.text, e.details))) AS ended,
       (details->>'source_frame')::BIGINT AS source_frame
FROM _events a WHERE kind = 'alert';
