"""Recording what the models of an unchanged program yield, for `dgrec run`."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import DgrecError, OutputError, StorageError
from dgrec.format import Metadata
from dgrec.import_hook import when_imported
from dgrec.recorder.ending import Ending
from dgrec.recorder.frame_socket import offer_frames
from dgrec.recorder.model import describe_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import NewestFrame, OutputQueue
from dgrec.recorder.program.program_end import at_end
from dgrec.recorder.program.session import Capture, ProgramSession, path_beside
from dgrec.recorder.program.watch import METHODS, Watched
from dgrec.terminal import echo

#: Environment of the program: where sessions go, how they are recorded, what they have in common,
#: and where they offer their newest frames.
FOLDER, OPTIONS, GROUP = "DGREC_RECORD", "DGREC_RECORD_OPTIONS", "DGREC_RECORD_GROUP"
VIEW = "DGREC_RECORD_VIEW"


#: If models run other models, the results of the outermost are recorded.
_OUTERMOST = "outermost"
#: How often to look for a name that no other process takes at the same moment.
_TRIES = 30


#: The modules of the classes whose results are recorded.
_AWAITED = ("degirum.model", "degirum_tools.compound_models.compound_models")


def record_models() -> None:
    """Have models record what they yield, as soon as the program imports their classes."""
    for name in _AWAITED:
        when_imported(name, _record_models_of)


def _record_models_of(module: ModuleType) -> None:
    """Have the model classes of a module record what they yield."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            _record_class(value)
            if value.__name__ == "ModelLike":
                _record_classes_below(value)


def _record_class(model_class: type) -> None:
    for name, recorded in METHODS.items():
        method = vars(model_class).get(name)
        is_abstract = getattr(method, "__isabstractmethod__", False)
        if callable(method) and not is_abstract:
            setattr(model_class, name, _recorded_method(method, recorded))


def _record_classes_below(base: Any) -> None:
    """Have the compound models of other modules, and the program's own, record as well."""
    before = base.__init_subclass__

    def init_subclass(cls: type, /, **options: Any) -> None:
        before(**options)
        _record_class(cls)

    base.__init_subclass__ = classmethod(init_subclass)


def _recorded_method(
    method: Callable[..., Any], recorded: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(model: Any, *arguments: Any, **options: Any) -> Any:
        bound = functools.partial(method, model)
        functools.update_wrapper(bound, method)
        watched = Watched(lambda: _sessions.of(model), _OUTERMOST)
        return recorded(bound, watched)(*arguments, **options)

    return run


class _Session(ProgramSession):
    """A session whose failure ends the recording, and not the program."""

    is_over = False

    def hold(self, result: Any, capture: Capture) -> None:
        if not self.is_over:
            with self._surviving():
                super().hold(result, capture)

    def release(self) -> None:
        if not self.is_over:
            with self._surviving():
                super().release()

    def end(self, ending: Ending) -> None:
        with self._surviving():
            self.close(ending)
        self.is_over = True

    @contextlib.contextmanager
    def _surviving(self) -> Any:
        try:
            yield
        except Exception as error:
            if not self.is_over:
                _say(f"{_reason(error)}; the program goes on, and is not recorded any more")
            self.is_over = True


class _Sessions:
    """The sessions of this process: one for each model."""

    def __init__(self) -> None:
        self.renew_lock()
        self._begin_process()

    def _begin_process(self) -> None:
        self._clock = Clock()
        self._process = os.getpid()
        #: By the identity of a model, which may be equal to others.
        self._found: dict[int, tuple[weakref.ref[Any], _Session]] = {}
        #: Nothing more is recorded: it failed, or the program ends.
        self._is_over = False

    def of(self, model: Any) -> _Session | None:
        """Return the session for a run of a model; None where nothing is recorded (any more)."""
        with self._lock:
            if self._process != os.getpid():  # a fork has sessions of its own
                self._begin_process()
            if self._is_over:
                return None
            if id(model) in self._found:
                known, session = self._found[id(model)]
                if known() is model:
                    return session
            self._end_gone()
            try:
                reference = weakref.ref(model)
                session = self._begin(describe_model(model).metadata)
            except Exception as error:
                self._is_over = True
                _say(f"{_reason(error)}; the program goes on, and is not recorded")
                return None
            self._found[id(model)] = reference, session
            return session

    def _end_gone(self) -> None:
        """Seal the sessions of models that are gone: each keeps threads and files."""
        for key, (known, session) in list(self._found.items()):
            if known() is None:
                session.end(Ending())
                del self._found[key]

    def renew_lock(self) -> None:
        """Make a new lock: another thread may have held the old one at the fork."""
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._process == os.getpid():
            # Python keeps the error that a program died of.
            error = getattr(sys, "last_value", None)
            ending = Ending() if error is None else Ending.after(error)
            with self._lock:  # a thread may be beginning a session
                self._is_over = True
                sessions = [session for _, session in self._found.values()]
            for session in sessions:
                session.writer.hurry()
                session.end(ending)

    def _begin(self, described: Metadata) -> _Session:
        program = _program_name()
        output = Path(os.environ[FOLDER]) / f"{program}.parquet"
        for left in reversed(range(_TRIES)):
            try:
                return self._begin_at(path_beside(output, None, described), program, described)
            except StorageError:
                raise
            except OutputError:  # most likely another process of the program had the same name
                if not left:
                    raise
                time.sleep(0.01)
        raise AssertionError

    def _begin_at(self, path: Path, program: str, described: Metadata) -> _Session:
        options = RecordingOptions(**json.loads(os.environ.get(OPTIONS, "{}")))
        view = os.environ.get(VIEW, "")
        frames = NewestFrame(path) if view else None
        outputs = [] if frames is None else [OutputQueue(frames, options.policy or "block")]
        session = _Session(
            path,
            options,
            metadata={
                "group": {"id": os.environ.get(GROUP, "")},
                "source": {"given": program, "kind": "program"},
                **described,
            },
            overwrite=False,
            clock=self._clock,
            outputs=outputs,
        )
        if frames is not None:
            offer_frames(frames, view)
        return session


def _say(text: str) -> None:
    echo(f"dgrec run: {text}", err=True)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, DgrecError) else f"recording failed: {error!r}"


def _program_name() -> str:
    """Return the name of the program's file; "python" where it has none, as in ``python -c``."""
    name = Path(str(sys.argv[0] if sys.argv else "")).stem
    return name[:60] if name.strip("-") and name != "-c" else "python"


_sessions = _Sessions()
at_end(_sessions.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sessions.renew_lock)
