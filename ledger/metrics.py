"""Owns every metric: one line each, with its unit. No label takes a key id; orgs beyond the hundredth are `other`."""

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .core.entries import CapBreached, KeyRegistered, UsageRecorded
from .core.money import USD
from .core.window import HOUR_US
from .record import Booked

MOST_ORGS = 100
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.events = Counter("ledger_events_total", "Commands by outcome (count).", ["outcome"], registry=r)
        self.spend = Counter("ledger_spend_usd_total", "Billed spend booked by this process (US dollars).", ["org"], registry=r)
        self.unpriced = Counter("ledger_unpriced_calls_total", "Calls booked without a price (count).", registry=r)
        self.late = Counter("ledger_late_events_total", "Usage booked more than an hour after its own time (count).", registry=r)
        self.strangers = Counter("ledger_unknown_keys_total", "Keys that registered themselves by their usage (count).", registry=r)
        self.mismatches = Counter(
            "ledger_workspace_mismatches_total", "Events that claimed another workspace than their key's (count).", registry=r
        )
        self.breaches = Counter("ledger_breaches_total", "Breaches opened (count).", ["action", "enforce"], registry=r)
        self.batch_seconds = Histogram("ledger_batch_seconds", "Time to book one batch (seconds).", buckets=_LATENCY_S, registry=r)
        self.batch_size = Histogram(
            "ledger_batch_entries", "Entries in one batch (count).", buckets=(1, 10, 100, 500, 1000, 5000, 20000), registry=r
        )
        self.confirm_seconds = Histogram(
            "ledger_breach_to_confirmed_seconds",
            "From a key command's entry to the gateway's confirmation (seconds).",
            buckets=_LATENCY_S,
            registry=r,
        )
        self.failures = Counter("ledger_command_failures_total", "Attempts of key commands that failed (count).", ["final"], registry=r)
        self.outbox_depth = Gauge("ledger_outbox_messages", "Messages waiting in the outbox (count).", registry=r)
        self.open_breaches = Gauge("ledger_open_breaches", "Breaches open now (count).", registry=r)
        self.keys = Gauge("ledger_keys", "Keys by state (count).", ["state"], registry=r)
        self.uncapped_keys = Gauge("ledger_uncapped_keys", "Keys under no cap at all (count).", registry=r)
        self.drift = Gauge("ledger_verify_drift", "Differences that the last verification found; must be 0 (count).", registry=r)
        self._orgs: set[str] = set()

    def count(self, booked: Booked) -> None:
        """Counts what became of a batch."""
        for outcome, count in Counts(result.status for result in booked.results).items():
            self.events.labels(outcome).inc(count)
        self.mismatches.inc(booked.mismatches)
        for org, entries in booked.entries.items():
            spent = unpriced = late = 0
            for entry in entries:
                if isinstance(entry, UsageRecorded):
                    cost = entry.command.booked
                    spent += cost or 0
                    unpriced += cost is None
                    late += entry.recorded_us - entry.command.time_us > HOUR_US
                elif isinstance(entry, CapBreached):
                    self.breaches.labels(entry.action, entry.enforce).inc()
                elif isinstance(entry, KeyRegistered) and entry.by is None:
                    self.strangers.inc()
            self.batch_size.observe(len(entries))
            self.unpriced.inc(unpriced)
            self.late.inc(late)
            self.spend.labels(self._label(org)).inc(spent / USD)

    def _label(self, org: str) -> str:
        if org in self._orgs or len(self._orgs) < MOST_ORGS:
            self._orgs.add(org)
            return org
        return "other"
