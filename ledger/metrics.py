"""Owns every metric: one line each, with its unit. No label takes a key id; orgs beyond the hundredth are `other`.

Counters and histograms say what this process did: they are summed over processes. The gauges of the books (`BooksGauges`)
say what is saved, and one process at a time shows them (`gauges.py`).
"""

import re
from collections import Counter as Counts
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .core.batch import RECORDED, Batch
from .core.caps import Action, Enforce
from .core.commands import Reason, RecordUsage, Status
from .core.entries import CapBreached, Entry, KeyLeaking, KeyRegistered, UsageRecorded
from .core.money import USD
from .core.window import SECOND_US, Period
from .record import Booked
from .store.gauges import MOST_ORGS, OTHER, Now, Slow

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_PERIOD_S = {Period.HOUR: 3600, Period.DAY: 86_400, Period.WEEK: 604_800, Period.MONTH: 2_629_800, Period.YEAR: 31_557_600}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self, drift_percent: int = 5) -> None:
        self._drift_percent = drift_percent
        disable_created_metrics()  # a second series for every counter, which nobody reads
        r = self.registry = CollectorRegistry()
        self.events = Counter("ledger_events_total", "Commands by outcome (count).", ["outcome"], registry=r)
        self.spend = Counter("ledger_spend_usd_total", "Billed spend booked by this process (US dollars).", ["org"], registry=r)
        self.unpriced = Counter("ledger_unpriced_calls_total", "Calls booked without a price (count).", registry=r)
        self.apart = Counter(
            "ledger_price_drift_calls_total", "Calls whose reported cost is far from the rate card's price (count).", registry=r
        )
        self.late = Counter("ledger_late_events_total", "Usage booked more than an hour after its own time (count).", registry=r)
        self.strangers = Counter("ledger_unknown_keys_total", "Keys that registered themselves by their usage (count).", registry=r)
        self.mismatches = Counter(
            "ledger_workspace_mismatches_total", "Events that claimed another workspace than their key's (count).", registry=r
        )
        self.breaches = Counter("ledger_breaches_total", "Breaches opened (count).", ["action", "enforce"], registry=r)
        self.batch_seconds = Histogram("ledger_batch_seconds", "Time to book one batch (seconds).", buckets=_LATENCY_S, registry=r)
        self.batch_size = Histogram(
            "ledger_batch_commands", "Commands in one batch (count).", buckets=(1, 10, 100, 500, 1000, 5000, 20000), registry=r
        )
        self.request_seconds = Histogram(
            "ledger_usage_request_seconds", "Time to answer a POST of usage (seconds).", buckets=_LATENCY_S, registry=r
        )
        self.breach_seconds = Histogram(
            "ledger_event_to_breach_seconds",
            "From the end of the call that crossed a cap to the breach's entry (seconds).",
            buckets=_LATENCY_S,
            registry=r,
        )
        self.confirm_seconds = Histogram(
            "ledger_breach_to_confirmed_seconds",
            "From a key command's entry to the gateway's confirmation (seconds).",
            buckets=_LATENCY_S,
            registry=r,
        )
        self.failures = Counter("ledger_command_failures_total", "Attempts of key commands that failed (count).", ["final"], registry=r)
        self.leaks = Counter("ledger_key_leaks_total", "Paused keys found spending after their confirmation (count).", registry=r)
        self.reconciled = Gauge(
            "ledger_reconciled_key_days",
            "Keys × days of gateways' accounts, by how they compared when this process last looked (count).",
            ["verdict"],
            registry=r,
        )
        self.accounts_unread = Gauge(
            "ledger_accounts_unread", "Gateways' accounts that this process could not read when it last tried (count).", registry=r
        )
        self.published = Counter("ledger_published_total", "Messages handed on from the outbox (count).", ["topic"], registry=r)
        self.lag_records = Gauge(
            "ledger_lag_records", "Records behind the end of the partition (count).", ["topic", "partition"], registry=r
        )
        self.lag_seconds = Gauge(
            "ledger_lag_seconds", "Age of the oldest record not yet booked, 0 at the end (seconds).", ["topic", "partition"], registry=r
        )
        self.dead_letters = Counter("ledger_dead_letters_total", "Records sent to the dead letters (count).", ["reason"], registry=r)
        self.key_mismatches = Counter(
            "ledger_record_key_mismatches_total", "Records whose key is not their event's org; the event wins (count).", registry=r
        )
        self.gaps = Counter(
            "ledger_record_gaps_total", "Times that a partition's next record was gone before it was read (count).", registry=r
        )
        ProcessCollector(registry=r)
        self.books = BooksGauges()
        r.register(self.books)
        self._orgs: set[str] = set()
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A counter that appeared with its first event would hide it: Prometheus sees a rise between two scrapes only."""
        for status in Status:
            self.events.labels(status)
        for action, enforce in product(Action, Enforce):
            self.breaches.labels(action, enforce)
        for final in ("no", "yes"):
            self.failures.labels(final)
        for reason in Reason:
            self.dead_letters.labels(reason)

    def count(self, booked: Booked) -> None:
        """Counts what became of a batch."""
        outcomes = Counts(result.status for result in booked.results if result is not RECORDED)  # all but the usual one
        outcomes[Status.RECORDED] += len(booked.results) - outcomes.total()
        for outcome, count in outcomes.items():
            self.events.labels(outcome).inc(count)
        if booked.results:
            self.batch_size.observe(len(booked.results))
        for org, batches in booked.outcomes.items():
            for batch in batches:
                self._count_outcome(org, batch)

    def _count_outcome(self, org: str, outcome: Batch) -> None:
        self.mismatches.inc(outcome.mismatches)
        self.late.inc(outcome.late)
        self.unpriced.inc(outcome.usage.unpriced)
        self.spend.labels(self._label(org)).inc(outcome.usage.spent / USD)
        usage = (entry.command for entry in outcome.entries if type(entry) is UsageRecorded and entry.command.card is not None)
        self.apart.inc(sum(map(self._apart, usage)))
        for fact in outcome.facts:
            if type(fact) is CapBreached:
                self.breaches.labels(fact.action, fact.enforce).inc()
                self._time_breach(fact, outcome.entries)
            elif type(fact) is KeyLeaking:
                self.leaks.inc()
            elif type(fact) is KeyRegistered and fact.by is None:
                self.strangers.inc()

    def _time_breach(self, breach: CapBreached, entries: list[Entry]) -> None:
        place = -1 if breach.entry is None else breach.entry - entries[0].seq  # entries of one batch are consecutive (J1)
        if place >= 0 and isinstance(crossing := entries[place], UsageRecorded):
            self.breach_seconds.observe(max(0, breach.recorded_us - crossing.command.time_us) / SECOND_US)

    def _apart(self, command: RecordUsage) -> bool:
        """Whether a reported and a computed cost both exist and differ by more than the set share."""
        if command.cost is None or command.computed is None:
            return False
        return abs(command.cost - command.computed) * 100 > command.computed * self._drift_percent

    def _label(self, org: str) -> str:
        if org in self._orgs or len(self._orgs) < MOST_ORGS:
            self._orgs.add(org)
            return org
        return OTHER


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[None]:
    """`/metrics` on a port of its own for the block, answered by a thread: a busy event loop delays no scrape. Raises OSError."""
    server, thread = start_http_server(port, host, metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def exemplar(traceparent: str | None) -> dict[str, str] | None:
    """The trace that a request or record came in with (W3C Trace Context), as an exemplar; None where there is none."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return {"trace_id": found[1]} if found else None


