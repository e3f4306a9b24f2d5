-- Named columns for what degirum_tools' analyzers added: to the attributes of frames, which the
-- other views do not read, and to detections. docs/sql.md shows them at work.

-- The analyzers' additions to a frame, as JSON; NULL where another tool wrote something else.
CREATE MACRO _added(attributes) AS CASE WHEN json_valid(attributes) THEN attributes::JSON END;

-- Objects that a ZoneCounter counted in each zone of each frame: a row for each zone and label;
-- label is NULL for all together. zone is its name, or its number from 0 where zones have none.
CREATE VIEW zones AS
WITH counted AS (
    SELECT session_id, frame, json_extract(_added(attributes), '$.zone_counts') AS counts
    FROM frames WHERE contains(attributes, '"zone_counts"')
), zone AS (
    SELECT session_id, frame, zone.key AS zone, zone.value AS counts
    FROM counted, json_each(counts) AS zone WHERE zone.key <> '$dict'
    UNION ALL  -- names that are not strings
    SELECT session_id, frame, json_extract_string(zone.value, '$[0]'),
           json_extract(zone.value, '$[1]')
    FROM counted, json_each(counts, '$."$dict"') AS zone
)
SELECT session_id, frame, zone, nullif(label.key, 'total') AS label,
       try_cast(label.value AS BIGINT) AS count
FROM zone, json_each(zone.counts) AS label WHERE try_cast(label.value AS BIGINT) IS NOT NULL;

-- Counts of a LineCounter at each frame: a row for each line (from 0), direction and label; label
-- is NULL for all labels together. Counts are running totals of a run (from 0), unless accumulate
-- was False. Directions are left and right of the line, or (absolute_directions) left, right, top
-- and bottom.
CREATE VIEW lines AS
WITH counted AS (
    SELECT session_id, frame, source_frame, line.key AS line,
           json_extract(line.value, '$."$object"[1]') AS counts
    FROM (SELECT session_id, frame, source_frame,
                 json_extract(_added(attributes), '$.line_counts') AS counts
          FROM frames WHERE contains(attributes, '"line_counts"')) AS added,
         json_each(added.counts) AS line
), directions AS (
    SELECT session_id, frame, source_frame, line, NULL AS label, direction.key AS direction,
           direction.value
    FROM counted, json_each(counts) AS direction
    UNION ALL
    SELECT session_id, frame, source_frame, line, label.key, direction.key, direction.value
    FROM counted, json_each(counts, '$.for_class') AS label,
         json_each(label.value) AS direction
)
SELECT d.session_id, frame, line::BIGINT AS line, label, direction,
       try_cast(value AS BIGINT) AS count, coalesce(r.run, 0) AS run
FROM directions d LEFT JOIN _later_runs r
    ON d.session_id = r.session_id
   AND d.source_frame >= r.source_frame AND d.source_frame < r.next_source_frame
WHERE try_cast(value AS BIGINT) IS NOT NULL;

-- Detections that crossed a line (from 0), as a LineCounter saw it: a row for each crossing.
-- direction is NULL unless return_direction_in_results was True.
CREATE VIEW line_crossings AS
SELECT session_id, frame, track_id, label, line,
       CASE json_type(direction)
            WHEN 'VARCHAR' THEN json_extract_string(direction, '$')
            WHEN 'OBJECT' THEN concat_ws(' ', json_extract_string(direction, '$.horizontal'),
                                         json_extract_string(direction, '$.vertical'))
       END AS direction
FROM (
    SELECT session_id, frame, track_id, label, line,
           json_extract(cross_line_direction, '$[' || line || ']') AS direction
    FROM (SELECT session_id, frame, track_id, label, cross_line, cross_line_direction,
                 unnest(range(len(cross_line))) AS line
          FROM detections WHERE cross_line IS NOT NULL)
    WHERE cross_line[line + 1]
);

-- The events of a ZoneCounter with enable_zone_events: zone_entry, zone_exit (of a track; dwell_s is
-- how long it was in the zone), zone_occupied and zone_empty (dwell_s: how long the zone was empty,
-- or occupied, before).
CREATE VIEW zone_events AS
SELECT session_id, frame, json_extract_string(event.value, '$.event_type') AS event,
       json_extract_string(event.value, '$.zone_id') AS zone,
       try_cast(json_extract(event.value, '$.track_id') AS BIGINT) AS track_id,
       json_extract_string(event.value, '$.object_label') AS label,
       try_cast(json_extract(event.value, '$.dwell_time') AS DOUBLE) AS dwell_s
FROM (SELECT session_id, frame, json_extract(_added(attributes), '$.zone_events') AS events
      FROM frames WHERE contains(attributes, '"zone_events"')) AS added,
     json_each(added.events) AS event;

-- The events that EventDetectors found true for a frame, by name (Trigger): a row for each.
CREATE VIEW detected_events AS
WITH added AS (
    SELECT session_id, frame, json_extract(_added(attributes), '$.events_detected') AS events
    FROM frames WHERE contains(attributes, '"events_detected"')
)
SELECT session_id, frame, json_extract_string(event.value, '$') AS event
FROM added, json_each(events, '$."$set"') AS event
UNION ALL  -- a dictionary, as some gizmos of degirum_tools write it
SELECT session_id, frame, event.key FROM added, json_each(events) AS event
WHERE event.key <> '$set' AND json_type(event.value) = 'BOOLEAN' AND event.value = 'true';

-- The frames at which a SceneCutDetector saw a cut.
CREATE VIEW scene_cuts AS
SELECT session_id, frame FROM frames
WHERE contains(attributes, '"scene_cut"')
  AND json_extract_string(_added(attributes), '$.scene_cut') = 'true';
