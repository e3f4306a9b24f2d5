"""What is on disk: the columns of a session, its metadata, journals and sealed files."""
