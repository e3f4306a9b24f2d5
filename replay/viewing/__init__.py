"""Recordings in a browser: the endpoints of `dgrec view`."""
