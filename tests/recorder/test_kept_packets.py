"""Raw video that keeps the source's packets: every row's picture is the one that the model saw."""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import numpy as np
import pytest

import dgrec
from dgrec.errors import ConfigError
from dgrec.format import Fingerprint, fingerprint
from dgrec.recorder.model import ModelRequest, load_model
from dgrec.recorder.options import RecordingOptions, Splitting
from dgrec.recorder.recovery import recover
from dgrec.recorder.video.kept_order import Group, KeptOrder
from dgrec.recorder.video.segment import SegmentVideos, VideoOptions
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.verify import verify
from dgrec.video import KeptPacket, PacketFormat, VideoReader
from tests.footage import FRAMES, Encoding, encode, kinds
from tests.recorder.kept import KILLED, differing, digest_of, record_kept
from tests.recorder.network_camera import MjpegCamera, RtspCamera
from tests.waiting import PATIENCE_S
from tests.web_server import serving

#: Footage of each kind, as `tests.footage` names it, and the codec's name in metadata.
KEPT = {
    "h264-b.mp4": "h264",
    "h264-b.ts": "h264",
    "h264-open-gop.mkv": "h264",
    "hevc.ts": "h265",
    "jpeg.mkv": "mjpeg",
    "variable-rate.mkv": "h264",
    "no-stamps.h264": "h264",
    "turns-size.ts": "h264",
    "damaged-b.mp4": "h264",
    "bits-turned.mp4": "h264",
}
OPEN = Encoding(
    b_frames=2, options={"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}, format="mpegts"
)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for kind in kinds():
        if kind.name in {*KEPT, "h264.ts", "odd-size.mp4"} or kind.name.startswith(
            ("interlaced-h264.t", "mirr")
        ):
            kind.make(folder / kind.name)
    encode(folder / "open.ts", OPEN, 60)
    return folder


def recorded_pictures(path: Path) -> list[str]:
    """Return the digest of each picture of a video, read without dgrec."""
    with av.open(str(path)) as container:
        return [
            digest_of(frame.to_ndarray(format="bgr24", interpolation="BICUBIC"))
            for frame in container.decode(video=0)
        ]


def assert_exact(path: Path, seen: dict[int, str], rows: int) -> None:
    """Check that each row has the picture that the model saw, in order and at random."""
    with dgrec.open(path) as session:
        assert len(session) == rows > 0
        video = session.path.with_suffix(".mp4") if not session.parts else None
        assert differing(session, seen, video) == (0, 0)
        backwards = list(range(rows))[::-1]
        assert differing(session, seen, video, backwards) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEPT)
