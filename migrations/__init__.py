"""Alembic's migrations, for PostgreSQL and SQLite alike."""
