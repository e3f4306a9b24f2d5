"""The options of a recording, each with its name, default, unit and limits."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from dgrec.errors import ConfigError, value_text
from dgrec.units import (
    Quantity,
    parse_both_dimensions,
    parse_rate,
    parse_share,
    parse_size,
    parse_time,
)

if TYPE_CHECKING:  # pyarrow takes 0.4 s, which `dgrec record --help` must not wait for
    from dgrec.format import Durability, MaskMode

QueuePolicy = Literal["block", "drop-oldest"]
VideoChoice = Literal["auto", "none", "raw", "lossless", "annotated", "both"]
VideoPolicy = Literal["block", "leave-out"]
SignalsChoice = Literal["host"]
KeepOnly = Literal["alerts"]

#: The options that are seconds, bytes or frames per second.
QUANTITIES = {
    "duration": Quantity(parse_time, "0.001s"),
    "fps": Quantity(parse_rate, "0.000001"),
    "reconnect_for": Quantity(parse_time, "0s"),
    "stall_timeout": Quantity(parse_time, "0.001s", "1d"),
    "split_every": Quantity(parse_time, "1s"),
    "split_size": Quantity(parse_size, "1MB"),
    "keep_last": Quantity(parse_time, "1s"),
    "keep_total": Quantity(parse_size, "1MB"),
    "keep_sample": Quantity(parse_share, "0.001%", "100%"),
    "min_free": Quantity(parse_size, "1B"),
    "before": Quantity(parse_time, "0s", "1d"),
    "after": Quantity(parse_time, "0s", "1d"),
}

#: The options that are whole numbers.
COUNTS = {
    "max_frames": Quantity(int, "1"),
    "every": Quantity(int, "1"),
    "video_quality": Quantity(int, "1", "100"),
}

#: The options that are one of several words.
CHOICES: dict[str, tuple[str, ...]] = {
    "masks": ("exact", "bitmap"),
    "durability": ("never", "flush", "frame"),
    "policy": get_args(QueuePolicy),
    "video": get_args(VideoChoice),
    "video_policy": get_args(VideoPolicy),
    "signals": get_args(SignalsChoice),
    "keep_only": get_args(KeepOnly),
}
_LOSSLESS_IS_FIXED = (
    "--video lossless has one codec and quality, and the size of the frames: leave out --codec, "
    "--video-quality and --video-size"
)
#: The options that have no effect without a video, and the flags of ``dgrec record``.
VIDEO_OPTIONS = {
    "video_quality": "--video-quality",
    "codec": "--codec",
    "video_size": "--video-size",
    "video_policy": "--video-when-full",
}
#: How pictures are encoded if nothing else is asked for.
DEFAULT_CODEC = "h264"
DEFAULT_QUALITY = 70
#: How much is kept before and after an alert if nothing else is asked for, in seconds.
_DEFAULT_AROUND_S = 10.0


@dataclass(frozen=True)
class Retention:
    """The parts of a recording that are kept.

    Args:
        last_s: Parts that ended at most this many seconds ago.
        total: The newest parts that together take at most this many bytes on disk.
        only: Parts of the times around alerts.
        sample: With ``only``: the share of the other parts that is kept, too.
    """

    last_s: float | None = None
    total: int | None = None
    only: KeepOnly | None = None
    sample: float | None = None

    def __bool__(self) -> bool:
        return self.last_s is not None or self.total is not None or self.only is not None


@dataclass(frozen=True)
class Splitting:
    """The rule for a new part: after ``every_s`` seconds, or before one exceeds ``size`` bytes.

    The size is that of its journal and its videos.
    """

    every_s: float | None = None
    size: int | None = None
    keep: Retention = field(default_factory=Retention)
    #: Each moment of an alert is a part.
    by_alert: bool = False

    def __bool__(self) -> bool:
        return self.every_s is not None or self.size is not None or self.by_alert


#: What `dgrec record --help` says of each of the `RecordingOptions`.
HELP = {
    "max_frames": "End after that many frames.",
    "duration": "End after that time (90s, 10m; seconds without a unit): of footage for a file, "
    "of real time for a live source.",
    "fps": "Leave frames out down to this rate.",
    "every": "Take every Nth frame only.",
    "loop": "Start a file over when it ends.",
    "reconnect_for": "How long to try to get a lost live source, or AI server, back (90s, 10m). "
    "One that cannot be reached at the start is an error at once.  [default: for ever]",
    "stall_timeout": "Silence after which a live source counts as lost.",
    "masks": "Keep segmentation masks exactly, or as the bitmap that an overlay uses.",
    "durability": "When what is recorded is forced to the disk (fsync).",
    "policy": "What happens when the disk cannot keep up.  [default: block for files, drop-oldest "
    "for live sources]",
    "split_every": "Begin a new part after that time (90s, 10m, 24h): NAME-0001.parquet, ... It "
    "is real time, also for a file, which is recorded as fast as the model runs.",
    "split_size": "Begin a new part before its journal and its videos take more than that (512MB, "
    "2GB). Sealed, the rows are much smaller.",
    "keep_last": "Remove parts that ended longer ago.",
    "keep_total": "Remove the oldest parts when all of them, with their videos, take more.",
    "keep_only": "Of a recording in parts, keep those of the time around an alert (--before it "
    "to --after its end) and the last one; the others are removed once that is known.",
    "keep_sample": "With --keep-only: keep that share of the other parts, too, evenly: 1%.",
    "min_free": "End and seal the recording before the disk has less than SIZE (1GB) left; exit "
    "code 5.",
    "video": "Record the pixels beside the session: as they came (NAME.mp4), with the overlay "
    "(NAME.annotated.mp4), or both. auto: raw for a live source; nothing for a file, which is the "
    "video itself. raw keeps the source's own packets where it sends H.264, H.265 or JPEG, which "
    "costs nearly nothing and gives back the very pixels (browsers do not play H.265); with "
    "--codec, --video-quality or --video-size, and of other sources, pictures are encoded. "
    "lossless: every pixel as the model saw it, of any source (FFV1: large, and not for browsers).",
    "video_quality": "From smallest (1) to best (100). 6 more is twice as good in H.264's own "
    "terms, and takes about a third more room.  [default: 70]",
    "video_size": "Scale the video to that size, both numbers even: 640x360.  [default: that of "
    "the frames]",
    "codec": "h264 (plays anywhere), h265, av1 or vp9, as far as the installed PyAV has them.  "
    "[default: h264]",
    "video_policy": "What happens when the encoder cannot keep up: wait for it, or leave frames "
    "out of the video, never their rows.  [default: block for files, leave-out for live sources]",
    "signals": "Log values of this machine once a second beside the frames: processor, memory, and "
    "temperatures where it has sensors (the view signals in SQL).",
    "only_on_alert": "Keep nothing but the moments of alerts (--alert), each a part with its "
    "video: NAME-0001.parquet, ... (docs/alerts.md).",
    "clip_on_alert": "Beside the recording, write a clip of each alert, a session with its video: "
    "NAME.alert-RULE-TIME.parquet (docs/alerts.md).",
    "before": "What is kept before an alert, from the last key frame at or before it.  "
    "[default: 10s]",
    "after": "What is kept after the end of an alert; another one within it prolongs it.  "
    "[default: 10s]",
}


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """The settings of a recording: the options of ``dgrec record``, which `HELP` explains.

    Times are in seconds, sizes in bytes, rates in frames per second; None: not set.

    Raises:
        ConfigError: A value is out of its limits, or two of them exclude each other.
    """

    max_frames: int | None = None
    duration: float | None = None
    fps: float | None = None
    every: int | None = None
    loop: bool = False
    reconnect_for: float | None = None
    stall_timeout: float = 10.0
    masks: MaskMode = "exact"
    durability: Durability = "flush"
    policy: QueuePolicy | None = None
    split_every: float | None = None
    split_size: int | None = None
    keep_last: float | None = None
    keep_total: int | None = None
    keep_only: KeepOnly | None = None
    keep_sample: float | None = None
    min_free: int | None = None
    video: VideoChoice = "auto"
    video_quality: int | None = None
    video_size: tuple[int, int] | None = None
    codec: str | None = None
    video_policy: VideoPolicy | None = None
    signals: SignalsChoice | None = None
    only_on_alert: bool = False
    clip_on_alert: bool = False
    before: float | None = None
    after: float | None = None

    def __post_init__(self) -> None:
        for name, quantity in (QUANTITIES | COUNTS).items():
            number = getattr(self, name)
            if not self._is_unset(name):
                _check_number(name, number, "whole " if name in COUNTS else "")
                quantity.check(number, f"{_flag(name)}: {number:g}")
        for name, choices in CHOICES.items():
            choice = getattr(self, name)
            if not self._is_unset(name) and choice not in choices:
                raise ConfigError(
                    f"{name}: {value_text(choice)} is not one of {', '.join(choices)}"
                )
        if self.video_size is not None:
            try:
                width, height = self.video_size
            except (TypeError, ValueError):
                raise ConfigError(
                    f"--video-size: {value_text(self.video_size)} is not a pair of numbers"
                ) from None
            _check_number("video_size", width, "whole ")
            _check_number("video_size", height, "whole ")
            _check_video_size(width, height)
        if not isinstance(self.codec, str | None):
            raise ConfigError(f"--codec: {value_text(self.codec)} is not the name of a codec")
        if self.video == "lossless" and self._shapes_video():
            raise ConfigError(_LOSSLESS_IS_FIXED)
        if self.every and self.fps:
            raise ConfigError("--every and --fps both leave frames out: give one of them")
        if self.splitting.keep and not self.splitting:
            removing = "--keep-last and --keep-total remove"
            if self.keep_only is not None:
                removing = "--keep-only removes"
            raise ConfigError(f"{removing} parts: say --split-every or --split-size, too")
        if self.keep_sample is not None and self.keep_only is None:
            raise ConfigError("--keep-sample belongs to --keep-only")
        if self.only_on_alert:
            self._check_only_on_alert()

    def _check_only_on_alert(self) -> None:
        if self.video in ("annotated", "both"):
            raise ConfigError(
                f"--only-on-alert keeps the pictures of the source, and replay draws the overlay: "
                f"use --video raw, not {self.video}"
            )
        if self.clip_on_alert or self.keep_only is not None:
            raise ConfigError(
                "--only-on-alert keeps nothing but the moments of alerts: leave out "
                "--clip-on-alert and --keep-only, which are for a full recording"
            )

    def _shapes_video(self) -> bool:
        """Return whether a codec, a quality or a size is asked for, even if it is the default."""
        return any(each is not None for each in (self.codec, self.video_quality, self.video_size))

    @property
    def encodes_as_asked(self) -> bool:
        """Return whether the pictures are encoded even if the source's packets can be kept."""
        return self.video != "raw" or self._shapes_video()

    @property
    def video_flags(self) -> list[str]:
        """The flags of the given options that only say how a video is made."""
        return [flag for name, flag in VIDEO_OPTIONS.items() if getattr(self, name) is not None]

    def _is_unset(self, name: str) -> bool:
        """Return whether an option that may be None is None."""
        return getattr(self, name) is None and getattr(type(self), name) is None

    @property
    def keeps_moments(self) -> bool:
        """Return whether anything is kept for the times around alerts only."""
        return self.only_on_alert or self.clip_on_alert or self.keep_only is not None

    @property
    def around_s(self) -> tuple[float, float]:
        """The time that is kept before and after an alert, in seconds."""
        return (
            _DEFAULT_AROUND_S if self.before is None else float(self.before),
            _DEFAULT_AROUND_S if self.after is None else float(self.after),
        )

    @property
    def splitting(self) -> Splitting:
        keep = Retention(self.keep_last, self.keep_total, self.keep_only, self.keep_sample)
        return Splitting(self.split_every, self.split_size, keep, self.only_on_alert)

    def recorded(self, *, with_video: bool) -> dict[str, Any]:
        """Return the metadata's ``options``. (``loop`` is among the facts of the source.)"""
        hidden = {"loop", *(() if with_video else VIDEO_OPTIONS)}
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        options["codec"] = self.codec or DEFAULT_CODEC
        options["video_quality"] = self.video_quality or DEFAULT_QUALITY
        if self.keeps_moments:
            options["before"], options["after"] = self.around_s
        hidden |= {name for name in ("only_on_alert", "clip_on_alert") if not options[name]}
        return {k: v for k, v in options.items() if k not in hidden and v is not None}


def parse_video_size(text: str) -> tuple[int, int]:
    """Return width and height of a video from a text such as ``640x360``.

    Raises:
        ConfigError: It is not a size, or not one that can be encoded.
    """
    width, height = parse_both_dimensions(text)
    _check_video_size(width, height)
    return width, height


def _check_video_size(width: int, height: int) -> None:
    if width % 2 or height % 2:
        raise ConfigError(f"{width}x{height}: both numbers must be even")
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise ConfigError(f"{width}x{height}: videos are 16 to 8192 pixels")


def _check_number(name: str, value: object, kind: Literal["", "whole "] = "") -> None:
    types = int if kind else int | float
    is_number = isinstance(value, types) and not isinstance(value, bool)
    # NaN is not less than anything.
    if not is_number or not abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        raise ConfigError(f"{_flag(name)}: {value_text(value)} is not a {kind}number")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
