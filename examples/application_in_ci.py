"""Test an application against a recording, where there is neither a camera nor an accelerator.

`Door` is the application: it opens when somebody stands close to the camera for long enough. On
the device it is fed by `predict_stream(model, camera)`; here by a session, whose results are equal
to those that were yielded then. One that also looks at `result.image` is fed by
`session.pixels().results(session)`.

python examples/application_in_ci.py [session.parquet]
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import dgrec

SAMPLE = Path(__file__).parent.parent / "sample_data" / "session.parquet"


class Door:
    """Opens after `patience` results in a row with a face larger than `close_px`."""

    def __init__(self, close_px: float, patience: int) -> None:
        self.close_px = close_px
        self.patience = patience

    def openings(self, results: Iterable[Any]) -> Iterator[int]:
        """Yield the number of each result at which the door opens."""
        seen = 0
        for number, result in enumerate(results):
            faces = [d["bbox"] for d in result.results if d.get("label") == "face" and "bbox" in d]
            heights = [bottom - top for _, top, _, bottom in faces]
            seen = seen + 1 if any(height > self.close_px for height in heights) else 0
            if seen == self.patience:
                yield number


def main(path: Path) -> None:
    with dgrec.open(path) as session:
        eager = list(Door(close_px=100, patience=5).openings(session))
        patient = list(Door(close_px=100, patience=25).openings(session))
    print(f"5 results in a row open the door {len(eager)} times, at {eager}")
    print(f"25 results in a row open it {len(patient)} times, at {patient}")
    # What a test would say: more patience never opens the door more often.
    assert len(patient) <= len(eager)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
    except dgrec.DgrecError as error:
        sys.exit(f"Error: {error}")
