"""`make bench`: every figure, or those named: `python -m benchmarks [NAME …] [--rounds N]`."""

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.core import fold_core
from benchmarks.doors import import_rate, litellm_http_ingest, otlp_http_ingest
from benchmarks.figures import publish
from benchmarks.kafka import (
    kafka_postgres_fold,
    kafka_postgres_fold_grown,
    kafka_postgres_fold_timed_ids,
    kafka_postgres_fold_wide,
    two_consumers,
)
from benchmarks.latency import event_to_command
from benchmarks.reports import balances_ms_p99, report_from_journal, report_month
from benchmarks.serving import embedded_breach_to_confirmed, replay_postgres, replay_sqlite, service_rss, sqlite_http_ingest
from benchmarks.vendors import breach_to_confirmed, mass_pause
from benchmarks.watching import scrape_ms, scrape_series

FIGURES = {
    "fold_core": fold_core,
    "sqlite_http_ingest": sqlite_http_ingest,
    "embedded_breach_to_confirmed_ms_p99": embedded_breach_to_confirmed,
    "breach_to_confirmed_ms_p99": breach_to_confirmed,
    "mass_pause_s": mass_pause,
    "service_rss_mb": service_rss,
    "replay_sqlite": replay_sqlite,
    "replay": replay_postgres,
    "litellm_http_ingest": litellm_http_ingest,
    "otlp_http_ingest": otlp_http_ingest,
    "import_rate": import_rate,
    "report_month_s": report_month,
    "report_from_journal": report_from_journal,
    "balances_ms_p99": balances_ms_p99,
    "scrape_ms": scrape_ms,
    "scrape_series": scrape_series,
    "kafka_postgres_fold": kafka_postgres_fold,
    "kafka_postgres_fold_wide": kafka_postgres_fold_wide,
    "kafka_postgres_fold_timed_ids": kafka_postgres_fold_timed_ids,
    "kafka_postgres_fold_grown": kafka_postgres_fold_grown,
    "two_consumers": two_consumers,
    "event_to_command_ms_p99": event_to_command,
}


def main() -> None:
    """Measures, prints a table and writes bench.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each; the median is published (default %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="default %(default)s")
    args = parser.parse_args()
    if unknown := set(args.names) - FIGURES.keys():
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    figures = []
    for name in args.names or FIGURES:
        with Console(stderr=True).status(f"measuring {name}"):
            made = FIGURES[name](args.rounds)
            figures += made if isinstance(made, list) else [made]
    publish(figures, args.output)


if __name__ == "__main__":
    main()
