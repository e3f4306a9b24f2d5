"""Recorded video: encoding beside the inference loop, one file a kind and part."""
