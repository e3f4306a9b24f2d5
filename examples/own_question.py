"""Ask a session something in SQL, and go on with the answer in Python.

python examples/own_question.py [session.parquet]
"""

import sys
from pathlib import Path

import numpy as np

import dgrec

SAMPLE = Path(__file__).parent.parent / "sample_data" / "session.parquet"


def main(path: Path) -> None:
    with dgrec.open(path) as session:
        # How large are the boxes, and are small ones less certain?
        answer = session.sql("""
            SELECT label, score, (x_max - x_min) * (y_max - y_min) AS area_px FROM detections
            WHERE score IS NOT NULL AND area_px IS NOT NULL
        """)
        columns = answer.fetchnumpy()
        # The library that comes with every session: who was to blame for late frames?
        blamed = session.sql("SELECT blame, count(*) FROM late_frames() GROUP BY ALL ORDER BY 1")
        for part, frames in blamed.fetchall():
            print(f"late because of {part}: {frames}")
    area, score = columns["area_px"], columns["score"]
    if not len(area):
        print("no boxes with a score")
        return
    print(f"{len(area)} boxes, median area {np.median(area):.0f} px")
    # Without any spread there is no correlation.
    if np.ptp(area) > 0 and np.ptp(score) > 0:
        print(f"correlation of area and score: {np.corrcoef(area, score)[0, 1]:.2f}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
    except dgrec.DgrecError as error:
        sys.exit(f"Error: {error}")
