"""SQL over recordings: untrusted statements that only read, and the prompt to type them.

=========  =====================================================================
reader     `SqlReader`: a connection that streams results and can be stopped
statement  refuses statements that do more than read
landlock   the kernel keeps its threads from writing
prompt     statements typed one after the other
where      SQL conditions that choose frames and detections
=========  =====================================================================
"""

from dgrec.replay.query.prompt import Prompt, run_script
from dgrec.replay.query.reader import SqlReader, check_only_reads, remove_spilled, without_options
from dgrec.replay.query.where import DetectionFilter, matching_frames

__all__ = [
    "DetectionFilter",
    "Prompt",
    "SqlReader",
    "check_only_reads",
    "matching_frames",
    "remove_spilled",
    "run_script",
    "without_options",
]
