"""Did the new model make it slower, and does it still find the same? The check of a CI job.

python examples/did_it_change.py [base.parquet new.parquet]
"""

import sys
from pathlib import Path

import dgrec

SAMPLE = Path(__file__).parent.parent / "sample_data" / "session.parquet"


def main(base: Path, new: Path) -> int:
    comparison = dgrec.compare(base, new)
    for difference in comparison.differences:
        print(f"differs: {difference.key}")
    for metric in ("throughput_fps", "latency_p50_ms", "latency_p95_ms"):
        row = comparison.row(metric)
        change = "" if row.change is None else f" ({row.change:+.1%})"
        reason = f": {row.reason}" if row.reason else ""
        print(f"{metric}: {row.verdict}{change}{reason}")
    is_slower = any(row.verdict == "SLOWER" for row in comparison.rows)
    agreement = comparison.agreement
    if agreement is None or agreement.f1 is None:
        print("not known to be of the same footage: detections are not compared")
        return int(is_slower)
    print(f"agreement of {agreement.base} detections with {agreement.new}: {agreement.f1:.3f}")
    for frame in agreement.changed[:3]:
        print(f"  look at frame {frame.source_frame}: {dict(frame.kinds)}")
    return int(is_slower or agreement.f1 < 0.99)


if __name__ == "__main__":
    # The sample against itself, unless two sessions are named.
    chosen = [Path(name) for name in sys.argv[1:]] or [SAMPLE, SAMPLE]
    if len(chosen) != 2:
        sys.exit("name two sessions, base and new")
    try:
        sys.exit(main(*chosen))
    except dgrec.DgrecError as error:
        sys.exit(f"Error: {error}")
