"""The server's figures, for Prometheus: GET /metrics. docs/metrics.md lists them.

Labels are methods, route templates, statuses and the names of ledgers: all of them bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from api.service.ledgers import Ledgers

__all__ = ["Metrics"]

SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """Counts what happens. Each server has its own registry, so that two in one process are two."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "asof_http_requests",
            "Requests that have ended",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "asof_http_request_seconds",
            "How long they took",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "asof_http_in_flight", "Requests that have not ended", registry=self.registry
        )
        self.refused = Counter(
            "asof_refused",
            "Requests that were refused before a route was reached",
            ("why",),
            registry=self.registry,
        )
        self.alarms = Counter(
            "asof_fork_alarms",
            "Times that a witness, or this one as a witness, saw what only a fork explains",
            registry=self.registry,
        )
        self._cells: dict[tuple[str, str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}

    def watch(self, ledgers: Ledgers) -> None:
        """Give the size, lag and queue of each ledger too, looked at when somebody asks."""
        self.registry.register(_OfLedgers(ledgers))

    def watch_quorums(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """Give the seconds since each ledger that has witnesses had a checkpoint with a quorum."""
        self.registry.register(_OfQuorums(ages))

    def begun(self) -> None:
        """A request has arrived."""
        self._in_flight.inc()

    def ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """It has ended. The cells are kept, as finding one costs more than counting."""
        self._in_flight.dec()
        cell = self._cells.get((method, route, status))
        if cell is None:
            cell = self._requests.labels(method, route, str(status))
            self._cells[method, route, status] = cell
        cell.inc()
        timed = self._times.get(route)
        if timed is None:
            timed = self._times[route] = self._seconds.labels(route)
        timed.observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _OfLedgers(Collector):
    """What each ledger says of itself. A store that does not answer leaves its figures out."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers

    def describe(self) -> Iterator[Metric]:
        """Nothing: the stores are not asked before somebody scrapes."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One look at each ledger."""
        from ledger.errors import AsofError

        size = GaugeMetricFamily("asof_ledger_entries", "Entries", labels=["ledger"])
        age = GaugeMetricFamily(
            "asof_ledger_last_entry_age_seconds", "Age of the newest entry", labels=["ledger"]
        )
        lag = GaugeMetricFamily(
            "asof_index_lag_entries", "Entries not yet indexed", labels=["ledger"]
        )
        asking = GaugeMetricFamily(
            "asof_questions_in_flight", "Questions asked or waiting", labels=["ledger"]
        )
        for name, here in self._ledgers.items():
            try:
                head = here.reader.head()
            except AsofError:
                continue
            size.add_metric([name], head.size)
            age.add_metric([name], max(0.0, time.time() - head.recorded_at / 1e6))
            lag.add_metric([name], max(0, head.size - here.indexed))
            asking.add_metric([name], here.asking)
        yield from (size, age, lag, asking)


class _OfQuorums(Collector):
    """How long the witnesses of each ledger have been too few."""

    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        """One look at each."""
        age = GaugeMetricFamily(
            "asof_quorum_age_seconds",
            "Since a checkpoint was cosigned by a quorum",
            labels=["ledger"],
        )
        for name, seconds in self._ages().items():
            age.add_metric([name], seconds)
        yield age
