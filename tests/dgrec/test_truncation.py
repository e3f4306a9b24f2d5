"""Files that were cut off, of containers that announce neither frames nor a duration."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgrec.video import VideoReader
from dgrec.video.truncation import EndWatch
from tests.footage import FRAMES, Encoding, encode

JPEG = Encoding(codec="mjpeg", pix_fmt="yuvj420p")
# In real time, the sizes of its packets depend on how busy the machine is: a cut may then be
# between two of them, which an IVF file does not show.
STEADY_VP8 = Encoding(codec="libvpx", options={"deadline": "good", "cpu-used": "5"})
KINDS = {
    "a.ts": Encoding(),
    "a.m2ts": Encoding(format="mpegts", muxer={"mpegts_m2ts_mode": "1"}),
    "a.flv": Encoding(),
    "a.avi": Encoding(codec="mpeg4"),
    "jpeg.avi": JPEG,
    "fragments.mp4": Encoding(muxer={"movflags": "frag_keyframe+empty_moov"}),
    "a.ivf": STEADY_VP8,
    "a.gif": Encoding(codec="gif", pix_fmt="rgb8"),
    "a.ogv": STEADY_VP8,
}


def missing(path: Path) -> tuple[int, str]:
    reader = VideoReader(path)
    count = 0
    while reader.skip():
        count += 1
    text = reader.missing()
    reader.release()
    return count, text


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_file_lacks_nothing(tmp_path: Path, name: str) -> None:
    assert missing(encode(tmp_path / name, KINDS[name])) == (FRAMES, "")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", KINDS)
def test_a_cut_file_ends_early(tmp_path: Path, name: str, share: float) -> None:
    path = encode(tmp_path / name, KINDS[name])
    data = path.read_bytes()
    size = int(len(data) * share)
    if size % 188 == 0 or size % 192 == 0:  # where a cut MPEG-TS is a shorter one
        size += 1
    path.write_bytes(data[:size])
    _, text = missing(path)
    assert text.endswith("the file ends early")


def test_a_recording_may_begin_in_the_middle_of_a_packet(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", Encoding())
    data = path.read_bytes()
    path.write_bytes(data[100:])
    assert missing(path)[1] == ""
    path.write_bytes(data[100:-100])
    assert missing(path)[1] != ""


@pytest.mark.parametrize("at_once", [1, 7, 16, 1000])
def test_boxes_are_followed_whatever_is_read_at_once(tmp_path: Path, at_once: int) -> None:
    path = encode(tmp_path / "a.mp4", KINDS["fragments.mp4"])
    data = path.read_bytes()
    for size, is_cut in ((len(data), False), (len(data) - 1, True), (len(data) // 2, True)):
        watch = EndWatch()
        for start in range(0, size, at_once):
            watch.see(data[start : min(size, start + at_once)])
        assert watch.is_cut_off == is_cut
