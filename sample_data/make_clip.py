"""Make faces.mp4, the clip that the examples and tests run on, out of one public-domain portrait.

The portrait is the picture `astronaut.png` that the package scikit-image carries. A virtual camera
pans and zooms over it, and framed copies of the face slide through, so that the clip has stretches
with no face, with one and with several. Nothing is random: the same package versions give the
same file.

    python sample_data/make_clip.py
    python sample_data/make_clip.py --output other.mp4 --crf 30
"""

import argparse
import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # height x width x 3, BGR
Keys = Sequence[tuple[float, ...]]  # rows of (seconds, value, value, ...), in order of time

WIDTH, HEIGHT = 640, 360
RATE = Fraction(30000, 1001)  # what most cameras mean by "30": a rate that is not a whole number
FRAMES = 420
GOP = 30  # about one second, so that a viewer can seek quickly
CUT = 5.5  # seconds; the one hard cut of the clip

# Camera: (seconds, centre x, centre y, width of the view), in pixels of the picture. Views without
# a face are chosen where the model's best score stays far below its threshold: it takes parts of
# the flag and of the mission patch for half a face.
ARRIVAL: Keys = (
    (0.0, 398, 178, 214),  # model shuttle: no face
    (1.6, 382, 160, 226),
    (3.0, 226, 128, 330),  # portrait: one face
    (CUT, 222, 128, 236),
)
WALL: Keys = (
    (CUT, 318, 256, 262),  # suit and helmet, then the shuttle: no face but those of the cards
    (10.0, 372, 214, 262),
    (11.4, 392, 172, 232),
    (13.2, 256, 146, 512),  # the whole width: one small face
    (14.1, 250, 144, 490),
)
# Brightness of the picture behind the cards.
DIMMING: Keys = ((CUT, 0.45), (9.2, 0.45), (10.2, 1.0), (14.1, 1.0))

FACE_CROP = (148, 30, 154, 170)  # x, y, width, height of a card's content in the picture
CARD_FRAME = 3  # width of a card's white frame in pixels


@dataclass(frozen=True)
class Card:
    """A framed copy of the face that drifts over the picture."""

    path: Keys  # (seconds, centre x, centre y), in pixels of the clip
    scale: float  # clip pixels for each picture pixel
    mirrored: bool
    tilt: float  # largest rotation in degrees
    period: float  # seconds of one swing, different for each card so that they move on their own

    def placement(self, time: float) -> npt.NDArray[np.float64]:
        """Return the 2 x 3 matrix that puts the card into the clip at `time`."""
        swing = math.sin(2 * math.pi * time / self.period)
        pulse = math.cos(2 * math.pi * time / self.period)
        x, y = interpolate(self.path, time)
        width, height = FACE_CROP[2:]
        rotation = cv2.getRotationMatrix2D(
            (width / 2, height / 2), self.tilt * swing, self.scale * (1 + 0.04 * pulse)
        )
        matrix = np.array(rotation, dtype=np.float64)
        matrix[:, 2] += (x - width / 2, y - height / 2 + 8 * pulse)
        return matrix


CARDS = (
    Card(
        path=((CUT, 120, 180), (8.6, 150, 176), (9.8, -140, 190)),
        scale=1.34,
        mirrored=False,
        tilt=2.0,
        period=3.1,
    ),
    Card(
        path=((CUT, 790, 186), (6.6, 520, 180), (8.2, 500, 190), (9.4, 800, 180)),
        scale=1.3,
        mirrored=True,
        tilt=2.5,
        period=2.3,
    ),
    Card(
        path=((6.6, 322, -140), (7.6, 326, 178), (9.2, 330, 184), (10.4, 330, 510)),
        scale=1.26,
        mirrored=False,
        tilt=3.0,
        period=2.7,
    ),
)


def interpolate(keys: Keys, time: float) -> list[float]:
    """Return the values at `time`: eased between two keys, held outside the first and last."""
    times = [key[0] for key in keys]
    at = min(max(time, times[0]), times[-1])
    last = len(keys) - 1
    index = next((i for i in range(last) if at < times[i + 1]), last - 1)
    start, end = keys[index], keys[index + 1]
    part = (at - start[0]) / (end[0] - start[0])
    eased = part * part * (3 - 2 * part)
    return [a + (b - a) * eased for a, b in zip(start[1:], end[1:], strict=True)]


