"""Footage of every kind: codecs, containers, interlacing, odd stamps, damage, display matrices.

Each picture says its number in a row of blocks, over noise that shows every wrong pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import numpy as np

FRAMES = 24
RATE = 25
SIZE = (160, 96)
_BLOCK = 8
_BITS = 8

#: Display matrices: a, b, c, d of x' = a x + c y, y' = b x + d y.
MATRICES = {
    "mirrored": (-1, 0, 0, 1),
    "upended": (1, 0, 0, -1),
    "turned-90": (0, 1, -1, 0),
    "turned-180": (-1, 0, 0, -1),
    "turned-270": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transverse": (0, -1, -1, 0),
}


@dataclass(frozen=True)
class Kind:
    """One kind of footage, and what is to be expected of it.

    Args:
        name: File name.
        make: Writes it.
        same_in_opencv: Whether OpenCV shows the same pictures: progressive, whole, not mirrored.
    """

    name: str
    make: Callable[[Path], object]
    same_in_opencv: bool = True


@dataclass(frozen=True)
class Encoding:
    """How to encode the numbered pictures."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = SIZE
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    interlaced: bool = False
    aspect: Fraction | None = None
    b_frames: int = 0
    #: FFmpeg's numbers for the matrix of colours and their range; 2, 0: not said.
    colors: tuple[int, int] = (2, 0)
    #: Milliseconds of each picture.
    pts_ms: Callable[[int], int] = lambda i: i * 40
    #: What becomes of each packet before it is written.
    change: Callable[[int, bytes], bytes | None] = lambda i, data: data


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    """Return a BGR picture that says ``number`` in its top rows, and differs from all others."""
    width, height = size
    coarse = np.random.default_rng(number).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    image = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width].copy()
    for bit in range(_BITS):
        image[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 * (number >> bit & 1)
    return image


def encode(path: Path, how: Encoding, frames: int = FRAMES, first: int = 0) -> Path:
    """Write ``frames`` numbered pictures."""
    base = Fraction(1, 1000)
    with av.open(str(path), "w", format=how.format, options=how.muxer) as container:
        stream = container.add_stream(how.codec, rate=RATE)
        stream.width, stream.height = how.size
        stream.pix_fmt = how.pix_fmt
        context = stream.codec_context
        # Some codecs take only the rate.
        exact = how.codec not in ("mpeg2video", "mpeg1video", "dvvideo", "mpeg4", "wmv2", "h263p")
        if exact:
            context.time_base = base
        fast = {"preset": "ultrafast"} if "x26" in how.codec else {}
        quiet = {"x265-params": "log-level=none"} if how.codec == "libx265" else {}
        stream.options = {**fast, **quiet, **how.options}
        context.gop_size = 8
        context.max_b_frames = how.b_frames
        context.colorspace, context.color_range = how.colors
        if how.interlaced:
            context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion estimation
        if how.aspect is not None:
            context.sample_aspect_ratio = how.aspect
        count = 0
        for i in [*range(frames), None]:
            frame = None
            if i is not None:
                frame = av.VideoFrame.from_ndarray(picture(first + i, how.size), format="bgr24")
                frame = frame.reformat(format=how.pix_fmt)
                frame.pts, frame.time_base = (
                    (how.pts_ms(i), base) if exact else (i, Fraction(1, RATE))
                )
            for packet in stream.encode(frame):
                data = how.change(count, bytes(packet))
                count += 1
                if data is None:
                    continue
                container.mux(_with_data(packet, data))
    return path


def _with_data(packet: Any, data: bytes) -> Any:
    if bytes(packet) == data:
        return packet
    other = av.Packet(data)
    other.stream, other.time_base = packet.stream, packet.time_base
    other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
    other.is_keyframe = packet.is_keyframe
    return other


def _kind(name: str, same_in_opencv: bool = True, **how: Any) -> Kind:
    return Kind(name, lambda path: encode(path, Encoding(**how)), same_in_opencv)


def _zeroed(path: Path, how: Encoding, at: int) -> None:
    """Write a file in which the data of packet ``at`` is nothing but zeros."""
    encode(path, how)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
        head = 4 if "matroska" in container.format.name else 0
    data = bytearray(path.read_bytes())
    position, size = packets[at]
    data[position + head : position + size] = bytes(size - head)
    path.write_bytes(data)


def _without_ts_packet(path: Path) -> None:
    """Write an MPEG-TS that lost one of its packets of 188 bytes."""
    encode(path, Encoding())
    with av.open(str(path)) as container:
        at = [p.pos for p in container.demux(video=0) if p.size][10] + 3 * 188
    data = path.read_bytes()
    path.write_bytes(data[:at] + data[at + 188 :])


def _flipped(at: int) -> Callable[[int, bytes], bytes]:
    """Return a change that turns bits in the middle of packet ``at``."""

    def change(i: int, data: bytes) -> bytes:
        if i != at:
            return data
        middle = len(data) // 2
        return (
            data[:middle] + bytes(b ^ 0x55 for b in data[middle : middle + 8]) + data[middle + 8 :]
        )

    return change


def _cut(path: Path, how: Encoding, share: float) -> None:
    data = encode(path, how).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _turned(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write the display matrix into an MP4's track header."""
    data = bytearray(encode(path, Encoding()).read_bytes())
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 4 + 40
    for number, value in enumerate([a, b, 0, c, d, 0, 0, 0]):
        data[at + 4 * number : at + 4 * number + 4] = (value << 16 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)


def _restamped(path: Path, changed_ms: dict[int, int]) -> None:
    """Write a Matroska file in which some pictures have other times, which no muxer would write."""
    encode(path, Encoding())
    with av.open(str(path)) as container:
        blocks = [(p.pos, p.pts) for p in container.demux(video=0) if p.pts is not None]
    data = bytearray(path.read_bytes())
    for number, time_ms in changed_ms.items():
        position, pts = blocks[number]
        at = position + 1  # after the number of the track
        (relative,) = struct.unpack_from(">h", data, at)
        struct.pack_into(">h", data, at, relative + time_ms - pts)
    path.write_bytes(data)


def _joined(path: Path, first: Encoding, second: Encoding) -> None:
    """Write an MPEG-TS of two kinds, the second beginning in the middle."""
    half = FRAMES // 2
    shifted = Encoding(**{**vars(second), "pts_ms": lambda i: (half + i) * 40})
    parts = [path.with_name(f"{number}-{path.name}") for number in (1, 2)]
    encode(parts[0], first, half)
    encode(parts[1], shifted, FRAMES - half, half)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    for part in parts:
        part.unlink()


_INTERLACED = {"options": {"x264-params": "tff=1"}, "interlaced": True}
_DV = {"codec": "dvvideo", "pix_fmt": "yuv420p", "size": (720, 576)}
_STILL = {"x264-params": "scenecut=0"}


def kinds() -> Iterator[Kind]:
    """Yield every kind of footage."""
    # Codecs and containers.
    for suffix in ("mp4", "mov", "mkv", "ts", "flv", "avi"):
        yield _kind(f"h264.{suffix}")
    yield _kind("h264-b.mp4", b_frames=2, options={"x264-params": "b-adapt=0"})
    yield _kind("h264-b.ts", b_frames=2, options={"x264-params": "b-adapt=0"})
    yield _kind("h264-open-gop.mkv", b_frames=2, options={"x264-params": "open-gop=1:b-adapt=0"})
    yield _kind("h264-fragments.mp4", muxer={"movflags": "frag_keyframe+empty_moov"})
    yield _kind("h264-10-bit.mp4", pix_fmt="yuv420p10le")
    yield _kind("h264-444.mkv", pix_fmt="yuv444p")
    yield _kind("h264-full-range.mp4", pix_fmt="yuvj420p")
    for name, number in (("bt709", 1), ("bt601", 6), ("bt2020", 9)):
        yield _kind(f"h264-{name}.mp4", colors=(number, 1))
        yield _kind(f"h264-{name}-full.mkv", colors=(number, 2), pix_fmt="yuvj420p")
    for suffix in ("mp4", "mkv", "ts"):
        yield _kind(f"hevc.{suffix}", codec="libx265")
    for suffix in ("mp4", "avi", "mkv"):
        yield _kind(f"mpeg4.{suffix}", codec="mpeg4")
    yield _kind("mpeg4-b.mp4", codec="mpeg4", b_frames=2)
    yield _kind("mpeg4-b.avi", codec="mpeg4", b_frames=2)
    for suffix in ("ts", "mkv", "mpg"):
        yield _kind(f"mpeg2.{suffix}", codec="mpeg2video")
    yield _kind("mpeg1.mpg", codec="mpeg1video")
    for suffix in ("avi", "mkv", "mov"):
        yield _kind(f"jpeg.{suffix}", codec="mjpeg", pix_fmt="yuvj420p")
    yield _kind("prores.mov", codec="prores_ks", pix_fmt="yuv422p10le")
    yield _kind("ffv1.mkv", codec="ffv1")
    yield _kind("huffyuv.avi", codec="huffyuv", pix_fmt="yuv422p")
    yield _kind("vp8.webm", codec="libvpx", options={"deadline": "realtime"})
    yield _kind("vp9.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    yield _kind("vp9.ivf", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    yield _kind("wmv2.asf", codec="wmv2")
    yield _kind("odd-size.mp4", codec="mpeg4", size=(161, 97))
    # Interlaced.
    for suffix in ("mp4", "mkv", "ts"):
        yield _kind(f"interlaced-h264.{suffix}", False, **_INTERLACED)
    for suffix in ("ts", "mkv"):
        yield _kind(f"interlaced-mpeg2.{suffix}", False, codec="mpeg2video", interlaced=True)
    for suffix in ("avi", "mp4"):
        yield _kind(f"interlaced-mpeg4.{suffix}", False, codec="mpeg4", interlaced=True)
    yield _kind(
        "interlaced-prores.mov", False, codec="prores_ks", pix_fmt="yuv422p10le", interlaced=True
    )
    yield _kind("dv.avi", False, **_DV)
    yield _kind("dv.mov", False, **_DV)
    yield Kind(
        "turns-interlaced.ts",
        lambda path: _joined(path, Encoding(), Encoding(**_INTERLACED)),
        False,
    )
    # Stamps.
    uneven = [0, 7, 40, 73, 80, 250, 251, 900]

    def variable(i: int) -> int:
        return uneven[i % 8] + i // 8 * 1000

    yield _kind("variable-rate.mp4", pts_ms=variable)
    yield _kind("variable-rate.mkv", pts_ms=variable, b_frames=2)
    yield _kind("late-start.mkv", pts_ms=lambda i: 3300 + i * 40)
    yield _kind("late-start.ts", pts_ms=lambda i: 3300 + i * 40)
    yield Kind("repeated-stamp.mkv", lambda path: _restamped(path, {5: 160}))
    yield Kind("stamp-goes-back.mkv", lambda path: _restamped(path, {9: 40}))
    # FFmpeg gives pictures from before zero no stamps.
    yield Kind("before-zero.mkv", lambda path: _restamped(path, {0: -120, 1: -80, 2: -40}))
    yield Kind("some-odd-stamps.mkv", lambda path: _restamped(path, {3: 80, 9: 40, 10: 360, 20: 0}))
    yield _kind("no-stamps.h264")
    yield _kind("no-stamps.hevc", codec="libx265")
    yield _kind("no-stamps.m2v", codec="mpeg2video")
    yield _kind("no-stamps.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
    # Damage.
    jpeg = Encoding(codec="mjpeg", pix_fmt="yuvj420p")
    for name, how, at in (
        ("damaged-h264.mp4", Encoding(), 10),
        ("damaged-h264.mkv", Encoding(), 10),
        ("damaged-key-h264.mp4", Encoding(), 8),
        ("damaged-b.mp4", Encoding(b_frames=2), 11),
        ("damaged-first.mp4", Encoding(), 0),
        ("damaged-last.mp4", Encoding(), FRAMES - 1),
        ("damaged-hevc.mp4", Encoding(codec="libx265"), 10),
        ("damaged-mpeg4.avi", Encoding(codec="mpeg4"), 10),
        ("damaged-jpeg.avi", jpeg, 10),
    ):

        def damage(path: Path, how: Encoding = how, at: int = at) -> None:
            _zeroed(path, how, at)

        yield Kind(name, damage, False)
    yield Kind("damaged-h264.ts", _without_ts_packet, False)
    yield _kind("bits-turned.mp4", False, options=_STILL, change=_flipped(10))
    yield _kind("bits-turned-mpeg2.ts", False, codec="mpeg2video", change=_flipped(10))
    yield _kind("lost-packet.mkv", False, change=lambda i, data: None if i == 10 else data)
    front = Encoding(muxer={"movflags": "faststart"})
    yield Kind("cut-short.mp4", lambda path: _cut(path, front, 0.5), False)
    yield Kind("cut-short.mkv", lambda path: _cut(path, Encoding(), 0.5), False)
    yield Kind("cut-short.ts", lambda path: _cut(path, Encoding(), 0.5), False)
    yield Kind("cut-short.avi", lambda path: _cut(path, Encoding(codec="mpeg4"), 0.5), False)
    # As it is shown.
    for name, matrix in MATRICES.items():

        def turn(path: Path, matrix: tuple[int, int, int, int] = matrix) -> None:
            _turned(path, matrix)

        yield Kind(f"{name}.mp4", turn, name.startswith("turned"))
    for suffix in ("mp4", "mkv", "ts"):
        yield _kind(f"pixels-2-to-1.{suffix}", aspect=Fraction(2, 1))
    yield Kind(
        "turns-size.ts",
        lambda path: _joined(path, Encoding(), Encoding(size=(96, 160))),
        False,
    )
    for name in (
        "a:b.mp4",
        "2024-01-01T12:00:00.mp4",
        "x%03d.mp4",
        "file:x.mp4",
        "a b'\"[1]*?.mp4",
    ):
        yield _kind(name)
