"""What watches a recording: JSON lines and a window."""
