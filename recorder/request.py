"""What ``dgrec record`` was asked to do: which sources, with which model, where to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dgrec.credentials import redact
from dgrec.errors import ConfigError
from dgrec.paths import JOURNAL_SUFFIX, VIDEO_SUFFIXES
from dgrec.recorder.model import ModelRequest
from dgrec.recorder.options import RecordingOptions

__all__ = ["RecordRequest"]


@dataclass(frozen=True, kw_only=True)
class RecordRequest:
    """What to record, and what to do beside it.

    Args:
        output: Where the session goes, ``{source}`` in it for the name of each source; None: into
            the folder ``recordings``.
        overwrite: Replace the session that is there.
        continues: Go on with the parts that are there.
        display: Show the overlay in a window.
        publish: Where a JSON line a frame goes; ``-`` is stdout.
        video_flags: What was given that says something about a video only.

    Raises:
        ConfigError: Two of them exclude each other.
    """

    sources: tuple[str, ...]
    output: Path | None = None
    overwrite: bool = False
    continues: bool = False
    display: bool = False
    publish: str | None = None
    quiet: bool = False
    options: RecordingOptions = field(default_factory=RecordingOptions)
    model: ModelRequest = field(default_factory=ModelRequest)
    video_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.publish == "":
            raise ConfigError("--publish: an empty name names no file; - is stdout")
        if self.continues and not self.options.splitting:
            raise ConfigError("--continue adds parts: say --split-every or --split-size, too")
        if self.continues and self.overwrite:
            raise ConfigError("--continue and --overwrite say the opposite: give one of them")
        if len(self.sources) > 1:
            self._check_several()
        suffix = self.output.suffix if self.output is not None else ""
        if suffix == JOURNAL_SUFFIX:
            raise ConfigError("--output: .arrows is the journal's name; call the session .parquet")
        if suffix == VIDEO_SUFFIXES["raw"]:
            raise ConfigError("--output: .mp4 is the video's name; call the session .parquet")

    def _check_several(self) -> None:
        source, count = Counter(self.sources).most_common(1)[0]
        if count > 1:
            raise ConfigError(f"--source {redact(source)} is given twice")
        if self.output is not None and "{source}" not in str(self.output):
            raise ConfigError(
                "--output names one file, but there are several sources: write {source} in it, as "
                "in night-{source}.parquet"
            )
        for flag, value in (("--display", self.display), ("--publish", self.publish)):
            if value:
                raise ConfigError(f"{flag} goes with one source")
