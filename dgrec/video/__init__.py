"""Video files and streams: reading every picture of one, and writing one.

=======  =======================================================================
reader   the pictures of a file or a network stream, one after the other
picture  pixels of a decoded picture as a player shows them: BGR, upright
writer   H.264 that plays anywhere, one exact time for each frame
library  PyAV, imported in the right order
=======  =======================================================================
"""

from dgrec.video.http_body import digest_of_answer, quoted
from dgrec.video.named_files import named_files
from dgrec.video.picture import Image, PixelConverter
from dgrec.video.pyav import import_av
from dgrec.video.reader import Picture, VideoReader, open_container, use_one_thread
from dgrec.video.writer import (
    ContainerFile,
    Repeats,
    VideoWriter,
    add_stream,
    check_output,
    repeats,
)

__all__ = [
    "ContainerFile",
    "Image",
    "Picture",
    "PixelConverter",
    "Repeats",
    "VideoReader",
    "VideoWriter",
    "add_stream",
    "check_output",
    "digest_of_answer",
    "import_av",
    "named_files",
    "open_container",
    "quoted",
    "repeats",
    "use_one_thread",
]
