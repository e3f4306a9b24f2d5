"""The commands of this room: each parses its options, calls the library and prints."""
