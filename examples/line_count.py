"""Count what crosses two lines, and ask the recording who crossed them when.

LineCounter goes by trails, so that a tracker with a trail comes before it.

python examples/line_count.py [VIDEO] [SESSION]
"""

import sys

import degirum
import degirum_tools

import dgrec
from dgrec import predict_stream, sample

# x and y of their beginnings and their ends, in pixels.
LINES = [(110, 0, 110, 359), (540, 0, 540, 359)]


def main(source: str, output: str) -> None:
    model = degirum.load_model(sample.MODEL_NAME, "@local", str(sample.ZOO))
    model.devices_selected = [0]  # two copies of the sample's model hinder each other
    analyzers = [
        degirum_tools.ObjectTracker(track_thresh=0.35, track_buffer=10, trail_depth=20),
        degirum_tools.LineCounter(LINES, return_direction_in_results=True),
    ]
    for result in predict_stream(model, source, output=output, overwrite=True, analyzers=analyzers):
        counts = result.line_counts
    for number, count in enumerate(counts):
        print(f"line {number}: {count.left} to its left, {count.right} to its right")
    with dgrec.open(output) as session:
        for frame, track, line, direction in session.sql_rows(
            "SELECT frame, track_id, line, direction FROM line_crossings ORDER BY frame, track_id"
        ):
            print(f"frame {frame}: track {track} crosses line {line} to the {direction}")


if __name__ == "__main__":
    main(*(sys.argv[1:] + ["sample", "line_count.parquet"][len(sys.argv) - 1 :]))
