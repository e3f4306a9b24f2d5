"""Loads the model that DeGirum's own options name, and describes it for the metadata."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from dgrec import sample
from dgrec.analyzers import describe_attached
from dgrec.credentials import redact, redact_text
from dgrec.errors import ConfigError, ModelError
from dgrec.files import read_small_text
from dgrec.format import Metadata, json_values
from dgrec.recorder.zoo import CLOUD, LOCAL, folder_of, nearest_models, zoo_address
from dgrec.session import OVERLAY_SETTINGS
from dgrec.stand_in import model_name

#: The variable that degirum_tools reads the token from. Without it PySDK looks into its own store
#: (`degirum token install`). There is no option for it: other users can see command lines.
_TOKEN_VARIABLE = "DEGIRUM_CLOUD_TOKEN"

# A label for each of a face's six keypoints would cover the face.
_BUNDLED_OVERLAY = {
    "overlay_show_labels": False,
    "overlay_show_probabilities": True,
    "overlay_line_width": 2,
}


@dataclass(frozen=True)
class ModelRequest:
    """The model to load; all empty means the bundled one.

    Raises:
        ConfigError: It is named twice, or incompletely.
    """

    model_name: str = ""
    zoo_url: str = ""
    model_url: str = ""
    inference_host_address: str = ""
    registry: str = ""
    alias: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.registry) != bool(self.alias):
            raise ConfigError("--model-registry and --model belong together")
        given = {
            "--model-name": self.model_name,
            "--model-url": self.model_url,
            "--model-registry": self.registry,
        }
        named = [flag for flag, value in given.items() if value]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} name the model twice: give one of them")
        if self.zoo_url and not (self.model_name or self.registry):
            raise ConfigError("--zoo-url needs --model-name")
        host = self.inference_host_address
        if self.model_name and not self.zoo_url and (not host or host.startswith("@")):
            raise ConfigError(
                "--model-name needs --zoo-url (a folder, or an address such as degirum/hailo), or "
                "--inference-host-address with the address of an AI server"
            )
        if host and not named:
            raise ConfigError("--inference-host-address needs a model (--model-name)")

    @property
    def is_bundled(self) -> bool:
        return not (self.model_name or self.model_url or self.registry)


@dataclass
class LoadedModel:
    """A PySDK model, with the ``model`` and ``overlay`` of the session's metadata."""

    model: Any
    description: dict[str, Any]
    overlay: dict[str, Any]

    @property
    def metadata(self) -> Metadata:
        """The session's metadata of the model, and of the analyzers attached to it now."""
        known: Metadata = {"model": self.description, "overlay": self.overlay}
        if analyzers := describe_attached(self.model):
            known["analyzers"] = analyzers
        return known

    @property
    def labels(self) -> list[str]:
        """The labels that the model finds, as far as it names them."""
        return [str(label) for label in (self.description.get("labels") or {}).values()]

    @property
    def notes(self) -> list[str]:
        """Warnings about its settings, a line each."""
        colors = self.description.get("input_numpy_colorspace")
        is_pil = self.description.get("image_backend") == "pil"
        if colors == "RGB" or (colors == "auto" and is_pil):
            return [
                "This model expects RGB frames and gets BGR: red and blue are swapped. "
                "--property input_numpy_colorspace=BGR corrects that."
            ]
        return []


