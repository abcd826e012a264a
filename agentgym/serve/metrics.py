"""Counters, gauges and histograms as Prometheus reads them."""

import threading
from bisect import bisect_left
from collections.abc import Callable

PREFIX = "agentgym_retrieval_"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

HELP = {
    "requests_total": "Requests, by dialect and HTTP status.",
    "queries_total": "Queries searched for clients.",
    "rejected_total": "Requests refused because too much waited or the index was not ready.",
    "reloads_total": "Reloads of the index, by outcome.",
    "request_seconds": "Seconds from the whole request read to the answer ready.",
    "batch_queries": "Distinct queries of one search of the index.",
    "waiting_queries": "Queries that wait for a search.",
    "passages": "Passages of the index that answers; 0 while none is loaded.",
}
BUCKETS: dict[str, tuple[float, ...]] = {"request_seconds": SECONDS, "batch_queries": QUERIES}


class Metrics:
    """What a server counts. Threads may share it."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = {}
        self._histograms = {name: [[0] * (len(edges) + 1), 0.0] for name, edges in BUCKETS.items()}
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, labels: str = "", by: float = 1) -> None:
        """Raise a counter; `labels` as they are written out: 'status="200"'."""
        with self._lock:
            self._counts[name, labels] = self._counts.get((name, labels), 0) + by

    def observe(self, name: str, value: float) -> None:
        """Put a value into a histogram."""
        with self._lock:
            histogram = self._histograms[name]
            histogram[0][bisect_left(BUCKETS[name], value)] += 1  # pyright: ignore[reportIndexIssue]
            histogram[1] += value  # pyright: ignore[reportOperatorIssue]

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show what `read` returns whenever the metrics are asked for."""
        self._gauges[name] = read

    def text(self) -> str:
        """Return all of them in Prometheus' text format."""
        with self._lock:
            counts = sorted(self._counts.items())
            histograms = {name: (list(h[0]), h[1]) for name, h in self._histograms.items()}  # pyright: ignore
        lines: list[str] = []
        for name in dict.fromkeys(name for (name, _), _ in counts):
            lines += _head(name, "counter")
            lines += [f"{PREFIX}{name}{{{labels}}} {_number(v)}" if labels else f"{PREFIX}{name} {_number(v)}" for (n, labels), v in counts if n == name]
        for name, read in self._gauges.items():
            lines += [*_head(name, "gauge"), f"{PREFIX}{name} {_number(read())}"]
        for name, (cells, total) in histograms.items():
            lines += _head(name, "histogram")
            seen = 0
            for edge, cell in zip((*BUCKETS[name], "+Inf"), cells, strict=True):
                seen += cell
                lines.append(f'{PREFIX}{name}_bucket{{le="{edge}"}} {seen}')
            lines += [f"{PREFIX}{name}_sum {_number(total)}", f"{PREFIX}{name}_count {seen}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {HELP[name]}", f"# TYPE {PREFIX}{name} {kind}"]


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
