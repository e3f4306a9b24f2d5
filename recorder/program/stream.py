"""`dgrec.predict_stream`: PySDK's function, but it also records what it yields."""

from __future__ import annotations

import ctypes
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

from dgrec.analyzers import as_list
from dgrec.arguments import one_or_more, optional_path, with_parameters
from dgrec.errors import ConfigError, DgrecError, OutputError, value_text
from dgrec.paths import session_stem
from dgrec.recorder.ai_server import HERE
from dgrec.recorder.job import Plan, RecordRequest, make_plan, prepare
from dgrec.recorder.model import LoadedModel, describe_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import Output
from dgrec.recorder.program.program_end import at_end
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import named_sources, open_patiently, open_source
from dgrec.recorder.viewer import viewing
from dgrec.terminal import echo

_log = logging.getLogger("dgrec")

#: Streams that the program may leave without closing them.
_open: weakref.WeakSet[RecordedStream] = weakref.WeakSet()


#: How long `RecordedStream.close` waits for a result that another thread waits for.
_PATIENCE_S = 10.0


def _leave_to_parent() -> None:
    """Keep the streams of the parent as they are: ending them would wait for its threads."""
    for stream in list(_open):
        # For ever: at its end, the interpreter closes every generator that it finds.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream._results))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@at_end
def _close_all() -> None:
    for stream in list(_open):
        if stream._process == os.getpid():
            try:
                stream.close()
            except Exception as error:  # nobody is left to catch it; the others are sealed
                echo(f"dgrec: {error}", err=True)


@with_parameters(*(each.name for each in fields(RecordingOptions)))
def predict_stream(
    model: Any,
    video_source_id: int | str | Path,
    source_type: Any = "auto",
    *,
    fps: float | None = None,
    analyzers: Any = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    outputs: Output | Sequence[Output] = (),
    view: bool = False,
    **choices: Any,
) -> RecordedStream:
    """Run a model on a source as PySDK's `predict_stream` does, and record what it yields.

    The results are PySDK's own. A result is recorded when the loop asks for the next one, with
    what the loop has added to it (tracks, zones). The session is sealed at the end of the source,
    and also when the loop is left, by an exception too.

    Args:
        model: A PySDK model, or a compound model of degirum_tools.
        video_source_id: A camera's number, or whatever ``dgrec record --source`` takes: a file, an
            address, ``sample``, a name from ``dgrec.toml``. It is read by dgrec: cameras that are
            lost are opened again.
        source_type: As PySDK has it; dgrec reads all of them by itself.
        fps: Leave frames out for this rate, exactly.
        analyzers: One of degirum_tools' analyzers, or a list; attached while the stream runs.
        output: The session file, with ``{source}`` for the source's name; by default a new one in
            the folder ``recordings``.
        overwrite: Replace the session that is there, once there is a new one.
        outputs: An output that watches the recording, or several.
        view: Show it in a browser while it is recorded; see docs/view.md. Its address is printed
            on stderr.
        choices: Options of recording by their names, such as ``video="raw"``, ``max_frames=100``
            or ``split_every=600``; see `RecordingOptions`.

    Example:
        >>> import dgrec
        >>> from dgrec import sample
        >>> from degirum_tools import ModelSpec
        >>> spec = ModelSpec(
        ...     model_name=sample.MODEL_NAME,
        ...     zoo_url=str(sample.ZOO),
        ...     inference_host_address="@local",
        ... )
        >>> with spec.load_model() as model:
        ...     stream = dgrec.predict_stream(model, "sample", output="own.parquet", max_frames=3)
        ...     for result in stream:
        ...         print(len(result.results))
        0
        0
        0

    Raises:
        SourceError: There is no such source, or it was lost.
        ConfigError: The options exclude each other.
        OutputError: The session cannot be written there.
    """
    return RecordedStream(
        model,
        _source_text(video_source_id),
        RecordRequest(
            sources=("",),
            output=optional_path("output", output, OutputError),
            overwrite=overwrite,
            view=view,
            options=RecordingOptions(fps=fps, **choices),
        ),
        analyzers,
        one_or_more("outputs", outputs, "a dgrec.Output", Output),
    )


