"""`dgrec view`: recordings in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import Command, NamedPath, SessionPath, json_option, usage_errors
from dgrec.replay.options import POSITION, POSITION_TEXT, check_companions, given_flags
from dgrec.terminal import echo, note, say_written
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.footage import Position

#: Options of a page that is served; an export has none.
_OF_SERVER = ("listen", "cert", "key", "downloads", "frame", "at")


@click.command(
    "view",
    cls=Command,
    short_help="Look at recordings in a browser, frame by frame.",
    epilog="Example: dgrec view recordings",
)
@click.argument("places", nargs=-1, metavar="[SESSION|FOLDER...]", type=SessionPath(path_type=Path))
@click.option(
    "--listen",
    metavar="[HOST:]PORT",
    default="",
    help="Where the page is served.  [default: 127.0.0.1, any free port]",
)
@click.option("--frame", type=int, metavar="NUMBER", help="Show this frame first.")
@click.option(
    "--at",
    type=POSITION,
    metavar="TIME",
    help="Show the frame at this time first: since the first one (12.5s, 1:30), or in UTC "
    "(2026-01-02T03:04:05Z).",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--downloads/--no-downloads",
    default=None,
    help="Let pages have clips, exports and pictures of a marked part made and downloaded.  "
    "[default: on this machine only]",
)
@click.option(
    "--cert",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="A certificate, for TLS; with its key, or beside --key.",
)
@click.option(
    "--key", type=NamedPath(path_type=Path), metavar="FILE", help="The key of the certificate."
)
@click.option(
    "--export",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Write the page with its data and videos, to open without a server.",
)
@click.option(
    "--start",
    type=POSITION_TEXT,
    metavar="WHERE",
    help="With --export: from here on: a frame (300), a time since the first (12.5s), or UTC.",
)
@click.option(
    "--end",
    type=POSITION_TEXT,
    metavar="WHERE",
    help="With --export: where to stop, written as --start.",
)
@click.option(
    "--redact",
    multiple=True,
    metavar="LABEL",
    help="With --export: cover detections of this label in the videos; all: of every label.",
)
@click.option("--overwrite", is_flag=True, help="With --export: replace an earlier export.")
@json_option
@click.option(
    "--of-recorder",
    "shown",
    hidden=True,
    default=None,
    help="Started by a recorder: ends with standard input, and shows this session first.",
)
@click.pass_context
def view_command(
    context: click.Context,
    places: tuple[Path, ...],
    listen: str,
    frame: int | None,
    at: Position | None,
    no_browser: bool,
    downloads: bool | None,
    cert: Path | None,
    key: Path | None,
    export: Path | None,
    start: str | None,
    end: str | None,
    redact: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    shown: str | None,
) -> None:
    """Serve a page that shows each SESSION, and those in each FOLDER; without one, here and in
    recordings/. Two of the same footage are opened side by side, as dgrec compare pairs them.

    Every frame is shown with the picture that was recorded for it, also while a recording goes on.
    With --export the page needs no server: it opens from the folder, or from any web server. The
    videos are copied, or made of what browsers cannot play.

    The address has a random token (DGREC_TOKEN sets your own), and only this machine reaches it
    unless --listen says otherwise. Nothing on the page changes a recording. Ctrl-C ends it.
    """
    from dgrec.errors import NotASessionError
    from dgrec.replay.viewing import parse_listen, show
    from dgrec.serving import Certificate
    from dgrec.session import names_something

    check_companions(context, "export", "start", "end", "redact", "overwrite")
    if as_json and export is None:
        raise click.UsageError("--json goes with --export")
    if frame is not None and at is not None:
        raise click.UsageError("give --frame or --at")
    if at is not None and at.kind == "frame":
        raise click.UsageError(f"--at takes a time, such as 12.5s; a frame is --frame {at.text}")
    if key is not None and cert is None:
        raise click.UsageError("--key goes with --cert")
    with usage_errors():
        host, port = parse_listen(listen)
    for place in places if shown is None else ():
        if not names_something(str(place)):
            raise NotASessionError(f"{place}: there is no such folder or session")
    found = places or (Path(), Path("recordings"))
    if export is not None:
        if served := given_flags(context, _OF_SERVER):
            raise click.UsageError(f"--export serves nothing: it goes without {served[0]}")
        _export(found, export, start, end, redact, overwrite, as_json)
        return
    first = _first(places) if shown is None else []
    if frame is not None or at is not None:
        if not first:
            raise click.UsageError(
                "--frame and --at go with one SESSION, or two of the same footage"
            )
        if at is not None:
            frame = _frame_at(first[0], at)
    certificate = None if cert is None else Certificate(str(cert), "" if key is None else str(key))
    show(
        found,
        host,
        port,
        certificate,
        opens_browser=not no_browser,
        say=echo,
        advise=note,
        recorded=shown,
        first=first,
        frame=frame,
        has_downloads=downloads,
    )


def _export(
    places: Sequence[Path],
    output: Path,
    start: str | None,
    end: str | None,
    redact: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> None:
    from dgrec.replay.progress import frames_bar
    from dgrec.replay.viewing import export_folder

    notes: list[str] = []

    def advise(text: str) -> None:
        notes.append(text)
        echo(text, err=True)

    with frames_bar() as progress:
        written = export_folder(
            places,
            output,
            start=start,
            end=end,
            redact=redact,
            overwrite=overwrite,
            advise=advise,
            progress=progress,
        )
    page = output / "index.html"
    lines = [
        f"{name}: {counted(frames, 'frame')}, {size / 1e6:,.1f} MB"
        for name, (frames, size) in written.recordings.items()
    ]
    say_written(
        [*lines, f"{output}: {written.bytes / 1e6:,.1f} MB; open {page}"],
        as_json=as_json,
        path=output,
        page=str(page),
        sessions=[*written.recordings],
        frames=written.frames,
        detections=written.detections,
        bytes=written.bytes,
        said=notes,
    )


def _first(places: Sequence[Path]) -> list[Path]:
    """Return the session that was named, or the two, if their frames can be paired."""
    from dgrec.comparison import are_of_same_frames
    from dgrec.errors import DgrecError
    from dgrec.session import Session, find_sessions

    found, problems = find_sessions(places)
    if problems or len(found) != len(places) or any(place.is_dir() for place in places):
        return []
    if len(found) != 2:
        return found if len(found) == 1 else []
    try:
        with Session(found[0]) as base, Session(found[1]) as new:
            return found if are_of_same_frames(base, new) else []
    except DgrecError:
        return []  # the page says why


def _frame_at(path: Path, at: Position) -> int:
    from dgrec.errors import SessionError
    from dgrec.footage import resolve
    from dgrec.session import Session

    with Session(path) as session:
        if not len(session):
            raise SessionError(f"{path}: there are no frames")
        return int(session.row(min(resolve(session, at), len(session) - 1))["frame"])
