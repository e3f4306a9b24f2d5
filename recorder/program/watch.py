"""Recording what a model yields, however it is run."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Self

from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError
from dgrec.format import fingerprint
from dgrec.recorder.program.session import Capture, ProgramSession
from dgrec.recorder.program.stamps import video_frame

#: Where degirum_tools runs the models that are in compound models.
_COMPOUND = "degirum_tools.compound_models"


class _Running(threading.local):
    """The runs this thread is inside of, by `Watched.key`: one method of a model calls another."""

    keys: frozenset[Hashable] = frozenset()


_running = _Running()
_OUTSIDE: frozenset[Hashable] = frozenset()


@contextlib.contextmanager
def _inside(keys: frozenset[Hashable]) -> Iterator[None]:
    before, _running.keys = _running.keys, keys
    try:
        yield
    finally:
        _running.keys = before


class Watched(NamedTuple):
    """The means of recording a model's results.

    Args:
        session_of: Called for each run; returns None where nothing is to be recorded.
        key: Runs inside a run of the same key are part of it, and not recorded again.
    """

    session_of: Callable[[], ProgramSession | None]
    key: Hashable
    #: Whether results are still recorded: a run may outlast the watching, in another thread.
    is_on: Callable[[], bool] = lambda: True

    def begin(self) -> ProgramSession | None:
        return None if self.key in _running.keys else self.session_of()

    @property
    def inside(self) -> frozenset[Hashable]:
        return _running.keys | {self.key}


class Watch:
    """Records what a model yields, from `start` to `stop`; see `Recorder.watch`.

    As a context manager it stops at the end of the block.
    """

    def __init__(self, model: Any, session_of: Callable[[], ProgramSession | None]) -> None:
        self._model = model
        self._is_on = False
        self._session_of = session_of
        # In a copy of the model, the methods that record outlast the watching.
        self._watched = Watched(
            lambda: session_of() if self._is_on else None, id(model), lambda: self._is_on
        )

    def start(self) -> None:
        """Record from now on.

        Raises:
            ConfigError: The model is watched already.
        """
        # Not by setattr: compound models set unknown attributes on the model in them.
        own = vars(self._model)
        if any(name in own for name in METHODS):
            raise ConfigError(f"{type(self._model).__name__}: this model is watched already")
        for name, recorded in METHODS.items():
            if callable(method := getattr(self._model, name, None)):
                own[name] = recorded(method, self._watched)
        self._is_on = True

    @property
    def is_on(self) -> bool:
        return self._is_on

    def stop(self) -> None:
        """Record no more. Stopping twice is fine."""
        if not self._is_on:
            return
        self._is_on = False
        for name in METHODS:
            vars(self._model).pop(name, None)

    def __enter__(self) -> Self:
        if not self._is_on:  # it is used for the second time
            self.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.stop()
        with contextlib.suppress(DgrecError):  # closing the recorder raises it as well
            if (session := self._session_of()) is not None:
                session.release_late()


def _recorded_batch(method: Callable[..., Any], watched: Watched) -> Callable[..., Any]:
    """Return a model's ``predict_batch`` that also records what it yields."""

    @functools.wraps(method)
    def predict_batch(*arguments: Any, **options: Any) -> Any:
        if (session := watched.begin()) is None:
            return method(*arguments, **options)
        given = _Given(session)
        if arguments:
            arguments = (given.stamped(arguments[0]), *arguments[1:])
        elif "data" in options:
            options["data"] = given.stamped(options["data"])
        caller = str(sys._getframe(1).f_globals.get("__name__"))
        results = method(*arguments, **options)
        return _recorded(results, session, given, watched, is_part=caller.startswith(_COMPOUND))

    return predict_batch


def _recorded_folder(method: Callable[..., Any], watched: Watched) -> Callable[..., Any]:
    """Return a model's ``predict_dir`` that also records what it yields."""

    @functools.wraps(method)
    def predict_dir(*arguments: Any, **options: Any) -> Any:
        if (session := watched.begin()) is None:
            return method(*arguments, **options)
        return _recorded(method(*arguments, **options), session, _Given(session), watched)

    return predict_dir


