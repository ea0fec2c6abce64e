"""A stage for tests of the consumers: a database and topics of its own on the run's servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.consumers.harness import Stage, staged
from tests.servers.kafka import Server as KafkaServer


@pytest.fixture
async def stage(kafka: KafkaServer, own_database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(kafka.bootstrap, own_database, tmp_path) as stage:
        yield stage
