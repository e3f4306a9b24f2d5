"""`dgrec view` as users run it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgrec import sample
from dgrec.cli import gather
from dgrec.errors import ConfigError
from dgrec.replay.viewing import parse_listen
from tests.waiting import PATIENCE_S, wait_until

_COMMAND = (sys.executable, "-W", "error", "-m", "dgrec", "view", "--no-browser")


@contextlib.contextmanager
def viewing(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give its process, and the address that it prints."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "dgrec",
            "view",
            "--no-browser",
            *map(str, arguments),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.communicate()
        yield process, address
    finally:
        process.kill()
        process.communicate()


def listed(address: str, context: ssl.SSLContext | None = None) -> bytes:
    url = address.replace("/?", "/api/sessions?")
    with urllib.request.urlopen(url, timeout=PATIENCE_S, context=context) as answer:
        found: bytes = answer.read()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_shows_this_folder_until_it_is_ended(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with viewing(tmp_path) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert listed(address) == b'{"sessions":[]}'
        shutil.copy(sample.SESSION, tmp_path / "new.parquet")
        (tmp_path / "recordings").mkdir()
        shutil.copy(sample.SESSION, tmp_path / "recordings" / "other.parquet")
        while b'"s":"new"' not in (found := listed(address)):
            pass
        assert b'"s":"other"' in found
        port = int(address.partition("/?")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):  # and asks nothing
            process.send_signal(number)
            output, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output, errors) == (code, "", "")


_BUSY = """
import pathlib, sys, threading
from dgrec.cli import main
from dgrec.replay.viewing import server

def work():
    pathlib.Path("busy").touch()
    threading.Event().wait()

server.ViewServer.prepare = lambda self: self._workers.submit(work)
sys.argv[1:] = ["view", "--no-browser"]
main()
"""


@pytest.mark.slow
def test_it_ends_while_a_thread_is_busy(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _BUSY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http")
        wait_until((tmp_path / "busy").exists, process=process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (143, "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_tls_and_another_address(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    shutil.copy(sample.SESSION, tmp_path / "s.parquet")
    trusting = ssl.create_default_context(cafile=str(certificate))
    options = ("s", "--cert", certificate, "--key", key)
    with viewing(tmp_path, *options) as (_, address):
        assert address.startswith("https://127.0.0.1:")
        assert b'"s":"s"' in listed(address, trusting)
        opener = urllib.request.build_opener(
            _NoRedirect, urllib.request.HTTPSHandler(context=trusting)
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(address, timeout=PATIENCE_S)
        cookie = caught.value.headers["Set-Cookie"]
        caught.value.close()
        assert cookie.startswith("__Host-dgrec-")
        assert "Secure" in cookie
    with viewing(tmp_path, "s", "--listen", "0.0.0.0:0") as (process, address):
        assert f"http://{socket.gethostname()}:" in address
        assert process.stderr is not None
        assert "ssh -L" in process.stderr.readline()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def test_addresses() -> None:
    assert parse_listen("") == ("127.0.0.1", 0)
    assert parse_listen("8080") == ("127.0.0.1", 8080)
    assert parse_listen("cam.local:80") == ("cam.local", 80)
    assert parse_listen("[::1]:80") == ("::1", 80)
    for text in ("x", "1:2:3", "host:", ":80", "host:65536", "host:-1", "[::1]", "٣"):
        with pytest.raises(ConfigError, match="is not a valid address"):
            parse_listen(text)


def test_what_cannot_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, code, text in (
        (["nothing"], 1, "nothing: there is no such folder or session"),
        (["--key", "k"], 2, "--key goes with --cert"),
        (["--listen", "x"], 2, "'x' is not a valid address"),
        (["--export", "x", "--no-downloads"], 2, "--export serves nothing"),
        (["--export", "x", "--frame", "3"], 2, "--export serves nothing: it goes without --frame"),
        (["--export", "x", "--at", "3s"], 2, "--export serves nothing: it goes without --at"),
        (["--cert", "none.pem"], 1, "certificate none.pem: No such file"),
        (["--listen", "192.0.2.1:80"], 1, "192.0.2.1:80: cannot be served"),
    ):
        result = CliRunner().invoke(gather(), ["view", "--no-browser", *arguments])
        assert result.exit_code == code, arguments
        assert text in result.output, arguments
