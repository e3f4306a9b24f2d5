"""An unchanged program whose models and cameras are recordings, for ``dgrec run --replay``.

Modules are changed when the program imports them: PySDK connects to the recorded sessions,
whatever zoo and host the program names, and OpenCV and degirum_tools open the recorded cameras.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dgrec.credentials import redact
from dgrec.errors import ConfigError, SourceError
from dgrec.import_hook import when_imported
from dgrec.paths import numbered_files
from dgrec.stand_in.door import HOST
from dgrec.stand_in.video_sources import named_camera, register_video_sources
from dgrec.terminal import echo

if TYPE_CHECKING:
    from dgrec.session import Session
    from dgrec.stand_in.session_camera import SessionCamera

#: Variable in the program's environment: a `Replay` as JSON.
REPLAY = "DGREC_REPLAY"
#: The host that PySDK's `ZooManager` connects to.
_HOST = "@dgrec-replay"


@dataclass(frozen=True)
class Replay:
    """The recordings that replace a program's models and cameras.

    Args:
        sessions: Their paths.
        sources: For each of them the source that it replaces; "": the recorded one.
        pace: Of cameras and models: "recorded" or "fast".
        began_ns: When the program was started, in nanoseconds since 1970: later files are most
            likely its own, and are read as they are.
    """

    sessions: tuple[str, ...]
    sources: tuple[str, ...]
    pace: str
    began_ns: int

    @classmethod
    def of(cls, named: tuple[str, ...], pace: str, began_ns: int) -> Replay:
        """Return the replay of sessions that are named ``session.parquet`` or ``cam0=s.parquet``.

        A folder stands for the sessions in it.

        Raises:
            ConfigError: A name is empty.
            DgrecError: A folder has no session, or several of one model and camera.
        """
        sessions: list[str] = []
        sources: list[str] = []
        for text in named:
            source, path = "", text
            if not _is_there(text):
                source, _, path = text.rpartition("=")
            if not path:
                raise ConfigError("--replay: the name of a session is empty")
            found = _sessions_in(Path(path)) if Path(path).is_dir() else [Path(path).absolute()]
            sessions += map(str, found)
            sources += [source] * len(found)
        return cls(tuple(sessions), tuple(sources), pace, began_ns)

    def environment(self) -> dict[str, str]:
        return {REPLAY: json.dumps(vars(self))}

    @classmethod
    def from_environment(cls) -> Replay:
        facts = json.loads(os.environ[REPLAY])
        return cls(
            tuple(facts["sessions"]), tuple(facts["sources"]), facts["pace"], facts["began_ns"]
        )


def _sessions_in(folder: Path) -> list[Path]:
    """Return the sessions of a folder; each model and camera may have only one."""
    from dgrec.session import open_sessions

    known: dict[tuple[str, tuple[str, ...]], Path] = {}
    with ExitStack() as stack:
        left_out: Callable[[str], None] = functools.partial(echo, err=True)
        for session in open_sessions([folder], left_out, on_clip=lambda _: None):
            stack.callback(session.close)
            name = session.metadata.get("model", {}).get("name") or session.path.stem
            camera = _camera_key(session, "")
            # It is not known which source a program opened.
            key = str(name), ("program",) if camera[0] == "program" else camera
            if key in known:
                raise SourceError(
                    f"--replay {folder}: has several recordings of {name} from one camera "
                    f"({known[key].name}, {session.path.name}, ...); name those that are meant"
                )
            known[key] = session.place
    return list(known.values())


def _is_there(session: str) -> bool:
    try:
        return Path(session).exists() or bool(numbered_files(Path(session)))
    except (OSError, ValueError):  # not possible as a file name
        return False


@dataclass(frozen=True)
class RecordedCamera:
    """A camera that was recorded, by one session or by several models at once.

    Args:
        names: Names that a program may use for it.
        sessions: Sessions with its pictures, or parts of them.
    """

    names: frozenset[str]
    sessions: tuple[str, ...]


class Replayed:
    """The recordings in place of a program's models and cameras.

    Raises:
        SessionError: A session cannot be read.
    """

    def __init__(self, replay: Replay) -> None:
        from dgrec.session import Session

        self.pace = replay.pace
        self._began_ns = replay.began_ns
        #: Paths of sessions by the name of the model that was recorded.
        self.models: dict[str, list[Path]] = {}
        #: The compound model that each inner model was recorded in, and only there.
        self.compounds: dict[str, str] = {}
        cameras: dict[tuple[str, ...], tuple[set[str], list[tuple[Counter[int], str]]]] = {}
        for path, source in zip(replay.sessions, replay.sources, strict=True):
            with Session(path) as session:
                described = session.metadata.get("model", {})
                name = str(described.get("name") or session.path.stem)
                self.models.setdefault(name, []).append(session.path)
                self.compounds |= dict.fromkeys(_inner_names(described), name)
                names, sessions = cameras.setdefault(_camera_key(session, source), (set(), []))
                names |= {source} if source else _names_of(session)
                sessions.append((_sizes(session), path))
        self._cameras = [
            RecordedCamera(frozenset(names), _by_pictures_of_camera(sessions))
            for names, sessions in cameras.values()
        ]

    def camera(self, source: Any) -> SessionCamera | None:
        """Return the recorded camera for a source that the program opens; None: it opens it itself.

        Raises:
            SourceError: It is not known which of several recorded cameras that is.
            DgrecError: Its session has no pictures.
        """
        if not isinstance(source, str | int | os.PathLike) or isinstance(source, bool):
            return None
        if (own := named_camera(source, self.pace)) is not None:
            return own
        names = _names(source)
        if self._is_of_program(source):
            return None
        found = [camera for camera in self._cameras if camera.names & names]
        if len(self._cameras) == 1:
            found = self._cameras
        if len(found) != 1:
            known = "; ".join(_shown(camera) for camera in self._cameras)
            raise SourceError(
                f"{redact(str(source))}: is not one of the recorded sources ({known}); "
                "--replay SOURCE=SESSION says which session it is"
            )
        return _first_with_pictures(found[0].sessions, self.pace)

    def sessions_of(self, model: str) -> list[Path]:
        """Return the sessions recorded from a model, or from the only model that was recorded.

        Raises:
            ModelError: There are several, and none has this name.
        """
        from dgrec.stand_in.session_model import StandInError

        for name in (model, model.rpartition("/")[2]):
            if name in self.models:
                return self.models[name]
            if name in self.compounds:
                return self.models[self.compounds[name]]
        if len(self.models) == 1 and not self.compounds:
            return next(iter(self.models.values()))
        known = ", ".join([*self.models, *self.compounds])
        raise StandInError(f"{model}: was not recorded; recorded are {known}")

    def compound_of(self, model: str) -> str:
        """Return the compound model that a model was recorded only as a part of; "" for none."""
        name = model if model in self.compounds else model.rpartition("/")[2]
        return "" if name in self.models else self.compounds.get(name, "")

    def _is_of_program(self, source: object) -> bool:
        """Return whether a file is newer than the program: it has most likely written it."""
        if isinstance(source, int):
            return False
        try:
            return Path(source).stat().st_mtime_ns >= self._began_ns  # type: ignore[arg-type]
        except (OSError, ValueError):
            return False


def model_name(model: Any) -> str:
    """Return the name by which PySDK knows a model; of compound models, their class and parts."""
    own = vars(model)
    parts = [model_name(own[name]) for name in ("model1", "model2") if name in own]
    if parts:
        return f"{type(model).__name__}({', '.join(parts)})"
    return str(own.get("_model_name") or type(model).__name__)


def _inner_names(described: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the models in a compound model, at any depth."""
    for inner in described.get("models") or []:
        if isinstance(inner, Mapping):
            if not inner.get("models"):
                yield str(inner.get("name"))
            yield from _inner_names(inner)


