"""Recorded video, encoded beside the inference loop: one file for each kind and part."""

from dgrec.recorder.video.codecs import check_codec, find_codec
from dgrec.recorder.video.encoder import VideoRecorder
from dgrec.recorder.video.recovery import recover_videos
from dgrec.recorder.video.segment import SegmentVideos, VideoOptions, video_options

__all__ = [
    "SegmentVideos",
    "VideoOptions",
    "VideoRecorder",
    "check_codec",
    "find_codec",
    "recover_videos",
    "video_options",
]