def test_pictures_are_those_that_the_model_saw(name: str, footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    seen = record_kept(footage / name, output)

    assert_exact(output, seen, len(seen))
    assert verify(output) == []
    with dgrec.open(output) as session:
        (video,) = session.metadata["video"]
        numbers = [session.row(row)["video_frame"] for row in range(len(session))]
    assert (video["packets"], video["codec"]) == ("kept", KEPT[name])
    with av.open(str(tmp_path / "s.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == video["frames"]
    if "damaged" not in name and "turn" not in name:
        pictures = recorded_pictures(tmp_path / "s.mp4")
        assert [pictures[number] for number in numbers] == list(seen.values())


@pytest.mark.slow
def test_frames_that_were_not_inferred_are_in_the_video(footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    seen = record_kept(footage / "h264-b.ts", output, every=3)

    assert_exact(output, seen, FRAMES // 3)
    assert verify(output) == []
    with dgrec.open(output) as session:
        numbers = [session.row(row)["video_frame"] for row in range(len(session))]
    assert numbers == list(range(0, FRAMES, 3))
    whole = [digest_of(image) for image in pictures_of(footage / "h264-b.ts")]
    assert recorded_pictures(tmp_path / "s.mp4")[: numbers[-1] + 1] == whole[: numbers[-1] + 1]


def pictures_of(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    reader = VideoReader(path)
    while (picture := reader.read()) is not None:
        yield picture.image
    reader.release()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open.ts", "hevc.ts", "h264-b.mp4"])
def test_parts_begin_at_a_key_frame(name: str, footage: Path, tmp_path: Path) -> None:
    for attempt in range(50):
        output = tmp_path / str(attempt) / "s.parquet"
        output.parent.mkdir()
        seen = record_kept(
            footage / name, output, splitting=Splitting(0.03), watch=lambda _: time.sleep(0.003)
        )
        assert_exact(output, seen, len(seen))
        assert verify(output) == []
        with dgrec.open(output) as session:
            assert len(session.parts) > 1
            starts = [session.row(part.first_frame)["video_frame"] for part in session.parts]
        for path in output.parent.glob("s-*.mp4"):
            with av.open(str(path)) as container:
                assert next(container.demux(video=0)).is_keyframe
        if any(starts):  # the key frame came before the part's first row
            return
    pytest.fail("every part began at a key frame, by chance")


@pytest.mark.slow
def test_damage_in_a_part_is_marked_rather_than_made_up(footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    seen = record_kept(
        footage / "bits-turned.mp4",
        output,
        splitting=Splitting(0.01),
        watch=lambda _: time.sleep(0.003),
    )

    with dgrec.open(output) as session:
        states = [session.row(row)["video_state"] for row in range(len(session))]
        other, without = differing(session, seen)
    assert other == 0
    assert without == states.count("damaged") > 0


def joined(path: Path, *kinds: Encoding) -> Path:
    """Write recordings one behind the other, each with its own stamps."""
    pieces = [
        encode(path.with_name(f"{number}-{path.name}"), how, 20, first=100 * number)
        for number, how in enumerate(kinds)
    ]
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, 0.01])
@pytest.mark.parametrize(
    "kinds",
    [
        # Its stamps begin anew.
        pytest.param([OPEN, OPEN], id="same"),
        # From where on pictures are reordered, which the stream did not announce.
        pytest.param([Encoding(format="mpegts"), OPEN], id="reordered"),
        # FFmpeg takes a JPEG that is much lower than announced for half a picture.
        pytest.param(
            [
                Encoding(codec="mjpeg", pix_fmt="yuvj420p", format="mjpeg"),
                Encoding(codec="mjpeg", pix_fmt="yuvj420p", format="mjpeg", size=(128, 48)),
            ],
            id="lower",
        ),
    ],
)
def test_recordings_that_were_joined(
    kinds: list[Encoding], split: float | None, tmp_path: Path
) -> None:
    source = joined(tmp_path / f"joined.{'ts' if kinds[0].format == 'mpegts' else 'mjpeg'}", *kinds)
    output = tmp_path / "s.parquet"
    splitting = Splitting(split)
    seen = record_kept(source, output, splitting=splitting, watch=lambda _: time.sleep(0.002))

    with dgrec.open(output) as session:
        states = [session.row(row)["video_state"] for row in range(40)]
        other, without = differing(session, seen)
    # Where an MPEG-TS is joined, its packets' counters say that something is missing.
    lost = [row for row, state in enumerate(states) if state == "damaged"]
    assert (len(seen), other, without) == (40, 0, len(lost))
    assert set(lost) <= ({17, 18, 19} if split else set())
    assert verify(output) == []


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, 0.03])
def test_a_source_that_comes_back_with_another_codec(
    split: float | None, footage: Path, tmp_path: Path
) -> None:
    source, other = tmp_path / "source.ts", tmp_path / "other.ts"
    shutil.copy(footage / "h264.ts", source)
    shutil.copy(footage / "hevc.ts", other)

    def watch(count: int) -> None:
        time.sleep(0.003)
        if count == 5:
            other.replace(source)  # it is opened again at its end

    output = tmp_path / "s.parquet"
    seen = record_kept(
        source, output, loop=True, max_frames=90, watch=watch, splitting=Splitting(split)
    )

    with dgrec.open(output) as session:
        assert len(session) == 90 > FRAMES
        states = [session.row(row)["video_state"] for row in range(90)]
        assert differing(session, seen) == (0, sum(state is not None for state in states))
        codecs = {video["codec"] for video in session.metadata["video"]}
    assert verify(output) == []
    if split:
        # What was left of the part in which it changed.
        assert set(states[-20:]) == {None}
        assert codecs == {"h264", "h265"}
    else:
        assert set(states[FRAMES:]) == {"no_key_frame"}
        assert codecs == {"h264"}


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_source_that_comes_back_long_before_a_key_frame(codec: str, tmp_path: Path) -> None:
    """FFmpeg then gives up looking for the parameters, which the key frame brings."""
    params = "keyint=250:min-keyint=250:scenecut=0:log-level=none"
    how = Encoding(codec=codec, format="mpegts", options={codec[3:] + "-params": params})
    source, whole = tmp_path / "source.ts", encode(tmp_path / "whole.ts", how, 280)
    encode(source, how, FRAMES)
    with av.open(str(whole)) as container:
        second = [packet.pos for packet in container.demux(video=0) if packet.size][1]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole.read_bytes()[second:])

    def watch(count: int) -> None:
        time.sleep(0.003)
        if count == 5:
            joined.replace(source)  # it is opened again at its end

    output = tmp_path / "s.parquet"
    notes: list[str] = []
    seen = record_kept(source, output, loop=True, max_frames=50, watch=watch, notes=notes)

    with dgrec.open(output) as session:
        assert len(session) == 50 > FRAMES
        assert differing(session, seen) == (0, 0)
    assert notes == []


@pytest.mark.slow
def test_a_source_that_comes_back_with_packets_that_cannot_be_kept(
    footage: Path, tmp_path: Path
) -> None:
    source = shutil.copy(footage / "h264.ts", tmp_path / "source.ts")
    other = encode(tmp_path / "other.ts", Encoding(codec="mpeg4", format="mpegts"))

    def watch(count: int) -> None:
        time.sleep(0.003)
        if count == 5:
            other.replace(source)  # it is opened again at its end

    output = tmp_path / "s.parquet"
    notes: list[str] = []
    record_kept(
        source,
        output,
        loop=True,
        max_frames=40,
        watch=watch,
        notes=notes,
        splitting=Splitting(0.05),
    )

    with dgrec.open(output) as session:
        without = sum(row["video_state"] is not None for row in map(session.row, range(40)))
    assert without == 40 - FRAMES
    [note] = notes  # one, however many parts there are
    assert note.startswith(f"The video lacks {without} frames: the source came back with packets ")


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, 0.02])
def test_pictures_without_stamps_that_lack_their_reference(
    split: float | None, tmp_path: Path
) -> None:
    options = {"x265-params": "log-level=none:open-gop=1:keyint=5:b-adapt=0:scenecut=0"}
    how = Encoding(codec="libx265", options=options, format="hevc", b_frames=2)
    data = encode(tmp_path / "whole.hevc", how, 30).read_bytes()
    # Each open group begins with the parameters. The stream begins with the second one.
    source = tmp_path / "begun.hevc"
    source.write_bytes(data[data.index(b"\0\0\0\1\x40\x01", 100) :])
    output = tmp_path / "s.parquet"
    splitting = Splitting(split)
    seen = record_kept(source, output, splitting=splitting, watch=lambda _: time.sleep(0.004))

    assert_exact(output, seen, len(seen))
    assert len(seen) >= 24
    assert verify(output) == []


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_damage_near_a_key_frame(codec: str, tmp_path: Path) -> None:
    how = OPEN
    if codec == "hevc":
        options = {"x265-params": "log-level=none:open-gop=1:keyint=8:bframes=2"}
        how = Encoding(codec="libx265", options=options, format="mpegts")
    whole = encode(tmp_path / "whole.ts", how, 40).read_bytes()
    with av.open(str(tmp_path / "whole.ts")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        keys = [at for at, packet in enumerate(packets) if packet.is_keyframe][1:]
        near = {packets[key + step].pos for key in keys for step in (-1, 0, 1, 2)}
    assert len(near) > 8
    shown = 0
    for number, at in enumerate(sorted(near)):
        data = bytearray(whole)
        if number % 2:
            del data[at + 188 : at + 376]
        else:
            data[at + 60 : at + 260] = np.random.default_rng(number).bytes(200)
        source, output = tmp_path / f"{number}.ts", tmp_path / f"{number}.parquet"
        source.write_bytes(data)
        seen = record_kept(source, output)
        with dgrec.open(output) as session:
            states = [session.row(row)["video_state"] for row in range(len(session))]
            other, without = differing(session, seen)
            assert differing(session, seen, order=range(len(seen))[::-1]) == (other, without)
        assert other == 0
        assert without >= sum(state is not None for state in states)
        shown += len(seen) - without
    assert shown > 20 * len(near)


@pytest.mark.parametrize("is_other_machine", [False, True])
def test_a_picture_that_comes_out_differently_is_damaged(
    is_other_machine: bool, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Fingerprint] = []

    def other(image: Any) -> Fingerprint:
        found = fingerprint(image)
        if is_other_machine or len(taken) == 7:
            found = found._replace(digest=(found.digest or 0) ^ 1)
        taken.append(found)
        return found

    monkeypatch.setattr("dgrec.recorder.sources.frames.fingerprint", other)
    output = tmp_path / "s.parquet"
    seen = record_kept(footage / "h264-b.ts", output)
    for order in (range(FRAMES), range(FRAMES)[::-1], [7, 3], [3, 7]):
        with dgrec.open(output) as session:
            assert differing(session, seen, order=order) == (0, 0 if is_other_machine else 1)


@pytest.mark.slow
@pytest.mark.parametrize("spans", [[(9, 14)], [(17, 20), (37, 40), (41, 60)]])
@pytest.mark.parametrize("split", [None, 0.05])
def test_clips_are_copied(
    spans: list[tuple[int, int]], split: float | None, footage: Path, tmp_path: Path
) -> None:
    output, clip = tmp_path / "s.parquet", tmp_path / "clip.parquet"
    seen = record_kept(
        footage / "open.ts", output, splitting=Splitting(split), watch=lambda _: time.sleep(0.002)
    )
    with dgrec.open(output) as session:
        report = write_clip(session, [Span(*each) for each in spans], clip)

    assert [copied for _, copied in report.videos] == [True]
    assert report.notes == []
    assert verify(clip) == []
    with dgrec.open(clip) as session:
        of_clip = {row: seen[session.row(row)["source_frame"]] for row in range(len(session))}
    assert_exact(clip, of_clip, len(of_clip))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["open.ts", "h264.ts"])
