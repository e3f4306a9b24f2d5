"""Ground truth whose frames are those of the source, or of the video that was recorded with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.comparison.truth import TruthError
from tests.factory import make_detection, make_row, new_metadata, write_session

FOOTAGE, OWN = "aa" * 32, "bb" * 32
FRAMES, FIRST, STEP, KEPT = 20, 6, 2, 5


def box_of(number: int) -> list[float]:
    """Return the box in a frame of the source, which touches that of no other one."""
    return [30.0 * number, 20.0, 30.0 * number + 25, 60.0]


def written(path: Path, shown: dict[int, int], **metadata: Any) -> Path:
    """Write a session of frames: their numbers in its source, and in the footage."""
    rows = [
        make_row(i, [make_detection(bbox=box_of(at))], source_frame=number, video_frame=i)
        for i, (number, at) in enumerate(shown.items())
    ]
    return write_session(path, rows, new_metadata(**metadata))


def source(name: str, digest: str | None, frames: int) -> dict[str, Any]:
    found = {"kind": "file", "given": name, "file": name, "frames": frames}
    return found if digest is None else {**found, "sha256": digest}


def clip(path: Path, name: str = "clip.mp4", digest: str | None = OWN, **changes: Any) -> Path:
    """Write a clip of clip.mp4, whose own video has the name, with every second frame."""
    numbers = [FIRST + STEP * i for i in range(KEPT)]
    entry = {"kind": "raw", "file": name, "frames": KEPT}
    return written(
        path,
        dict(zip(numbers, numbers, strict=True)),
        source=source("clip.mp4", digest and FOOTAGE, FRAMES),
        video=[(entry if digest is None else {**entry, "sha256": digest}) | changes],
    )


def cvat(path: Path, shown: dict[int, int], size: int, name: str = "clip.mp4") -> Path:
    """Write a CVAT task of a video of some frames."""
    boxes = "".join(
        f'<box frame="{number}" outside="0" xtl="{box[0]}" ytl="{box[1]}" xbr="{box[2]}" '
        f'ybr="{box[3]}"/>'
        for number, box in ((number, box_of(at)) for number, at in shown.items())
    )
    path.write_text(
        f"<annotations><meta><task><size>{size}</size><mode>interpolation</mode>"
        f'<source>{name}</source></task></meta><track id="0" label="person">{boxes}</track>'
        "</annotations>"
    )
    return path


OF_SOURCE = {number: number for number in range(FRAMES)}
OF_VIDEO = {i: FIRST + STEP * i for i in range(KEPT)}


def assert_all_right(session: Path, truth: Path) -> None:
    found = dgrec.accuracy(session, truth=truth)
    assert (found.frames, found.right, found.wrong) == (KEPT, KEPT, 0)
    (outcome,) = dgrec.whatif(session, truth=truth).outcomes
    assert (outcome.true_positives, outcome.false_positives) == (KEPT, 0)


@pytest.mark.parametrize("digest", [OWN, None])
@pytest.mark.parametrize("name", ["clip.mp4", "own.mp4"])
def test_sessions_count_in_the_video_that_they_were_recorded_from(
    name: str, digest: str | None, tmp_path: Path
) -> None:
    """A clip named as its source has a video of the same name. Without digests, lengths differ."""
    session = clip(tmp_path / "clip.parquet", name, digest)
    full = source("clip.mp4", digest and FOOTAGE, FRAMES)
    assert_all_right(session, written(tmp_path / "full.parquet", OF_SOURCE, source=full))
    assert_all_right(session, session)
    assert_all_right(session, clip(tmp_path / "sibling.parquet", "sibling.mp4", digest))
    again = source(name, digest, KEPT)
    assert_all_right(session, written(tmp_path / "again.parquet", OF_VIDEO, source=again))


def test_a_digest_says_more_than_a_name(tmp_path: Path) -> None:
    session = clip(tmp_path / "clip.parquet", "own.mp4")
    moved = source("moved.mp4", OWN, KEPT)
    assert_all_right(session, written(tmp_path / "moved.parquet", OF_VIDEO, source=moved))
    other = source("own.mp4", "cc" * 32, FRAMES)
    assert_all_right(session, written(tmp_path / "other.parquet", OF_SOURCE, source=other))


@pytest.mark.parametrize("has_digest", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_the_video_of_a_part_counts_in_that_part(
    number: int, has_digest: bool, tmp_path: Path
) -> None:
    """Each part has a video of its own, whose frames count from 0."""
    for part in (1, 2):
        first = FIRST + KEPT * (part - 1)
        entry = {"kind": "raw", "file": f"s-000{part}.mp4", "frames": KEPT}
        digest = {"sha256": f"{part}" * 64} if has_digest else {}
        written(
            tmp_path / f"s-000{part}.parquet",
            {first + i: first + i for i in range(KEPT)},
            part={"number": part, "set_id": "set-1", "first_frame": KEPT * (part - 1)},
            video=[entry | digest],
        )
        if part == number:
            shown = {i: first + i for i in range(KEPT)}
            of_part = source(f"s-000{part}.mp4", digest.get("sha256"), KEPT)
            truth = written(tmp_path / "truth.parquet", shown, source=of_part)
            task = cvat(tmp_path / "t.xml", shown, KEPT, f"s-000{part}.mp4")
    for drawn in (truth, task):
        assert_all_right(tmp_path / "s.parquet", drawn)
        assert_all_right(tmp_path / f"s-000{number}.parquet", drawn)


@pytest.mark.slow
def test_files_count_in_the_video_that_has_as_many_frames(tmp_path: Path) -> None:
    """CVAT says no more of a video than its name and its frames."""
    session = clip(tmp_path / "clip.parquet")
    for shown, size in ((OF_SOURCE, FRAMES), (OF_VIDEO, KEPT)):
        assert_all_right(session, cvat(tmp_path / "t.xml", shown, size))
    # dgrec's exports end with the last frame that was exported.
    last = FIRST + STEP * (KEPT - 1)
    exported = {number: number for number in range(FIRST, last + 1, STEP)}
    assert_all_right(session, cvat(tmp_path / "t.xml", exported, last + 1))


def test_frames_that_may_be_those_of_either_video_are_refused(tmp_path: Path) -> None:
    session = clip(tmp_path / "clip.parquet")
    with pytest.raises(TruthError, match=r"t\.xml: has the frames of clip\.mp4, as .* --video"):
        dgrec.accuracy(session, truth=cvat(tmp_path / "t.xml", {0: FIRST}, KEPT - 1))
    unknown = clip(tmp_path / "killed.parquet", frames=None)
    with pytest.raises(TruthError, match=r"t\.xml: has the frames of clip\.mp4, as .* --video"):
        dgrec.accuracy(unknown, truth=cvat(tmp_path / "t.xml", OF_VIDEO, KEPT))
    # With kept packets it does not matter.
    kept = written(
        tmp_path / "kept.parquet",
        {i: i for i in range(KEPT)},
        source=source("clip.mp4", FOOTAGE, KEPT),
        video=[{"kind": "raw", "file": "clip.mp4", "frames": KEPT, "sha256": OWN}],
    )
    truth = cvat(tmp_path / "t.xml", {i: i for i in range(KEPT - 1)}, KEPT - 1)
    assert dgrec.accuracy(kept, truth=truth).frames == KEPT - 1


def test_no_frame_of_the_recorded_video_gets_one_line(tmp_path: Path) -> None:
    session = clip(tmp_path / "clip.parquet", "own.mp4")
    truth = cvat(tmp_path / "t.xml", {KEPT + 1: 0}, 0, "own.mp4")
    for run in (dgrec.accuracy, dgrec.whatif):
        with pytest.raises(TruthError, match=rf"none of its frames .* \(its first is {KEPT + 1} "):
            run(session, truth=truth)
