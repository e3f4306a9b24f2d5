"""Recorded video, encoded beside the inference loop: one file for each kind and part."""

from dgrec.recorder.video.encoder import NO_VIDEO, VideoRecorder, VideoState
from dgrec.recorder.video.kept_order import Group
from dgrec.recorder.video.packet_encoder import EncodedFormat, EncodedPackets
from dgrec.recorder.video.picture_encoder import check_codec
from dgrec.recorder.video.recovery import recover_videos
from dgrec.recorder.video.segment import SegmentVideos, VideoOptions, video_options

__all__ = [
    "NO_VIDEO",
    "EncodedFormat",
    "EncodedPackets",
    "Group",
    "SegmentVideos",
    "VideoOptions",
    "VideoRecorder",
    "VideoState",
    "check_codec",
    "recover_videos",
    "video_options",
]
