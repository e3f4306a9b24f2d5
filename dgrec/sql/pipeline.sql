-- The frame from which a session was running: after the warm-up, and after the frames captured
-- before the first result came out, unless fewer than 10 are left. left_out counts those before it.
CREATE VIEW running AS
SELECT session_id, first_running_frame, warm_up_frames + waited_for_start AS left_out
FROM (
    SELECT session_id, any_value(warm_up_frames) AS warm_up_frames,
           CASE WHEN count(*) - count(*) FILTER (captured_at <= first_result_at) < 10 THEN 0
                ELSE count(*) FILTER (captured_at <= first_result_at) END AS waited_for_start,
           CASE WHEN count(*) - count(*) FILTER (captured_at <= first_result_at) < 10
                THEN any_value(first_steady_frame)
                ELSE coalesce(min(frame) FILTER (captured_at > first_result_at),
                              any_value(first_steady_frame)) END AS first_running_frame
    FROM (
        SELECT session_id, frame, captured_at, warm_up_frames, first_steady_frame
        FROM frames JOIN warm_up USING (session_id) WHERE frame >= first_steady_frame
    ) JOIN model_start USING (session_id)
    GROUP BY session_id
);

-- Why the rate is not 1/latency, once the session was running (left_out frames before that):
-- Little's law. fps is the rate of these frames, and in_flight = fps * latency_ms / 1000 how many
-- were in progress at a time; one_at_a_time_fps is 1/latency: the rate if that were one, and the
-- source had the next frame at once. (The time that a frame waits for others would go as well.)
-- delivered_fps is what the source delivered: steps of source_frame over the same captures, which
-- fps never exceeds. sent_fps adds the frames that were lost before dgrec read them, inferred_fps
-- the rows that were lost at the writer. seconds is from the first capture to the last result.
CREATE VIEW pipeline AS
SELECT session_id, frames, left_out, seconds, fps,
       inferred_fps, latency_ms,
       fps * latency_ms / 1e3 AS in_flight,
       CASE WHEN latency_ms > 0 THEN 1e3 / latency_ms END AS one_at_a_time_fps,
       steps / capture_s AS delivered_fps, (steps + lost_camera) / capture_s AS sent_fps
FROM (
    SELECT session_id, count(*) AS frames, any_value(left_out) AS left_out,
           _at_least(1e-6, _seconds(captured_at, completed_at)) AS seconds,
           rate(captured_at, completed_at) AS fps, avg(latency_ms) AS latency_ms,
           nullif(epoch_us(max(captured_at)) - epoch_us(min(captured_at)), 0) / 1e6 AS capture_s,
           max(source_frame) - min(source_frame) AS steps,
           _after_first(frame, dropped_camera) AS lost_camera,
           _inferred_rate(frame, captured_at, completed_at, dropped_writer) AS inferred_fps
    FROM (
        SELECT session_id, frame, source_frame, captured_at, completed_at, latency_ms,
               dropped_camera, dropped_writer, left_out
        FROM frames JOIN running USING (session_id) WHERE frame >= first_running_frame
    ) GROUP BY session_id
);

-- How busy each stage of the pipeline was, once the session was running. frames_in_it is how many
-- frames were in it at a time (Little's law again); workers, how many it can take at once
-- (inference: the model's devices; postprocess: PySDK's one worker for postprocessors in Python;
-- NULL: unknown, or a live source, which is waited for and not worked on).
-- busy is frames_in_it / workers, at most 1. In a short recording it is only approximate: work on
-- the first frames was done before the time that the rate covers. busy_at_least goes by the time
-- from the first capture to the last result, which contains all work. The time of preprocess and
-- postprocess may include waiting for the worker: there it also goes by the shortest time that a
-- frame took. read counts all frames that the source delivered, kept or not.
-- capacity_fps is how many results a second the stage could give if it worked all the time, by the
-- same times, and at least what it gave.
CREATE VIEW stage_load AS
WITH loads AS (
    SELECT session_id,
           _inferred_rate(frame, captured_at, completed_at, dropped_writer) AS inferred_fps,
           -- The rate's time, as a share of all the time.
           (count(captured_at) FILTER (completed_at IS NOT NULL) - 1)
               / nullif(rate(captured_at, completed_at), 0)
               / _at_least(1e-6, _seconds(captured_at, completed_at)) AS time_share,
           unnest([
        {'stage': 'read', 'mean_ms': avg(read_ms), 'least_ms': avg(read_ms),
         'times': 1 + sum(skipped_before + dropped_queue) / count(*)},
        {'stage': 'preprocess', 'mean_ms': avg(preprocess_ms), 'least_ms': min(preprocess_ms),
         'times': 1},
        {'stage': 'inference', 'mean_ms': avg(inference_ms), 'least_ms': avg(inference_ms),
         'times': 1},
        {'stage': 'postprocess', 'mean_ms': avg(postprocess_ms), 'least_ms': min(postprocess_ms),
         'times': 1},
        {'stage': 'waiting', 'mean_ms': avg(waiting), 'least_ms': NULL, 'times': 1},
        {'stage': 'recorder', 'mean_ms': avg(recorder_ms), 'least_ms': avg(recorder_ms),
         'times': 1}
    ]) AS load
    FROM (SELECT *, _waiting_ms(latency_ms, preprocess_ms, inference_ms, postprocess_ms) AS waiting
          FROM frames JOIN running USING (session_id) WHERE frame >= first_running_frame)
    GROUP BY session_id
), entered AS (
    SELECT session_id, load.stage, load.mean_ms AS mean_ms, inferred_fps,
           load.least_ms * load.times AS work_ms,
           load.mean_ms * load.times * inferred_fps / 1e3 AS frames_in_it,
           work_ms * inferred_fps * time_share / 1e3 AS at_least,
           CASE load.stage WHEN 'waiting' THEN NULL
                WHEN 'read' THEN CASE WHEN live THEN NULL ELSE 1 END
                WHEN 'inference'
                THEN greatest(1, json_array_length(metadata, '$.model.devices')::BIGINT)
                WHEN 'postprocess'
                THEN CASE WHEN json_extract_string(metadata, '$.model.python_postprocessor')
                           = 'true' THEN 1 END
                ELSE 1 END AS workers
    FROM loads JOIN sessions USING (session_id)
)
SELECT session_id, stage, mean_ms, frames_in_it, workers,
       CASE WHEN frames_in_it > workers THEN 1 ELSE frames_in_it / workers END AS busy,
       CASE WHEN at_least > workers THEN 1 ELSE at_least / workers END AS busy_at_least,
       CASE WHEN at_least > 0 AND workers > 0
            THEN greatest(inferred_fps, workers * 1e3 / work_ms) END AS capacity_fps
FROM entered;
