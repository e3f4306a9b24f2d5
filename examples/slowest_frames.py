"""Write the slowest frames of a session as pictures, with the boxes that were found in them.

python examples/slowest_frames.py [session.parquet] [folder]
"""

import sys
from pathlib import Path

import cv2

import dgrec

SAMPLE = Path(__file__).parent.parent / "sample_data" / "session.parquet"


def main(path: Path, folder: Path) -> None:
    with dgrec.open(path) as session, session.pixels() as pixels:
        folder.mkdir(exist_ok=True)
        slowest = session.sql(
            "SELECT frame FROM frames ORDER BY latency_ms DESC LIMIT 5"
        ).fetchall()
        if pixels.footage.note:
            print(pixels.footage.note)
        # In the order of the video: going forwards is cheapest.
        for (number,) in sorted(slowest):
            result = session.result(number - session.first_frame)
            image = pixels.frame(result.row)
            if image is None:
                print(f"frame {number}: no pixels")
                continue
            picture = folder / f"frame-{number:06}.png"
            cv2.imwrite(str(picture), result.overlay(image))
            print(f"{picture}: {result.row['latency_ms']:.1f} ms, {len(result.results)} detections")


if __name__ == "__main__":
    try:
        main(
            Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE,
            Path(sys.argv[2]) if len(sys.argv) > 2 else Path("slowest"),
        )
    except dgrec.DgrecError as error:
        sys.exit(f"Error: {error}")
