"""What frames come from: files, addresses and cameras."""
