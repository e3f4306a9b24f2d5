"""`dgrec clip`: a part of a session as a session of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dgrec.options import Command, Parsed, SessionOutput, json_option
from dgrec.replay.options import (
    POSITION_TEXT,
    check_group,
    say_clip_written,
    say_damage,
    selection_options,
    sessions_argument,
)
from dgrec.terminal import echo, is_quiet, note
from dgrec.units import counted, parse_time

if TYPE_CHECKING:
    from dgrec.footage import Position
    from dgrec.replay.clip import ClipReport, Span
    from dgrec.session import Session

_POSITION = "A frame (300), a time since the first (12.5s, 00:01:30), or UTC (2026-01-02T03:04:05Z)"


@click.command(
    "clip",
    cls=Command,
    groups={"Frames and detections": "start end pad".split()},
    short_help="Cut a part of a session, or all frames that match, with its video.",
    epilog='Example: dgrec clip s.parquet --where "latency_ms > 100" --pad 2s -o reel.parquet',
)
@sessions_argument
@click.option(
    "--output",
    "-o",
    type=SessionOutput(),
    help="The new session (.parquet); its video goes beside it. Of several sessions, cut.parquet "
    "stands for cut-SESSION.parquet.",
)
@click.option(
    "--alerts",
    is_flag=True,
    help="A clip of each alert that was recorded, beside the session: "
    "SESSION.alert-RULE-TIME.parquet. Those that exist are left. The recording may still go on.",
)
@click.option(
    "--before",
    type=Parsed(parse_time),
    metavar="TIME",
    help="With --alerts: what a clip has before an alert.  [default: as it was recorded, or 10s]",
)
@click.option(
    "--after",
    type=Parsed(parse_time),
    metavar="TIME",
    help="With --alerts: what a clip has after an alert.  [default: as it was recorded, or 10s]",
)
@click.option(
    "--start",
    type=POSITION_TEXT,
    metavar="WHERE",
    help=f"{_POSITION}.  [default: the beginning]",
)
@click.option(
    "--end",
    type=POSITION_TEXT,
    metavar="WHERE",
    help="Where to stop, written as --start.  [default: the end]",
)
@selection_options("where")
@click.option(
    "--pad",
    type=Parsed(parse_time, keeps_text=True),
    metavar="TIME",
    help="With --where: time to keep before and after each, such as 2s.",
)
@click.option(
    "--with-video",
    is_flag=True,
    help="If the pixels are in a source file, write this part of them beside the clip.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@json_option
def clip_command(
    sessions: tuple[Path, ...],
    output: Path | None,
    alerts: bool,
    before: float | None,
    after: float | None,
    start: str | None,
    end: str | None,
    where: str | None,
    pad: str | None,
    with_video: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut a part of SESSION, with its part of the video, as a new session.

    Several sessions that were recorded together are cut at the same times: --start and --end are
    then times since the first frame of all, or UTC.

    Rows stay as they were recorded, but count from 0 again; "clip" in the metadata names the
    session and its frames. A recorded video is copied if every part begins with one of its key
    frames, and encoded again otherwise. The clip of a session that was recorded from a file shows
    the same file.
    """
    import dgrec
    from dgrec.errors import ConfigError
    from dgrec.replay.clip import check_clip_output, write_clip

    if alerts:
        if output or start or end or where or pad or with_video or overwrite:
            raise click.UsageError("--alerts goes with --before, --after, --json and --quiet only")
        raise SystemExit(_cut_alerts_of(sessions, before, after, as_json))
    if before is not None or after is not None:
        raise click.UsageError("--before and --after go with --alerts")
    if output is None:
        raise click.UsageError("--output is missing: the name of the clip")
    if pad is not None and where is None:
        raise click.UsageError("--pad goes with --where")
    if where is not None and len(sessions) > 1:
        raise click.UsageError("--where takes one session: several are cut by time")
    asked = {"start": start, "end": end, "where": where, "pad": pad}
    with ExitStack() as closing:
        opened = [closing.enter_context(dgrec.open(path)) for path in sessions]
        outputs = [output]
        if len(opened) > 1:
            check_group(opened)
            outputs = [
                output.with_name(f"{output.stem}-{each.path.stem}{output.suffix}")
                for each in opened
            ]
            if len(set(outputs)) < len(outputs):
                raise ConfigError(f"{outputs[0]}: two sessions of this name would be written here")
        for each, path in zip(opened, outputs, strict=True):
            check_clip_output(each, path, with_video=with_video, overwrite=overwrite)
            say_damage(each)
        cuts = list(zip(opened, _spans(opened, start, end, where, pad), outputs, strict=True))
        cuts = [cut for cut in cuts if cut[1]]
        for each, spans, path in cuts:
            report = write_clip(
                each,
                spans,
                path,
                with_video=with_video,
                overwrite=overwrite,
                description={key: value for key, value in asked.items() if value is not None},
                members=[path.name for _, _, path in cuts] if len(sessions) > 1 else (),
            )
            _say(path, report, as_json, each.path)
            if not with_video and not report.videos:
                _say_pixels(each)


