"""Every kind of footage is recorded, replayed and clipped as PyAV decodes it.

`python -m bench.footage` makes all of `tests.footage.kinds` and takes other files, too.
"""

from __future__ import annotations

import struct
from pathlib import Path

# isort: off
import cv2  # before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import numpy as np
import pytest

from bench.footage import check, decode
from dgrec.errors import VideoError
from dgrec.video import Picture, VideoReader
from tests.footage import FRAMES, Encoding, Kind, encode, kinds, picture

KINDS = {kind.name: kind for kind in kinds()}
#: One of each sort: the command goes through all of them.
CHECKED = (
    "h264-b.mp4",
    "h264-b.ts",
    "h264-open-gop.mkv",
    "h264.avi",
    "hevc.ts",
    "mpeg4-b.avi",
    "mpeg2.mpg",
    "jpeg.avi",
    "vp9.webm",
    "odd-size.mp4",
    "h264-bt709.mp4",
    "h264-bt709-full.mkv",
    "h264-bt2020-full.mkv",
    "interlaced-h264.mp4",
    "interlaced-mpeg2.ts",
    "dv.avi",
    "turns-interlaced.ts",
    "variable-rate.mkv",
    "late-start.ts",
    "some-odd-stamps.mkv",
    "no-stamps.h264",
    "before-zero.mkv",
    "damaged-h264.mp4",
    "damaged-key-h264.mp4",
    "damaged-b.mp4",
    "damaged-mpeg4.avi",
    "bits-turned.mp4",
    "cut-short.mp4",
    "cut-short.mkv",
    "cut-short.ts",
    "mirrored.mp4",
    "transverse.mp4",
    "turned-90.mp4",
    "pixels-2-to-1.mkv",
    "turns-size.ts",
    "2024-01-01T12:00:00.mp4",
    "x%03d.mp4",
    "a b'\"[1]*?.mp4",
)


def make(name: str, folder: Path) -> Path:
    path = folder / name
    KINDS[name].make(path)
    return path


def read(path: Path) -> tuple[list[Picture], VideoReader]:
    reader = VideoReader(path)
    pictures = list(iter(reader.read, None))
    reader.release()
    return pictures, reader


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_it_is_what_pyav_decodes(tmp_path: Path, name: str) -> None:
    kind: Kind = KINDS[name]
    path = make(name, tmp_path)
    assert check(path, tmp_path, same_in_opencv=kind.same_in_opencv) == []
    assert len(decode(path).images) >= 5


@pytest.mark.parametrize("name", ["damaged-h264.mp4", "damaged-h264.mkv", "damaged-mpeg4.avi"])
def test_reading_goes_on_after_a_damaged_picture(tmp_path: Path, name: str) -> None:
    pictures, reader = read(make(name, tmp_path))
    assert len(pictures) == FRAMES - 1
    assert [(i, p.lost_before) for i, p in enumerate(pictures) if p.lost_before] == [(10, 1)]
    assert (reader.lost_at_end, reader.missing()) == (0, "")


def test_pictures_that_refer_to_a_damaged_one_are_lost_with_it(tmp_path: Path) -> None:
    pictures, _ = read(make("damaged-key-h264.mp4", tmp_path))
    assert len(pictures) + sum(p.lost_before for p in pictures) == FRAMES
    assert pictures[8].lost_before >= 1


def test_the_last_picture_may_be_damaged(tmp_path: Path) -> None:
    pictures, reader = read(make("damaged-last.mp4", tmp_path))
    assert len(pictures) == FRAMES - 1
    assert reader.lost_at_end == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut-short.mp4", "of 24 frames: the file ends early"),
        ("cut-short.mkv", "of 0.96 s: the file ends early"),
        ("cut-short.avi", "of 0.96 s: the file ends early"),
        ("h264.mp4", ""),
        ("h264.mkv", ""),
        ("h264.avi", ""),
        ("variable-rate.mkv", ""),
        ("late-start.mkv", ""),
        ("lost-packet.mkv", ""),
    ],
)
def test_a_file_that_ends_early_says_so(tmp_path: Path, name: str, said: str) -> None:
    pictures, reader = read(make(name, tmp_path))
    assert len(pictures) > 4
    assert reader.missing().endswith(said)
    assert bool(reader.missing()) == bool(said)


def test_an_odd_stamp_stays_in_its_row(tmp_path: Path) -> None:
    pictures, _ = read(make("some-odd-stamps.mkv", tmp_path))
    times = [float(p.time) for p in pictures if p.time is not None]
    odd = {3: 0.08, 9: 0.04, 10: 0.36, 20: 0.0}
    assert times == pytest.approx([odd.get(i, i * 0.04) for i in range(FRAMES)], abs=1e-6)


