"""A part of a session as a session of its own: `clip`, and `cli` for `dgrec clip`."""
