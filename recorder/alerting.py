"""The alerts of ``dgrec record``: its options, and the outputs that follow the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgrec.alerts import LONGEST_CLIP_NAME, EventRule, Rule
from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.paths import journal_path
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import (
    AlertClips,
    AlertFeed,
    AlertListener,
    Alerts,
    Output,
    parse_command,
)
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.writing import Moments
from dgrec.session import parts_in_set

#: The longest name of a file, in bytes, on most file systems.
_LONGEST_NAME = 255


def check_alert_options(rules: Sequence[Rule], on_alert: str, options: RecordingOptions) -> None:
    """Raise `ConfigError` for options about alerts that do not fit each other."""
    flags = {
        "--on-alert": on_alert,
        "--only-on-alert": options.only_on_alert,
        "--clip-on-alert": options.clip_on_alert,
        "--keep-only": options.keep_only,
    }
    if not rules and (flag := next((name for name, given in flags.items() if given), "")):
        raise ConfigError(f"{flag} belongs to --alert")
    if not options.keeps_moments and (options.before, options.after) != (None, None):
        raise ConfigError(
            "--before and --after belong to --clip-on-alert, --only-on-alert or --keep-only"
        )
    parse_command(on_alert)


def check_without_analyzers(rules: Sequence[Rule]) -> None:
    """Raise `ConfigError` if a rule needs an analyzer, for a recording without any."""
    for rule in rules:
        if isinstance(rule, EventRule) and rule.needed_analyzer is not None:
            raise ConfigError(
                f"--alert {rule.name}: {rule.metric} needs a {rule.needed_analyzer}: "
                "give one with --analyzers FILE.py:function"
            )


@dataclass(frozen=True)
class Alerting:
    """The outputs of one recording that find its alerts or follow them.

    Args:
        outputs: The outputs that find the alerts; none without rules.
        moments: The times whose parts are kept, if only those are.
        clips: Has clips of the alerts cut.
    """

    outputs: tuple[Output, ...]
    moments: Moments | None
    clips: AlertClips | None

    @classmethod
    def of(
        cls,
        rules: Sequence[Rule],
        on_alert: str,
        options: RecordingOptions,
        recording: Path,
        *,
        writer: Callable[[], SessionWriter],
        clock: Clock,
        say: Callable[[str], None],
        feed: AlertFeed | None = None,
    ) -> Alerting:
        """Return what the options of a recording ask for.

        Args:
            recording: The session file.
            writer: Returns the writer of the session, once there are frames.
            say: Reports a line.
            feed: Gets the events of alerts, for the outputs that publish them.

        Raises:
            ConfigError: Names of clips would be too long.
        """
        if not rules:
            return cls((), None, None)
        moments = Moments(*options.around_s) if options.keep_only is not None else None
        clips = None
        if options.clip_on_alert:
            if len(recording.stem.encode()) + LONGEST_CLIP_NAME > _LONGEST_NAME:
                raise ConfigError(
                    f"--clip-on-alert: {recording.name} is too long: the names of its clips "
                    "would be longer than file names may be"
                )

            def live() -> Path | None:
                if not options.splitting:
                    return journal_path(recording)
                # Until a part is sealed, an older recording that is to be replaced has the name.
                return recording if parts_in_set(recording)[1] == writer().set_id else None

            clips = AlertClips(recording, live, *options.around_s, say)
        listeners: list[AlertListener] = [each for each in (moments, clips) if each is not None]
        alerts = Alerts(
            rules,
            lambda event: writer().note(event),
            clock,
            say,
            parse_command(on_alert),
            feed,
            listeners,
        )
        return cls((alerts,), moments, clips)
