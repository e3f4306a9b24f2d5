"""``dgrec.toml`` and model registries as others may write them: one line says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dgrec.config import CONFIG_NAME
from dgrec.errors import ConfigError, DgrecError, ModelError, SourceError
from dgrec.recorder.model import ModelRequest, load_model
from dgrec.recorder.sources import named_sources, parse_source

#: Text files that cannot be what they should, and a word of what is said.
ODD: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b"\xff\xfe[\0s\0", "not UTF-8"),
    "huge": (b"# " + b"x" * 2_000_000, "larger than"),
    "NUL": (b'[sources]\na = "\0"', ""),
    "lists in lists": (b"a = " + b"[" * 100_000, ""),
    "tables in tables": (b"a: " + b"{a: " * 100_000, ""),
    "no text at all": (os.urandom(1) * 0 + bytes(range(256)), ""),
    "wrong types": (b"sources = 7", ""),
    "a list": (b"sources = [1, 2]", ""),
    "no closing quote": (b'[sources]\na = "x', ""),
    "twice": (b'[sources]\na = "x"\na = "y"', ""),
    "a number": (b"[sources]\na = 7", "must be a text"),
    "empty": (b'[sources]\na = ""', "must be a text"),
    "a table": (b"[sources.a]\nb = 1", "must be a text"),
    "a name of a megabyte": (
        b"[sources]\n" + b"n" * 900_000 + b' = "cam0"',
        "is not a valid source name",
    ),
    "no name": (b'[sources]\n"" = "cam0"', "is not a valid source name"),
    "an escape in a name": (
        b'[sources]\n"\\u001b]0;x\\u0007" = "cam0"',
        "is not a valid source name",
    ),
    "a NUL in a name": (b'[sources]\n"a\\u0000b" = "cam0"', "is not a valid source name"),
}


def one_line(call: Callable[[], object], kind: type[DgrecError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("name", ODD)
def test_odd_configuration(tmp_path: Path, name: str) -> None:
    data, reason = ODD[name]
    (tmp_path / CONFIG_NAME).write_bytes(data)
    text = one_line(lambda: named_sources(tmp_path), ConfigError)
    assert str(tmp_path / CONFIG_NAME) in text
    assert reason in text


def test_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(b'\xef\xbb\xbf[sources]\n"S\xc3\xbcd" = "cam0"')
    assert named_sources(tmp_path) == {"S\u00fcd": "cam0"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / CONFIG_NAME)
    one_line(lambda: named_sources(tmp_path), ConfigError)
    request = ModelRequest(registry=str(tmp_path / CONFIG_NAME), alias="a")
    one_line(lambda: load_model(request), ModelError)


@pytest.mark.parametrize("name", ODD)
def test_odd_registries(tmp_path: Path, name: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(ODD[name][0])
    text = one_line(lambda: load_model(ModelRequest(registry=str(path), alias="a")), ModelError)
    assert str(path) in text


def test_a_name_in_the_configuration_leads_into_no_other_folder() -> None:
    for name in ("../../x", "/etc/x", "a\\b", "..", "a:b"):
        found = parse_source(name, {name: "cam0"})
        assert found.given == name
        assert not set(found.name) & set("/\\:")
        assert found.name not in ("", ".", "..")
    assert parse_source("S\u00fcd", {"S\u00fcd": "cam0"}).name == "S\u00fcd"


@pytest.mark.parametrize(
    "text",
    [
        "cam99999999999999999999",
        "cam" + "9" * 5_000,
        "cam\u0663",
        "n" * 1_000_000,
        "a" * 300,
        "a\0b",
        "",
        "  ",
        "[" * 10_000,
        "rtsp://" + "[" * 10_000,
        "asset:" + "x" * 100_000,
    ],
)
def test_odd_names_of_sources(text: str) -> None:
    if text.startswith("rtsp"):
        assert parse_source(text).given == "rtsp://***"
        return
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert "\n" not in str(caught.value)
