"""Reads sessions: overlays, SQL answers, statistics."""
