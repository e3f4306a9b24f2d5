"""Clips, exports and pictures that pages have made."""

from __future__ import annotations

import contextlib
import csv
import errno
import http.client
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from dgrec import sample
from dgrec.replay.viewing import downloads as downloads_module
from dgrec.replay.viewing.downloads import command
from dgrec.replay.viewing.server import ViewServer
from tests.factory import write_session
from tests.replay.viewing.client import Client, served
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    folder = tmp_path / "recordings"
    folder.mkdir()
    shutil.copy(sample.SESSION, folder / "the door.parquet")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with served(folder) as found:
        yield found
    assert not list((tmp_path / "temporary").iterdir())


def made(client: Client, **query: object) -> tuple[str, bytes]:
    """Return the name of what is made, and its bytes."""
    found = client.json("/api/make", s="the door", **query)
    status, headers, body = client.ask("/made", id=found["id"])
    assert (status, len(body)) == (200, found["bytes"])
    assert headers["Content-Disposition"].startswith("attachment; ")
    return found["name"], body


def test_what_is_made_is_what_the_commands_make(client: Client, tmp_path: Path) -> None:
    assert client.json("/api/downloads") == {"are_allowed": True}
    name, body = made(client, kind="clip", first=80, last=89)
    assert name == "the_door-80-89.parquet"
    clip = pq.read_table(io.BytesIO(body))
    whole = pq.read_table(sample.SESSION)
    assert clip.column("detections").equals(whole.column("detections").slice(80, 10))
    name, body = made(client, kind="export", format="csv", first=80, last=89)
    assert name == "the_door-80-89.csv"
    lines = list(csv.DictReader(io.StringIO(body.decode())))
    expected = sum(map(len, whole.column("detections").slice(80, 10).to_pylist()))
    assert len(lines) == expected > 0
    name, body = made(client, kind="export", format="yolo", first=0, last=4)
    assert name == "the_door-0-4-yolo.zip"
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        assert any(each.endswith(("classes.txt", ".yaml")) for each in archive.namelist())
    name, body = made(client, kind="png", first=0, last=19)
    assert name == "the_door-0-19.png"
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[1] > 100
    # Of four, the first is not kept.
    assert len(list((tmp_path / "temporary").rglob("the_door*"))) >= 3
    assert not list((tmp_path / "temporary").rglob("the_door-80-89.parquet"))


def test_what_cannot_be_made(client: Client) -> None:
    def refused(**query: object) -> tuple[int, str]:
        return client.refused("/api/make", s="the door", **query)

    assert refused(kind="all", first=0, last=1)[0] == 400
    status, error = refused(kind="export", format="../x", first=0, last=1)
    assert status == 422
    assert "is not a format" in error
    assert refused(kind="clip", first="a", last=1) == (400, "first: 'a' is not a whole number")
    assert client.refused("/api/make", s="no", kind="clip", first=0, last=1)[0] == 404
    assert client.refused("/made", id="../../etc/passwd")[0] == 404
    folder = next(iter(client.server.recordings.names().values())).parent
    write_session(folder / "empty.parquet", [])
    found = client.refused("/api/make", s="empty", kind="clip", first=0, last=1)
    assert found == (422, "nothing was recorded: there are no frames")
    session = folder / "the door.parquet"
    session.write_bytes(session.read_bytes()[:-5000])
    status, error = refused(kind="clip", first=0, last=1)
    assert status == 422
    assert "\n" not in error
    assert "Traceback" not in error


def test_names_and_paths_are_never_options(tmp_path: Path) -> None:
    for stem in ("--overwrite", "../../etc/x", "a b\n", "-", "", "ü/..\\"):
        arguments, name = command(tmp_path / "-s.parquet", "clip", 0, 1, "", stem)
        output = arguments[arguments.index("-o") + 1]
        assert Path(output).name == output
        assert not output.startswith(("-", "."))
        assert name
        assert Path(arguments[1]).is_absolute()