def portrait_path() -> Path:
    """Return where scikit-image keeps its astronaut picture, without importing the package."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("the portrait comes with scikit-image: pip install scikit-image")
    path = Path(spec.origin).parent / "data" / "astronaut.png"
    if not path.is_file():
        raise SystemExit(f"this scikit-image has no {path.name}")
    return path


def camera_view(picture: Image, view: Sequence[float]) -> Image:
    """Return the part of the picture that the view (centre x, centre y, width) shows."""
    x, y, width = view
    zoom = WIDTH / width
    matrix = np.array(
        [[zoom, 0.0, WIDTH / 2 - zoom * x], [0.0, zoom, HEIGHT / 2 - zoom * y]], dtype=np.float64
    )
    return warp(picture, matrix)


def warp(image: Image, matrix: npt.NDArray[np.float64]) -> Image:
    """Draw the image into an otherwise black frame of the clip.

    Affine warping moves by parts of a pixel; cropping and resizing would make a slow pan jerk.
    """
    warped = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    return np.asarray(warped, dtype=np.uint8)


def card_image(picture: Image, mirrored: bool) -> Image:
    """Cut the face out of the picture and put a white frame around it."""
    x, y, width, height = FACE_CROP
    card = picture[y : y + height, x : x + width].copy()
    if mirrored:
        card = card[:, ::-1].copy()
    cv2.rectangle(card, (0, 0), (width - 1, height - 1), (245, 245, 245), CARD_FRAME)
    return card


def lay_card(frame: Image, card: Image, matrix: npt.NDArray[np.float64]) -> Image:
    """Return the frame with the card on top, its slanted edges smoothed."""
    opaque = np.full_like(card, 255)
    alpha = warp(opaque, matrix).astype(np.float32) / 255
    blended = frame * (1 - alpha) + warp(card, matrix) * alpha
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def frames(picture: Image) -> Iterator[Image]:
    """Yield the clip's frames in order."""
    cards = [(card, card_image(picture, card.mirrored)) for card in CARDS]
    for index in range(FRAMES):
        time = float(index / RATE)
        if time < CUT:
            yield camera_view(picture, interpolate(ARRIVAL, time))
            continue
        [brightness] = interpolate(DIMMING, time)
        background = camera_view(picture, interpolate(WALL, time))
        frame = np.rint(background * brightness).astype(np.uint8)
        for card, image in cards:
            frame = lay_card(frame, image, card.placement(time))
        yield frame


def write_clip(path: Path, crf: int) -> None:
    """Encode the clip as H.264 that browsers play and that can be cut and sought exactly."""
    picture = cv2.imread(str(portrait_path()), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"cannot read {portrait_path().name}")
    # bitexact leaves the muxer's version out, so that only another encoder changes the file.
    with av.open(
        str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}
    ) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / RATE
        stream.codec_context.gop_size = GOP
        stream.codec_context.max_b_frames = 0
        stream.codec_context.thread_count = 1  # the number of threads changes the file
        stream.options = {
            "crf": str(crf),
            "preset": "veryslow",
            # The conversion below follows BT.601: say so, or players may guess BT.709.
            "x264-params": "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m",
        }
        for index, image in enumerate(frames(np.asarray(picture, dtype=np.uint8))):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, 1 / RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    """Read the command line and write the clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).resolve().parent / "faces.mp4",
        metavar="FILE",
        help="where to write the clip (default: faces.mp4 beside this script)",
    )
    parser.add_argument(
        "--crf",
        type=int,
        default=23,
        metavar="N",
        help="x264 quality, 0 to 51; lower is better and larger (default: %(default)s)",
    )
    arguments = parser.parse_args()
    write_clip(arguments.output, arguments.crf)
    size = arguments.output.stat().st_size
    print(f"{arguments.output.name}: {FRAMES} frames, {float(FRAMES / RATE):.2f} s, {size} bytes")


if __name__ == "__main__":
    main()
