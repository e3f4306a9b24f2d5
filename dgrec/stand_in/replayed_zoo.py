"""The zoo of a replayed program: its models are recordings, whatever zoo and host it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from pathlib import Path
from typing import Any

from degirum._ext_zoo_accessor import ExtZooAccessorBase
from degirum._zoo_assets import ZooAssetsBase

from dgrec.session import Session
from dgrec.stand_in.frames import Frames, RecordedFrame
from dgrec.stand_in.matching import Matcher, has_digests
from dgrec.stand_in.replayed_program import Replayed
from dgrec.stand_in.session_model import SessionModel, StandInError, device_of
from dgrec.stand_in.settings import FIXED, LIMITS
from dgrec.stand_in.zoo import parameters_of

#: The attribute of a compound model that has its stand-in.
_STAND_IN = "_dgrec_stand_in"
#: Those that have the models in it.
_PARTS = ("model1", "model2")


class _Assets(ZooAssetsBase):  # type: ignore[misc]
    def __init__(self, replayed: Replayed) -> None:
        self._replayed = replayed

    def get_model_list(self, names_only: bool) -> dict[str, Any]:
        names = [*self._replayed.models, *self._replayed.compounds]
        return {name: self.get_model_info(name) for name in names}

    def get_model_info(self, model: str) -> Any:
        return _parameters(self._replayed.sessions_of(model)[0])


class ReplayedModel(SessionModel):
    """A stand-in that has several sessions of its model, such as one for each camera.

    Args:
        sessions: Further sessions, searched for pictures that are not in the first.
    """

    def __init__(self, name: str, parameters: Any, *, sessions: Sequence[Path], **how: Any) -> None:
        #: The settings of results that were set.
        self.chosen: set[str] = set()
        super().__init__(name, parameters, device_of(parameters), **how)
        #: Those of a compound model that it stands for.
        self._attached: list[Any] = []
        others = [Frames(path) for path in sessions]
        for frames in others:
            self._check_same(frames)
        self._sources = [self._frames, *others]
        self._matcher.others = [_matcher(frames.session) for frames in others]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name.startswith("output_"):
            self.chosen.add(name)

    def check_parts(self, compound: Any) -> None:
        """Refuse settings of the models in a compound model that it stands for."""
        _check_parts(compound, self._frames.metadata.get("model"))

    def check_chosen(self, described: Any) -> None:
        """Refuse settings of results that differ from those of a model in a compound model."""
        recorded = described.get("parameters") if isinstance(described, Mapping) else None
        if not isinstance(recorded, Mapping):
            return
        for name in sorted(self.chosen & recorded.keys()):
            if (value := getattr(self, name)) != recorded[name]:
                raise StandInError(
                    f"{self._model_name}: {self._refusal(name, value, recorded[name])}"
                )

    def frame_of(self, picture: Any, matcher: Matcher) -> RecordedFrame:
        """Return the frame of a picture, from the session that knows it.

        Of several, it is the first that has the results for the program's settings.
        """
        refusal, is_other = "", self.has_exchanged_colors
        matchers = (matcher, *matcher.others) if matcher.others else ()
        for frames, each in zip(self._sources, matchers, strict=False):
            if each.knows(picture, has_exchanged_colors=is_other):
                if not (reason := self._refusal_by(frames)):
                    position = each.find(picture, has_exchanged_colors=is_other)
                    assert position is not None
                    return frames.at(position)
                refusal = refusal or f"{frames.session.path}: {reason}"
        if refusal:
            raise StandInError(refusal)
        frame = super().frame_of(picture, matcher)
        if matchers and matcher.missing != "empty" and (reason := self._refusal_by(self._frames)):
            raise StandInError(f"{self._frames.session.path}: {reason}")
        return frame

    def _refusal_by(self, frames: Frames) -> str:
        """Return why a session does not have the results for the program's settings."""
        for limit in LIMITS:
            value = self._limits.get(limit.property)
            if value is not None and (reason := self._beyond(limit, value, frames.limits)):
                return reason
        return ""

    def _check_same(self, frames: Frames) -> None:
        """Refuse a session whose results cannot be given with the settings of the first one."""
        first, other = self._frames.parameters, frames.parameters
        for name in (*FIXED, "output_class_set"):
            if name in first.keys() & other.keys() and first[name] != other[name]:
                raise StandInError(
                    f"{name}: {self._frames.session.path} was recorded with {first[name]}, and "
                    f"{frames.session.path} with {other[name]}; replay one of them at a time"
                )

    def attach(self, analyzers: list[Any]) -> None:
        """Attach the analyzers of a compound model, unless they are attached already."""
        if len(analyzers) == len(self._attached) and all(map(is_, analyzers, self._attached)):
            return
        from degirum_tools import attach_analyzers

        # PySDK's way to detach them would also end them.
        self._custom_postprocessor = None
        self._attached = analyzers
        if analyzers:
            attach_analyzers(self, analyzers)

    def predict_next(self, data: Any) -> Any:
        """Return what `predict` does, of a frame or, as compound models take it, (frame, info)."""
        with self._one_by_one.inside():
            return next(self.predict_batch([data]), None)


