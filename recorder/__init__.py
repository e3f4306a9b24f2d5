"""Writes sessions: sources, model, the recording loop, live outputs."""
