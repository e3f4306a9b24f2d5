"""Time of the answers of `dgrec view`, of a long session, and memory of the server.

    python -m bench.view SESSION [--repeat 3]

Each answer is asked for as the page does, over HTTP; "first" is by a server that has just started.
`python -m bench.day` makes sessions of a day.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit


class Server:
    """`dgrec view` in a process of its own."""

    def __init__(self, session: Path) -> None:
        command = [sys.executable, "-m", "dgrec", "view", str(session), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self._address = urlsplit(self.url)

    def ask(self, path: str, **query: object) -> tuple[float, bytes]:
        """Return the seconds that an answer takes, and the answer."""
        connection = http.client.HTTPConnection(self._address.netloc, timeout=300)
        token = self._address.query.removeprefix("token=")
        began = time.perf_counter()
        target = f"{path}?{urlencode(query)}"
        connection.request("GET", target, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        connection.close()
        if response.status != 200:
            raise SystemExit(f"{target}: {response.status} {body[:300]!r}")
        return seconds, body

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1000

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("session", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    best: dict[str, float] = {}
    peak = 0.0
    for _ in range(options.repeat):
        server = Server(options.session)
        try:
            for name, seconds in _measured(server):
                best[name] = min(seconds, best.get(name, seconds))
            peak = max(peak, server.peak_mb())
        finally:
            server.close()
    for name, seconds in best.items():
        print(f"| {name} | {seconds * 1000:,.0f} ms |")
    print(f"| memory of the server, at most | {peak:,.0f} MB |")


def _measured(server: Server) -> list[tuple[str, float]]:
    seconds, body = server.ask("/api/sessions")
    s = json.loads(body)["sessions"][0]["s"]
    found = [("list, first", seconds)]
    seconds, body = server.ask("/api/card", s=s)
    n = json.loads(body)["n"]
    found.append(("card, first", seconds))
    middle = n // 2
    for name, path, query in (
        ("1,000 rows in the middle", "/api/rows", {"from": middle, "to": middle + 1000}),
        (
            "what to draw over 100 of them, first",
            "/api/overlay",
            {"from": middle, "to": middle + 100},
        ),
        ("the same of the next 100", "/api/overlay", {"from": middle + 100, "to": middle + 200}),
        ("one row with all columns", "/api/row", {"i": middle}),
        ("the row nearest to a time", "/api/at", {"t": 20_000}),
        ("two lines over all of it", "/api/series", {"names": "latency_ms,inference_ms"}),
        ("the rate and all detections over all of it", "/api/series", {"names": "fps,detections"}),
        ("a line of a minute", "/api/series", {"names": "latency_ms", "from": 600, "to": 660}),
        ("marks, first", "/api/marks", {}),
        ("marks of a minute", "/api/marks", {"from": 600, "to": 660}),
        ("what limited the rate", "/api/why", {}),
    ):
        found.append((name, server.ask(path, s=s, **query)[0]))
    return found


if __name__ == "__main__":
    main()
