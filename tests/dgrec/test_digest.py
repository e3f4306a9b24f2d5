"""The digest of a picture, and its signature."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import dgrec
from dgrec import sample
from dgrec.format import Row, build_batch, digest, distance, fingerprint, signature, vectors
from dgrec.format.schema import LATER_COLUMNS
from tests.factory import make_rows, without_column, write_journal, write_session

Array = np.ndarray[Any, Any]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_an_array_of_another_kind_is_that_of_its_values() -> None:
    """Those with a mask calculate in ways of their own."""
    plain = noise(40, 60, 3)
    masked = np.ma.masked_greater(plain, 100)
    found, expected = fingerprint(masked), fingerprint(plain)
    assert found.digest == expected.digest
    assert signature(masked) == signature(plain)
    assert type(found.sample) is np.ndarray


def decoded(path: Path) -> Iterator[Array]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="bgr24")


# --- the digest ---


@pytest.mark.parametrize(
    "image",
    [
        noise(72, 128, 3),
        noise(72, 128, 4),
        noise(72, 128),
        noise(72, 128) > 100,
        noise(72, 128, 3) / np.float32(255),
        noise(72, 128, 3).astype(np.uint16) * 250,
        noise(1, 1, 3),
        noise(3, 500, 3),
        noise(16000).astype(np.float32),
        noise(1, 3, 64, 64).astype(np.float16),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_equal_values_have_one_digest_whatever_their_layout(image: Array) -> None:
    wide = np.zeros((*image.shape[:-1], image.shape[-1] + 7), image.dtype)
    wide[..., 3:-4] = image
    crop, fortran = wide[..., 3:-4], np.asfortranarray(image)
    read_only = image.copy()
    read_only.flags.writeable = False
    found = digest(image)
    assert found is not None
    assert 0 <= found < 2**63
    for same in (image.copy(), crop, fortran, read_only, image[::-1][::-1]):
        assert digest(same) == found
        assert fingerprint(same).digest == found
        assert signature(same) == signature(image)


def test_every_value_counts() -> None:
    image = noise(40, 50, 3)
    found = {digest(image)}
    for at in range(image.size):
        changed = image.copy()
        changed.reshape(-1)[at] ^= 1
        found.add(digest(changed))
    assert len(found) == image.size + 1


def test_shape_and_type_count() -> None:
    image = noise(40, 60, 3)
    others = [
        image,
        image.reshape(60, 40, 3),
        image.reshape(40, 180),
        image.reshape(-1),
        image[..., :1],
        image[..., 0],
        image.view(np.int8),
        image.astype(np.float32),
        image[..., ::-1],
        image[::-1],
        image[:, ::-1],
        np.zeros((40, 60, 3), np.uint8),
        np.zeros((60, 40, 3), np.uint8),
    ]
    assert len({digest(each) for each in others}) == len(others)


def test_a_small_counter_in_still_footage() -> None:
    """What sampling would miss: a few pixels that change in a picture that does not."""
    scene = noise(720, 1280, 3)
    found = set()
    for number in range(300):
        scene[7:19, 11:23] = number % 256, number // 256, 128
        found.add(digest(scene))
    assert len(found) == 300


@pytest.mark.slow
def test_frames_of_real_footage_differ() -> None:
    images = list(itertools.islice(decoded(sample.CLIP), 120))
    differing = [
        (one, other) for one, other in itertools.pairwise(images) if not np.array_equal(one, other)
    ]
    assert len(differing) > 100
    assert all(digest(one) != digest(other) for one, other in differing)


def test_pictures_of_pil_are_the_arrays_that_numpy_makes_of_them() -> None:
    image = noise(30, 40, 3)
    for made in (Image.fromarray(image), Image.fromarray(image[..., 0])):
        assert digest(made) == digest(np.asarray(made))
        assert signature(made) == signature(np.asarray(made))
    lazy = io.BytesIO()
    Image.fromarray(image).save(lazy, "png")
    assert digest(Image.open(lazy)) == digest(image)


def test_bytes_have_a_digest_and_no_signature() -> None:
    data = noise(1000)
    for given in (data.tobytes(), bytearray(data), memoryview(data)):
        assert digest(given) == digest(data)
        assert signature(given) is None


def broken_picture() -> Any:
    whole = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(whole, "png")
    return Image.open(io.BytesIO(whole.getvalue()[:2000]))


@pytest.mark.parametrize(
    "given",
    [
        None,
        "picture.png",
        Path("picture.png"),
        ["a", "b"],
        {},
        7,
        object(),
        np.array(["text"]),
        np.array([None, object()]),
        np.array(["2026-01-01"], "datetime64[s]"),
        np.zeros((0, 5, 3), np.uint8),
        b"",
        memoryview(noise(20, 20))[::2],
        broken_picture(),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_picture_has_neither(given: Any) -> None:
    assert digest(given) is None
    assert signature(given) is None


# --- the signature ---


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 8), (44, 79), (45, 80), (91, 161), (720, 5)])
def test_a_signature_has_the_means_of_cells(size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 100, np.uint8)
    found = signature(flat)
    assert found is not None
    assert len(found) == 64
    high, low = np.frombuffer(found, np.uint8).reshape(2, 32).astype(int)
    assert set((high * 256 + low).tolist()) == {100 * 16}


def test_cells_are_where_their_pixels_are() -> None:
    image = np.zeros((720, 1280, 3), np.uint8)
    image[180:360, 320:480] = 200  # the second row of cells, the third of its columns
    found = signature(image)
    assert found is not None
    high, low = np.frombuffer(found, np.uint8).reshape(2, 32).astype(int)
    cells = (high * 256 + low).reshape(4, 8) / 16
    assert cells[1, 2] > 150
    assert np.delete(cells.reshape(-1), 8 + 2).max() < 40  # pixels are looked at one in 16


def test_a_picture_in_other_values_has_the_same_signature() -> None:
    image = noise(90, 160, 3)
    expected = signature(image)
    assert expected is not None
    for same in (
        image[..., ::-1],
        image[..., 1],
        image / 255,
        image.astype(np.float32),
        image.astype(np.int64),
        image.astype(np.uint16) * 257,
        np.dstack([image, image[..., 0]]),
    ):
        found = signature(same)
        assert found is not None
        assert distance(expected, found) < 0.2, same.dtype


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -5.0])
def test_values_that_are_no_brightness(value: float) -> None:
    found = signature(np.full((50, 60, 3), value))
    assert found is not None
    assert np.isfinite(vectors([found])).all()


def test_distance_is_that_of_the_vectors() -> None:
    images = [noise(50, 80, 3, seed=seed) for seed in range(5)] + [np.zeros((9, 9), np.uint8)]
    each = [signature(image) or b"" for image in images]
    points = vectors(each)
    assert points.shape == (6, 32)
    for (a, one), (b, other) in itertools.product(enumerate(each), repeat=2):
        expected = float(np.linalg.norm(points[a] - points[b]))
        assert distance(one, other) == pytest.approx(expected, abs=1e-5)
        assert (distance(one, other) == 0) == (a == b)
    brighter = signature(np.full((50, 80), 130, np.uint8)) or b""
    darker = signature(np.full((50, 80), 120, np.uint8)) or b""
    assert distance(brighter, darker) == pytest.approx(1.0)  # a tenth: all cells alike
    with pytest.raises(ValueError, match="64 bytes"):
        distance(brighter, b"abc")


@pytest.mark.slow
def test_the_nearest_picture_of_a_reencoded_copy(tmp_path: Path) -> None:
    """Its own frame, or where the copy has lost what was different a frame beside it."""
    images = list(itertools.islice(decoded(sample.CLIP), 200, 320))
    copy = tmp_path / "copy.mp4"
    with av.open(str(copy), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    recorded = vectors([signature(image) or b"" for image in images])
    copied = vectors([signature(image) or b"" for image in decoded(copy)])
    assert len(copied) == len(images)
    nearest = np.linalg.norm(recorded[None] - copied[:, None], axis=2).argmin(1)
    off = np.abs(nearest - np.arange(len(images)))
    assert (off == 0).mean() > 0.9
    assert (off <= 1).mean() > 0.97


# --- the columns ---


def with_pictures(rows: list[Row], images: list[Any]) -> list[Row]:
    return [
        row._replace(pixel_digest=found.digest, pixel_sample=found.sample)
        for row, found in zip(rows, map(fingerprint, images), strict=True)
    ]


@pytest.mark.parametrize(
    "images",
    [
        [noise(72, 128, 3, seed=n) for n in range(4)],
        [noise(72, 128, 3), None, noise(72, 128), noise(30, 40, 3)],
        [None, None, noise(20, 20), None],
        [noise(72, 128, 3) / 255, noise(72, 128, 3) / 255, b"abc", noise(72, 128, 3)],
        [None] * 4,
    ],
    ids=["pictures", "sizes", "few", "types", "none"],
)
def test_columns(images: list[Any], tmp_path: Path) -> None:
    rows = with_pictures(make_rows(4), images)
    batch = build_batch(rows, 0)
    assert batch.column("pixel_digest").to_pylist() == list(map(digest, images))
    assert batch.column("pixel_signature").to_pylist() == list(map(signature, images))
    batch.validate(full=True)
    for path in (
        write_session(tmp_path / "s.parquet", rows),
        write_journal(tmp_path / "j.arrows", rows),
    ):
        with dgrec.open(path) as session:
            assert [each.row["pixel_digest"] for each in session] == list(map(digest, images))
            kept = session.frames.column("pixel_signature").to_pylist()
            assert kept == list(map(signature, images))


@pytest.mark.slow
def test_a_file_without_the_columns_reads_as_before(tmp_path: Path) -> None:
    whole = write_session(tmp_path / "s.parquet", with_pictures(make_rows(2), [noise(9, 9)] * 2))
    path = without_column(without_column(whole, "pixel_digest"), "pixel_signature")
    with dgrec.open(path) as session, dgrec.open(whole) as other:
        assert [frame.results for frame in session] == [frame.results for frame in other]
        assert session.row(1)["pixel_digest"] is None
        assert session.sql_rows("SELECT count(pixel_digest) FROM frames") == [(0,)]
        assert other.sql_rows("SELECT count(pixel_digest) FROM frames") == [(2,)]
    assert {"pixel_digest", "pixel_signature"} <= LATER_COLUMNS  # journals without them, too
