"""Figures of running recordings for Prometheus."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

from dgrec.credentials import redact_text
from dgrec.errors import ConfigError, OutputError
from dgrec.format import Event, Row, is_kept_whole, is_utf8, stage_values
from dgrec.recorder.outputs.output import Output, OutputQueue
from dgrec.recorder.outputs.publisher import Publisher

if TYPE_CHECKING:
    from aiohttp import web
    from prometheus_client.metrics_core import Metric

    from dgrec.recorder.session_writer import SessionWriter
    from dgrec.serving import Server

_PATH: Final = "/metrics"
#: Labels beyond this number are counted as one (`_OTHER`): each would be a series of its own. So
#: are labels that are longer than names.
_MOST_LABELS: Final = 100
_LONGEST_LABEL: Final = 200
_OTHER: Final = "other"
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricsAddress(NamedTuple):
    """The address that figures are served at; ``cert`` and ``key`` are files, for TLS."""

    host: str
    port: int
    cert: str = ""
    key: str = ""


def parse_metrics_address(text: str) -> MetricsAddress:
    """Return the address that ``[HOST:]PORT[?cert=FILE&key=FILE]`` names.

    Raises:
        ConfigError: It is not one.
    """
    place, _, query = text.partition("?")
    host, _, port = place.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 2**16
    if not is_port or text.startswith(":"):
        raise ConfigError(f"--metrics {text!r}: expected PORT or HOST:PORT, such as 9100")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if (query and "cert" not in options) or not options.keys() <= {"cert", "key"}:
        raise ConfigError(f"--metrics {place}: expected ?cert=FILE&key=FILE behind it")
    return MetricsAddress(host.strip("[]") or "127.0.0.1", int(port), **options)


class Metrics(Output):
    """Serves figures of a recording at ``http://HOST:PORT/metrics``, while it goes on.

    Recordings of one process may share an address.

    Args:
        address: ``PORT`` (of this machine only), or ``HOST:PORT``; see `parse_metrics_address`.
        source: The label ``source`` of all figures.

    Raises:
        ConfigError: It is not an address, or prometheus_client is not installed.
        OutputError: The address cannot be served.
    """

    name = "metrics"

    def __init__(self, address: str, source: str) -> None:
        parsed = parse_metrics_address(address)
        try:
            import prometheus_client  # noqa: F401
        except ImportError:
            raise ConfigError(
                "--metrics: needs prometheus_client: `pip install 'dgrec[metrics]'`"
            ) from None
        self.source = _shown(source)
        self.figures = Figures()
        self.lock = threading.Lock()
        self.writer: SessionWriter | None = None
        try:
            self._page = _open_page(parsed, self)
        except (ConfigError, OutputError) as error:
            raise type(error)(f"--metrics {address}: {error}") from None

    def watch(self, writer: SessionWriter) -> None:
        self.writer = writer
        writer.targets.published.on_published = self._published

    def frame(self, row: Row, result: Any) -> None:
        with self.lock:
            self.figures.add(row)

    def event(self, event: Event) -> None:
        if event["kind"] == "gap":
            with self.lock:
                self.figures.gaps += 1

    def _published(self, published_ms: float) -> None:
        with self.lock:
            self.figures.add_stage("published", published_ms / 1e3)

    def close(self) -> None:
        _close_page(self._page, self)


@dataclass
class Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, how many are at most that)."""
        found, total = [], 0
        for bound, count in zip((*_BUCKETS_S, "+Inf"), self.counts, strict=True):
            total += count
            found.append((str(bound), float(total)))
        return found


@dataclass
class Figures:
    """The counts of a recording's frames, and of what is in them."""

    frames: int = 0
    detections: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Histogram] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=lambda: Counter(camera=0, queue=0))
    recorder_ns: int = 0
    gaps: int = 0

    def add(self, row: Row) -> None:
        self.frames += 1
        self.recorder_ns += row.recorder_ns
        self.dropped["camera"] += row.dropped_camera
        self.dropped["queue"] += row.dropped_queue
        for item in row.results if isinstance(row.results, list) else ():
            self.detections[self._known(_label_of(item))] += 1
        self.add_stage("read", row.read_ns / 1e9)
        if row.is_capture_known:
            self.add_stage("end_to_end", (row.completed_ns - row.captured_ns) / 1e9)
        for name, value in stage_values(row.timing).items():
            if value is not None and math.isfinite(value):
                self.add_stage(name.removesuffix("_ms"), value / 1e3)

    def _known(self, label: str) -> str:
        if label in self.detections:
            return label
        is_short = len(label) <= _LONGEST_LABEL
        return label if is_short and len(self.detections) < _MOST_LABELS else _OTHER

    def add_stage(self, name: str, seconds: float) -> None:
        self.stages.setdefault(name, Histogram()).add(seconds)