def _recorded(
    results: Any,
    session: ProgramSession,
    given: _Given,
    watched: Watched,
    *,
    is_part: bool = False,
) -> Iterator[Any]:
    """Yield what a model yields, and record it when the program asks for more.

    Args:
        is_part: The model is in a compound model, which makes its own results of these. They are
            recorded as they are now, so that the compound model can be run on them again.
    """
    try:
        results = iter(results)
        while True:
            with _inside(watched.inside):
                try:
                    result = next(results)
                except StopIteration:
                    return
            # No result yet, from a model that does not wait; or nothing is recorded any more.
            if result is None or not watched.is_on() or session.is_closed:
                yield result
                continue
            session.hold(result, given.take(result))
            if is_part:
                session.release()
            yield result
            session.release()
    finally:
        if close := getattr(results, "close", None):
            close()
        session.release_late()  # closing the recorder raises what fails here


def _recorded_call(method: Callable[..., Any], watched: Watched) -> Callable[..., Any]:
    """Return a model's ``predict`` that also records the result that it returns."""

    @functools.wraps(method)
    def predict(*arguments: Any, **options: Any) -> Any:
        if (session := watched.begin()) is None:
            return method(*arguments, **options)
        session.release()
        capture = Capture(captured_ns=session.clock.now_ns())
        given = arguments[0] if arguments else options.get("data")
        capture = _with_fingerprint(capture, _taken_apart(given)[0], session.clock)
        with _inside(watched.inside):
            result = method(*arguments, **options)
        if result is not None and watched.is_on():
            session.hold(result, capture)
        return result

    return predict


#: Ways to run a model; those that it has are watched.
METHODS = {
    "predict_batch": _recorded_batch,
    "predict_dir": _recorded_folder,
    "predict": _recorded_call,
}


class _Given:
    """The frames that a model has taken and given no result for."""

    def __init__(self, session: ProgramSession) -> None:
        self._session = session
        self._waiting: deque[_Waiting] = deque()

    def stamped(self, data: Any) -> Iterator[Any]:
        """Yield what a program gives to its model, and note when the model took it."""
        clock = self._session.clock
        items = iter(data)
        while True:
            began_ns = clock.now_ns()
            with _inside(_OUTSIDE):  # the program's own code, which may run another model
                try:
                    item = next(items)
                except StopIteration:
                    return
            image, info = _taken_apart(item)
            if image is not None:
                now = clock.now_ns()
                capture = Capture(self._session.number(), now, now - began_ns)
                capture = _with_fingerprint(capture, image, clock)
                self._waiting.append(_Waiting(image, info, video_frame(info, capture)))
            yield item

    def take(self, result: Any) -> Capture:
        """Return what is known of the frame that a result is about.

        The result has the frame's image, or its info; where it has neither (a file's name) results
        come in the order of the frames. A model may give several results for one frame, and a
        program may give the same array again and again, with another picture in it, or one info
        with all frames.
        """
        image, info = getattr(result, "image", None), getattr(result, "info", None)
        waiting = self._waiting
        fits = [item.fits(image, info) for item in waiting]
        if most := max(fits, default=0):
            fitting = [
                (item.is_answered, index)
                for index, item in enumerate(waiting)
                if fits[index] == most
            ]
            for _ in range(min(fitting)[1]):  # these got no (further) result
                waiting.popleft()
            waiting[0].is_answered = True
            return waiting[0].capture
        while waiting and waiting[0].is_answered:
            waiting.popleft()
        return waiting.popleft().capture if waiting else Capture()


def _taken_apart(item: Any) -> tuple[Any, Any]:
    """Return a frame that a model is given, and what comes with it or None."""
    return item if isinstance(item, tuple) and len(item) == 2 else (item, None)


def _with_fingerprint(capture: Capture, image: Any, clock: Clock) -> Capture:
    began = clock.now_ns()
    found = fingerprint(image)
    return replace(capture, fingerprint=found, fingerprint_ns=clock.now_ns() - began)


class _Waiting:
    __slots__ = ("capture", "image", "is_answered", "mark")

    def __init__(self, image: Any, info: Any, capture: Capture) -> None:
        self.image = image
        #: What the result has as its info.
        self.mark = image if info is None else info
        self.capture = capture
        self.is_answered = False

    def fits(self, image: Any, info: Any) -> int:
        """Return how many of a result's image and info are those of this frame."""
        return [self.image is image, info is not None and self.mark is info].count(True)
