"""A progress bar for work that takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dgrec.terminal import is_quiet


@contextmanager
def frames_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with the time left on stderr, where that is a terminal.

    Yields a function to call with the name of what is counted, how many are done, and the total.
    """
    if is_quiet() or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    from dgrec.console import Console

    with Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeLeft(),
        "left",
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    ) as bar:
        task, begun = bar.add_task("frames", total=None), ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal begun
            if what != begun or done == 0:
                bar.reset(task, description=what, total=total)
                begun = what
            bar.update(task, completed=done)

        yield show