class BooksGauges(Collector):
    """What was last read of the books; nothing at all while another process shows them."""

    def __init__(self) -> None:
        self._now: Now | None = None
        self._slow: Slow | None = None
        self._at_us = 0

    def show(self, now: Now | None, slow: Slow | None, at_us: int) -> None:
        """Shows a reading made at `at_us`, or nothing."""
        self._now, self._slow, self._at_us = now, slow, at_us

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing that depends on a reading."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, one line each."""
        now, slow = self._now, self._slow
        if now is not None:
            yield _gauge("ledger_orgs", "Orgs with entries (count).", now.orgs)
            yield _gauge("ledger_journal_entries", "Entries in the journal (count).", now.entries)
            yield _by("ledger_open_breaches", "Breaches open now (count).", ("action", "enforce"), now.breaches)
            yield _gauge("ledger_outbox_messages", "Messages waiting in the outbox (count).", now.outbox)
            oldest = self._age_s(now.outbox_since_us)
            yield _gauge("ledger_outbox_oldest_age_seconds", "Age of the oldest waiting message (seconds).", oldest)
            yield _by("ledger_key_commands", "Key commands by delivery state (count).", ("delivery",), now.commands)
            oldest = self._age_s(now.command_since_us)
            yield _gauge("ledger_key_command_oldest_age_seconds", "Age of the oldest key command not yet confirmed (seconds).", oldest)
            yield _gauge("ledger_refused_commands", "Commands for a key's present state that a gateway refused (count).", now.refused)
            yield _gauge("ledger_leaking_keys", "Keys that spend though their pause was confirmed (count).", now.leaking)
            yield _by("ledger_parked_events", "Usage kept aside until it is sent again, by reason (count).", ("reason",), now.parked)
            if now.card_age_us is not None:
                age_s = now.card_age_us / SECOND_US
                yield _gauge("ledger_rate_card_age_seconds", "Time since a price list was last taken in (seconds).", age_s)
            yield _gauge("ledger_silent_connections", "Connections silent for longer than they ever are (count).", now.silent)
            yield _by("ledger_connection_silence_seconds",
                      "Time since a connection was last heard, of those silent for longer than they ever are (seconds).",
                      ("org", "connection"), {at: self._age_s(since_us) for at, since_us in now.silences.items()})  # fmt: skip
            yield from self._windows(now)
        if slow is not None:
            yield _by("ledger_keys", "Keys by state (count).", ("state",), slow.keys)
            yield _gauge("ledger_uncapped_keys", "Keys under no cap at all (count).", slow.uncapped)
            yield _gauge("ledger_verify_drift", "Orgs whose day is not the sum of its parts; must be 0 (count).", slow.drift)

    def _windows(self, now: Now) -> Iterator[GaugeMetricFamily]:
        own = [window for window in now.windows if window.org != OTHER]
        at, labels = self._at_us, ("org", "period")
        yield _by("ledger_window_spent_usd", "Billed spend of an org in the window that contains now (US dollars).", labels,
                  {(w.org, w.period): w.spent / USD for w in now.windows})  # fmt: skip
        yield _by("ledger_window_limit_usd", "Lowest limit of the caps on an org itself (US dollars).", labels,
                  {(w.org, w.period): w.limit / USD for w in own if w.limit is not None})  # fmt: skip
        yield _by("ledger_period_seconds", "Mean length of a period's windows (seconds).", ("period",), _PERIOD_S)
        yield _by("ledger_window_left_seconds", "Time until a capped window of an org ends (seconds).", labels,
                  {(w.org, w.period): (w.end_us - at) / SECOND_US for w in own if w.limit is not None})  # fmt: skip
        yield _by("ledger_org_silence_seconds", "Time since an org's latest usage (seconds).", ("org",),
                  {org: max(0, at - latest_us) / SECOND_US for org, latest_us in now.latest})  # fmt: skip

    def _age_s(self, since_us: int | None) -> float:
        return 0.0 if since_us is None else max(0, self._at_us - since_us) / SECOND_US


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _by(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for at, value in values.items():
        family.add_metric(at if isinstance(at, tuple) else (at,), value)
    return family
