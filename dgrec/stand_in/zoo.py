"""Recorded sessions as a model zoo of PySDK."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from degirum._ext_zoo_accessor import ExtZooAccessorBase
from degirum._zoo_assets import ZooAssetsBase
from degirum.aiclient import ModelParams

from dgrec.errors import DgrecError, ModelError
from dgrec.format import Metadata
from dgrec.session import Session, open_sessions
from dgrec.stand_in.session_model import SessionModel, StandInError, device_of

__all__ = ["SessionZoo", "load"]

_HOW = ("match", "missing", "pace")


def load(path: Path, how: Mapping[str, str], properties: Mapping[str, Any]) -> SessionModel:
    """Return the model that a session stands in for."""
    with Session(path) as session:
        parameters = _parameters(session)
    model = SessionModel(path.stem, parameters, device_of(parameters), how=how)
    for name, value in properties.items():
        if not isinstance(getattr(type(model), name, None), property):
            raise ModelError(f"{path}: {name} is not a property of PySDK's models")
        setattr(model, name, value)
    return model


class _Assets(ZooAssetsBase):  # type: ignore[misc]
    """The sessions of a file or folder, by the names of their files and of their models."""

    def __init__(self, url: str, token: str = "") -> None:
        path, self.how = _place(url)
        sessions = _sessions(path)
        self._found: dict[str, Any] = {}
        by_model: dict[str, list[Any]] = {}
        for session in sessions:
            parameters = _parameters(session)
            name = session.path.stem
            if name in self._found:  # of another folder
                name = str(session.path.relative_to(path).with_suffix(""))
            self._found[name] = parameters
            model = session.metadata.get("model", {}).get("name")
            by_model.setdefault(str(model or name), []).append(parameters)
            session.close()
        for name, named in by_model.items():
            if len(named) == 1:
                self._found.setdefault(name, named[0])

    def get_model_list(self, names_only: bool) -> dict[str, Any]:
        return self._found

    def get_model_info(self, model: str) -> Any:
        return self._found.get(model)


class SessionZoo(ExtZooAccessorBase):  # type: ignore[misc]
    """What PySDK connects to with ``inference_host_address="@dgrec"``.

    Args:
        url: A session, or a folder of sessions; ``?missing=nearest&match=pixels&pace=recorded``
            behind it are the options of `dgrec.model`.

    Raises:
        StandInError: There is no such file or folder, or no session in it.
    """

    def __init__(self, url: str, token: str = "") -> None:
        devices = {"DGREC/SESSION": 1}
        super().__init__(url, token, devices=devices, model_class=SessionModel, assets_mgr=_Assets)
        found = self._assets_mgr.get_model_list(False).values()
        self._devices = {device_of(each): 1 for each in found} | devices

    def load_model(self, model: str) -> SessionModel:
        """Return the model of a session."""
        parameters = self.model_info(model)
        return SessionModel(model, parameters, device_of(parameters), how=self._assets_mgr.how)


def _place(url: str) -> tuple[Path, dict[str, str]]:
    """Return the path of a zoo's address, and the options behind it."""
    text, _, query = url.partition("?")
    if Path(url).exists():
        text, query = url, ""
    how = dict(parse_qsl(query))
    if unknown := set(how) - {*_HOW}:
        raise StandInError(f"{url}: {min(unknown)!r} is not an option; expected {', '.join(_HOW)}")
    if text.startswith("file://"):
        text = unquote(urlsplit(text).path)
    return Path(text), how


def _sessions(path: Path) -> list[Session]:
    try:
        return open_sessions([path], with_clips=True)
    except DgrecError as error:
        raise StandInError(str(error)) from None


def _parameters(session: Session) -> Any:
    """Return a session's model as PySDK describes models."""
    metadata = session.metadata
    model = metadata.get("model", {})
    agent, _, device = str(model.get("device") or "").partition("/")
    n, h, w, c = _image_shape(metadata)
    checksum = model.get("checksum")
    return ModelParams(
        json.dumps(
            {
                "ConfigVersion": 6,
                "Checksum": checksum if isinstance(checksum, str) else "recorded",
                "DEVICE": [
                    {
                        "RuntimeAgent": agent if agent and device else "DGREC",
                        "DeviceType": device if agent and device else "SESSION",
                        "SupportedDeviceTypes": f"{agent}/{device}" if device else "*/*",
                    }
                ],
                "PRE_PROCESS": [
                    {
                        "InputType": "Image",
                        "InputN": n,
                        "InputH": h,
                        "InputW": w,
                        "InputC": c,
                        "InputPadMethod": "letterbox",
                        "InputTensorLayout": "NHWC",
                    }
                ],
                "MODEL_PARAMETERS": [{"ModelPath": str(session.path)}],
                "POST_PROCESS": [
                    {
                        "OutputPostprocessType": str(model.get("result_type") or "None"),
                        "OutputNumClasses": len(model.get("labels", {})),
                    }
                ],
            }
        )
    )


def _image_shape(metadata: Metadata) -> tuple[int, int, int, int]:
    """Return the input of a model that takes pictures; any, if the model takes something else."""
    shapes = metadata.get("model", {}).get("input_shape") or [[]]
    shape = shapes[0]
    if len(shape) == 4 and all(0 < number <= 65535 for number in shape):
        return shape[0], shape[1], shape[2], shape[3]
    return 1, 640, 640, 3
