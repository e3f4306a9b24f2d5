"""The commands that read sessions: each parses its options, calls the library and prints."""
