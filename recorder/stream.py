"""The loop that runs the real `predict_stream` on a source and records its results."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from dgrec.analyzers import attach, detach
from dgrec.clock import Clock
from dgrec.credentials import redact_text
from dgrec.errors import DgrecError, ModelError
from dgrec.format import Metadata, utc_text
from dgrec.recorder.ai_server import HERE, Inference, ServerLostError
from dgrec.recorder.capture import Capture
from dgrec.recorder.ending import Ending
from dgrec.recorder.results import own_pixels
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.units import counted


class Stream:
    """Records the results of `predict_stream` for one source.

    Args:
        model: A loaded PySDK model (compound models too: anything `predict_stream` takes).
        recorder: Takes the results; it is closed at the end.
        clock: The recorder's clock.
        inference: Where the model runs: in this process, or on an `AIServer`.
        analyzers: Those of degirum_tools, or the user's; attached to the model while it runs.
    """

    def __init__(
        self,
        model: Any,
        capture: Capture,
        recorder: SessionWriter,
        *,
        clock: Clock,
        inference: Inference = HERE,
        analyzers: Sequence[Any] = (),
    ) -> None:
        self.capture = capture
        self.recorder = recorder
        self._model = model
        self._clock = clock
        self._inference = inference
        self._analyzers = list(analyzers)
        self._outages: list[float] = []
        self._failure: DgrecError | None = None
        self._pysdk_error: Exception | None = None
        #: Whether a program gets the results, and may add to them.
        self._is_shared = False
        self._last_completed_ns = clock.now_ns()
        recorder.alarm = lambda reason: self.capture.stop(reason)

    @property
    def dropped(self) -> int:
        """The number of frames lost so far, before and after inference."""
        return self.capture.counts.dropped + self.recorder.dropped

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the session, a line each."""
        notes = self.recorder.notes
        if self._outages:
            outages = f"{counted(len(self._outages), 'outage')}, {sum(self._outages):.1f} s"
            notes = [f"AI server lost: {outages}.", *notes]
        return notes

    def recent_fps(self) -> float:
        """Return the frames per second of the last seconds."""
        return self.recorder.progress.recent_fps(self._clock.now_ns())

    def stop(self) -> None:
        """End the recording and seal it; slow outputs are not waited for any more."""
        self.capture.stop()
        self.recorder.hurry()

    def run(self) -> Metadata:
        """Record until the source ends or `stop` is called; seal; return the metadata.

        Raises:
            DgrecError: What ended the recording early. What had been recorded is sealed, or still
                in the journal if sealing failed: the message says which.
        """
        for _ in self._infer():
            pass
        return self._close()

    def results(self) -> Iterator[Any]:
        """Yield each result to a program, and record it when the next one is asked for.

        The session is sealed at the end, and also when the program leaves its loop.

        Raises:
            DegirumException: The model failed, or whatever its own code raised.
            DgrecError: The source was lost, or the session cannot be written.
        """
        self._is_shared = True
        try:
            yield from self._infer()
        except BaseException as error:
            self.capture.stop()
            try:
                self._close()
            except DgrecError as problem:
                if isinstance(error, GeneratorExit):
                    raise
                error.add_note(str(problem))  # the program's own error goes first
            raise
        try:
            self._close()
        except DgrecError as error:
            if self._pysdk_error is None:
                raise
            self._pysdk_error.add_note(str(error))
            raise self._pysdk_error from None

    # --- inside ---

    def _close(self) -> Metadata:
        """Seal the session; raise what ended it early."""
        failure, capture = self._failure, self.capture
        self._take_events()
        # The source may have ended before the model failed at one of its last frames.
        has_failed = failure is not None and failure is not capture.error
        metadata = self.recorder.close(
            Ending(
                reason="failed" if has_failed else capture.end_reason,
                detail=capture.end_detail,
                failure=failure,
                counts=capture.counts,
            )
        )
        if failure is not None:
            before = counted(self.recorder.kept_frames, "frame", "before is", "before are")
            raise type(failure)(f"{failure}; the {before} in {self.recorder.output}")
        return metadata

    def _infer(self) -> Iterator[Any]:
        """Run `predict_stream` to its end; ``_failure`` says what ended it early, if it did."""
        if not self._analyzers:
            yield from self._infer_on_server()
            return
        attach(self._model, self._analyzers)
        try:
            yield from self._infer_on_server()
        finally:
            # PySDK leaves them attached when its loop is left.
            try:
                detach(self._model, self._analyzers)
            except Exception as error:  # of an analyzer: what was recorded is sealed all the same
                self._failure = self._failure or DgrecError(
                    f"an analyzer failed at its end: {type(error).__name__}: {_reason(error)}"
                )

    def _infer_on_server(self) -> Iterator[Any]:
        """Run `predict_stream`; if an AI server is lost, again when the server is back."""
        capture, inference = self.capture, self._inference
        frames = -1
        while True:
            try:
                error = yield from self._stream()
            except ServerLostError as lost:
                reason = str(lost)
            else:
                # PySDK does not say whether the connection broke or the model failed. If the model
                # failed at a frame, it fails at the same one again once it is loaded again.
                count = self.recorder.progress.frames
                if error is None or frames == count or not inference.may_be_lost(error):
                    if error is not None:
                        capture.stop("failed")
                    inference.give_up(capture)
                    self._failure = error
                    return
                frames, reason = count, str(error)
            error = self._reconnect(reason)
            if error is not None or capture.was_interrupted or capture.is_time_up():
                capture.take_back()  # the frames that were to be inferred again are lost now
                self._failure = error
                return

    def _reconnect(self, reason: str) -> DgrecError | None:
        """Load the model again and record the outage; return an error if that did not work."""
        from_ns, capture, inference = self._last_completed_ns, self.capture, self._inference
        waited = capture.take_back()
        loaded, outage = inference.reconnect(reason, capture)
        now = self._clock.now_ns()
        seconds = (now - from_ns) / 1e9
        self._outages.append(seconds)
        self.recorder.note(
            {
                "kind": "server_lost",
                "server": inference.name,
                "from": utc_text(from_ns),
                "to": utc_text(now),
                "seconds": round(seconds, 3),
                "back": outage.back,
                "attempts": outage.attempts,
                "without_result": waited,
                "reason": redact_text(
                    f"{reason}; then: {outage.refusal}" if outage.refusal else reason
                ),
            }
        )
        if loaded is not None:
            self._model = loaded.model
            if self._analyzers:
                attach(self._model, self._analyzers)
            return None
        if inference.gave_up(capture, outage):
            capture.stop("failed")
            return inference.error(outage)
        if not capture.stopping:
            capture.stop("limit")
        return None

    def _stream(self) -> Generator[Any, None, DgrecError | None]:
        """Run `predict_stream` until it ends; return what ended it early, if anything did.

        Raises:
            ServerLostError: The AI server gives no more results.
        """
        from degirum.exceptions import DegirumException
        from degirum_tools import predict_stream

        capture, inference = self.capture, self._inference
        self._pysdk_error = None
        stream = predict_stream(self._model, inference.feed(capture, self._model))
        is_theirs = False
        try:
            with _non_blocking(self._model) as capture.asks_for_results:
                for result in stream:
                    if result is not None:
                        frame, completed_ns = self._taken(result)
                        if not self._is_shared:
                            self.recorder.record(frame, result, completed_ns)
                            continue
                        self.recorder.hold(frame, result, completed_ns)
                        is_theirs = True  # an error from here on is the program's
                        yield result
                        is_theirs = False
                        self.recorder.release()
                    # The capture had no frame, and the model no result.
                    elif reason := inference.silence(capture, self._model):
                        raise ServerLostError(reason)
        except ServerLostError:
            inference.abandon(stream)
            raise
        except DegirumException as error:
            if is_theirs:
                raise
            # PySDK wraps whatever the capture raised into its own text.
            self._pysdk_error = error
            return ModelError(f"the model failed: {_reason(error)}")
        except BaseException as error:
            if not isinstance(error, Exception):  # the program leaves its loop, or Ctrl-C
                capture.stop()
                inference.end(stream)
                raise
            capture.stop("failed")
            inference.end(stream)
            if is_theirs:
                raise
            # A defect here must not cost what was recorded.
            if isinstance(error, DgrecError):
                return error
            self._pysdk_error = error
            return DgrecError(f"recording failed: {type(error).__name__}: {_reason(error)}")
        return capture.error

    def _taken(self, result: Any) -> tuple[Frame, int]:
        completed_ns = self._last_completed_ns = self._clock.now_ns()
        frame = self.capture.take(getattr(result, "image", None))
        if self._is_shared and self.recorder.encodes:
            frame.image = own_pixels(frame.image)  # the program may draw on it
        self._take_events()
        return frame, completed_ns

    def _take_events(self) -> None:
        for event in self.capture.take_events():
            self.recorder.note(event)


@contextlib.contextmanager
def _non_blocking(model: Any) -> Iterator[bool]:
    """Make a model take None for a frame and yield the results it has; yield whether it can.

    Every model of PySDK and every compound model of degirum_tools can. The setting is restored
    afterwards: other users of the model do not expect None.
    """
    before = getattr(model, "non_blocking_batch_predict", None)
    if before is None:
        yield False
        return
    model.non_blocking_batch_predict = True
    try:
        yield True
    finally:
        model.non_blocking_batch_predict = before


# Lines of a C++ stack trace in PySDK's errors; the cause is in the lines before.
_CPP_TRACE = re.compile(r"\S+\.(cpp|h): \d+ \[|When running model ")


def _reason(error: BaseException) -> str:
    """Return PySDK's error in one line, without its C++ stack trace."""
    lines = [line.strip() for line in redact_text(str(error)).splitlines()]
    reasons = [line for line in lines if line and not _CPP_TRACE.match(line)]
    return ": ".join(reasons) or type(error).__name__
