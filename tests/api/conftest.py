"""The API over a real database, asked through a real HTTP stack; and `ledger serve` as a process of its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from ledger.api.app import build_app
from ledger.api.auth import Gate
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import Database, connect
from tests.api.asking import NOW_US, Api
from tests.api.process import Process


@pytest.fixture(scope="session")
def app(sqlite_template: Path) -> FastAPI:
    """The API, composed once: composing it takes longer than most questions. Each test gives it a service of its own."""
    return build_app(Service(connect(f"sqlite:///{sqlite_template}"), Metrics()))


@pytest.fixture
async def api(app: FastAPI, database: Database) -> AsyncIterator[Api]:
    """An API with an admin token, at 2026-03-08T09:00Z."""
    clock = [NOW_US]
    service = Service(database, Metrics(), lambda: clock[0])
    app.state.service, app.state.gate = service, Gate(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        api = Api(client, service, clock)
        await api.let_in("admin", "admin")
        yield api


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """`ledger serve` on a SQLite file, with an admin token."""
    with Process(tmp_path, f"sqlite:///{tmp_path / 'served.db'}") as running:
        yield running


@pytest.fixture
def process_anywhere(tmp_path: Path, database_url: str) -> Iterator[Process]:
    """`ledger serve` on each database, with an admin token."""
    with Process(tmp_path, database_url) as running:
        yield running