def test_names_are_short_enough_and_stay_what_they_are() -> None:
    for stem, expected in {
        "नमस्ते": "नमस्ते",
        "cafe\u0301 \u202etxt": "cafe\u0301_txt",
        "漢" * 80: "漢" * 40,
        "__a__b": "a__b",
        "$(x) \udcff": "x",
        "🎥": "session",
    }.items():
        _, name = command(Path("s.parquet"), "clip", 10**9, 10**9, "", stem)
        assert name == f"{expected}-1000000000-1000000000"
        assert len(name.encode()) < 200


def test_what_takes_too_much_room_is_stopped(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import pathlib, time\n"
        "for i in range(100): pathlib.Path(str(i)).write_bytes(bytes(10_000))\n"
        "time.sleep(600)"
    )
    query = {"kind": "export", "format": "yolo", "first": 0, "last": 4}
    monkeypatch.setattr(
        downloads_module, "_command", lambda arguments: [sys.executable, "-c", program]
    )
    with monkeypatch.context() as patch:
        patch.setattr(downloads_module, "_MOST_BYTES", 500_000)
        status, error = client.refused("/api/make", s="the door", **query)
        assert (status, error) == (422, "it becomes too large to be downloaded: run the command")
    with monkeypatch.context() as patch:
        patch.setattr(downloads_module, "_LEAST_FREE", 10**18)
        status, error = client.refused("/api/make", s="the door", **query)
        assert (status, error) == (
            507,
            f"{tmp_path}/temporary: too little room; run the command, or set TMPDIR",
        )
    # What was made of it is gone, and the folder may be, too.
    (place,) = (tmp_path / "temporary").iterdir()
    assert not list(place.iterdir())
    place.rmdir()
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert made(client, **query)[0] == "the_door-0-4-yolo.zip"


def test_a_full_disk_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x.zip")

    monkeypatch.setattr("zipfile.ZipFile.write", full)
    query = {"kind": "export", "format": "mot", "first": 0, "last": 4}
    status, error = client.refused("/api/make", s="the door", **query)
    assert (status, error) == (422, "x.zip: cannot be written: No space left on device")


def test_they_are_not_made_where_that_is_not_allowed(tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "s.parquet")
    server = ViewServer([tmp_path], "127.0.0.1", 0, has_downloads=False)
    try:
        client = Client(server)
        assert client.json("/api/downloads") == {"are_allowed": False}
        status, reason = client.refused("/api/make", s="s", kind="clip", first=0, last=1)
        assert (status, reason) == (403, "downloads are off; dgrec view --downloads allows them")
        assert client.refused("/made", id="x")[0] == 403
    finally:
        server.close()


def test_one_at_a_time_and_none_that_nobody_waits_for(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    program = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    headers = {"Authorization": f"Bearer {client.token}"}
    query = "s=the%20door&kind=clip&first=0&last=1"
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=PATIENCE_S)
    with monkeypatch.context() as patch:
        patch.setattr(
            downloads_module, "_command", lambda arguments: [sys.executable, "-c", program]
        )
        connection.request("GET", f"/api/make?{query}", headers=headers)
        wait_until(started.exists)
        status, error = client.refused("/api/make", s="the door", kind="clip", first=0, last=1)
        assert (status, error) == (503, "something else is being made; try again in a moment")
    connection.close()  # nobody waits for it any more
    wait_until(lambda: client.ask("/api/make?" + query)[0] == 200)


#: `dgrec view`, by which every download takes for ever.
_ENDLESS = """
import sys
from dgrec.cli import main
from dgrec.replay.viewing import downloads
endless = ["view", "--no-browser", sys.argv[1]]
command = downloads._command
downloads._command = lambda arguments: command(endless)
sys.argv[1:] = endless
main()
"""


def test_it_ends_where_the_server_is_killed(tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "s.parquet")
    server = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    made: list[psutil.Process] = []
    try:
        assert server.stdout is not None
        address, _, token = server.stdout.readline().strip().partition("/?token=")
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)
        headers = {"Authorization": f"Bearer {token}"}
        with contextlib.closing(connection):
            connection.request("GET", "/api/make?s=s&kind=clip&first=0&last=1", headers=headers)
            wait_until(lambda: bool(psutil.Process(server.pid).children()))
            made += psutil.Process(server.pid).children()
            server.kill()
            server.wait()
        wait_until(lambda: not made[0].is_running())
    finally:
        server.kill()
        server.communicate()
        for process in made:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
