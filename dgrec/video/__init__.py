"""Video files and streams: reading every picture of one, and writing one.

=============  =================================================================
reader         the pictures of a file or a stream, one after the other
container      opening a file or an address, and what its container says
access_points  where decoding may begin
losses         counts pictures that cannot be decoded
truncation     files that were cut off
http_body      a web server's answer as a file
playlist       opens a playlist's files, to notice missing ones
repeats        pictures that a live playlist gives again
named_files    the files that a playlist or list names, and their digest
packets        packets of a source, kept as they are
packet_keeper  keeps them beside the pictures that a reader decodes
picture        decoded pixels as a player shows them: BGR, upright
writer         H.264 that plays anywhere, one exact time for each frame
pyav           PyAV, imported in the right order
=============  =================================================================
"""

from dgrec.video.access_points import is_random_access_point, nal_length_size
from dgrec.video.container import open_container, use_one_thread
from dgrec.video.http_body import digest_of_answer
from dgrec.video.named_files import named_files
from dgrec.video.packets import MOST_REORDERED, KeptPacket, PacketFormat, copy_of
from dgrec.video.picture import Image, Picture, PixelConverter
from dgrec.video.pyav import import_av
from dgrec.video.reader import VideoReader
from dgrec.video.writer import (
    MICROSECOND,
    ContainerFile,
    Repeats,
    VideoWriter,
    add_stream,
    check_output,
    repeats,
)

__all__ = [
    "MICROSECOND",
    "MOST_REORDERED",
    "ContainerFile",
    "Image",
    "KeptPacket",
    "PacketFormat",
    "Picture",
    "PixelConverter",
    "Repeats",
    "VideoReader",
    "VideoWriter",
    "add_stream",
    "check_output",
    "copy_of",
    "digest_of_answer",
    "import_av",
    "is_random_access_point",
    "nal_length_size",
    "named_files",
    "open_container",
    "repeats",
    "use_one_thread",
]
