"""A session with other thresholds, as tables, JSON and a plot."""

from dgrec.replay.whatif.plot import write_plot
from dgrec.replay.whatif.tables import write_whatif

__all__ = ["write_plot", "write_whatif"]
