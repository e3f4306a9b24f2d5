"""Footage of web servers: with an end, it is recorded once, like a file."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import pytest

import dgrec as library
from dgrec.clock import Clock
from dgrec.errors import SourceError, VideoError
from dgrec.footage import find_footage
from dgrec.recorder.sources import LiveSource, open_source, parse_source
from tests.footage import FRAMES, Encoding, encode
from tests.recorder.command import Command
from tests.web_server import serving

Serve = Callable[[Path, str], str]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}

    def do_GET(self) -> None:
        if not self.path.isascii() or len(self.requestline.split()) != 3:
            self.send_error(400)
            return
        _, how, name = self.path.partition("?")[0].split("/")
        if how == "moved":
            self.send_response(302)
            self.send_header("Location", f"/length/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if name not in self.files:
            self.send_error(404)
            return
        data = self.files[name]
        how = "length" if how == "broken" and name.endswith(".m3u8") else how
        self.send_response(200)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the reader has left
            getattr(self, f"send_{how}")(data)

    def send_length(self, data: bytes) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_broken(self, data: bytes) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])

    def send_chunks(self, data: bytes) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(data), 5000):
            chunk = data[at : at + 5000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def send_nothing(self, data: bytes) -> None:
        """Say nothing of the length."""
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def send_live(self, data: bytes) -> None:
        """Send as fast as it plays, and do not end."""
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        for at in range(len(data) // 2, len(data), 188):
            self.wfile.write(data[at : at + 188])
            time.sleep(0.05)

    def send_slowly(self, data: bytes) -> None:
        """Send slower than it can be told from a camera's, and come to an end."""
        self.send_header("Connection", "close")
        self.end_headers()
        half = len(data) // 2
        self.wfile.write(data[:half])
        for at in range(half, len(data), half // 30):
            self.wfile.write(data[at : at + half // 30])
            time.sleep(0.1)

    def send_slowly_broken(self, data: bytes) -> None:
        """Send slowly, but break off before the end, which the reader can tell."""
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        part = len(data) // 60
        for index in range(50):
            chunk = data[index * part : (index + 1) * part]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if index > 20:
                time.sleep(0.1)
        self.wfile.write(b"1000\r\n")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves files on loopback: ``serve(path, how)`` returns an address."""
    _Handler.files = {}
    with serving(_Handler) as server:

        def address(path: Path, how: str) -> str:
            _Handler.files[path.name] = path.read_bytes()
            return f"{server}/{how}/{path.name}"

        yield address


def read(address: str) -> tuple[int, Any]:
    reader = open_source(parse_source(address), stall_timeout_s=5)
    count = sum(1 for _ in iter(reader.read, None))
    reader.release()
    return count, reader


@pytest.mark.parametrize("how", ["length", "chunks", "nothing"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264", "a.avi"])
def test_footage_has_an_end(tmp_path: Path, serve: Serve, name: str, how: str) -> None:
    front = {"movflags": "faststart"} if name.endswith("mp4") else {}
    count, reader = read(serve(encode(tmp_path / name, Encoding(muxer=front)), how))
    assert reader.has_end
    assert count == FRAMES
    assert reader.missing() == ""


@pytest.mark.parametrize("how", ["length", "chunks", "nothing"])
def test_an_index_at_the_end(tmp_path: Path, serve: Serve, how: str) -> None:
    """The server gives the file from its beginning only, as Python's own does."""
    path = encode(tmp_path / "large.mp4", Encoding(size=(640, 480)))
    assert path.stat().st_size > 500_000
    count, reader = read(serve(path, how))
    assert (count, reader.has_end, reader.missing()) == (FRAMES, True, "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_an_answer_that_breaks_off_is_incomplete(tmp_path: Path, serve: Serve, name: str) -> None:
    front = {"movflags": "faststart"} if name.endswith("mp4") else {}
    count, reader = read(serve(encode(tmp_path / name, Encoding(muxer=front)), "broken"))
    assert 0 < count < FRAMES
    assert reader.missing() != ""


@pytest.mark.parametrize("how", ["nothing", "broken"])
def test_what_the_decoder_holds_back_is_not_lost(tmp_path: Path, serve: Serve, how: str) -> None:
    """FFmpeg gives an error where the answer ends: what came before it is shown all the same."""
    front = {"movflags": "faststart"}
    steady = {"x264-params": "b-adapt=0:scenecut=0"}
    path = tmp_path / "b.mp4"
    encode(path, Encoding(muxer=front, b_frames=2, options=steady))
    with av.open(serve(path, how)) as container:
        came = 0
        with contextlib.suppress(av.FFmpegError):
            for packet in container.demux(video=0):
                came += packet.size > 0
    count, _ = read(serve(path, how))
    assert came > FRAMES / 3
    # The last packet may have broken off in the middle.
    assert count >= (came if how == "nothing" else came - 1)


def playlist(folder: Path, muxer: dict[str, str] | None = None) -> Path:
    """Write an HLS playlist with an end, of three segments of a third of the pictures each."""
    path = folder / "a.m3u8"
    options = {"hls_playlist_type": "vod", "hls_time": "0.32", **(muxer or {})}
    return encode(path, Encoding(muxer=options, format="hls"))


def serve_all(folder: Path, serve: Serve, how: str) -> str:
    for path in folder.iterdir():
        serve(path, how)
    return serve(folder / "a.m3u8", how)


FRAGMENTS = {"hls_segment_type": "fmp4"}
RANGES = {"hls_flags": "single_file"}


@pytest.mark.parametrize("how", ["length", "chunks", "nothing", "moved"])
@pytest.mark.parametrize("muxer", [{}, FRAGMENTS, RANGES], ids=["ts", "mp4", "ranges"])
def test_a_playlist_with_an_end(
    tmp_path: Path, serve: Serve, muxer: dict[str, str], how: str
) -> None:
    playlist(tmp_path, muxer)
    count, reader = read(serve_all(tmp_path, serve, how))
    assert (count, reader.has_end, reader.missing()) == (FRAMES, True, "")


@pytest.mark.parametrize("muxer", [{}, RANGES], ids=["ts", "ranges"])
def test_a_playlist_whose_segments_break_off(
    tmp_path: Path, serve: Serve, muxer: dict[str, str]
) -> None:
    playlist(tmp_path, muxer)
    count, reader = read(serve_all(tmp_path, serve, "broken"))
    assert 0 < count < FRAMES
    assert ".ts: the connection broke off (and " in reader.missing()


@pytest.mark.parametrize("place", ["local", "web"])
@pytest.mark.parametrize("fate", ["gone", "cut"])
@pytest.mark.parametrize("muxer", [{}, FRAGMENTS], ids=["ts", "mp4"])
def test_a_playlist_that_lacks_a_segment(
    tmp_path: Path, serve: Serve, muxer: dict[str, str], fate: str, place: str
) -> None:
    path = playlist(tmp_path, muxer)
    segment = max(tmp_path.glob("a1.*"))
    if fate == "gone":
        segment.unlink()
    else:
        segment.write_bytes(segment.read_bytes()[:-400])
    where = str(path) if place == "local" else serve_all(tmp_path, serve, "length")
    count, reader = read(where)
    assert FRAMES // 3 < count <= FRAMES  # of a cut picture something may be shown
    why = "ends early"
    if fate == "gone":
        why = "no such file or directory" if place == "local" else "not found"
    assert reader.missing() == f"{segment.name}: {why}"


def test_an_address_may_have_odd_characters(tmp_path: Path, serve: Serve) -> None:
    address = serve(encode(tmp_path / "a.ts", Encoding()), "nothing")
    for query in ("x=a b", "x=\u00fc", "x=%20&y=a%2Fb", 'x="{1}"'):
        count, reader = read(f"{address}?{query}")
        assert (count, reader.missing()) == (FRAMES, "")


@pytest.mark.slow
def test_a_stream_without_an_end_is_live(tmp_path: Path, serve: Serve) -> None:
    path = encode(tmp_path / "a.ts", Encoding(), frames=100)
    reader = open_source(parse_source(serve(path, "live")), stall_timeout_s=5)
    assert not reader.has_end
    assert reader.read() is not None
    reader.release()


LONG = 200


def play(address: str, tell: Callable[[str], None]) -> LiveSource:
    source = parse_source(address)
    reader = open_source(source, stall_timeout_s=5)
    assert not reader.has_end
    return LiveSource(
        reader,
        source,
        Clock(),
        reopen=lambda: open_source(source, stall_timeout_s=5),
        stall_timeout_s=5,
        announce=tell,
    )


@pytest.mark.slow
def test_what_seemed_live_is_not_recorded_again(tmp_path: Path, serve: Serve) -> None:
    told: list[str] = []
    address = serve(encode(tmp_path / "a.ts", Encoding(), frames=LONG), "slowly")
    live = play(address, told.append)
    frames = list(iter(live.read, None))
    live.release()
    seen = sum(1 + frame.dropped_queue for frame in frames)
    assert (seen, live.end_reason, live.take_events()) == (LONG, "finished", [])
    assert told[-1] == f"{address}: not live, but footage that has ended"


@pytest.mark.slow
def test_what_seemed_live_and_broke_off_is_incomplete(tmp_path: Path, serve: Serve) -> None:
    address = serve(encode(tmp_path / "a.ts", Encoding(), frames=LONG), "slowly_broken")
    live = play(address, lambda _: None)
    frames = list(iter(live.read, None))
    live.release()
    assert LONG // 4 < sum(1 + frame.dropped_queue for frame in frames) < LONG
    assert (live.end_reason, live.end_detail) == ("incomplete", "the connection broke off")


@pytest.mark.slow
def test_losses_at_the_end_of_what_seemed_live_are_told(tmp_path: Path, serve: Serve) -> None:
    def spoil(index: int, data: bytes) -> bytes:
        return b"\0\0\0\1\x41" + b"\xff" * 20 if index >= LONG - 4 else data

    path = encode(tmp_path / "a.ts", Encoding(change=spoil), frames=LONG)
    live = play(serve(path, "slowly"), lambda _: None)
    frames = list(iter(live.read, None))
    live.release()
    assert sum(1 + frame.dropped_queue + frame.dropped_camera for frame in frames) == LONG - 4
    (event,) = live.take_events()
    assert (live.lost_at_end, event["kind"], event["lost"]) == (4, "damage", 4)


@pytest.mark.slow
def test_a_stream_that_comes_back_with_other_pictures_is_live(tmp_path: Path, serve: Serve) -> None:
    # Made before it plays: on a busy machine the first one would have ended, and come again.
    (tmp_path / "other").mkdir()
    other = encode(tmp_path / "other" / "a.ts", Encoding(), frames=LONG, first=7)
    address = serve(encode(tmp_path / "a.ts", Encoding(), frames=LONG), "slowly")
    told: list[str] = []
    live = play(address, told.append)
    serve(other, "slowly")
    for frame in iter(live.read, None):
        if frame.source_frame >= LONG:  # one of the second connection
            break
    live.release()
    (gap,) = live.take_events()
    assert (gap["kind"], gap["back"]) == ("gap", True)
    assert live.end_reason == "limit"


@pytest.mark.slow
def test_a_live_playlist_that_gets_an_end(tmp_path: Path, serve: Serve) -> None:
    path = playlist(tmp_path)
    whole = path.read_text()
    assert "#EXT-X-ENDLIST" in whole
    live_text = whole.replace("#EXT-X-ENDLIST", "").replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "")
    path.write_text(live_text)
    address = serve_all(tmp_path, serve, "length")
    told: list[str] = []
    live = play(address, told.append)
    path.write_text(whole)
    serve(path, "length")
    frames = list(iter(live.read, None))
    live.release()
    assert 0 < sum(1 + frame.dropped_queue for frame in frames) <= FRAMES
    assert (live.end_reason, live.take_events()) == ("finished", [])


def going_on(whole: str, segments: int) -> bytes:
    """Return the first segments of a playlist as one that goes on."""
    lines = whole.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "").splitlines()
    names = [index for index, line in enumerate(lines) if line.endswith(".ts")]
    return "\n".join([*lines[: names[segments - 1] + 1], ""]).encode()


def seen_and_kept(address: str, earlier: Any = None) -> tuple[list[str], list[bytes], Any]:
    """Read a playlist that goes on until it falls silent."""
    reader: Any = open_source(parse_source(address), stall_timeout_s=5)
    assert not reader.has_end
    assert reader.keep_packets() is not None
    assert earlier is None or not reader.repeats(earlier)
    pictures = list(iter(reader.read, None))
    reader.release()
    seen = [hashlib.md5(picture.image).hexdigest() for picture in pictures]
    kept = [bytes(each.packet) for picture in pictures for each in picture.packets]
    return seen, kept, reader


@pytest.mark.slow
def test_a_live_playlist_that_is_opened_again_goes_on(tmp_path: Path, serve: Serve) -> None:
    path = playlist(tmp_path)
    address = serve_all(tmp_path, serve, "length")
    whole = open_source(parse_source(address))
    expected = [hashlib.md5(picture.image).hexdigest() for picture in iter(whole.read, None)]
    whole.release()
    assert len(set(expected)) == FRAMES

    _Handler.files[path.name] = going_on(path.read_text(), 2)
    first, first_kept, reader = seen_and_kept(address)
    again, again_kept, reader = seen_and_kept(address, reader)  # nothing has come meanwhile
    _Handler.files[path.name] = going_on(path.read_text(), 3)
    rest, rest_kept, _ = seen_and_kept(address, reader)

    assert first
    assert rest
    seen = [*first, *again, *rest]
    assert seen == expected[: len(seen)]
    packets = [*first_kept, *again_kept, *rest_kept]
    assert len(set(packets)) == len(packets)


@pytest.mark.slow
def test_a_live_playlist_that_got_its_end_while_it_was_away(tmp_path: Path, serve: Serve) -> None:
    path = playlist(tmp_path)
    address = serve_all(tmp_path, serve, "length")
    _Handler.files[path.name] = going_on(path.read_text(), 2)
    source = parse_source(address)
    reader = open_source(source, stall_timeout_s=5)
    assert not reader.has_end
    refused = 0

    def reopen() -> Any:
        nonlocal refused
        try:
            return open_source(source, stall_timeout_s=5)
        except SourceError:
            refused += 1
            _Handler.files[path.name] = path.read_bytes()
            raise

    live = LiveSource(reader, source, Clock(), reopen=reopen, stall_timeout_s=5)
    frames = [live.read()]
    del _Handler.files[path.name]
    frames += iter(live.read, None)
    live.release()
    assert refused
    assert sum(1 + frame.dropped_queue for frame in frames if frame is not None) < FRAMES
    assert live.end_reason == "incomplete"
    assert live.end_detail == "it was lost, and had ended when it was back"
    (gap,) = live.take_events()
    assert (gap["kind"], gap["back"], gap["attempts"]) == ("gap", False, refused + 1)


@pytest.mark.slow
def test_it_is_recorded_once(dgrec: Command, tmp_path: Path, serve: Serve) -> None:
    path = encode(tmp_path / "a.mp4", Encoding(size=(320, 240)))
    reachable = {"NO_PROXY": "127.0.0.1"}
    done = dgrec.record("--source", serve(path, "length"), "--output", "s.parquet", env=reachable)
    assert done.returncode == 0, done.stderr
    with library.open(dgrec.folder / "s.parquet") as session:
        assert len(session) == FRAMES
        assert session.metadata["end_reason"] == "finished"
        assert session.metadata.get("events", []) == []
        source = session.metadata["source"]
        assert source["live"] is False
        assert source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        # The very file may be given for it, and no other.
        assert find_footage(session, path).column == "source_frame"
        other = encode(tmp_path / "b.mp4", Encoding(size=(320, 240)), first=1)
        with pytest.raises(VideoError, match="was not recorded with"):
            find_footage(session, other)


def test_a_file_address_is_a_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a b%.mp4", Encoding())
    for address in (f"file://{path}", path.as_uri(), f"file://localhost{path}"):
        source = parse_source(address)
        assert (source.kind, source.target) == ("file", str(path))
        count, reader = read(address)
        assert (count, reader.has_end) == (FRAMES, True)


def test_a_path_that_leads_back_from_a_link_keeps_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "disk" / "day").mkdir(parents=True)
    (tmp_path / "day").symlink_to(tmp_path / "disk" / "day")
    path = encode(tmp_path / "disk" / "clip.mp4", Encoding())
    given = tmp_path / "day" / ".." / "clip.mp4"  # not tmp_path / "clip.mp4"
    for named in (str(given), f"file://{given}"):
        source = parse_source(named).placed()
        assert Path(str(source.target)).samefile(path)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["http://[::1", "http://[::1/a.mp4", "http://127.0.0.1:x/a"])
def test_what_is_no_address_is_one_line(dgrec: Command, address: str) -> None:
    done = dgrec.record("--source", address, "--output", "s.parquet")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["Error: http://***: cannot be opened: invalid argument; check the address"],
    )