def _camera_key(session: Session, source: str) -> tuple[str, ...]:
    """Return what sessions of one camera have in common."""
    if source:
        return (source,)
    facts = session.metadata.get("source", {})
    if facts.get("kind") == "program":  # which may run several models on a frame
        group = session.metadata.get("group", {}).get("id")
        return ("program", str(group or session.id))
    return tuple(str(facts.get(name) or "") for name in ("kind", "given", "sha256"))


def _sizes(session: Session) -> Counter[int]:
    """Return how many frames have pictures of each size, in pixels."""
    from dgrec.stand_in.given_pictures import numbers

    return Counter((numbers(session, "width") * numbers(session, "height")).tolist())


def _by_pictures_of_camera(sessions: Sequence[tuple[Counter[int], str]]) -> tuple[str, ...]:
    """Return the sessions of a camera, first the one with most of the camera's pictures.

    Other models may have skipped some. A model that ran on crops may have more frames, but its
    pictures are smaller, and at most those in which nothing was found are whole.
    """
    whole = max((size for sizes, _ in sessions for size in sizes), default=0)
    ranked = [(sizes[whole], -sizes.total(), path) for sizes, path in sessions]
    return tuple(path for *_, path in sorted(ranked)[::-1])


def _names_of(session: Session) -> set[str]:
    source = session.metadata.get("source", {})
    if source.get("kind") == "program":
        return set()
    values = (source.get(name) for name in ("given", "name", "file", "path"))
    return {str(value) for value in values if value}


def _names(source: Any) -> set[str]:
    """Return the names that a source may have in metadata."""
    if isinstance(source, int):
        return {f"cam{source}", str(source)}
    text = os.fspath(source)
    if text.isdecimal():
        return {f"cam{text}", text}
    path = Path(text)
    return {text, redact(text), path.name, os.path.realpath(text)}


