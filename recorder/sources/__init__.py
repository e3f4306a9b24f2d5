"""Sources of frames: files, addresses and cameras."""

from dgrec.recorder.sources.config import named_sources
from dgrec.recorder.sources.frames import FileSource, Frame, FrameSource
from dgrec.recorder.sources.live import LiveSource
from dgrec.recorder.sources.read_ahead import open_patiently
from dgrec.recorder.sources.source import Source, SourceReader, open_source, parse_source

__all__ = [
    "FileSource",
    "Frame",
    "FrameSource",
    "LiveSource",
    "Source",
    "SourceReader",
    "named_sources",
    "open_patiently",
    "open_source",
    "parse_source",
]
