"""Recorded sessions as a model zoo of PySDK."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import url2pathname

from degirum._ext_zoo_accessor import ExtZooAccessorBase
from degirum._zoo_assets import ZooAssetsBase
from degirum.aiclient import ModelParams

from dgrec.errors import DgrecError, ModelError
from dgrec.format import Metadata, is_utf8
from dgrec.paths import SESSION_SUFFIX, SESSION_SUFFIXES, part_number
from dgrec.session import Session, parts_of
from dgrec.stand_in.session_model import SessionModel, StandInError, device_of
from dgrec.units import and_more

_HOW = ("match", "missing", "pace")
#: The device of a model without a recorded one.
_NO_DEVICE = "DGREC/SESSION"
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,40}/[A-Za-z0-9_.-]{1,40}")
#: PySDK makes a picture of a model's size where a program asks for it.
_MOST_PIXELS = 2**24
#: How many names a message lists.
_MOST_NAMES = 8


def load(
    given: str | os.PathLike[str], how: Mapping[str, str], properties: Mapping[str, Any]
) -> SessionModel:
    """Return the model that a session stands in for."""
    with Session(given) as session:
        parameters = parameters_of(session)
    path = Path(given)
    model = SessionModel(path.stem, parameters, device_of(parameters), how=how)
    for name, value in properties.items():
        known = getattr(type(model), name, None)
        if not isinstance(known, property) or known.fset is None:
            raise ModelError(f"{path}: {name} is not a property of PySDK's models that can be set")
        try:
            setattr(model, name, value)
        except DgrecError:
            raise
        except Exception as error:  # of PySDK, and of its C++ part for a value of another type
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{path}: {name}={value!r} is refused: {reason}") from None
    return model


class _Assets(ZooAssetsBase):  # type: ignore[misc]
    """The sessions of a file or folder, by the names of their files and of their models."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.path, self.how = _place(url)
        self._found: dict[str, Any] = {}
        #: Why a session cannot be read, by its name.
        self._unreadable: dict[str, str] = {}
        #: Names of sessions by the model that they recorded.
        self._of_model: defaultdict[str, list[str]] = defaultdict(list)
        files = _files(self.path)
        stems = Counter(file.stem for file in files)
        for file in files:
            name = file.stem
            if stems[name] > 1 and file.parent != self.path:
                name = file.relative_to(self.path).with_suffix("").as_posix()
            self._add(name, file)
        if not self._found:
            problems = list(self._unreadable.values())
            raise StandInError(
                and_more(problems) if problems else f"{self.path}: is a folder without sessions"
            )
        for model, names in self._of_model.items():
            if len(names) == 1:
                self._found.setdefault(model, self._found[names[0]])

    def get_model_list(self, names_only: bool) -> dict[str, Any]:
        return self._found

    def get_model_info(self, model: str) -> Any:
        """Return the parameters of a model.

        Raises:
            StandInError: There is no such session, it cannot be read, or there are several.
        """
        if (known := self._found.get(model)) is not None:
            return known
        if model in self._unreadable:
            raise StandInError(self._unreadable[model])
        if several := self._of_model.get(model):
            names = _some(several)
            raise StandInError(f"{self.url}: several sessions of {model}: {names}; name one")
        raise StandInError(f"{self.url}: has no session {model}; it has {_some(list(self._found))}")

    def _add(self, name: str, file: Path) -> None:
        try:
            with Session(file) as session:
                self._found[name] = parameters_of(session)
                model = session.metadata.get("model", {}).get("name")
        except DgrecError as error:
            self._unreadable[name] = str(error)
        except OSError as error:
            self._unreadable[name] = f"{file}: cannot be read: {error.strerror}"
        else:
            if model:
                self._of_model[model].append(name)


def _files(path: Path) -> list[Path]:
    """Return the files to open for a file or a folder, including its subfolders.

    All parts of a recording count as one. Of a sealed file and its journal the former is taken.
    """
    try:
        if not path.is_dir():
            return [path]
        files = [
            each
            for suffix in reversed(SESSION_SUFFIXES)
            for each in sorted(path.rglob(f"*{suffix}"))
            if each.is_file() and not each.name.startswith(".")
        ]
    except (OSError, ValueError):  # not possible as a file name, or not readable
        raise StandInError(f"{path}: cannot be read") from None
    found: dict[Path, Path] = {}
    for file in files:
        whole = file
        if (part := part_number(file)) is not None:
            name = file.with_name(f"{part[0]}{SESSION_SUFFIX}")
            whole = file if name.exists() or file not in parts_of(name) else name
        found[whole.with_suffix("")] = whole
    return list(found.values())


