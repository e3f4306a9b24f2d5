"""`dgrec analyze`: analyzers of degirum_tools over recorded results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dgrec.options import Command, SessionOutput, analyzer_options, json_option, usage_errors
from dgrec.replay.options import say_damage, session_argument, video_option
from dgrec.terminal import say_written
from dgrec.units import counted


@click.command(
    "analyze",
    cls=Command,
    short_help="Track objects, count zones and lines in a session, without the model.",
    epilog='Example: dgrec analyze s.parquet --tracker "trail_depth=10" -o tracked.parquet',
)
@session_argument
@click.option(
    "--output",
    "-o",
    required=True,
    type=SessionOutput(),
    help="The new session (.parquet).",
)
@analyzer_options
@video_option
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@json_option
def analyze_command(
    session: Path,
    output: Path,
    tracker: tuple[str, ...],
    analyzer_functions: tuple[str, ...],
    video: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run analyzers of degirum_tools over the results of SESSION, and write a new session.

    The model does not run: tracks, zones and lines are what they would have been live. In each run
    of a recording that was continued or merged, analyzers begin anew, and FILE.py is run again.
    Where analyzers ask for the time they get that at which the frame's result came out. Everything
    else stays as it was recorded; a video stays beside SESSION, and is found if the new session is
    put there, too. What earlier analyzers of the same classes had added is replaced.
    """
    import dgrec
    from dgrec.analyzers import AnalyzerRequest
    from dgrec.replay.analysis import check_analysis_output, write_analysis

    with usage_errors():
        request = AnalyzerRequest(tracker, analyzer_functions)
    if not request:
        raise click.UsageError("say what to run: --tracker, --analyzers FILE.py:FUNCTION, or both")
    with dgrec.open(session) as opened:
        check_analysis_output(opened, output, overwrite=overwrite)
        say_damage(opened)
        labels = opened.metadata.get("model", {}).get("labels", {}).values()
        known = [label for label in labels if isinstance(label, str)]
        names: list[str] = []

        def make() -> list[Any]:
            analyzers = request.make(known, again=bool(names))
            names[:] = [type(each).__name__ for each in analyzers]
            return analyzers

        written = write_analysis(opened, make, output, video=video, overwrite=overwrite)
        frames = len(opened)
        is_apart = bool(opened.metadata.get("video")) and (
            output.absolute().parent != session.absolute().parent
        )
    apart = (
        f"{output}: the recorded video stays beside {session}; pictures need a copy of it "
        f"beside {output}"
    )
    parts = f" in {len(written):,} parts" if len(written) > 1 else ""
    say_written(
        [f"{output}: {counted(frames, 'frame')}{parts} with {', '.join(names)}"],
        as_json=as_json,
        path=output,
        files=written,
        session=opened.path,
        frames=frames,
        analyzers=names,
        notes=[apart] if is_apart else [],
    )
