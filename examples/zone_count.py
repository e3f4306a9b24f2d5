"""Count what is in two zones of the picture, and ask the recording when each was busy.

Zones are polygons in pixels. With a tracker before it, ZoneCounter also tells who came and went.

python examples/zone_count.py [VIDEO] [SESSION]
"""

import sys

import degirum
import degirum_tools

import dgrec
from dgrec import predict_stream, sample

ZONES = {
    "left half": [[0, 0], [320, 0], [320, 360], [0, 360]],
    "right half": [[320, 0], [640, 0], [640, 360], [320, 360]],
}


def main(source: str, output: str) -> None:
    model = degirum.load_model(sample.MODEL_NAME, "@local", str(sample.ZOO))
    model.devices_selected = [0]  # two copies of the sample's model hinder each other
    analyzers = [
        degirum_tools.ObjectTracker(track_thresh=0.35, track_buffer=10),
        degirum_tools.ZoneCounter(ZONES, use_tracking=True, enable_zone_events=True),
    ]
    most = 0
    for result in predict_stream(model, source, output=output, overwrite=True, analyzers=analyzers):
        most = max(most, result.zone_counts["left half"]["total"])
    print(f"at most {most} in the left half")
    with dgrec.open(output) as session:
        for zone, busiest, share in session.sql_rows(
            "SELECT zone, max(count), avg(CASE WHEN count > 0 THEN 1 ELSE 0 END) "
            "FROM zones WHERE label IS NULL GROUP BY zone ORDER BY zone"
        ):
            print(f"{zone}: at most {busiest}, not empty in {share:.0%} of the frames")
        [(visits,)] = session.sql_rows(
            "SELECT count(*) FROM zone_events WHERE event = 'zone_entry'"
        )
    print(f"{visits} entries")


if __name__ == "__main__":
    main(*(sys.argv[1:] + ["sample", "zone_count.parquet"][len(sys.argv) - 1 :]))