class RecordedStream(Iterator[Any]):
    """The results of `predict_stream`, one after the other. `close` it, or use it with ``with``,
    if the loop may be left while something still holds the stream.

    ``output`` is the session file.
    """

    def __init__(
        self,
        model: Any,
        source: str,
        request: RecordRequest,
        analyzers: Any,
        outputs: Sequence[Output],
    ) -> None:
        plan = make_plan(source, named_sources(Path.cwd()), request)
        described = describe_model(model)
        plan.make_folder()
        # The program may change its folder.
        plan = replace(plan, output=plan.output.absolute(), source=plan.source.placed())
        self.output = plan.output
        #: The writer of the session, once that has begun.
        self._writers: list[SessionWriter] = []
        # Nothing in it refers to this object: it is closed as soon as the program drops it.
        self._results = _recorded(described, plan, request, analyzers, outputs, self._writers)
        self._process = os.getpid()
        #: Another thread may close the stream, but only between two results.
        self._lock = threading.RLock()
        _open.add(self)

    def __next__(self) -> Any:
        if self._process != os.getpid():  # after a fork
            raise DgrecError(f"{self.output}: the stream belongs to another process")
        self._check_thread("take results of")
        with self._lock:
            return next(self._results)

    def close(self) -> None:
        """Seal the session, if it is not sealed. Frames that the model still has are dropped.

        In a process that was forked it does nothing.

        Raises:
            DgrecError: Another thread waits for a result that does not come; or this thread waits,
                and a signal handler closes the stream; or an output that watches it closes it.
        """
        if self._process != os.getpid():
            return
        self._check_thread("close")
        if not self._lock.acquire(timeout=_PATIENCE_S):
            _open.discard(self)
            raise DgrecError(f"{self.output}: another thread waits for the next result")
        try:
            self._check_thread("close")  # it may have begun meanwhile
            if inspect.getgeneratorstate(self._results) == inspect.GEN_RUNNING:
                raise DgrecError(
                    f"{self.output}: the stream cannot be closed in the middle of its next result, "
                    "as by a signal handler: leave its loop instead"
                )
            _open.discard(self)
            self._results.close()
        finally:
            self._lock.release()

    def _check_thread(self, what: str) -> None:
        if self._is_in_output():  # it would wait for itself
            raise DgrecError(f"{self.output}: an output cannot {what} the stream that it watches")

    def _is_in_output(self) -> bool:
        return any(writer.is_in_output() for writer in self._writers)

    def __reduce__(self) -> NoReturn:
        """Say what to do instead: a copy would end what this one records."""
        raise TypeError(
            f"{self.output}: a stream cannot be pickled or copied; make one in each process"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_process", None) == os.getpid() and not self._is_in_output():
            self.close()


def _recorded(
    loaded: LoadedModel,
    plan: Plan,
    request: RecordRequest,
    analyzers: Any,
    outputs: Sequence[Output],
    writers: list[SessionWriter],
) -> Generator[Any, None, None]:
    with ExitStack() as stack:
        timeout_s = request.options.stall_timeout
        opening = partial(open_source, plan.source, stall_timeout_s=timeout_s)
        reader = open_patiently(plan.source, opening, _log.warning)
        stack.callback(reader.release)
        begin = prepare(
            plan,
            reader,
            loaded,
            request,
            stack,
            _log.warning,
            watching=outputs,
            inference=HERE,
            analyzers=as_list(analyzers),
        )
        job = begin()
        writers.append(job.stream.recorder)
        folder, name = plan.output.parent, session_stem(plan.output)
        frames = [] if job.frames is None else [job.frames]
        say = partial(echo, err=True)
        with viewing([folder], name, say, frames, is_on=request.view):
            yield from job.stream.results()


def _source_text(source: object) -> str:
    if isinstance(source, bool) or not isinstance(source, int | str | os.PathLike):
        raise ConfigError(
            f"{value_text(source)} is not a source: give a camera's number, a file or an address"
        )
    if isinstance(source, int) or (isinstance(source, str) and source.isdecimal()):
        return f"cam{source}"
    return os.fspath(source)