def _cut_alerts_of(
    sessions: Sequence[Path], before: float | None, after: float | None, as_json: bool
) -> int:
    """Write the clips of alerts of each session, and return the highest exit code.

    Raises:
        DgrecError: The only session cannot be read. Of several, the others are cut.
    """
    from dgrec.errors import DgrecError
    from dgrec.session import session_file

    code = 0
    for path in sessions:
        try:
            code = max(code, _cut_alerts(session_file(path), before, after, as_json))
        except DgrecError as error:
            if len(sessions) == 1:
                raise
            echo(f"Error: {error}", err=True, colour="red")
            code = max(code, error.exit_code)
    return code


def _cut_alerts(path: Path, before: float | None, after: float | None, as_json: bool) -> int:
    """Write the clips of alerts, report them, and return the exit code."""
    from dgrec.alerts import recorded_alerts
    from dgrec.errors import DgrecError
    from dgrec.replay.clip import cut_alerts
    from dgrec.session import open_session

    code = waiting = count = 0
    for clip in cut_alerts(path, before, after):
        count += 1
        if clip.report is not None:
            _say(clip.path, clip.report, as_json, path, alert=clip.alert.name)
        elif not clip.problem:
            waiting += 1
        else:
            is_error = isinstance(clip.problem, DgrecError)
            echo(str(clip.problem) if is_error else f"{clip.path}: {clip.problem}", err=True)
            if isinstance(clip.problem, DgrecError):
                code = max(code, clip.problem.exit_code)
    if waiting and not is_quiet():
        what = counted(waiting, "alert", "is", "are")
        echo(f"{path}: {what} not over yet, with what follows it; no clip yet", err=True)
    if not count and not is_quiet():
        with open_session(path) as session:
            has_alerts = bool(recorded_alerts(session.metadata.get("events", [])))
        why = "no alert lacks a clip" if has_alerts else "has no alerts (dgrec record --alert)"
        echo(f"{path}: {why}", err=True)
    return code


def _say(output: Path, report: ClipReport, as_json: bool, session: Path, **facts: Any) -> None:
    moments = f" from {report.spans:,} moments" if report.spans > 1 else ""
    say_clip_written(
        output,
        report,
        f"{counted(report.frames, 'frame')}{moments}",
        as_json=as_json,
        session=session,
        **facts,
        moments=report.spans,
    )


def _say_pixels(session: Session) -> None:
    """Say that a clip has no pixels of its own, and how it gets them."""
    source = session.metadata.get("source", {})
    if source.get("kind") in ("file", "sample"):
        note(
            f"Its pixels stay in {source.get('file') or source.get('given')}, which is needed to "
            "replay it; --with-video takes them along"
        )


def _spans(
    sessions: Sequence[Session],
    start: str | None,
    end: str | None,
    where: str | None,
    pad: str | None,
) -> list[list[Span]]:
    """Return the spans to cut of each session; of several, none where one has no frame then."""
    from dgrec.errors import ConfigError, VideoError
    from dgrec.footage import parse_position
    from dgrec.replay.clip import Span
    from dgrec.replay.rendering import select_frames

    if len(sessions) == 1:
        return [_spans_of(sessions[0], start, end, where, pad)]
    first, last = (
        None if text is None else _common_position(parse_position(text), sessions)
        for text in (start, end)
    )
    found: list[list[Span]] = []
    for session in sessions:
        try:
            selection = select_frames(session, first, last)
        except VideoError as error:
            echo(f"{error}; left out", err=True)
            found.append([])
        else:
            found.append([Span(selection.start, selection.end)] if len(session) else [])
    if not any(found):
        raise ConfigError("none of the sessions has a frame in that time")
    return found


def _common_position(position: Position, sessions: Sequence[Session]) -> Position:
    """Return a position in several sessions as a time in UTC."""
    from dgrec.errors import ConfigError
    from dgrec.footage import Position
    from dgrec.format import utc_ns

    if position.kind == "frame":
        raise ConfigError(
            f"{position.text}: each session numbers its own frames; give a time (12.5s, UTC)"
        )
    if position.kind == "utc":
        return position
    stamps = [session.row(0)["captured_at"] for session in sessions if len(session)]
    first = min((stamp for stamp in stamps if stamp is not None), default=None)
    if first is None:
        raise ConfigError("no session has a frame with a time of capture")
    return Position(position.text, "utc", utc_ns(first) // 1000 + position.value)


def _spans_of(
    session: Session, start: str | None, end: str | None, where: str | None, pad: str | None
) -> list[Span]:
    from dgrec.errors import ConfigError
    from dgrec.footage import parse_position
    from dgrec.replay.clip import Span, spans_where
    from dgrec.replay.rendering import select_frames
    from dgrec.units import parse_time

    if not len(session):
        raise ConfigError(f"{session.path}: has no frames")
    first, last = (None if text is None else parse_position(text) for text in (start, end))
    selection = select_frames(session, first, last)
    within = Span(selection.start, selection.end)
    if where is None:
        return [within]
    pad_us = 0 if pad is None else round(parse_time(pad) * 1e6)
    spans = spans_where(session, where, pad_us, within)
    if not spans:
        raise ConfigError(f"{session.path}: there is no frame with {where}")
    return spans
