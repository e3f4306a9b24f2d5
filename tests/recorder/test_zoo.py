"""The zoo that PySDK gets: a folder is never sent anywhere, an address is left as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from degirum import zoo_manager
from degirum._ext_zoo_accessor import ExtModelBase, ExtZooAccessorBase
from degirum.zoo_manager import ZooManager

from dgrec import sample
from dgrec.errors import ModelError
from dgrec.recorder.model import ModelRequest, load_model
from dgrec.recorder.zoo import zoo_address
from dgrec.session import open_session
from tests.recorder.command import Command, error_of
from tests.recorder.hub import Hub

NAME = sample.MODEL_NAME


class Recorded(list[tuple[str, str]]):
    """The (kind, URL) of every connection to the cloud that PySDK was to make."""


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, Recorded]]:
    """Take what PySDK would ask the cloud for to a zoo on loopback instead."""
    asked = Recorded()
    with Hub() as hub:
        for kind in ("_LocalHWCloudZooAccessor", "_CloudServerZooAccessor"):
            real = getattr(zoo_manager, kind)

            def connect(
                url: str, token: str, kind: str = kind, real: Callable[..., Any] = real
            ) -> Any:
                asked.append((kind, url))
                return real(hub.url, token)

            monkeypatch.setattr(zoo_manager, kind, connect)
        monkeypatch.setattr(
            zoo_manager,
            "_AIServerCloudZooAccessor",
            lambda host, url, token: asked.append((host, url)),
        )
        yield hub, asked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled zoo in the folder ``a/b``, below the current one."""
    zoo = tmp_path / "a" / "b"
    shutil.copytree(sample.ZOO, zoo)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return zoo


def test_the_line_for_hailo_reaches_pysdk_as_it_is(cloud: tuple[Hub, Recorded]) -> None:
    _, asked = cloud
    loaded = load_model(ModelRequest(NAME, "degirum/hailo", inference_host_address="@local"))
    assert asked == [("_LocalHWCloudZooAccessor", "https://hub.degirum.com/degirum/hailo")]
    assert loaded.description["zoo"] == "degirum/hailo"
    assert loaded.description["inference_host"] == "@local"


@pytest.mark.parametrize(
    ("zoo", "host", "expected"),
    [
        ("degirum/hailo", "", ("_LocalHWCloudZooAccessor", "https://hub.degirum.com/degirum/hailo")),
        ("degirum/hailo/", "@local", ("_LocalHWCloudZooAccessor", "https://hub.degirum.com/degirum/hailo")),
        ("https://192.0.2.1/o/z", "@local", ("_LocalHWCloudZooAccessor", "https://192.0.2.1/o/z")),
        ("https://192.0.2.1", "@local", ("_LocalHWCloudZooAccessor", "https://192.0.2.1/degirum/public")),
        ("o.rg/my-zoo_2", "192.0.2.7:8778", ("192.0.2.7:8778", "https://hub.degirum.com/o.rg/my-zoo_2")),
    ],
)  # fmt: skip
def test_addresses_in_the_cloud(
    zoo: str, host: str, expected: tuple[str, str], cloud: tuple[Hub, Recorded]
) -> None:
    _, asked = cloud
    request = ModelRequest(NAME, zoo, inference_host_address=host)
    if host.startswith("192"):  # nothing answers there
        with pytest.raises(ModelError):
            load_model(request)
    else:
        load_model(request)
    assert asked == [expected]


@pytest.mark.slow
def test_a_model_of_a_zoo_on_http_runs_here(dgrec: Command) -> None:
    """PySDK's runtime fetches it by itself; it asks with the token that it was given."""
    line = ("--source", "sample", "--every", "10", "--max-frames", "24", "--output")
    with Hub() as hub:
        done = dgrec.record(
            *line,
            "hub.parquet",
            "--model-name",
            NAME,
            "--zoo-url",
            hub.url,
            "--inference-host-address",
            "@local",
            env={"DEGIRUM_CLOUD_TOKEN": "a_token", "NO_PROXY": "127.0.0.1"},
        )
    assert done.returncode == 0, done.stderr
    assert hub.requests
    assert {token for _, token in hub.requests} == {"a_token"}
    assert dgrec.record(*line, "own.parquet").returncode == 0
    with open_session(dgrec.folder / "hub.parquet") as one:
        found = [result.results for result in one]
        assert one.metadata["model"]["zoo"] == hub.url
    with open_session(dgrec.folder / "own.parquet") as other:
        assert found == [result.results for result in other]
    assert sum(map(len, found)) > 10


# --- folders ---


@pytest.mark.parametrize(
    "request_of",
    [
        lambda zoo: ModelRequest(NAME, "a/b"),
        lambda zoo: ModelRequest(NAME, "a/b/", inference_host_address="@local"),
        lambda zoo: ModelRequest(NAME, "~/a/b"),
        lambda zoo: ModelRequest(NAME, zoo.as_uri()),
        lambda zoo: ModelRequest(NAME, f"a/b/{NAME}/{NAME}.json"),
        lambda zoo: ModelRequest(model_url=f"a/b/{NAME}"),
        lambda zoo: ModelRequest(model_url=f"a/b/{NAME}/"),
        lambda zoo: ModelRequest(model_url=f"a/b/{NAME}", inference_host_address="@local"),
        lambda zoo: ModelRequest(registry="models.yaml", alias="faces"),
        lambda zoo: ModelRequest(
            registry="models.yaml", alias="faces", inference_host_address="@local"
        ),
    ],
)
def test_a_folder_that_looks_like_an_address_stays_here(
    request_of: Callable[[Path], ModelRequest], folder: Path, cloud: tuple[Hub, Recorded]
) -> None:
    registry = f"models:\n  {NAME}:\n    alias: faces\n    description: faces\n"
    registry += "    task: faces\n    hardware: [TFLITE/CPU]\n    zoo_url: a/b\n"
    (folder.parents[1] / "models.yaml").write_text(registry)
    loaded = load_model(request_of(folder))
    assert loaded.description["inference_host"] == "@local"
    assert loaded.description["name"] == NAME
    hub, asked = cloud
    assert asked == hub.requests == []


