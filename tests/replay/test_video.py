"""Frames of a video by their number: exact wherever one jumps, bit for bit those of OpenCV."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

# isort: off
import cv2
import av

# isort: on
import numpy as np
import pytest

from dgrec.errors import VideoError
from dgrec.footage import VideoFrames
from dgrec.footage.frame_index import FrameIndex, UntrustedIndexError
from dgrec.video import is_random_access_point
from tests.replay.clips import HEIGHT, WIDTH, number_in, numbered_image, write_clip

FRAMES = 150
RATE = 25
BASE = Fraction(1, 1000)
#: Pictures of this size say their number, and H.264 has to pad them.
SIZE = (WIDTH, HEIGHT + 2)


def encode(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    muxer: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    pts: Callable[[int], int] = lambda i: i * 40,
    color: tuple[int, int] | None = None,
    size: tuple[int, int] = SIZE,
    frames: int = FRAMES,
    first: int = 0,
) -> Path:
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = BASE
        fast = {"preset": "ultrafast"} if "x26" in codec else {}
        stream.options = {**fast, **(options or {})}
        stream.codec_context.gop_size = 40
        if color is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = color
        noise = np.random.default_rng(1).integers(0, 60, (size[1], size[0], 3), np.uint8)
        for i in range(frames):
            image = numbered_image(first + i, *size) // 2 + np.roll(noise, i, axis=1)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts(i), BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def counted(path: Path) -> tuple[list[Any], list[float]]:
    """Return what OpenCV yields: images and times."""
    # OpenCV looks at it once in a process; other tests are about what is printed.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    images, times = [], []
    while True:
        ok, image = capture.read()
        if not ok:
            return images, times
        images.append(image)
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)


def uneven(i: int) -> int:
    rng = random.Random(7)
    return sum(rng.choice([1, 7, 33, 40, 170, 900]) for _ in range(i))


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "B-frames": ("a.mp4", {"options": {"bf": "3", "b-pyramid": "normal"}}),
    "variable rate": ("a.mp4", {"options": {"bf": "3"}, "pts": uneven}),
    "late start": ("a.mkv", {"pts": lambda i: 3300 + i * 40}),
    "open GOP": ("a.mp4", {"options": {"x264-params": "open-gop=1:bframes=3:keyint=30"}}),
    "intra refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=30"}}),
    "HEVC, open GOP": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=0"}}),
    "fragmented": ("a.mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "hybrid": ("a.mp4", {"muxer": {"movflags": "hybrid_fragmented+frag_keyframe"}}),
    "Matroska": ("a.mkv", {}),
    "MPEG-4": ("a.mp4", {"codec": "mpeg4"}),
    "VP8": ("a.webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
    "BT.709": ("a.mp4", {"color": (1, 1)}),
    "full range": ("a.mp4", {"color": (5, 2), "pix_fmt": "yuvj420p"}),
    "10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "odd size": ("a.mp4", {"codec": "mpeg4", "size": (WIDTH + 1, HEIGHT + 3)}),
}
#: Files whose frames are counted, because their own account is not enough.
COUNTED: dict[str, tuple[str, dict[str, Any]]] = {
    "AVI": ("a.avi", {"codec": "mpeg4"}),
    "Motion JPEG": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "MPEG-TS": ("a.ts", {"options": {"bf": "2"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True], ids=["as it was", "maybe changed"])
@pytest.mark.parametrize("kind", [*KINDS, *COUNTED])
def test_jumps_are_exact(tmp_path: Path, kind: str, changed: bool) -> None:
    name, options = {**KINDS, **COUNTED}[kind]
    path = encode(tmp_path / name, **options)
    images, times = counted(path)
    assert len(images) == FRAMES
    clip = VideoFrames(path, changed=changed)
    rng = random.Random(5)
    order = [120, *(rng.randrange(FRAMES) for _ in range(12)), FRAMES - 1, 0, 77, 76, 75, 74]
    order += [*range(30, 50), 3, 60, 61, 90]
    for index in order:
        image = clip.read(index)
        assert image is not None
        assert np.array_equal(image, images[index])
        assert clip.time_s == pytest.approx(times[index], abs=1e-9)
    assert clip.has_index == (kind in KINDS)
    assert clip.read(FRAMES) is None
    assert clip.length == FRAMES
    assert clip.read(140) is not None
    clip.close()


@pytest.mark.slow
def test_reading_forwards_needs_no_index(tmp_path: Path) -> None:
    clip = VideoFrames(encode(tmp_path / "a.mp4"))
    for index in range(FRAMES):
        image = clip.read(index)
        assert image is not None
        assert number_in(image) == index
    assert not clip.has_index
    assert clip.read(FRAMES) is None
    assert clip.read(-1) is None
    clip.close()


@pytest.mark.slow
def test_a_turned_video_is_turned_as_opencv_does(tmp_path: Path) -> None:
    """Phones record upright pictures lying down, and say so."""
    for degrees in (90, 180, 270):
        path = turned(encode(tmp_path / "a.mp4", frames=60), tmp_path / f"{degrees}.mp4", degrees)
        images, _ = counted(path)
        clip = VideoFrames(path, changed=True)
        assert np.array_equal(clip.read(50), images[50])  # type: ignore[arg-type]
        assert clip.has_index
        clip.close()
        assert degrees == 180 or images[0].shape[:2] == (SIZE[0], SIZE[1])


def turned(path: Path, output: Path, degrees: int) -> Path:
    """Write the display matrix of an MP4's track header."""
    cosine = {90: 0, 180: -1, 270: 0}[degrees]
    sine = {90: 1, 180: 0, 270: -1}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    values = [cosine, sine, 0, -sine, cosine, 0, 0, 0]
    for number, value in enumerate(values):
        data[at + 4 * number : at + 4 * number + 4] = (value << 16 & 0xFFFFFFFF).to_bytes(4, "big")
    output.write_bytes(data)
    return output


