"""Analyzers of degirum_tools, run over recorded results.

========  ===========================================
analysis  runs them over a session, and writes a new one
========  ===========================================
"""

from dgrec.replay.analysis.analysis import check_analysis_output, write_analysis

__all__ = ["check_analysis_output", "write_analysis"]
