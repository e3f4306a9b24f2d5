"""`dgrec view`: recordings in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from dgrec.options import Command, NamedPath, SessionPath
from dgrec.terminal import echo, note

__all__ = ["view_command"]


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
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option(
    "--cert",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="A certificate, for TLS; with its key, or beside --key.",
)
@click.option(
    "--key", type=NamedPath(path_type=Path), metavar="FILE", help="The key of the certificate."
)
@click.option("--of-recorder", "shown", hidden=True, default=None)
def view_command(
    places: tuple[Path, ...],
    listen: str,
    no_browser: bool,
    cert: Path | None,
    key: Path | None,
    shown: str | None,
) -> None:
    """Serve a page that shows each SESSION, and those in each FOLDER; without one, here and in
    recordings/.

    Every frame is shown with the picture that was recorded for it, also while a recording goes on.
    The address has a random token (DGREC_TOKEN sets your own), and only this machine reaches it
    unless --listen says otherwise. Nothing on the page changes a recording. Ctrl-C ends it.
    """
    from dgrec.errors import ConfigError, NotASessionError
    from dgrec.replay.viewing import parse_listen, show
    from dgrec.serving import Certificate
    from dgrec.session import names_something

    if key is not None and cert is None:
        raise click.UsageError("--key goes with --cert")
    try:
        host, port = parse_listen(listen)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    for place in places if shown is None else ():
        if not names_something(str(place)):
            raise NotASessionError(f"{place}: there is no such folder or session")
    found = places or (Path(), Path("recordings"))
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
    )
