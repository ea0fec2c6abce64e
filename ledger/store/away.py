"""Owns the question whether a database that failed may answer when it is asked again."""

import sqlite3

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_AWAY = frozenset({"08", "25", "40", "53", "55", "57", "58"})  # SQLSTATE classes: connection, read-only, rollback, resources, operator


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached or could not serve just now, so that trying again may help."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_away(error.orig))
    if isinstance(error, OSError | TimeoutError | PoolTimeout | asyncpg.InterfaceError | sqlite3.OperationalError):
        return True
    return str(getattr(error, "sqlstate", None) or "")[:2] in _AWAY or (error.__cause__ is not None and is_away(error.__cause__))
