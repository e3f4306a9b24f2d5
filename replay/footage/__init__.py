"""The pixels of a recording: which there are, and which belong to which row.

===========  ===================================================================
frame_index  where the frames of a video file are
video        a frame of a video file, by its number
finding      where a session's pixels are
pixels       the picture of each row
timeline     when each frame was recorded
selection    which part of a session is meant: frames, times
===========  ===================================================================
"""