def _shown(camera: RecordedCamera) -> str:
    if not camera.names:
        return Path(camera.sessions[0]).name
    return redact(min(camera.names, key=len))  # `--replay SOURCE=SESSION` may have a login


def _first_with_pictures(sessions: tuple[str, ...], pace: str) -> SessionCamera:
    from dgrec.errors import VideoError
    from dgrec.stand_in.session_camera import SessionCamera

    *others, last = sessions
    for path in others:
        try:
            return SessionCamera(path, pace=pace)
        except VideoError:
            continue
    return SessionCamera(last, pace=pace)


# --- in the program --------------------------------------------------------------------------


@functools.cache
def _replayed() -> Replayed:
    return Replayed(Replay.from_environment())


def _replace_zoos(zoo_manager: ModuleType) -> None:
    manager = zoo_manager.ZooManager
    connect = manager.__init__

    def open_zoo(url: str, token: str = "") -> Any:
        from dgrec.stand_in.replayed_zoo import ReplayedZoo

        return ReplayedZoo(url, token, _replayed())

    open_zoo.__name__ = "ReplayedZoo"  # which PySDK writes to its log

    @functools.wraps(connect)
    def __init__(  # noqa: N807
        self: Any, inference_host_address: str, zoo_url: str = "", token: str = ""
    ) -> None:
        if inference_host_address == HOST:  # the program chose a session by itself
            connect(self, inference_host_address, zoo_url, token)
            return
        # With a token PySDK does not look for one.
        connect(self, _HOST, "", token or "none")
        self.inference_host_address, self.zoo_url = inference_host_address, zoo_url
        self.token = token

    manager.register_zoo_accessor(_HOST, open_zoo)
    manager.__init__ = __init__


def _replace_captures(cv2: ModuleType) -> None:
    vars(cv2)["VideoCapture"] = _capture_class(cv2.VideoCapture)


def _capture_class(opencv: Any) -> type:
    # Not a subclass: OpenCV frees its objects in a way that destroys the heap for subclasses.
    class VideoCapture:
        """OpenCV's class, but with a recorded camera where the program opens a recorded source."""

        waitAny = staticmethod(opencv.waitAny)  # noqa: N815 - OpenCV's name

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._open_one: Any = opencv()
            if arguments or options:
                self.open(*arguments, **options)

        def open(self, *arguments: Any, **options: Any) -> bool:
            self._open_one.release()
            names = ("filename", "index", "source")
            named = next((options[name] for name in names if name in options), None)
            camera = _replayed().camera(arguments[0] if arguments else named)
            if camera is not None:
                self._open_one = camera
                return True
            self._open_one = opencv()
            return bool(self._open_one.open(*arguments, **options))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._open_one, name)

    VideoCapture.__module__, VideoCapture.__qualname__ = "cv2", "VideoCapture"
    return VideoCapture


def _replace_video_sources(video_support: ModuleType) -> None:
    register_video_sources(video_support, lambda source: _replayed().camera(source))
    every_frame = video_support.video_source

    @functools.wraps(every_frame)
    def video_source(stream: Any, fps: float | None = None, **options: Any) -> Any:
        # Frames that the program left out by the same `fps` were not recorded.
        is_done = getattr(stream, "has_chosen_frames", False)
        return every_frame(stream, None if is_done else fps, **options)

    vars(video_support)["video_source"] = video_source


def _replace_compounds(module: ModuleType) -> None:
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, module.ModelLike):
            _replace_compound(value)
    base = module.ModelLike
    before = base.__init_subclass__

    def init_subclass(cls: type, /, **options: Any) -> None:  # of other modules
        before(**options)
        _replace_compound(cls)

    base.__init_subclass__ = classmethod(init_subclass)


def _replace_compound(model_class: Any) -> None:
    """Have a class of compound models give the results that were recorded for the whole."""
    for name, of_stand_in in (("predict_batch", "predict_batch"), ("predict", "predict_next")):
        method = vars(model_class).get(name)
        if callable(method) and not getattr(method, "__isabstractmethod__", False):
            setattr(model_class, name, _of_stand_in(method, of_stand_in))


def _of_stand_in(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(self: Any, data: Any) -> Any:
        whole = model_name(self)
        if "model1" not in vars(self) or whole not in _replayed().models:
            return method(self, data)
        from dgrec.stand_in.replayed_zoo import compound_stand_in

        return getattr(compound_stand_in(self, whole, _replayed()), name)(data)

    return run


_REPLACEMENTS: dict[str, Callable[[ModuleType], None]] = {
    "degirum.zoo_manager": _replace_zoos,
    "degirum_tools.tools.video_support": _replace_video_sources,
    "degirum_tools.compound_models.compound_models": _replace_compounds,
    "cv2": _replace_captures,
}


def replay_recordings() -> None:
    """Have modules that open models and cameras use the recordings once they are imported."""
    for name, replace in _REPLACEMENTS.items():
        when_imported(name, replace)
