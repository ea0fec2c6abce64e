"""Runs migrations on the connection that `ledger migrate` hands in; nothing is configured here."""

from alembic import context

from ledger.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
if connection.dialect.name == "postgresql":
    connection.exec_driver_sql("SET lock_timeout = '10s'")
with context.begin_transaction():
    context.run_migrations()