@pytest.mark.parametrize("name", ["no-stamps.h264", "no-stamps.hevc", "no-stamps.m2v"])
def test_a_file_without_stamps_has_those_of_its_rate(tmp_path: Path, name: str) -> None:
    pictures, _ = read(make(name, tmp_path))
    times = [float(p.time) for p in pictures if p.time is not None]
    assert times == pytest.approx([i / 25 for i in range(FRAMES)], abs=1e-6)


@pytest.mark.parametrize(
    "name", ["interlaced-h264.mkv", "interlaced-mpeg2.ts", "interlaced-prores.mov"]
)
def test_interlaced_pictures_show_what_was_filmed(tmp_path: Path, name: str) -> None:
    """OpenCV 4.13 returns True and memory that nobody has written to."""
    pictures, _ = read(make(name, tmp_path))
    assert len(pictures) == FRAMES
    for number, shown in enumerate(pictures):
        blurred = np.abs(shown.image.astype(int) - picture(number)).mean()
        other = np.abs(shown.image.astype(int) - picture(number + 1)).mean()
        assert blurred < other / 2


def test_skipping_counts_as_reading_does(tmp_path: Path) -> None:
    path = make("damaged-b.mp4", tmp_path)
    pictures, _ = read(path)
    reader = VideoReader(path)
    for _ in range(15):
        assert reader.skip()
    shown = reader.read()
    reader.release()
    assert shown is not None
    assert shown.time == pictures[15].time
    assert np.array_equal(shown.image, pictures[15].image)


def test_the_shape_of_pixels_is_known(tmp_path: Path) -> None:
    for name, aspect in (("pixels-2-to-1.mp4", 2), ("pixels-2-to-1.ts", 2), ("h264.mp4", 1)):
        reader = VideoReader(make(name, tmp_path))
        assert reader.aspect == aspect
        assert reader.size == (160, 96)
        reader.release()


def exif(orientation: int) -> bytes:
    """Return an EXIF block that says nothing but how the camera was held."""
    entry = struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    data = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry
    return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_a_photograph_with_exif_is_shown_upright(
    tmp_path: Path, orientation: int, turned: int
) -> None:
    """PyAV 18 has no name for FFmpeg 8's EXIF, and raised an error for it."""
    plain = cv2.imencode(".jpg", picture(5))[1].tobytes()
    path = tmp_path / "photo.jpg"
    path.write_bytes(plain[:2] + exif(orientation) + plain[2:])
    shown = VideoReader(path).read()
    assert shown is not None
    (tmp_path / "plain.jpg").write_bytes(plain)
    stored = VideoReader(tmp_path / "plain.jpg").read()
    assert stored is not None
    np.testing.assert_array_equal(shown.image, np.rot90(stored.image, turned))


def with_cover(path: Path) -> Path:
    """Write an MP4 whose header holds a cover, before the video."""
    encode(path, Encoding())
    cover = cv2.imencode(".jpg", picture(99, (64, 64)))[1].tobytes()

    def atom(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", len(content) + 8, kind) + content

    image = atom(b"data", struct.pack(">II", 13, 0) + cover)
    handler = atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = atom(b"meta", bytes(4) + handler + atom(b"ilst", atom(b"covr", image)))
    extra = atom(b"udta", meta)
    data = path.read_bytes()  # the header is at its end: nothing that it points to moves
    start = data.index(b"moov") - 4
    first = data.index(b"trak", start) - 4
    header = data[start + 8 : first] + extra + data[first:]
    path.write_bytes(data[:start] + atom(b"moov", header))
    return path


def test_a_cover_is_not_the_video(tmp_path: Path) -> None:
    path = with_cover(tmp_path / "cover.mp4")
    with av.open(str(path)) as container:
        assert [s.codec_context.name for s in container.streams.video] == ["mjpeg", "h264"]
    reader = VideoReader(path)
    assert sum(1 for _ in iter(reader.read, None)) == FRAMES


def test_a_cover_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in cover.encode(av.VideoFrame(64, 64, "yuvj420p")):
            container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match="has no video"):
        VideoReader(path)


@pytest.mark.parametrize("space", ["YCgCo", "ictcp", "chroma-derived-c"])
def test_an_odd_colour_space_is_shown_as_if_it_had_no_name(tmp_path: Path, space: str) -> None:
    named = Encoding(options={"x264-params": f"colormatrix={space}"})
    shown, _ = read(encode(tmp_path / "named.mkv", named, frames=3))
    plain, _ = read(encode(tmp_path / "plain.mkv", Encoding(), frames=3))
    assert len(shown) == len(plain) == 3
    for one, other in zip(shown, plain, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
