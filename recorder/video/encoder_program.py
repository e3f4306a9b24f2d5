"""The program of an `EncoderProcess`: encodes the pictures that come through a connection.

The connection is its standard input. The program ends when the other side of that does, or the
process that started it, even while the encoder does not return.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from dgrec.recorder.video.codecs import find_codec, open_stream
from dgrec.video import MICROSECOND, import_av

#: How often to look whether the other process is there.
_LOOK_S = 1.0


def main() -> None:
    # A service manager sends it to all processes of a service; the recording ends this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = os.getppid()
    pipe = Connection(0)
    pictures: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(pipe, pictures), daemon=True).start()
    try:
        while True:
            # Processes that the parent has forked keep the other side open.
            while not pipe.poll(_LOOK_S):
                if os.getppid() != parent:
                    os._exit(0)
            pictures.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _answer(pipe: Connection, pictures: queue.SimpleQueue[Any]) -> None:
    try:
        encoder = _Encoder(*pictures.get())
        while True:
            pipe.send(encoder.encode(pictures.get()))
    except BrokenPipeError:
        pass
    except Exception as error:  # FFmpeg's errors have many classes
        pipe.send(getattr(error, "strerror", None) or str(error))


class _Encoder:
    def __init__(self, codec: str, quality: int, size: tuple[int, int]) -> None:
        self._av = import_av()
        self._codec = find_codec(codec)
        container = self._av.open(io.BytesIO(), "w", format="mp4")
        self._stream = open_stream(container, self._codec, quality, size)

    def encode(self, picture: Any) -> list[tuple[Any, ...]]:
        """Return the packets that come of a picture; for None, those that are left."""
        frame = None
        if picture is not None:
            pts_us, is_key, pixels = picture
            frame = self._av.VideoFrame.from_ndarray(pixels, format=self._codec.pix_fmt)
            frame.pts, frame.time_base = pts_us, MICROSECOND
            kinds = self._av.video.frame.PictureType
            frame.pict_type = kinds.I if is_key else kinds.NONE
        return [
            (bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe)
            for packet in self._stream.encode(frame)
        ]


if __name__ == "__main__":
    main()
