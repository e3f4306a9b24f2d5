"""`dgrec publish`: a session to a broker, a web server, a file."""

from __future__ import annotations

from pathlib import Path

import click

from dgrec.options import Command, json_option, payload_options, usage_errors
from dgrec.replay.options import FiniteRange, say_damage, session_argument
from dgrec.terminal import echo, note, say_written
from dgrec.units import counted


@click.command(
    "publish",
    cls=Command,
    short_help="Send what was recorded to a broker, a web server or a file.",
    epilog="Example: dgrec publish session.parquet mqtt://localhost/cams/door --fast",
)
@session_argument
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@payload_options
@click.option(
    "--speed",
    type=FiniteRange(min=0, min_open=True),
    default=1.0,
    metavar="FACTOR",
    show_default=True,
    help="2 is twice as fast as recorded.",
)
@click.option("--fast", is_flag=True, help="As fast as the targets take it.")
@click.option(
    "--missing",
    is_flag=True,
    help="Only what each target did not get while SESSION was recorded (`record --publish`), in "
    "the form in which it was published, as fast as it is taken.",
)
@json_option
def publish_command(
    session: Path,
    targets: tuple[str, ...],
    payload: str,
    payload_where: str,
    only_changes: bool,
    ended_after: float,
    publish_every: int,
    mqtt_discovery: bool,
    speed: float,
    fast: bool,
    missing: bool,
    as_json: bool,
) -> None:
    """Send what `dgrec record --publish` would have sent of SESSION, byte for byte.

    TARGETS are those of `record`: - (standard output), a file, mqtt://HOST/TOPIC, https://HOST/PATH,
    and ws://HOST:PORT and sse://HOST:PORT, which begin when the first client is there. Frames come
    at the pace at which they were recorded. Every target gets every frame: slow ones are waited
    for.
    """
    import dgrec
    from dgrec.publishing import PayloadOptions, check_discovery, parse_target
    from dgrec.replay.publishing import publish, publish_missing

    if missing:
        _refuse_other_options()

    def say(line: str) -> None:
        echo(line, err=True)

    with usage_errors():
        addresses = [parse_target(text) for text in targets]
        options = PayloadOptions(
            form=payload,  # type: ignore[arg-type]
            every=publish_every,
            where=payload_where,
            only_changes=only_changes,
            ended_after=ended_after,
        )
        if mqtt_discovery:
            check_discovery(addresses)
    if as_json and "-" in targets:
        raise click.UsageError("--json and the target - both write to standard output")
    with dgrec.open(session) as opened:
        say_damage(opened)
        if missing:
            counts = publish_missing(opened, addresses, on_wait=say)
        else:
            counts = publish(
                opened,
                addresses,
                options,
                discovery=mqtt_discovery,
                speed=None if fast else speed,
                on_wait=say,
            )
    for address, count in zip(addresses, counts, strict=True):
        if as_json:
            say_written(
                [],
                as_json=True,
                path=address.given,
                files=[],
                session=opened.path,
                messages=count,
            )
        else:  # standard output may be a target
            note(f"{address.given}: {counted(count, 'message')}")


def _refuse_other_options() -> None:
    """Refuse options that would change what ``--missing`` sends, or when."""
    context = click.get_current_context()
    for name in sorted(context.params.keys() - _WITH_MISSING):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(f"--missing sends what was published as it was: no --{option}")


_WITH_MISSING = frozenset({"session", "targets", "missing", "fast", "as_json"})
