"""`python -m consumers NAME …`: the composition root of the consumers."""

import argparse
import os
import sys

import uvloop
from aiokafka.errors import KafkaError
from sqlalchemy.exc import DBAPIError

from consumers.app import TOPICS_OF, Consumers
from consumers.health import CannotListen
from ledger.chores import chores
from ledger.cli.serve import configure_logs, stopped_in_order
from ledger.gateways.outward import open_gateway
from ledger.kafka import admin, missing_topics
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.settings import Settings, SettingsError, channels_of, kafka_of, read_settings
from ledger.store.dialect import connect
from ledger.store.schema import not_current

_ABOUT = """Runs consumers, one or several in this process; any number of processes share the work.

  usage    books usage from the topic `usage`
  pulse    does what the clock has made due: windows that ended, prices that were missing
  relay    publishes breaches, key commands and key status from the outbox
  keys     carries key commands out at their gateways, checks and syncs keys there, and reconciles accounts
  entries  publishes every journal entry (off unless named here)

Settings are environment variables LEDGER_…, or a .env file. /livez, /readyz, /metrics and /asyncapi.json are on
LEDGER_METRICS_PORT."""


class Wrong(Exception):
    """Something the person can mend; the message says how."""


async def _start(names: list[str], given: Settings) -> None:
    with stopped_in_order():
        await _run(names, given)


async def _run(names: list[str], given: Settings) -> None:
    kafka = kafka_of(given)
    if kafka is None:
        raise Wrong("LEDGER_KAFKA_BOOTSTRAP_SERVERS is not set: without Kafka, `ledger serve` does all of this by itself")
    async with admin(kafka) as client:
        missing = await missing_topics(client, kafka, {topic for name in names for topic in TOPICS_OF[name]})
    if missing:
        raise Wrong(f"Kafka has no topic {', '.join(sorted(missing))}: run `ledger topics create`, or mend LEDGER_TOPIC_PREFIX")
    database = connect(given.database_url, given.read_database_url)
    try:
        async with database.reader.connect() as connection:
            if why := await not_current(connection):
                raise Wrong(why)
        service = Service(database, Metrics(given.drift_percent), declared_only=given.declared_orgs_only)
        work = chores(
            service, os.environ, check_s=given.keys_check_every_s, sync_s=given.keys_sync_every_s, reconcile_s=given.reconcile_every_s
        )
        consumers = Consumers(names, service, kafka, lambda connection: open_gateway(connection, os.environ), channels_of(given), work)
        await consumers.run(given.metrics_listen, given.metrics_port)
    finally:
        await database.close()


def main() -> None:
    """Runs until SIGTERM or SIGINT; exit code 1 says why on stderr."""
    parser = argparse.ArgumentParser("python -m consumers", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=TOPICS_OF, metavar="NAME", help=", ".join(TOPICS_OF))
    names = list(dict.fromkeys(parser.parse_args().names))
    try:
        given = read_settings(os.environ)
        configure_logs(given.log_level)
        uvloop.run(_start(names, given))
    except (Wrong, SettingsError, ValueError) as error:
        sys.exit(f"error {error}")
    except CannotListen as error:
        sys.exit(f"error LEDGER_METRICS_PORT: {error}; 0 turns it off")
    except KafkaError as error:
        sys.exit(f"error Kafka does not answer: {error}. Are LEDGER_KAFKA_BOOTSTRAP_SERVERS, its protocol and password right?")
    except (DBAPIError, OSError) as error:
        sys.exit(f"error the database does not answer: {getattr(error, 'orig', None) or error}. Is LEDGER_DATABASE_URL right?")
    except Exception as error:
        sys.exit(f"error {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
