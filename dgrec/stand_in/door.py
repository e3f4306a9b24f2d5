"""The ways to a recording in place of the model or the camera."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgrec.stand_in.session_camera import SessionCamera

#: The ``inference_host_address`` of recorded sessions.
HOST = "@dgrec"


def model(
    session: str | os.PathLike[str],
    *,
    match: str = "auto",
    missing: str = "error",
    pace: str = "fast",
    **properties: Any,
) -> Any:
    """Return a PySDK model that gives the results of a session, without an accelerator.

    It takes the place of the model that was recorded: `predict`, `predict_batch`, `predict_stream`,
    compound models, gizmos and analyzers work with it. A picture gets the result that was recorded
    for it; it is recognised by its pixels (docs/stand-in.md).

    Args:
        session: A session in any form.
        match: How the frame of a picture is found: "pixels"; "order" (the first picture is the
            first frame, and so on); "auto": by pixels, or in order where a session of an earlier
            version has no digests and no frame of it was skipped; "camera": pictures of recorded
            cameras only.
        missing: What a picture that was not recorded gets: "error"; "nearest", the result of the
            most similar picture; "empty", a result without detections.
        pace: "fast", or "recorded": results come after the latency that they had.
        properties: Properties of PySDK's models, such as ``output_confidence_threshold=0.5``.

    Raises:
        SessionError: The session is missing, not a session, damaged, or of a newer format.
        ModelError: A property is refused, or the session cannot be matched that way.

    Example:
        >>> import dgrec
        >>> model = dgrec.model("session.parquet", output_confidence_threshold=0.8)
        >>> with dgrec.open("session.parquet") as session:
        ...     with session.pixels("faces.mp4") as pixels:
        ...         recorded = next(pixels.results(session))
        >>> len(model(recorded.image).results) <= len(recorded.results)
        True
    """
    from dgrec.stand_in.zoo import load

    return load(session, {"match": match, "missing": missing, "pace": pace}, properties)


def camera(
    session: str | os.PathLike[str],
    *,
    pace: str = "recorded",
    loop: bool = False,
    video: str | os.PathLike[str] | None = None,
) -> SessionCamera:
    """Return the recorded pictures of a session, as ``cv2.VideoCapture`` gives a camera's.

    They come from the video that was recorded with the session, or from the footage that it was
    recorded from. A model that stands in for that session (`model`) gives each picture the result
    of its own row, even where the video was encoded and the pixels are not what the model saw.

    Args:
        session: A session in any form.
        pace: "recorded": a picture comes when it was captured, with all gaps and stalls; "fast":
            at once.
        loop: Begin again after the last picture.
        video: The file with the pictures, if it is not where it was.

    Raises:
        SessionError: The session is missing, not a session, damaged, or of a newer format.
        VideoError: It has no pictures.

    Example:
        >>> import dgrec
        >>> with dgrec.camera("session.parquet", pace="fast", video="faces.mp4") as camera:
        ...     ok, image = camera.read()
        >>> image.shape
        (360, 640, 3)
    """
    from dgrec.stand_in.session_camera import SessionCamera

    return SessionCamera(session, pace=pace, loop=loop, video=video)


def register_zoo(zoo_manager: ModuleType) -> None:
    """Have PySDK find sessions as models, under ``inference_host_address="@dgrec"``.

    Args:
        zoo_manager: PySDK's module of this name, which is being imported.
    """

    def open_zoo(url: str, token: str = "") -> Any:
        from dgrec.stand_in.zoo import SessionZoo

        return SessionZoo(url, token)

    open_zoo.__name__ = "SessionZoo"  # which PySDK writes to its log
    zoo_manager.ZooManager.register_zoo_accessor(HOST, open_zoo)
