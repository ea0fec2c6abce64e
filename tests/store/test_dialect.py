"""A database's URL: PostgreSQL's as libpq and every provider write them, SQLite's as a file."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from ledger.store.dialect import connect
from tests.servers.postgres import Server
from tests.servers.processes import free_port


async def _asked(url: str, question: str) -> str:
    database = connect(url)
    try:
        async with database.reader.connect() as connection:
            return str(await connection.scalar(text(question)))
    finally:
        await database.close()


@pytest.fixture
async def place(postgres: Server) -> AsyncIterator[tuple[str, str]]:
    """Host and port of a server, and the name of a database there."""
    url = await asyncio.to_thread(postgres.create_database)
    host, name = url.rsplit("/", 1)
    yield host.partition("://")[2], name
    await asyncio.to_thread(postgres.drop_database, url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_a_url_may_name_what_libpq_knows(place: tuple[str, str], scheme: str) -> None:
    where, name = place
    assert await _asked(f"{scheme}://{where}/{name}?sslmode=prefer&application_name=spend", "SHOW application_name") == "spend"
    options = "-c%20statement_timeout%3D7s"
    assert await _asked(f"{scheme}://{where}/{name}?target_session_attrs=read-write&options={options}", "SHOW statement_timeout") == "7s"


async def test_of_several_hosts_the_one_that_answers_is_taken(place: tuple[str, str]) -> None:
    where, name = place
    user, _, host = where.rpartition("@")
    url = f"postgresql://{user}@127.0.0.1:{free_port()},{host}/{name}?target_session_attrs=primary"
    assert await _asked(url, "SELECT current_database()") == name


async def test_where_tls_is_asked_for_nothing_goes_without_it(place: tuple[str, str]) -> None:
    where, name = place
    secret = f"postgresql://{where}/{name}?sslmode=require"
    if await _asked(f"postgresql://{where}/{name}", "SHOW ssl") == "on":
        assert await _asked(secret, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "True"
    else:
        with pytest.raises(ConnectionError, match="SSL"):
            await _asked(secret, "SELECT 1")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://", "names no file"), ("sqlite:///", "names no file"), ("sqlite:///:memory:", "names no file"),
        ("sqlite://ledger.db", "names no file"), ("mysql://127.0.0.1/ledger", "neither"), ("ledger.db", "is not the URL"),
    ],
)  # fmt: skip
def test_a_url_of_no_database_of_ours_is_refused_in_words(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        connect(url)
