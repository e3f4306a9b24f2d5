"""Video files and streams: reading every picture of one, and writing one.

=======  =======================================================================
reader   the pictures of a file or a network stream, one after the other
picture  pixels of a decoded picture as a player shows them: BGR, upright
writer   H.264 that plays anywhere, one exact time for each frame
library  PyAV, imported in the right order
=======  =======================================================================
"""

from dgrec.video.picture import Image
from dgrec.video.pyav import import_av
from dgrec.video.writer import Repeats, VideoWriter, check_output, repeats

__all__ = ["Image", "Repeats", "VideoWriter", "check_output", "import_av", "repeats"]
