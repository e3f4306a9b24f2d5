"""The pixels of a recording: which there are, and which belong to which row.

===========  ===================================================================
frame_index  where the frames of a video file are
video        a frame of a video file, by its number
pixels       the pixels of a session, wherever they come from
timeline     when each frame was recorded
selection    which part of a session is meant: frames, times
===========  ===================================================================
"""
