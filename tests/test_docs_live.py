"""The commands of the pages about services, publishing and alerts run: with the sample's footage in
the place of a camera, and with brokers and ports of this machine."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgrec import sample
from dgrec.cli import gather
from tests.recorder.broker import Broker, free_port

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("service.md", "alerts.md", "publishing.md")
ZONES = """
from degirum_tools import ZoneCounter

def analyzers():
    return [ZoneCounter([[[0, 0], [600, 0], [600, 300], [0, 300]]])]
"""
#: Frames of each recording.
FRAMES = 8


def _commands(page: str) -> list[list[str]]:
    """Return the words of the dgrec commands in a page's blocks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["dgrec"]:
                found.append(list(itertools.takewhile(lambda word: word != "|", words[1:])))
    return found


@pytest.mark.slow
def test_commands_of_services_publishing_and_alerts_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DGREC_TOKEN", "a-token-of-this-test")
    shutil.copy(sample.CLIP, "faces.mp4")
    shutil.copy(sample.SESSION, "session.parquet")
    Path("dgrec.toml").write_text('[sources]\nentrance = "faces.mp4"\n')
    # What the pages say is the user's own.
    Path("ring.py").write_text("")
    Path("zones.py").write_text(ZONES)
    text = (DOCS / "alerts.md").read_text(encoding="utf-8")
    Path("events.yaml").write_text(re.findall(r"^```yaml\n(.*?)^```", text, flags=re.M | re.S)[0])
    certificate = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    certificate += " -keyout key.pem -out cert.pem"
    subprocess.run(certificate.split(), check=True, capture_output=True)
    ports = {"8765": str(free_port()), "9100": str(free_port())}
    count = 0
    with Broker(tmp_path) as broker:
        for words in (word for page in PAGES for word in _commands(page)):
            text = shlex.join(words).replace("mqtt://broker/", f"mqtt://127.0.0.1:{broker.port}/")
            for port, free in ports.items():
                text = text.replace(port, free)
            text = text.replace("/var/lib/dgrec/", "").replace("cam0", "entrance")
            # A runner of commands has no descriptor for its standard output.
            words = shlex.split(re.sub("--publish -$", "--publish found.jsonl", text))
            if words[0] == "record":
                words += ["--max-frames", str(FRAMES)]
                words += ["--loop"] if "--continue" in words else []
            elif "--missing" in words:  # of a recording that was published there
                newest = max(Path("recordings").glob("*.parquet"), key=os.path.getmtime)
                shutil.copy(newest, "session.parquet")
            done = CliRunner().invoke(gather(), words)
            assert done.exit_code == 0, (words, done.output, done.exception)
            assert "Traceback" not in done.output, words
            count += 1
    assert count >= 15
