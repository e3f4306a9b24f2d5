"""Track what a model finds, and ask the recording how long each object was there.

What differs from a program that records nothing: `predict_stream` comes from dgrec, and is given
where to write. `dgrec replay tracker.parquet` shows the boxes and trails again.

python examples/tracker.py [VIDEO] [SESSION]
"""

import sys

import degirum
import degirum_tools

import dgrec
from dgrec import predict_stream, sample


def main(source: str, output: str) -> None:
    model = degirum.load_model(sample.MODEL_NAME, "@local", str(sample.ZOO))
    model.devices_selected = [0]  # two copies of the sample's model hinder each other
    tracker = degirum_tools.ObjectTracker(track_thresh=0.35, track_buffer=10, trail_depth=20)
    tracks = set()
    for result in predict_stream(model, source, output=output, overwrite=True, analyzers=[tracker]):
        tracks |= {found["track_id"] for found in result.results if "track_id" in found}
    print(f"{len(tracks)} tracks")
    with dgrec.open(output) as session:
        rows = session.sql_rows(
            "SELECT track_id, min(frame), max(frame), max(media_time_s) - min(media_time_s) "
            "FROM detections WHERE track_id IS NOT NULL GROUP BY track_id ORDER BY track_id"
        )
    for track, first, last, seconds in rows:
        print(f"track {track}: frames {first} to {last}, {seconds or 0:.1f} s")


if __name__ == "__main__":
    main(*(sys.argv[1:] + ["sample", "tracker.parquet"][len(sys.argv) - 1 :]))
