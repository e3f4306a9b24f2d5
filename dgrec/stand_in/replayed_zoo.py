"""The zoo of a replayed program: its models are recordings, whatever zoo and host it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from degirum._ext_zoo_accessor import ExtZooAccessorBase
from degirum._zoo_assets import ZooAssetsBase

from dgrec.session import Session
from dgrec.stand_in.replayed_program import Replayed
from dgrec.stand_in.session_model import SessionModel, device_of
from dgrec.stand_in.zoo import parameters_of

__all__ = ["ReplayedZoo"]


class _Assets(ZooAssetsBase):  # type: ignore[misc]
    def __init__(self, replayed: Replayed) -> None:
        self._replayed = replayed

    def get_model_list(self, names_only: bool) -> dict[str, Any]:
        return {name: self.get_model_info(name) for name in self._replayed.models}

    def get_model_info(self, model: str) -> Any:
        return _parameters(self._replayed.sessions_of(model)[0])


class ReplayedZoo(ExtZooAccessorBase):  # type: ignore[misc]
    """What PySDK connects to in a replayed program, whatever the program names."""

    def __init__(self, url: str, token: str, replayed: Replayed) -> None:
        self._replayed = replayed
        assets = _Assets(replayed)
        devices = {device_of(each): 1 for each in assets.get_model_list(False).values()}
        super().__init__(
            url,
            token,
            devices=devices,
            model_class=SessionModel,
            assets_mgr=lambda url, token="": assets,
        )

    def load_model(self, model: str) -> SessionModel:
        """Return the stand-in for a model."""
        first = self._replayed.sessions_of(model)[0]
        parameters = _parameters(first)
        how = {"pace": self._replayed.pace, "match": "auto"}
        return SessionModel(model, parameters, device_of(parameters), how=how)


def _parameters(path: Path) -> Any:
    with Session(path) as session:
        return parameters_of(session)