def test_killed_and_recovered(name: str, footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(footage / name), str(output), "150"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-500:]
    seen = dict(enumerate(killed.stdout.split()))
    with dgrec.open(output.with_suffix(".arrows")) as session:
        other, without = differing(session, seen, tmp_path / "s.mp4")
        assert other == 0
        assert without < len(session)

    recover(output.with_suffix(".arrows"))

    assert verify(output) == []
    with dgrec.open(output) as session:
        other, without = differing(session, seen, tmp_path / "s.mp4")
        assert other == 0
        assert without < len(session)
        assert session.metadata["video"][0]["packets"] == "kept"
        clip = tmp_path / "clip.parquet"
        write_clip(session, [Span(3, len(session))], clip)
    with dgrec.open(clip) as session:
        of_clip = {row: seen[row + 3] for row in range(len(session))}
        assert differing(session, of_clip, tmp_path / "clip.mp4")[0] == 0


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_footage_over_http(footage: Path, tmp_path: Path) -> None:
    with serving(functools.partial(_Server, directory=str(footage))) as address:
        seen = record_kept(f"{address}/h264-b.ts", tmp_path / "s.parquet", stall_timeout=5.0)
    assert_exact(tmp_path / "s.parquet", seen, FRAMES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rtsp", "mjpeg"])
def test_cameras_and_a_lost_connection(kind: str, tmp_path: Path) -> None:
    if kind == "rtsp" and (missing := RtspCamera.missing()):
        pytest.skip(missing)
    camera = RtspCamera(fps=30.0) if kind == "rtsp" else MjpegCamera(fps=30.0)
    with camera:

        def lose(count: int) -> None:
            if count == 20:
                camera.kill()
                camera.start(1000)

        output = tmp_path / "s.parquet"
        seen = record_kept(camera.url, output, watch=lose, max_frames=40, stall_timeout=3.0)
    with dgrec.open(output) as session:
        assert [event["back"] for event in session.metadata["events"]] == [True]
        assert session.metadata["video"][0]["packets"] == "kept"
        # The camera may have been killed in the middle of a picture, whose row says so.
        states = [row["video_state"] for row in session.frames.to_pylist() if row["video_state"]]
        assert len(states) <= 1
        assert differing(session, seen, tmp_path / "s.mp4") == (0, len(states))
        assert len(session) == 40
    assert verify(output) == []


@pytest.mark.parametrize(
    ("options", "keeps"),
    [
        ({"video": "raw"}, True),
        ({"video": "raw", "every": 3}, True),
        ({"video": "raw", "video_policy": "block"}, True),
        ({"video": "raw", "codec": "h265"}, False),
        ({"video": "raw", "codec": "h264"}, False),
        ({"video": "raw", "video_quality": 70}, False),
        ({"video": "raw", "video_size": (64, 64)}, False),
        ({"video": "both"}, False),
        ({"video": "annotated"}, False),
        ({"video": "lossless"}, False),
    ],
)
def test_who_asks_for_encoding_gets_it(options: dict[str, Any], keeps: bool) -> None:
    assert RecordingOptions(**options).encodes_as_asked is not keeps


@pytest.mark.parametrize("codec", [None, "h264"])
def test_a_program_that_names_a_codec_gets_it(
    codec: str | None, footage: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s.parquet"
    with load_model(ModelRequest()).model as model:
        for _ in dgrec.predict_stream(
            model, footage / "h264.ts", output=output, video="raw", codec=codec, max_frames=3
        ):
            pass

    with dgrec.open(output) as session:
        (video,) = session.metadata["video"]
        assert session.metadata["options"]["codec"] == "h264"
    assert ("packets" in video) is (codec is None)


@pytest.mark.parametrize("name", ["interlaced-h264.ts", "mirrored.mp4"])
def test_what_cannot_be_kept_exactly_is_encoded(name: str, footage: Path) -> None:
    reader = VideoReader(footage / name)
    with contextlib.closing(_Released(reader)):
        assert reader.keep_packets() is None
        picture = reader.read()
    assert picture is not None
    assert (picture.packets, picture.packet) == ((), None)


class _Released:
    def __init__(self, reader: VideoReader) -> None:
        self.close = reader.release


@pytest.mark.slow
@pytest.mark.parametrize("name", ["odd-size.mp4", "interlaced-h264.ts"])
def test_lossless(name: str, footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    seen = record_kept(footage / name, output, video="lossless", keeps=False)

    assert_exact(output, seen, FRAMES)
    assert verify(output) == []
    assert recorded_pictures(tmp_path / "s.mp4") == list(seen.values())
    with dgrec.open(output) as session:
        (video,) = session.metadata["video"]
        assert (video["kind"], video["codec"]) == ("raw", "ffv1")
        assert (video["width"], video["height"]) == (
            session.row(0)["width"],
            session.row(0)["height"],
        )


@pytest.mark.parametrize(
    "options",
    [{"video_size": (64, 64)}, {"codec": "h265"}, {"codec": "h264"}, {"video_quality": 70}],
)
def test_lossless_takes_no_codec(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lossless has one codec"):
        RecordingOptions(video="lossless", **options)


# --- numbers and times, by hand --------------------------------------------------------------

FORMAT = PacketFormat("h264", b"\0\0\1g", (64, 48), 2, b"")


class _Data:
    size = 100

    def __init__(self, is_keyframe: bool) -> None:
        self.is_keyframe = is_keyframe


def packets_of(stored: list[int], known: PacketFormat = FORMAT, *, keys: int = 8) -> list[Any]:
    """Return packets that are shown as ``stored`` says, a tenth of a second apart."""
    return [
        KeptPacket(known, _Data(number % keys == 0), number, shown, *[number % keys == 0] * 2)
        for number, shown in enumerate(stored)
    ]


def shown(packet: KeptPacket, place: int, at_s: float) -> KeptPacket:
    packet.place, packet.captured_ns = place, round(at_s * 1e9)
    return packet


def test_times_are_those_of_capture_and_numbers_those_of_showing() -> None:
    stored = packets_of([0, 3, 1, 2, 6, 4, 5])
    by_place = sorted(stored, key=lambda packet: packet.order or 0)
    order, group, written, numbers = KeptOrder(FORMAT), Group(), [], []
    arriving = [stored[:3], [stored[3]], [stored[4]], [stored[5]], [stored[6]], [], []]
    for place, (packets, own) in enumerate(zip(arriving, by_place, strict=True)):
        shown(own, place, 100 + place * 0.1)
        group.add(packets, own)
        found = order.add(packets, own, group)
        numbers.append(found.number)
        written += found.packets
    written += order.finish()

    assert numbers == list(range(7))
    assert order.first_us == 100_000_000
    pts = [each.pts_us - written[0].pts_us for each in written]
    assert pts == [0, 300_000, 100_000, 200_000, 600_000, 400_000, 500_000]
    dts = [each.dts_us for each in written]
    assert all(before < after for before, after in itertools.pairwise(dts))
    assert all(each.dts_us <= each.pts_us for each in written)


def test_a_long_gap_is_filled_with_the_next_key_frame() -> None:
    known = PacketFormat("h264", b"\0\0\1g", (64, 48), 0, b"")
    again = PacketFormat("h264", b"\0\0\1h", (64, 48), 0, b"")
    first, second = packets_of([0], known)[0], packets_of([0], again)[0]
    order, group = KeptOrder(known), Group()
    shown(first, 0, 0.0)
    group.add([first], first)
    written = order.add([first], first, group).packets
    shown(second, 0, 4000.0)
    group.add([second], second)
    found = order.add([second], second, group)
    written += found.packets

    assert found.number == 3
    pts = [each.pts_us - written[0].pts_us for each in written]
    assert pts == [0, 1_800_000_000, 3_600_000_000, 4_000_000_000]
    # The other connection's parameters stand before its packets.
    assert [each.parameters for each in written] == [b"", *[b"\0\0\1h"] * 3]


def test_a_stream_that_begins_between_key_frames_is_cut_to_the_next() -> None:
    known = PacketFormat("h264", b"\0\0\1g", (64, 48), 0, b"")
    stored = packets_of(list(range(6)), known, keys=4)[1:]
    order, group, found = KeptOrder(known), Group(), []
    for place, packet in enumerate(stored):
        shown(packet, place, place * 0.1)
        group.add([packet], packet)
        found.append(order.add([packet], packet, group))

    assert [each.state for each in found] == ["no_key_frame"] * 3 + [None, None]
    assert [each.number for each in found] == [None, None, None, 0, 1]


def test_a_codec_that_cannot_follow_is_named(tmp_path: Path) -> None:
    other = PacketFormat("hevc", b"\0\0\1g", (64, 48), 0, b"")
    videos = SegmentVideos(
        VideoOptions(kinds=("raw",), packets=FORMAT), tmp_path / "s.parquet", replaced=()
    )
    group = Group()
    for known, state in ((FORMAT, None), (other, "no_key_frame")):
        (packet,) = packets_of([0], known)
        shown(packet, 0, 1.0)
        group.add([packet], packet)
        assert videos.keep([packet], packet, group).state == state
    (note,) = videos.notes
    assert "s.mp4: ends early: the source changed from h264 to h265" in note


def test_what_was_left_out_is_not_skipped_silently() -> None:
    known = PacketFormat("h264", b"\0\0\1g", (64, 48), 0, b"")
    stored = packets_of(list(range(10)), known, keys=4)
    order, group, states = KeptOrder(known), Group(), []
    for place, packet in enumerate(stored):
        shown(packet, place, place * 0.1)
        group.add([packet], packet)
        if place != 2:  # there was no room for it
            states.append(order.add([packet], packet, group).state)
    assert states == [None, None, "no_key_frame", *[None] * 6]