class SessionZoo(ExtZooAccessorBase):  # type: ignore[misc]
    """The zoo that PySDK connects to with ``inference_host_address="@dgrec"``.

    Args:
        url: A session, or a folder of sessions; ``?missing=nearest&match=pixels&pace=recorded``
            after it are the options of `dgrec.model`.

    Raises:
        StandInError: There is no such file or folder, or no session in it.
    """

    def __init__(self, url: str, token: str = "") -> None:
        devices = {_NO_DEVICE: 1}
        super().__init__(url, token, devices=devices, model_class=SessionModel, assets_mgr=_Assets)
        found = self._assets_mgr.get_model_list(False).values()
        self._devices = dict.fromkeys(map(device_of, found), 1) or devices

    def load_model(self, model: str) -> SessionModel:
        """Return the model of a session."""
        parameters = self.model_info(model)
        return SessionModel(model, parameters, device_of(parameters), how=self._assets_mgr.how)


def _place(url: str) -> tuple[Path, dict[str, str]]:
    """Return the path of a zoo's address, and the options after it."""
    if not isinstance(url, str):
        raise StandInError(f"zoo_url={url!r}: expected a session, or a folder of sessions")
    text, _, query = url.partition("?")
    if _is_there(url):
        text, query = url, ""
    how = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(how) - {*_HOW}:
        raise StandInError(f"{url}: {min(unknown)!r} is not an option; expected {', '.join(_HOW)}")
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        text = url2pathname(parts.netloc + parts.path)
    if not text or "\0" in text:
        raise StandInError(f"zoo_url={text!r}: expected a session, or a folder of sessions")
    return Path(text), how


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # not possible as a file name
        return False


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


# --- the model as PySDK describes models -------------------------------------------------------


def parameters_of(session: Session) -> Any:
    """Return a session's model as PySDK describes models.

    Of the file's metadata, only the entries named here are passed on: PySDK would read files that a
    model names (labels, a postprocessor in Python).

    Raises:
        StandInError: The session's path is not UTF-8, which PySDK cannot take.
    """
    if not is_utf8(str(session.place)):
        raise StandInError(
            f"{session.path}: its path is not UTF-8, which PySDK cannot take; rename it"
        )
    metadata = session.metadata
    model = metadata.get("model", {})
    device = model.get("device") or ""
    agent, _, kind = (device if _DEVICE.fullmatch(device) else _NO_DEVICE).partition("/")
    checksum = model.get("checksum")
    return ModelParams(
        json.dumps(
            {
                "ConfigVersion": 6,
                "Checksum": checksum if isinstance(checksum, str) else "recorded",
                "DEVICE": [
                    {
                        "RuntimeAgent": agent,
                        "DeviceType": kind,
                        "SupportedDeviceTypes": f"{agent}/{kind}",
                    }
                ],
                "PRE_PROCESS": list(_inputs(metadata)),
                "MODEL_PARAMETERS": [{"ModelPath": str(session.place)}],
                "POST_PROCESS": [
                    {
                        "OutputPostprocessType": str(model.get("result_type") or "None"),
                        "OutputNumClasses": max(1, len(model.get("labels", {}))),
                    }
                ],
            }
        )
    )


def _inputs(metadata: Metadata) -> Iterator[dict[str, Any]]:
    """Yield the inputs of a model: pictures, or tensors for a model that takes no pictures."""
    model = metadata.get("model", {})
    takes_pictures = "image_backend" not in model or model["image_backend"] is not None
    for shape in model.get("input_shape") or [[]]:
        if not takes_pictures:
            yield {"InputType": "Tensor", "InputShape": [1]}
            continue
        n, h, w, c = shape if len(shape) == 4 else (1, 640, 640, 3)
        if not (0 < h * w <= _MOST_PIXELS and 0 < n * c < 256):
            n, h, w, c = 1, 640, 640, 3
        yield {
            "InputType": "Image",
            "InputN": n,
            "InputH": h,
            "InputW": w,
            "InputC": c,
            "InputPadMethod": "letterbox",
            "InputTensorLayout": "NHWC",
        }
