"""Recorded sessions, for reading: one file, the parts of one recording, or a folder of many."""
