"""What every test may use."""

from __future__ import annotations

import os

# Before anything imports NumPy: many small test processes do not each need a thread per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