class InnerModel(ReplayedModel):
    """A part of a compound model: only the results of the whole were recorded."""

    compound = ""

    def frame_of(self, picture: Any, matcher: Matcher) -> RecordedFrame:
        raise StandInError(
            f"{self._model_name}: only the results of {self.compound} were recorded; "
            "recorder.watch(model) records those of a model in it"
        )


def compound_stand_in(compound: Any, name: str, replayed: Replayed) -> ReplayedModel:
    """Return the stand-in of a whole compound model, the same one for each of its runs.

    Its analyzers see results as they see those of any model, at the recorded time.
    """
    own = vars(compound)  # not by setattr: compound models set attributes on the model in them
    if _STAND_IN not in own:
        made = ReplayedZoo("", "", replayed).load_model(name)
        made.check_parts(compound)  # as it is at first: so was it recorded
        own[_STAND_IN] = made
    stand_in: ReplayedModel = own[_STAND_IN]
    for setting in ("non_blocking_batch_predict", "measure_time"):
        if (value := getattr(compound, setting, None)) is not None:
            setattr(stand_in, setting, value)
    stand_in.attach(list(own.get("_analyzers") or ()))
    return stand_in


def _check_parts(compound: Any, described: Any) -> None:
    """Refuse settings of the models in a compound model, at any depth."""
    entries = described.get("models") if isinstance(described, Mapping) else None
    for name, entry in zip(_PARTS, entries if isinstance(entries, list) else (), strict=False):
        part = vars(compound).get(name)
        if isinstance(part, ReplayedModel):
            part.check_chosen(entry)
        elif part is not None:
            _check_parts(part, entry)


class ReplayedZoo(ExtZooAccessorBase):  # type: ignore[misc]
    """The zoo that PySDK connects to in a replayed program, whatever zoo the program names."""

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
        first, *others = self._replayed.sessions_of(model)
        with Session(first) as session:
            parameters = parameters_of(session)
            how = {"pace": self._replayed.pace, "match": _match_of(session)}
        compound = self._replayed.compound_of(model)
        kind = InnerModel if compound else ReplayedModel
        stand_in = kind(model, parameters, sessions=others, how=how)
        if isinstance(stand_in, InnerModel):
            stand_in.compound = compound
        return stand_in


def _parameters(path: Path) -> Any:
    with Session(path) as session:
        return parameters_of(session)


def _matcher(session: Session) -> Matcher:
    return Matcher(session, _match_of(session))


def _match_of(session: Session) -> str:
    """Return how pictures are found: those of recorded cameras also in sessions without digests."""
    return "pixels" if has_digests(session) else "camera"