@pytest.mark.slow
def test_an_edit_list_that_cuts_is_counted(tmp_path: Path) -> None:
    """Cut out of a longer one without encoding: the first pictures are there, and not shown."""
    source = encode(tmp_path / "a.mp4")
    path = tmp_path / "cut.mp4"
    with av.open(str(source)) as a, av.open(str(path), "w") as b:
        stream = b.add_stream_from_template(a.streams.video[0])
        for packet in a.demux(video=0):
            if packet.dts is not None:
                shift = round(Fraction(600, 1000) / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                b.mux(packet)
    images, _ = counted(path)
    assert 0 < len(images) < FRAMES
    clip = VideoFrames(path)
    for index in (len(images) - 1, 0, 120, 3):
        image = clip.read(index)
        assert image is not None
        assert np.array_equal(image, images[index])
    assert not clip.has_index
    assert clip.read(len(images)) is None
    clip.close()


@pytest.mark.slow
def test_a_killed_recording_is_read_to_its_end(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mp4", muxer={"movflags": "frag_keyframe+empty_moov"})
    data = whole.read_bytes()
    path = tmp_path / "killed.mp4"
    path.write_bytes(data[: len(data) * 3 // 5])
    images, _ = counted(whole)
    clip = VideoFrames(path, changed=True)
    there = [image is not None for image in map(clip.read, range(FRAMES))]
    end = there.index(False)
    assert 40 <= end < FRAMES
    assert not any(there[end:])
    for index in (end - 1, 3, 45, end - 1):
        assert np.array_equal(clip.read(index), images[index])  # type: ignore[arg-type]
    assert clip.has_index
    clip.close()


def packets_of(path: Path) -> list[tuple[int, int, int, bool]]:
    """Return (number in presentation, first byte, size, is key) of each packet."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
        order = sorted(p.pts for p in packets)
        return [(order.index(p.pts), p.pos, p.size, p.is_keyframe) for p in packets]


@pytest.mark.slow
def test_damage_never_shifts_frames(tmp_path: Path) -> None:
    """A decoder may yield nothing for a damaged frame, and OpenCV ends there."""
    whole = encode(tmp_path / "a.mp4", options={"bf": "0"})
    images, _ = counted(whole)
    data = bytearray(whole.read_bytes())
    _, at, size, is_key = packets_of(whole)[50]
    assert not is_key
    data[at : at + size] = bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    assert len(counted(path)[0]) < FRAMES, "counting would not do"
    clip = VideoFrames(path, changed=True)
    for index in range(FRAMES):
        image = clip.read(index)
        if 50 <= index < 80:  # up to the next key frame
            assert image is None
        else:
            assert image is not None
            assert np.array_equal(image, images[index])
    for index in (149, 49, 80, 79, 10):
        image = clip.read(index)
        assert (image is None) == (index == 79)
        assert image is None or np.array_equal(image, images[index])
    assert clip.length == FRAMES
    clip.close()


@pytest.mark.slow
def test_a_file_cut_short_loses_only_its_end(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mp4", muxer={"movflags": "faststart"})
    images, _ = counted(whole)
    _, at, _, _ = packets_of(whole)[100]
    path = tmp_path / "short.mp4"
    path.write_bytes(whole.read_bytes()[:at])
    clip = VideoFrames(path, changed=True)
    for index in (99, 0, 79, 100, 120, 149, 5):
        image = clip.read(index)
        if index < 80:
            assert image is not None
        assert image is None or np.array_equal(image, images[index])
        if index >= 100:
            assert image is None
    clip.close()


@pytest.mark.slow
def test_frames_are_found_by_their_time(tmp_path: Path) -> None:
    clip = VideoFrames(encode(tmp_path / "a.mp4", pts=uneven, options={"bf": "3"}))
    for index in (0, 1, 39, 40, 41, 149):
        assert clip.find(uneven(index) / 1000) == index
    assert clip.find(uneven(40) / 1000 + 0.0004) is None
    assert clip.find(uneven(40) / 1000 + 0.0004, 0.0005) == 40
    assert clip.find(1e6) is None
    clip.close()
    avi = VideoFrames(encode(tmp_path / "a.avi", "mpeg4"))
    assert avi.find(0.04) is None
    avi.close()


@pytest.mark.slow
def test_counting_goes_on_where_the_index_is_refused(tmp_path: Path) -> None:
    clip = VideoFrames(encode(tmp_path / "a.mp4"))
    assert clip.read(130) is not None
    assert clip.has_index
    clip.count_frames()
    assert clip.length is None
    image = clip.read(20)
    assert image is not None
    assert number_in(image) == 20
    assert not clip.has_index
    clip.close()


def test_two_video_streams_are_not_guessed_between(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", frames=5)
    path = tmp_path / "two.mp4"
    with av.open(str(source)) as a, av.open(str(path), "w") as b:
        streams = [b.add_stream_from_template(a.streams.video[0]) for _ in range(2)]
        for packet in [p for p in a.demux(video=0) if p.dts is not None]:
            for stream in streams:
                packet.stream = stream
                b.mux(packet)
    with av.open(str(path)) as container, pytest.raises(UntrustedIndexError):
        FrameIndex(container)


def test_random_access_points() -> None:
    def h264(*units: bytes) -> bytes:
        return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)

    idr, picture, parameters = b"\x65\x88\x80", b"\x61\x9a\x10", b"\x67\x42\x00"
    at_once, later = b"\x06\x06\x01\xc4\x80", b"\x06\x06\x01\x24\x80"
    other_first = b"\x06\x05\x02ab\x06\x01\xc4\x80"
    assert is_random_access_point("h264", h264(parameters, idr), 4)
    assert not is_random_access_point("h264", h264(parameters, picture), 4)
    assert is_random_access_point("h264", h264(at_once, picture), 4)
    assert not is_random_access_point("h264", h264(at_once, picture), 4, closed=True)
    assert is_random_access_point("h264", h264(other_first, picture), 4)
    assert not is_random_access_point("h264", h264(later, picture), 4)
    assert is_random_access_point("h264", b"\0\0\0\1" + parameters + b"\0\0\1" + idr, None)
    assert not is_random_access_point("h264", b"", 4)
    assert is_random_access_point("hevc", h264(bytes([21 << 1, 1])), 4)
    assert not is_random_access_point("hevc", h264(bytes([21 << 1, 1])), 4, closed=True)
    assert not is_random_access_point("hevc", h264(bytes([1 << 1, 1])), 4)
    assert is_random_access_point("vp9", b"", None)


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    for changed in (False, True):
        with pytest.raises(VideoError, match="cannot be read as a video"):
            VideoFrames(tmp_path / "a.mp4", changed=changed)


def test_nothing_is_printed_about_a_broken_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write_clip(tmp_path / "a.mp4", 120)
    data = bytearray(whole.read_bytes())
    at = data.index(b"mdat") + 20_000
    data[at : at + 3000] = random.Random(1).randbytes(3000)
    whole.write_bytes(data)
    clip = VideoFrames(whole, changed=True)
    for index in range(0, 120, 7):
        clip.read(index)
    clip.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_damage_reaches_up_to_the_next_key_frame_however_late_pictures_come(tmp_path: Path) -> None:
    """With B-frames, pictures leave the decoder when the next key packet is in it already."""
    whole = encode(tmp_path / "a.mp4", options={"bf": "3", "x264-params": "b-adapt=0"})
    images, _ = counted(whole)
    packets = packets_of(whole)
    key = next(i for i, packet in enumerate(packets) if i > 40 and packet[3])
    number, at, size, _ = packets[key - 5]
    data = bytearray(whole.read_bytes())
    data[at : at + size] = bytes(size)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    clip = VideoFrames(path, changed=True)
    lost = []
    for index in range(FRAMES):
        image = clip.read(index)
        if image is None:
            lost.append(index)
        else:
            assert np.array_equal(image, images[index])
    assert number in lost
    assert lost == sorted(packet[0] for packet in packets[key - 5 : key])
    clip.close()
