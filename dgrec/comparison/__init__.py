"""Comparing recordings, in speed and in what they found; docs/compare.md says how.

=============  ===================================================================
comparison     `compare`: the whole answer
provenance     what differs in how the recordings were made
samples        durations and stamps of one session, without its warm-up
blocks         how much a mean over autocorrelated frames can be trusted
changes        one metric: its value, its change, the verdict
agreement      detections of the same footage, held against each other
limits         conditions on a comparison: ``latency_p95_ms > +10%``
=============  ===================================================================
"""

from dgrec.comparison.comparison import Comparison, Recording, Row, Value, compare

__all__ = ["Comparison", "Recording", "Row", "Value", "compare"]