@dataclass
class _OutputFigures:
    """The counts of outputs by their names, which several may share."""

    waiting: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, queues: Iterable[OutputQueue]) -> _OutputFigures:
        figures = cls()
        for queue in queues:
            name = _shown(queue.output.name)
            figures.waiting[name] += queue.depth
            figures.left_out[name] += queue.left_out
            if isinstance(queue.output, Publisher):
                figures.published[name] += queue.output.delivered
        return figures


def _label_of(item: Any) -> str:
    """Return the label of a detection as SQL has it; "" where that is NULL."""
    label = None if is_kept_whole(item) else item.get("label")
    return _without_nul(label) if isinstance(label, str) and is_utf8(label) else ""


def _shown(name: str) -> str:
    """Return a name in a form that UTF-8 can hold; the name of a file may be any bytes."""
    return _without_nul(redact_text(name).encode(errors="backslashreplace").decode())


def _without_nul(text: str) -> str:
    # Prometheus refuses all figures if one of them has a NUL in a label.
    return text.replace("\0", "\\0")


class _Page:
    """The figures of all recordings that share an address; collected when they are asked for."""

    def __init__(self, server: Server) -> None:
        from prometheus_client import CollectorRegistry

        self.server = server
        self.members: list[Metrics] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # it has `collect`

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        from dgrec.serving import HEADERS

        return web.Response(
            body=generate_latest(self._registry),
            headers={**HEADERS, "Content-Type": CONTENT_TYPE_LATEST},
        )

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        def counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
            return CounterMetricFamily(f"dgrec_{name}", text, labels=["source", *labels])

        def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"dgrec_{name}", text, labels=["source", *labels])

        frames = counter("frames", "Frames that were recorded.")
        detections = counter("detections", "Detections, by label.", "label")
        recorder = counter("recorder_seconds", "Time that recording took in the inference loop.")
        dropped = counter("frames_dropped", "Frames that were lost, by where.", "place")
        gaps = counter("source_gaps", "How often a live source was lost.")
        left_out = counter("output_left_out_frames", "Frames an output was too slow for.", "output")
        published = counter("published_messages", "Messages that a target has taken.", "target")
        waiting = gauge("output_queue_frames", "Frames that wait for an output.", "output")
        free = gauge("disk_free_bytes", "Room on the disk that is recorded to.")
        stages = HistogramMetricFamily(
            "dgrec_stage_duration_seconds",
            "How long the stages of a frame took.",
            labels=["source", "stage"],
        )
        for member in list(self.members):
            source, writer = member.source, member.writer
            with member.lock:
                figures = member.figures
                frames.add_metric([source], figures.frames)
                recorder.add_metric([source], figures.recorder_ns / 1e9)
                gaps.add_metric([source], figures.gaps)
                for label, count in figures.detections.items():
                    detections.add_metric([source, label], count)
                for place, count in figures.dropped.items():
                    dropped.add_metric([source, place], count)
                for stage, histogram in figures.stages.items():
                    stages.add_metric([source, stage], histogram.buckets(), histogram.sum_s)
            if writer is None:
                continue
            dropped.add_metric([source, "writer"], writer.dropped)
            with contextlib.suppress(OSError):  # the folder is gone
                free.add_metric([source], shutil.disk_usage(writer.output.parent).free)
            outputs = _OutputFigures.of([q for q in writer.outputs if q.output is not member])
            for name, count in outputs.waiting.items():
                waiting.add_metric([source, name], count)
            for name, count in outputs.left_out.items():
                left_out.add_metric([source, name], count)
            for name, count in outputs.published.items():
                published.add_metric([source, name], count)
        yield from (frames, detections, stages, dropped, gaps, recorder)
        yield from (waiting, left_out, published, free)


_lock = threading.Lock()
_pages: dict[Server, _Page] = {}


def _open_page(address: MetricsAddress, member: Metrics) -> _Page:
    from dgrec.serving import Certificate, Route, open_server

    certificate = Certificate(address.cert, address.key) if address.cert else None
    server = open_server(address.host, address.port, certificate)
    with _lock:
        page = _pages.get(server)
        try:
            if page is None:
                page = _Page(server)
                server.add(_PATH, Route(page.answer, is_public=True))
                _pages[server] = page
            if any(each.source == member.source for each in page.members):
                raise OutputError(f"the metrics of {member.source} are served already")
        except BaseException:
            server.close()
            raise
        page.members.append(member)
    return page


def _close_page(page: _Page, member: Metrics) -> None:
    with _lock:
        page.members.remove(member)
        if not page.members:
            del _pages[page.server]
            page.server.remove(_PATH)
    page.server.close()
