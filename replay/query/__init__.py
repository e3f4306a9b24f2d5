"""SQL over recordings: what a stranger may ask, and the prompt where it is asked.

=========  =====================================================================
reader     `SqlReader`: a connection that streams results and can be stopped
statement  what a statement may be: one that reads
landlock   the kernel keeps its threads from writing
limits     the process has a limit of memory, too
prompt     statements typed one after the other
where      SQL conditions that choose frames and detections
cli        `dgrec query`
=========  =====================================================================
"""
