"""Logins of targets, from wherever they come: used, and neither recorded nor printed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import dgrec as dgrec_package
from dgrec.config import CONFIG_NAME
from dgrec.credentials import redact_text
from dgrec.errors import ConfigError
from dgrec.publishing import parse_target
from tests.recorder.broker import Broker, Subscriber, web_server
from tests.recorder.command import Command
from tests.waiting import wait_until

SECRETS = {"password": "hunter2-Zq9", "token": "tk-Vb7xKq4WmN"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def login(url: str) -> tuple[str, str, str]:
    address = parse_target(url)
    assert not [each for each in SECRETS.values() if each in repr(address)]
    return address.user, address.password, address.token


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        ("", {}, ("", "", "")),
        ("", {"USER": "bob", "PASSWORD": "p-env", "TOKEN": "t-env"}, ("bob", "p-env", "t-env")),
        ("", {"PASSWORD_FILE": "secret", "USER": "bob"}, ("bob", "hunter2-Zq9", "")),
        ("", {"PASSWORD_FILE": "secret", "PASSWORD": "p-env"}, ("", "p-env", "")),
        ('[publish."host"]\nuser = "ann"\npassword = "p-toml"', {}, ("ann", "p-toml", "")),
        ('[publish."host:1883"]\nuser = "ann"\n[publish.host]\nuser = "x"', {}, ("ann", "", "")),
        ('[publish."host:1884"]\nuser = "ann"', {"USER": "bob"}, ("bob", "", "")),
        # What is said of this host is for it; the environment's is for others.
        ('[publish.host]\ntoken = "t-toml"', {"PASSWORD": "p-env"}, ("", "", "t-toml")),
        # Names of hosts have no capitals; TOML's have.
        ('[publish.HOST]\nuser = "ann"', {"USER": "bob"}, ("ann", "", "")),
        ('[publish."Host:1883"]\nuser = "ann"', {"PASSWORD": "p-env"}, ("ann", "", "")),
        ('[publish.host]\npassword = "${WORD}x"', {}, ("", "wordx", "")),
        ('[publish.host]\npassword_file = "secret"', {}, ("", "hunter2-Zq9", "")),
        ('[publish.host]\ntoken_file = "${FOLDER}/secret"', {}, ("", "", "hunter2-Zq9")),
    ],
)
def test_where_logins_come_from(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    environment: Mapping[str, str],
    expected: tuple[str, str, str],
) -> None:
    (folder / "secret").write_text("hunter2-Zq9\n")
    (folder / CONFIG_NAME).write_text(config)
    monkeypatch.setenv("WORD", "word")
    monkeypatch.setenv("FOLDER", str(folder))
    for name, value in environment.items():
        monkeypatch.setenv(f"DGREC_PUBLISH_{name}", value)
    assert login("mqtt://host/topic") == expected
    # What an address holds itself goes first.
    assert login("mqtt://eve:in-it@host/topic")[:2] == ("eve", "in-it")
    for secret in ("p-env", "p-toml", "t-env", "t-toml", "wordx", "hunter2-Zq9"):
        if secret in expected:
            assert redact_text(f"refused: {secret}.") == "refused: ***."


def test_the_zone_of_an_address_may_have_capitals(folder: Path) -> None:
    (folder / CONFIG_NAME).write_text('[publish."fe80::1%enP4"]\nuser = "ann"\n')
    assert login("mqtt://[fe80::1%enP4]/topic")[0] == "ann"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("publish = 3", "[publish] must be a table of hosts"),
        ("[publish]\nhost = 3", '[publish."host"] must be a table, with user, password'),
        ("[publish]\nuser = 'ann'", '[publish."user"] must be a table, with user, password'),
        # Without quotes, TOML's dots are tables in tables.
        ("[publish.a.example]\nuser = 'x'", 'stands in quotes: [publish."a.example"]'),
        ("[publish.10.0.0.7]\ntoken = 'x'", 'stands in quotes: [publish."10.0.0.7"]'),
        ("[publish.host]\npass = 'x'", "'pass' is not known; expected user, password"),
        ("[publish.host]\npassword = 3", "password must be a text"),
        ("[publish.host]\npassword = ''", "password must be a text"),
        ("[publish.host]\npassword = '${MISSING}'", "environment variable MISSING is not set"),
        ("[publish.host]\npassword = 'a'\npassword_file = 'b'", "contradict each other"),
        ("[publish.host]\npassword_file = 'missing'", "missing: cannot be read: No such file"),
        ("[publish.host]\npassword_file = 'empty'", "empty: is empty"),
        ("[publish.host]\npassword_file = 'lines'", "lines: has more than one line"),
        ("[publish.host]\ntoken_file = 'zeros'", "is larger than 10,000 bytes"),
        ("[publish.host]\ntoken_file = '.'", ": "),
        ("[publish", ": "),
    ],
)
def test_logins_that_cannot_be_used(folder: Path, config: str, words: str) -> None:
    (folder / "empty").write_text("\n")
    (folder / "lines").write_text("one-secret\nother-secret\n")
    (folder / "zeros").write_bytes(bytes(20_000))
    (folder / CONFIG_NAME).write_text(config)
    with pytest.raises(ConfigError) as caught:
        parse_target("mqtt://host/topic")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_they_are_used_and_nowhere_to_be_found(dgrec: Command, tmp_path: Path) -> None:
    outside = tmp_path.with_name(f"{tmp_path.name}-secrets")
    outside.mkdir()
    users = outside / "users"
    users.touch(mode=0o700)
    word, token = SECRETS.values()
    subprocess.run(["mosquitto_passwd", "-b", users, "ann", word], check=True)
    (outside / "word").write_text(f"{word}\n")
    settings = f"allow_anonymous false\npassword_file {users}\nuser root"
    with (
        Broker(outside, settings) as broker,
        web_server(lambda key: 204) as (url, taken, server),
        web_server(lambda key: 401) as (refusing, _, other),
        Subscriber(
            broker.port, "found", lambda client: client.username_pw_set("ann", word)
        ) as found,
    ):
        hosts = {
            f"127.0.0.1:{broker.port}": ("user", "ann", "password_file", str(outside / "word")),
            url.split("/")[2]: ("token", "${TOKEN}"),
            refusing.split("/")[2]: ("user", "ann", "password", "${WORD}"),
        }
        lines = []
        for host, items in hosts.items():
            lines.append(f'[publish."{host}"]')
            lines += [
                f'{key} = "{value}"' for key, value in zip(items[::2], items[1::2], strict=True)
            ]
        (tmp_path / CONFIG_NAME).write_text("\n".join(lines))
        done = dgrec.record(
            *("--source", "sample", "--max-frames", "3", "--output", "s.parquet"),
            *("--publish", f"mqtt://127.0.0.1:{broker.port}/found"),
            *("--publish", url, "--publish", refusing),
            env={"TOKEN": token, "WORD": word},
        )
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(found.messages) == 3)
        assert len(taken) == 3
        assert server.headers["Authorization"] == f"Bearer {token}"
        assert other.headers["Authorization"].startswith("Basic ")
    assert "401" in done.stderr
    with dgrec_package.open(tmp_path / "s.parquet") as session:
        assert "401" in json.dumps(session.metadata["notes"])
    texts = [done.stdout, done.stderr]
    texts += [each.read_bytes().decode("latin-1") for each in tmp_path.rglob("*") if each.is_file()]
    assert len(texts) >= 4
    for text in texts:
        assert not [secret for secret in SECRETS.values() if secret in text]


def test_a_file_is_named_from_the_folder_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "secret").write_text("wordofmine\n")
    (tmp_path / "dgrec.toml").write_text(
        '[publish."host"]\nuser = "ann"\npassword_file = "secret"\n[publish."other"]\nuser = 1\n'
    )
    monkeypatch.chdir(below)
    assert parse_target("mqtt://host/topic").password == "wordofmine"
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "dgrec.toml"))):
        parse_target("mqtt://other/topic")