def parse_property(text: str) -> tuple[str, Any]:
    """Return the key and value of ``key=value``.

    The value is JSON, or Python as in DeGirum's guide (``True``, ``None``, ``('a', 'b')``);
    anything else is text.

    Raises:
        ConfigError: There is no key, or no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"property {text!r}: write it as key=value")
    for parse in (json.loads, ast.literal_eval):
        try:
            return key.strip(), parse(value.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return key.strip(), value


def load_model(request: ModelRequest) -> LoadedModel:
    """Load the model that ``request`` names, with its timing switched on.

    Raises:
        ModelError: The zoo cannot be reached, has no such model, or refuses a property.
    """
    lead_path_to_this_python()
    properties = dict(request.properties)
    _take_timing_property(properties)
    name, zoo, host, model = _connect_and_load(request, properties)
    model.measure_time = True
    facts = {
        "name": name,
        "zoo": zoo,
        "inference_host": host,
        **_describe(model),
        "properties": json_values.plain(properties),
    }
    if request.registry:
        facts["registry"] = {"file": redact(request.registry), "alias": request.alias}
    return LoadedModel(model, facts, _describe_overlay(model))


def describe_model(model: Any) -> LoadedModel:
    """Return a model that a program has loaded, with its description in a session.

    Raises:
        ConfigError: It is not like a PySDK model.
    """
    if not callable(getattr(model, "predict_batch", None)):
        raise ConfigError(f"a {type(model).__name__} is not a model: it has no predict_batch()")
    facts: dict[str, Any] = {"name": model_name(model), "inference_host": _host_of(model)}
    try:
        described = {**facts, **_describe(model)}
        overlay = _describe_overlay(model)
    except Exception:  # a model of the program's own, with only some of PySDK's methods
        return LoadedModel(model, facts, {})
    inner = [getattr(model, name, None) for name in ("model1", "model2")]
    if (parts := [each for each in inner if each is not None]) and "model1" in vars(model):
        described["compound"] = type(model).__name__
        described["models"] = [describe_model(each).description for each in parts]
    return LoadedModel(model, described, overlay)


def _host_of(model: Any) -> str | None:
    """Return where a model runs, in the words of ``inference_host_address``."""
    from degirum import model as models

    own = vars(model)
    if "model1" in own:
        return _host_of(own["model1"])
    for name, host in (("_CloudServerModel", CLOUD), ("_ClientModel", LOCAL)):
        if isinstance(model, getattr(models, name, ())):
            return host
    host = own.get("_host")  # an AI server's model has it, and a recording in its place
    return None if host is None else str(host)


def lead_path_to_this_python() -> None:
    """Have PySDK run Python postprocessors with this interpreter, and without Ctrl-C.

    It runs them in a worker that it starts with the first ``python3`` on PATH. In a virtual
    environment that is not activated this is another Python, without PySDK's libraries: the worker
    dies, and the first inference waits for ever. The same happens when a terminal sends Ctrl-C to
    the worker as well. The script in ``worker`` prevents both.
    """
    worker = Path(__file__).with_name("worker")
    if not os.access(worker / "python3", os.X_OK):
        worker = Path(sys.executable).parent
    os.environ["DGREC_PYTHON"] = sys.executable
    entries = os.environ.get("PATH", "").split(os.pathsep)
    if entries[0] != str(worker):
        os.environ["PATH"] = os.pathsep.join([str(worker), *entries])


def _take_timing_property(properties: dict[str, Any]) -> None:
    """Remove the property that DeGirum's guide switches timing on with: here it is always on.

    PySDK 1.5 refuses ``"postprocess": {"timing": {"enable": true}}``.
    """
    postprocess = properties.get("postprocess")
    if isinstance(postprocess, dict) and set(postprocess) == {"timing"}:
        del properties["postprocess"]


def _connect_and_load(
    request: ModelRequest, properties: dict[str, Any]
) -> tuple[str, str, str, Any]:
    """Return (model name, zoo as recorded, inference host, PySDK model)."""
    token = os.environ.get(_TOKEN_VARIABLE) or None
    if request.registry:
        return _load_from_registry(request, properties, token)
    from degirum_tools import ModelSpec

    if request.is_bundled:
        spec = ModelSpec(
            model_name=sample.MODEL_NAME,
            zoo_url=str(sample.ZOO),
            inference_host_address=LOCAL,
            model_properties={**_BUNDLED_OVERLAY, **properties},
        )
        return (sample.MODEL_NAME, "sample", LOCAL, _load(spec, sample.MODEL_NAME))
    try:
        spec = ModelSpec(
            model_name=request.model_name,
            zoo_url=request.zoo_url,
            model_url=request.model_url.rstrip("/"),
            inference_host_address=request.inference_host_address or CLOUD,
            token=token,
            model_properties=properties,
        )
    except ValueError as error:
        raise ModelError(f"{_which(request)}: {_one_line(error)}") from None
    is_named = bool(request.inference_host_address)
    host = spec.inference_host_address
    if not is_named and (request.zoo_url or folder_of(spec.zoo_url)):
        host = LOCAL
    return spec.model_name, redact(spec.zoo_url), host, _load_at(spec, host, _which(request))


def _load_from_registry(
    request: ModelRequest, properties: dict[str, Any], token: str | None
) -> tuple[str, str, str, Any]:
    from degirum_tools import ModelRegistry

    where = redact(request.registry)
    if "://" not in request.registry:
        try:
            read_small_text(Path(request.registry))
        except OSError as error:
            raise ModelError(f"{where}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ModelError(f"{where}: {error}") from None
    try:
        registry = ModelRegistry(config_file=request.registry).for_alias(request.alias)
        specs = registry.all_model_specs(
            inference_host_address=request.inference_host_address or None,
            zoo_url=request.zoo_url or None,
            token=token,
            model_properties=properties or None,
        )
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # jsonschema's, yaml's and requests' own errors
        # jsonschema's full text repeats the schema and the whole file; its message does not.
        reason = redact_text(str(getattr(error, "message", ""))) or _one_line(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise ModelError(f"{where}: not a model registry: {reason[:300]}") from None
    if not specs:
        raise ModelError(f"{where}: has no model with the alias {request.alias!r}")
    spec = specs[0]
    host = spec.inference_host_address
    if not request.inference_host_address and host == CLOUD and folder_of(spec.zoo_url):
        host = LOCAL  # a registry that names no host means the cloud
    loaded = _load_at(spec, host, f"{where}: {request.alias}")
    return spec.model_name, redact(spec.zoo_url), host, loaded


def _load_at(spec: Any, host: str, name: str) -> Any:
    """Load a model for inference on ``host``, with its zoo's address as PySDK expects it."""
    address = zoo_address(spec.zoo_url, host)
    return _load(replace(spec, model_url="", zoo_url=address, inference_host_address=host), name)


