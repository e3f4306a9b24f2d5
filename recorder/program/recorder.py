"""`dgrec.Recorder`: records for a program, wherever its results come from."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from dgrec.arguments import given_path, one_or_more, with_parameters
from dgrec.clock import Clock
from dgrec.credentials import redact_text
from dgrec.errors import ConfigError, DgrecError, OutputError, value_text
from dgrec.format import MOST_WITHOUT_ROW, Metadata, Signal, utc_text, uuid7
from dgrec.format import metadata as metadata_module
from dgrec.paths import session_stem, with_session_suffix
from dgrec.recorder.destination import check_output, check_videos
from dgrec.recorder.ending import Ending
from dgrec.recorder.model import describe_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import NewestFrame, Output, OutputQueue
from dgrec.recorder.program.program_end import at_end
from dgrec.recorder.program.session import Capture, ProgramSession, path_beside
from dgrec.recorder.program.watch import Watch
from dgrec.recorder.results import (
    describe_result,
    finite,
    recordable,
    signal_name,
    signal_value,
    stamp_ns,
)
from dgrec.recorder.signals import late_interrupt
from dgrec.recorder.video import video_options
from dgrec.recorder.viewer import Viewer
from dgrec.terminal import echo

if TYPE_CHECKING:
    from degirum_tools.streams import Gizmo

#: Recorders with something in them, which the program may drop without closing them.
_open: set[Recorder] = set()


@at_end
def _close_all() -> None:
    for recorder in list(_open):
        if recorder._process == os.getpid():
            recorder._hurry()
            try:
                recorder.close(Ending(reason="interrupted", detail="the program ended"))
            except Exception as error:  # nobody is left to catch it; the others are sealed
                echo(f"dgrec: {error}", err=True)


class Recorder:
    """Records what a program adds, and what its models yield.

    The first frame begins the session, which reaches the disk within a second from then on; what is
    marked and logged before waits in memory. It is sealed by `close`, or when the program ends
    without it. Each model gets a session of its own, as do results that are added: the first one in
    ``output``, others beside it. They have a clock and a ``group`` in common.

    Example:

        >>> import dgrec
        >>> with dgrec.Recorder("example.parquet") as recorder:
        ...     recorder.add([{"label": "cat", "score": 0.9, "bbox": [10.0, 20.0, 110.0, 70.0]}])
        ...     recorder.add([])
        >>> with dgrec.open("example.parquet") as session:
        ...     [len(frame.results) for frame in session]
        [1, 0]

    Args:
        output: The session file, such as ``session.parquet``; its videos and parts go beside it.
        options: How it is recorded. Single options can be given by their names instead, as in
            ``video="raw"`` or ``split_every=600``; see `RecordingOptions`. Those of a source
            (``max_frames``, ``duration``, ``fps``, ``every``, ``loop``) are for `predict_stream`.
        metadata: What is known of the ``source``, the ``model`` and its ``overlay``, as
            docs/format.md has it. What a watched model or a result says of itself is added.
        overwrite: Replace what a recorder of this name recorded, once there is a new session.
        outputs: An output that watches the first session, or several. With ``only_on_alert`` that
            is the only one: another model or gizmo, or adding besides, is a `ConfigError`.
        view: Show it in a browser, from its first frame on; see docs/view.md. Its address is
            printed on stderr.

    Raises:
        ConfigError: The options exclude each other or are for a source, an output needs the main
            thread, or the metadata cannot be recorded.
        OutputError: The file exists, or cannot be written.
        VideoError: The installed PyAV cannot encode such a video.
    """

    @with_parameters(*(each.name for each in fields(RecordingOptions)))
    def __init__(
        self,
        output: str | os.PathLike[str],
        options: RecordingOptions | None = None,
        *,
        metadata: Metadata | None = None,
        overwrite: bool = False,
        outputs: Output | Sequence[Output] = (),
        view: bool = False,
        **choices: Any,
    ) -> None:
        if not isinstance(options, RecordingOptions | None):
            raise ConfigError(f"options: {value_text(options)} is not a RecordingOptions")
        self.options = replace(options or RecordingOptions(), **choices)
        outputs = one_or_more("outputs", outputs, "a dgrec.Output", Output)
        _check_is_ours(self.options, outputs)
        # The program may change its folder.
        self.output = with_session_suffix(given_path("output", output, OutputError)).absolute()
        self._metadata = metadata_module.given(metadata or {})
        if "format" in self._metadata:  # the session could not be read
            raise ConfigError("metadata: 'format' is written by dgrec itself")
        self._overwrite = overwrite
        policy = self.options.policy or "block"
        self._outputs = [OutputQueue(each, policy) for each in outputs]
        self._is_viewed = view
        self._viewer: Viewer | None = None
        self._clock = Clock()
        self._group = str(uuid7())
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._is_closed = self._is_beginning = False
        self._sources: set[Hashable] = set()  # the keys of sessions that may begin
        self._models: list[Any] = []
        self._watches: list[Watch] = []
        #: By name and identity of a model (which may have no hash) or gizmo; None: what is added.
        self._sessions: dict[Hashable, ProgramSession] = {}
        #: The first session, which has the events and signals.
        self._main: ProgramSession | None = None
        self._waiting_events: list[dict[str, Any]] = []
        self._waiting_signals: deque[Signal] = deque(maxlen=MOST_WITHOUT_ROW)
        self._lost_signals = 0
        video, is_split = video_options(self.options), bool(self.options.splitting)
        check_output(self.output, overwrite, split=is_split)
        check_videos(self.output, video, overwrite, split=is_split)

    # --- recording ---

    def add(
        self,
        result: Any,
        image: Any = None,
        *,
        captured_at: datetime | float | None = None,
        media_time_s: float | None = None,
    ) -> None:
        """Record one frame. Threads may share a recorder; frames are numbered as they come.

        Args:
            result: A PySDK result, a list of detections as PySDK has them in ``results``, or
                supervision's ``Detections``. It may be changed afterwards.
            image: The pixels (height, width, 3; BGR, bytes; or a picture of PIL's), if the result
                does not have them.
            captured_at: When the frame was captured: a datetime with a time zone, or seconds since
                1970. Without it the frame stands on the time line where it was added, and its
                latency is null.
            media_time_s: The frame's position in its footage, in seconds.

        Raises:
            DgrecError: It cannot be recorded, or the recorder takes no more.
        """
        self._check_process()  # after a fork, a thread of the parent may hold the lock
        result = recordable(result)
        captured_ns = None if captured_at is None else stamp_ns(captured_at)
        if media_time_s is not None:
            media_time_s = finite("media_time_s", media_time_s)
        with self._lock:
            self._check_source(None)
            session = self._sessions.get(None) or self._begin(None, describe_result(result))
        capture = Capture(captured_ns=captured_ns, media_time_s=media_time_s)
        session.add(result, image, capture)

    def watch(self, model: Any, *, name: str | None = None) -> Watch:
        """Record what a model yields from now on, however it is run.

        It ends with the ``with`` block, or without one when the recorder is closed.

        The model may run in your own loop over ``predict_batch``, ``predict`` and ``predict_dir``,
        in PySDK's `predict_stream` and ``annotate_video``, or in a gizmo. Frames count as captured
        when PySDK takes them (in a graph of gizmos: when the video gizmo read them), and what the
        loop adds to a result before it asks for the next one is recorded with it. For a compound
        model, the results that it yields are recorded; watch the models in it to record theirs too.

        Args:
            model: A PySDK model, or a compound model.
            name: Puts its session into ``output-NAME.parquet``. If another model has the name, a
                number is added.

        Example::

            with dgrec.Recorder("watched.parquet") as recorder, recorder.watch(model):
                for result in model.predict_batch(["a.jpg", "b.jpg"]):
                    print(result)

        Raises:
            ConfigError: It is not a model, or the name is not a text.
            DgrecError: It is watched already, or the recorder takes no more.
        """
        _check_name(name)
        described = describe_model(model).metadata
        self._models.append(model)  # or another model could get its identity

        def first_described() -> Metadata:
            """Return the settings of its first run, or those of `watch` if it never runs."""
            return describe_model(model).metadata if watch.is_on else described

        def session() -> ProgramSession | None:
            return self._session_of(id(model), name, first_described)

        self._check_source((name, id(model)))
        watch = Watch(model, session)
        watch.start()
        self._sources.add((name, id(model)))
        self._watches.append(watch)
        return watch

    def gizmo(self, *, name: str | None = None) -> Gizmo:
        """Return a gizmo that records the results that pass through it, and hands everything on.

        Put it behind a gizmo that runs a model. Frames count as captured when the video gizmo
        read them. Each gizmo of a recorder records a session of its own.

        Args:
            name: Puts its session into ``output-NAME.parquet``.

        Example::

            with dgrec.Recorder("graph.parquet") as recorder:
                Composition(camera >> ai >> recorder.gizmo() >> display).start()

        Raises:
            ConfigError: The name is not a text.
            DgrecError: The recorder takes no more.
        """
        _check_name(name)
        from dgrec.recorder.program.gizmo import recorder_gizmo

        key = object()
        self._check_source((name, key))
        self._sources.add((name, key))
        return recorder_gizmo(
            lambda result: self._session_of(key, name, lambda: describe_result(result))
        )

    def mark(self, text: str, /, **details: Any) -> None:
        """Put an event on the time line.

        Args:
            text: What happened, in a few words.
            details: More about it, as JSON values or numpy's numbers: NaN and infinity become null.

        Raises:
            ConfigError: JSON cannot hold the details.
            DgrecError: The recorder takes no more.
        """
        if not isinstance(text, str):
            raise ConfigError(f"mark: {value_text(text)} is not a text")
        event = {"kind": "mark", "at": utc_text(self._clock.now_ns()), "text": text}
        if details:
            event["details"] = metadata_module.given({"details": details}, "mark")["details"]
        self._check_process()  # as in `add`
        with self._lock:
            self._check_open()
            if self._main is None:  # the file begins with a frame, which says how to draw
                self._waiting_events.append(event)
                _open.add(self)
            else:
                self._main.writer.note(event)

    def log(self, name: str, value: float) -> None:
        """Record a value over time, such as a speed or a temperature, beside the frames.

        It takes about a microsecond, in any thread. The view ``signals`` has the values
        (docs/sql.md); if there are several sessions, that of the first one.

        Args:
            name: The name of what is measured.
            value: A finite number.

        Raises:
            ConfigError: It is not a finite number, or the name is not a text.
            DgrecError: The recorder takes no more.
        """
        signal = Signal(signal_name(name), self._clock.now_ns(), signal_value(name, value))
        main = self._main
        if main is None:
            self._check_process()  # as in `add`
            with self._lock:
                self._check_open()
                main = self._main
                if main is None:  # as `mark` does
                    waiting = self._waiting_signals
                    if len(waiting) == waiting.maxlen:
                        self._lost_signals += 1
                    waiting.append(signal)
                    _open.add(self)
                    return
        main.writer.log(signal)

    # --- the end ---

    def close(self, ending: Ending | None = None) -> Metadata:
        """Write what waits, seal the session, and return its metadata. Closing twice is fine:
        another thread waits until it is sealed.

        Raises:
            DgrecError: It could not be written or sealed; the message says where the rows are.
                Or an output tried to close the recording that it watches.
        """
        self._check_process()
        with self._lock:  # an output may have started, and its session not be known yet
            main = self._main
        if main is not None and main.writer.is_in_output():  # for which the end waits
            if self._is_closed:
                return main.metadata
            raise DgrecError(f"{self.output}: an output cannot close the recording that it watches")
        try:
            return self._close(ending)
        finally:  # until then, the end of the program waits for a thread that closes it
            _open.discard(self)

    def _close(self, ending: Ending | None) -> Metadata:
        with self._lock:
            main = self._main
            if main is None:
                if self._is_closed:
                    return {}
                main = self._begin(None, {})
            self._is_closed = True
            sessions = list(self._sessions.values())
        for watch in self._watches:
            watch.stop()
        errors = []
        with late_interrupt(self._hurry):
            for session in sessions:
                try:
                    session.close(ending)
                except DgrecError as error:  # the others are sealed all the same
                    errors.append(error)
            if self._viewer is not None:
                self._viewer.close()
        if errors:
            raise errors[0]
        return main.metadata

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._process != os.getpid():  # a fork leaves the block, too
            return
        if error is None:
            self.close()
            return
        self._hurry()
        try:
            self.close(Ending.after(error))
        except DgrecError as problem:  # the program's own error goes first
            error.add_note(str(problem))

    def __reduce__(self) -> NoReturn:
        """Say what to do instead: a copy would write to the same file."""
        raise TypeError(
            f"{self.output}: a recorder cannot be pickled or copied; make one in each process"
        )

    @property
    def files(self) -> list[Path]:
        """The files that were recorded, once it has ended: one for each session and part."""
        return [path for session in self._sessions.values() for path in session.writer.files]

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the sessions and outputs, a line each."""
        missed = [redact_text(queue.note) for queue in self._outputs if queue.note]
        of_sessions = [each for found in self._sessions.values() for each in found.writer.notes]
        return [*missed, *of_sessions]

    # --- inside ---

    def _session_of(
        self, key: Hashable, name: str | None, described: Callable[[], Metadata]
    ) -> ProgramSession | None:
        """Return the session of a model or gizmo; None after a fork, or once it is closed."""
        if self._process != os.getpid():
            return None
        with self._lock:
            if self._is_closed:
                return None
            key = name, key  # models of the same name do not share a session
            return self._sessions.get(key) or self._begin(key, described(), name)

    def _check_source(self, key: Hashable) -> None:
        """Raise an error if a source of results cannot be recorded (as well)."""
        self._check_open()
        with self._lock:
            if self.options.only_on_alert and (self._sources | self._sessions.keys()) - {key}:
                raise ConfigError(
                    f"{self.output}: only_on_alert: the alerts watch one session, and this would "
                    "begin another; make a Recorder with alerts for each"
                )

    def _begin(self, key: Hashable, described: Metadata, name: str | None = None) -> ProgramSession:
        if self._is_beginning:  # a signal handler, while the session is begun in the same thread
            raise DgrecError(f"{self.output}: the recorder is beginning its session right now")
        self._is_beginning = True
        try:
            return self._begun(key, described, name)
        finally:
            self._is_beginning = False

    def _begun(self, key: Hashable, described: Metadata, name: str | None) -> ProgramSession:
        output, own = self.output, {"id": self._group, "name": self.output.stem}
        metadata = {"group": own, **described, **self._metadata}
        if self._sessions or name is not None:
            taken = {session.writer.output for session in self._sessions.values()}
            output = path_beside(output, name, metadata, taken, overwrite=self._overwrite)
        outputs = [] if self._sessions else [*self._outputs]
        frames = NewestFrame(output) if self._is_viewed else None
        if frames is not None:
            outputs.append(OutputQueue(frames, self.options.policy or "block"))
        session = ProgramSession(
            output,
            self.options,
            metadata=metadata,
            overwrite=self._overwrite,
            clock=self._clock,
            outputs=outputs,
        )
        self._sessions[key] = session
        _open.add(self)
        if frames is not None:
            self._show(frames)
        for event in self._waiting_events:
            session.writer.note(event)
        self._waiting_events.clear()
        for signal in self._waiting_signals:
            session.writer.log(signal)
        self._waiting_signals.clear()
        session.writer.lose_signals(self._lost_signals)
        self._lost_signals = 0
        self._main = self._main or session
        return session

    def _show(self, frames: NewestFrame) -> None:
        if self._viewer is None:
            say = partial(echo, err=True)
            self._viewer = Viewer([self.output.parent], session_stem(self.output), say)
        self._viewer.add(frames)

    def _check_process(self) -> None:
        if self._process != os.getpid():  # after a fork: two writers would spoil the journal
            raise DgrecError(f"{self.output}: the recorder belongs to another process")

    def _check_open(self) -> None:
        self._check_process()
        if self._is_closed:
            raise DgrecError(f"{self.output}: the recorder is closed; nothing can be added")

    def _hurry(self) -> None:
        for session in self._sessions.values():
            session.writer.hurry()


def _check_name(name: object) -> None:
    if not isinstance(name, str | None):
        raise ConfigError(f"name: {value_text(name)} is not a text")


#: Options that say what is read from a source.
_OF_SOURCE = ("max_frames", "duration", "fps", "every", "loop")


def _check_is_ours(options: RecordingOptions, outputs: Sequence[Output]) -> None:
    """Raise `ConfigError` for what a program's own loop would have to do."""
    default = RecordingOptions()
    for name in _OF_SOURCE:
        if getattr(options, name) != getattr(default, name):
            raise ConfigError(f"{name}: a Recorder reads no source; it is for dgrec.predict_stream")
    if options.keep_only is not None:
        raise ConfigError("keep_only: a Recorder has no rules of alerts; `dgrec record` has")
    if options.only_on_alert and not any(getattr(each, "adds_events", False) for each in outputs):
        raise ConfigError(
            "only_on_alert: without alerts nothing would be recorded; "
            "give outputs=dgrec.Alerts(...) (docs/alerts.md)"
        )
    for output in outputs:
        if getattr(output, "needs_main_thread", False):
            raise ConfigError(f"outputs: {output.name} needs the main thread: the program has it")
