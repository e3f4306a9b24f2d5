-- Detections: total, per second, and per frame (frames without any count).
CREATE VIEW detection_rate AS
SELECT session_id, sum(len(detections))::BIGINT AS detections, avg(len(detections)) AS per_frame,
       sum(len(detections)) / nullif(_seconds(captured_at, completed_at), 0) AS per_second
FROM frames GROUP BY session_id;

-- Detections of each label in windows of so many seconds: number counts them from the first frame's
-- capture, NULL where a frame has no captured_at. score is the sum of the scored detections' scores.
CREATE MACRO label_windows(seconds := 10) AS TABLE
SELECT session_id,
       (epoch_us(captured_at) - started)
           // CASE WHEN seconds * 1e6 >= 1 THEN (seconds * 1e6)::BIGINT
                   ELSE error('label_windows(seconds): give more than 0')::BIGINT END AS number, label,
       sum(detections)::BIGINT AS detections, count(*) AS frames,
       sum(scored)::BIGINT AS scored, sum(score) AS score
FROM frame_labels JOIN (
    SELECT session_id, epoch_us(min(captured_at)) AS started FROM frames GROUP BY session_id
) USING (session_id)
GROUP BY ALL;

-- Counts by label of a few thousand frames at a time, without times.
CREATE VIEW _label_counts AS FROM _label_batches;

-- Detections of each label: how many, in how many frames, how many a second, and their mean score.
-- mean_score is over those that have one (scored of them).
CREATE VIEW label_rate AS
WITH counted AS (
    SELECT session_id, label, sum(detections)::BIGINT AS detections, sum(frames)::BIGINT AS frames,
           sum(scored)::BIGINT AS scored, sum(score) / nullif(sum(scored), 0) AS mean_score
    FROM _label_counts GROUP BY session_id, label
)
SELECT session_id, label, detections, counted.frames, detections / nullif(duration_s, 0) AS per_second,
       scored, mean_score
FROM counted JOIN session_throughput USING (session_id)
ORDER BY session_id, detections DESC, label;

-- Tracks, where a tracker gave track ids: the number of frames of each, the first and the last of
-- them, and the time between their captures (dwell_s). label is the track's most frequent label.
-- run counts from 0: a tracker begins anew in each, and gives the same ids to other objects.
CREATE VIEW tracks AS
SELECT d.session_id, track_id,
       list_max([{'count': e.value, 'label': e.key} FOR e IN map_entries(histogram(label))]).label
           AS label,
       count(DISTINCT frame) AS frames,
       min(frame) AS first_frame, max(frame) AS last_frame, min(captured_at) AS first_seen,
       (epoch_us(max(captured_at)) - epoch_us(min(captured_at))) / 1e6 AS dwell_s,
       coalesce(r.run, 0) AS run
FROM detections d LEFT JOIN _later_runs r
    ON d.session_id = r.session_id
   AND d.source_frame >= r.source_frame AND d.source_frame < r.next_source_frame
WHERE track_id IS NOT NULL GROUP BY d.session_id, track_id, coalesce(r.run, 0)
ORDER BY d.session_id, track_id, run;