def _load(spec: Any, name: str) -> Any:
    try:
        zoo = spec.zoo_connect()
    except Exception as error:  # PySDK's own, or of sockets, JSON, missing files below it
        # Without a scheme it may have been meant as a folder.
        bare = "/" in spec.zoo_url and "://" not in spec.zoo_url and not folder_of(spec.zoo_url)
        folder = f"; nor is there a folder {redact(spec.zoo_url)}" if bare else ""
        raise ModelError(f"{name}: cannot be loaded: {_complaint(error, spec)}{folder}") from None
    try:
        return spec.load_model(zoo)
    except Exception as error:
        _explain(error, zoo, spec, name)


def _explain(error: Exception, zoo: Any, spec: Any, name: str) -> NoReturn:
    """Raise the error for a model that cannot be loaded from a zoo that can be reached."""
    others = nearest_models(zoo, spec.model_name)
    if others is not None:
        where = redact(spec.zoo_url) or f"the AI server at {redact(spec.inference_host_address)}"
        text = redact_text(f"{name}: is not in the zoo; {where} has {others}")
    elif (refused := _refused_property(zoo, spec)) is not None:
        text = f"{name}: {refused}"
    else:
        text = f"{name}: cannot be loaded: {_complaint(error, spec)}"
    raise ModelError(text) from None


def _refused_property(zoo: Any, spec: Any) -> str | None:
    """Return which property of the model is refused, and why: PySDK itself may not say which."""
    try:
        zoo.load_model(spec.model_name)
    except Exception:  # then no property is to blame
        return None
    for key, value in spec.model_properties.items():
        try:
            zoo.load_model(spec.model_name, **{key: value})
        except Exception as error:
            why = _complaint(error, spec)
            if "Unable to cast Python instance" in why:
                why = "its value has to be of another type"
            text = redact_text(value if isinstance(value, str) else json_values.dumps(value))
            return f"property {key}={text} is refused: {why}"
    return None


def _complaint(error: Exception, spec: Any) -> str:
    from degirum.exceptions import DegirumException

    kind = "" if isinstance(error, DegirumException) else f"{type(error).__name__}: "
    text = _one_line(error)
    # PySDK quotes the zoo's address without its scheme, so that it is not recognised as a URL.
    login, at, _ = spec.zoo_url.partition("://")[2].partition("/")[0].rpartition("@")
    return kind + (text.replace(f"{login}@", "***@") if at else text)


def _which(request: ModelRequest) -> str:
    return redact(request.model_url) or request.model_name


def _one_line(error: BaseException) -> str:
    """Return an error's text on one line and without secrets."""
    lines = [line.strip() for line in redact_text(str(error)).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _describe(model: Any) -> dict[str, Any]:
    info = model.model_info
    labels = {str(key): value for key, value in model.label_dictionary.items()}
    return {
        "result_type": model.get_inference_results_type(),
        "device": _attribute(model, "device_type"),
        "devices": _attribute(model, "devices_selected"),
        "python_postprocessor": _has_python_postprocessor(model),
        "checksum": getattr(info, "Checksum", None) or None,
        "input_shape": json_values.plain(_attribute(model, "input_shape")),
        "image_backend": _attribute(model, "image_backend"),
        "input_numpy_colorspace": _attribute(model, "input_numpy_colorspace"),
        "labels": labels,
        "parameters": {
            name: json_values.plain(_attribute(model, name))
            for name in dir(type(model))
            if name.startswith(("output_", "input_", "inference_"))
            and name not in ("input_shape", "inference_results_type")
            and isinstance(getattr(type(model), name, None), property)
        },
    }


def _has_python_postprocessor(model: Any) -> bool | None:
    """Return whether the model has a Python postprocessor, for which PySDK has one worker."""
    try:
        return bool(model._model_parameters.PythonFile)
    except Exception:  # private to PySDK: another version may not have it
        return None


def _attribute(model: Any, name: str) -> Any:
    try:
        return json_values.plain(getattr(model, name))
    except Exception:  # a property that this model has no parameter for
        return None


def _describe_overlay(model: Any) -> dict[str, Any]:
    """Return the settings of the model's overlay."""
    settings = {name: _attribute(model, f"overlay_{name}") for name in OVERLAY_SETTINGS}
    settings["fill_color"] = _attribute(model, "input_letterbox_fill_color")
    return settings
