"""A password or a token is nowhere in what ``dgrec record`` prints, writes, or names a file."""

from __future__ import annotations

import base64
import http.server
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest

from dgrec import sample
from dgrec.errors import SourceError
from dgrec.recorder.sources import open_source, parse_source
from tests.recorder.command import Command, error_of
from tests.web_server import serving

PASSWORD = "hunter2-Zq9"
TOKEN = "dg_Vb7xKq4WmN"
#: Port 9 (discard) refuses at once.
URL = f"rtsp://guard:{PASSWORD}@127.0.0.1:9/cam/main?token={TOKEN}&channel=1#{PASSWORD}"
SECRETS = ("guard", PASSWORD, TOKEN)


def written(folder: Path) -> Iterator[str]:
    """Yield the name of each file below ``folder``, and what is in it."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder))
            yield path.read_bytes().decode("latin-1")


def assert_no_secret(dgrec: Command, *texts: str) -> None:
    for text in (*texts, *written(dgrec.folder)):
        for secret in SECRETS:
            assert secret not in text, text[:500]


@pytest.mark.slow
def test_a_stream_that_cannot_be_opened(dgrec: Command) -> None:
    done = dgrec.record("--source", URL, "--stall-timeout", "5", env={"DEGIRUM_CLOUD_TOKEN": TOKEN})
    error = error_of(done)
    assert error.startswith("rtsp://***@127.0.0.1:9/cam/main?token=***&channel=***: ")
    assert_no_secret(dgrec, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_stream_from_dgrec_toml(dgrec: Command) -> None:
    (dgrec.folder / "dgrec.toml").write_text('[sources]\nyard = "${CAMERA}"\n')
    done = dgrec.record("--source", "yard", env={"CAMERA": URL})
    assert error_of(done).startswith("yard: cannot be opened")
    assert_no_secret(dgrec, done.stdout, done.stderr)


def test_what_a_session_is_called_and_says_of_its_source(tmp_path: Path) -> None:
    source = parse_source(URL)
    assert source.target == URL  # for opening it
    shown = [source.given, source.name, str(source.describe(tmp_path))]
    for secret in SECRETS:
        assert not any(secret in text for text in shown)
    assert source.name == "127.0.0.1-cam-main"


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://guard:12/{PASSWORD}@192.0.2.10/stream",
        f"rtsp://guard:12?{PASSWORD}@192.0.2.10/stream",
        f"rtsp://guard:{PASSWORD}/x@192.0.2.10/stream",
        f"rtsp://guard:#{PASSWORD}@192.0.2.10/stream",
        f"rtsp://192.0.2.10/user=guard_password={PASSWORD}_channel=1",
    ],
)
def test_a_password_that_was_not_escaped(url: str, tmp_path: Path) -> None:
    """It cannot be opened, but what it says is still a password."""
    source = parse_source(url)
    for text in (source.given, source.name, str(source.describe(tmp_path))):
        assert PASSWORD not in text


@pytest.mark.slow
def test_the_token_is_used_and_not_told(dgrec: Command) -> None:
    """The cloud cannot be reached: whatever PySDK says of that must not hold the token."""
    done = dgrec.record(
        *(
            "--source",
            "sample",
            "--model-name",
            "m",
            "--zoo-url",
            f"https://a:{PASSWORD}@127.0.0.1:9/o/z",
        ),
        "--inference-host-address",
        "@cloud",
        env={"DEGIRUM_CLOUD_TOKEN": TOKEN},
    )
    assert error_of(done).startswith("m: cannot be loaded: ")
    assert_no_secret(dgrec, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_recording_does_not_hold_the_token(dgrec: Command) -> None:
    done = dgrec.record(
        "--source",
        "sample",
        "--max-frames",
        "2",
        "--output",
        "s.parquet",
        "--model-name",
        sample.MODEL_NAME,
        "--zoo-url",
        str(sample.ZOO),
        env={"DEGIRUM_CLOUD_TOKEN": TOKEN},
    )
    assert done.returncode == 0, done.stderr
    assert os.path.getsize(dgrec.folder / "s.parquet") > 0
    assert_no_secret(dgrec, done.stdout, done.stderr)


class _AsksForLogin(http.server.BaseHTTPRequestHandler):
    """Asks for a login, and has no picture afterwards."""

    logins: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            self.logins.append(base64.b64decode(login).decode())
            self.send_error(404)
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("password", ["p@ss/1", "a#b?c:d@e", "x[1]\\y z", "p\u00e4ss%41", "100%/@"])
def test_the_camera_gets_all_of_a_password_and_nobody_else(password: str) -> None:
    _AsksForLogin.logins.clear()
    with serving(_AsksForLogin) as address:
        host = address.removeprefix("http://")
        with pytest.raises(SourceError) as caught:
            open_source(parse_source(f"http://guard:{password}@{host}/live"), stall_timeout_s=20)
    # What looks percent-encoded is.
    assert set(_AsksForLogin.logins) == {f"guard:{unquote(password)}"}
    text = str(caught.value)
    assert text.startswith(f"http://***@{host}/live: cannot be opened: ")
    assert password[:4] not in text
    assert password[-4:] not in text