@pytest.mark.parametrize("zoo", ["a/b", "./a/b", "~/a/b", "absolute"])
@pytest.mark.parametrize("host", ["@cloud", "192.0.2.7", "localhost:9"])
@pytest.mark.parametrize("how", ["name", "url"])
def test_a_folder_is_refused_where_it_would_leave_this_machine(
    zoo: str, host: str, how: str, folder: Path, cloud: tuple[Hub, Recorded]
) -> None:
    zoo = str(folder) if zoo == "absolute" else zoo
    request = (
        ModelRequest(NAME, zoo, inference_host_address=host)
        if how == "name"
        else ModelRequest(model_url=f"{zoo}/{NAME}", inference_host_address=host)
    )
    with pytest.raises(ModelError) as caught:
        load_model(request)
    assert str(caught.value).startswith(f"{zoo}: is on this machine, and ")
    assert "--inference-host-address @local" in str(caught.value)
    named = "(the zoo of that name in the cloud is https://hub.degirum.com/a/b)"
    assert (named in str(caught.value)) == (zoo == "a/b" and host == "@cloud")
    hub, asked = cloud
    assert asked == hub.requests == []


@pytest.mark.parametrize(
    "zoo",
    [
        *(
            "zoo",
            "./no/zoo",
            "../no/zoo",
            ".no/zoo",
            "~/no",
            "~nobody/zoo",
            "/no/zoo",
            "no/such/zoo",
        ),
        *(
            "http://192.0.2.1/zoo",
            "http://192.0.2.1/a/b/c",
            "file:///no/zoo",
            "ftp://192.0.2.1/a/b",
        ),
        "http://[::1/a/b",
        "a\0/b",
        "a" * 5000,
        "C:\\zoo",
        "aiserver://192.0.2.1",
    ],
)
@pytest.mark.parametrize("host", ["@local", "@cloud"])
def test_what_is_neither_a_folder_nor_an_address(
    zoo: str, host: str, cloud: tuple[Hub, Recorded]
) -> None:
    with pytest.raises(ModelError, match="no such zoo folder"):
        load_model(ModelRequest(NAME, zoo, inference_host_address=host))
    hub, asked = cloud
    assert asked == hub.requests == []


@pytest.mark.slow
def test_an_address_that_cannot_be_reached_may_have_been_meant_for_a_folder(
    dgrec: Command,
) -> None:
    error = error_of(dgrec.record("--source", "sample", "--zoo-url", "my/zoo", "--model-name", "m"))
    assert error.startswith("m: cannot be loaded: ")
    assert error.endswith("; nor is there a folder my/zoo")


def test_a_server_with_its_own_zoo_or_none_that_is_named() -> None:
    assert zoo_address("", "192.0.2.7") == ""
    assert zoo_address("aiserver://", "192.0.2.7") == "aiserver://"


# --- accessors that somebody registered ---


class Accessor(ExtZooAccessorBase):
    urls: list[str] = []

    def __init__(self, url: str, token: str = "") -> None:
        self.urls.append(url)
        folder = str(sample.ZOO) if url.startswith("my:") else url
        super().__init__(folder, token, devices={"TFLITE/CPU": 1}, model_class=ExtModelBase)

    def load_model(self, model: str) -> Any:
        from degirum._zoo_accessor import _LocalHWLocalZooAccessor

        return _LocalHWLocalZooAccessor(self.url).load_model(model)


@pytest.mark.parametrize("zoo", ["a/b", "my:zoo"])
def test_a_registered_accessor_is_given_the_zoo(zoo: str, folder: Path) -> None:
    ZooManager.register_zoo_accessor("@mine", Accessor)
    Accessor.urls.clear()
    try:
        loaded = load_model(ModelRequest(NAME, zoo, inference_host_address="@mine"))
    finally:
        ZooManager.register_zoo_accessor("@mine", None)
    assert Accessor.urls == [str(folder) if zoo == "a/b" else zoo]
    assert loaded.description["inference_host"] == "@mine"


# --- names ---


@pytest.mark.slow
def test_an_unknown_model_lists_the_nearest_of_many() -> None:
    names = tuple(f"other_net_{number}" for number in range(2000))
    near = ("yolov8n_coco--640x640", "yolov8s_coco--640x640")
    with Hub(names=(*names, *near)) as hub, pytest.raises(ModelError) as caught:
        load_model(ModelRequest("yolov8n_coco", hub.url, inference_host_address="@local"))
    text = str(caught.value)
    prefix = f"yolov8n_coco: is not in the zoo; {hub.url} has "
    assert text.startswith(prefix)
    listed = text.removeprefix(prefix)
    assert listed.startswith("yolov8n_coco--640x640, yolov8s_coco--640x640, ")
    assert listed.endswith(" and 1,995 more")
    assert len(text) < 500


def test_a_zoo_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m: is not in the zoo; .* has no models at all"):
        load_model(ModelRequest("m", str(tmp_path)))


def test_a_model_for_other_hardware_is_not_called_unknown(folder: Path) -> None:
    (config,) = (folder / NAME).glob("blaze*.json")
    config.write_text(config.read_text().replace("TFLITE", "HAILORT").replace("CPU", "HAILO8"))
    with pytest.raises(ModelError, match=r"cannot be loaded: .*supported runtime/device"):
        load_model(ModelRequest(NAME, "a/b"))
