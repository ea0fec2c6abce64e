"""Owns what dashboards read of a PostgreSQL database: the views of the schema `watch`, and the role that sees nothing else. The role
can't reach a token, a secret's reference or an event as sent, and changes nothing. A SQLite file has no roles.

Amounts are dollars, exact; times have zones; windows are those that contain now, in each org's own zone. Names are those of the API.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

LONGEST_QUERY_S = 15
MOST_CONNECTIONS = 10
EVER = 10**9  # days: a lifetime has bounds too, so that each window is a range of the index, however long the history
_USD = "* 0.000000001"


def _at(column: str, name: str) -> str:
    return f"to_timestamp({column} / 1000000.0) AS {name}"


VIEWS = {
    "orgs": f"SELECT org, zone AS time_zone, enforce, seq, {_at('latest_us', 'latest_usage_at')} FROM orgs WHERE seq > 0",
    "periods": f"""
        SELECT o.org_id, o.org, p.period, coalesce(p.first - DATE '1970-01-01', {-EVER}) AS first,
               coalesce(p.next - DATE '1970-01-01', {EVER}) AS next,
               p.first::timestamp AT TIME ZONE o.zone AS start_at, p.next::timestamp AT TIME ZONE o.zone AS end_at
        FROM orgs o CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE o.zone)::date AS today) t
        CROSS JOIN LATERAL (VALUES
          ('day', today, today + 1),
          ('week', date_trunc('week', today)::date, (date_trunc('week', today) + interval '1 week')::date),
          ('month', date_trunc('month', today)::date, (date_trunc('month', today) + interval '1 month')::date),
          ('year', date_trunc('year', today)::date, (date_trunc('year', today) + interval '1 year')::date),
          ('lifetime', NULL, NULL)) AS p (period, first, next)
        WHERE o.seq > 0
        UNION ALL
        SELECT org_id, org, 'hour', NULL, NULL, start_at, start_at + interval '1 hour'
        FROM (SELECT *, date_trunc('hour', now() AT TIME ZONE zone) AT TIME ZONE zone AS start_at FROM orgs WHERE seq > 0) h""",
    "parts": """
        SELECT org_id, 'key:' || alias_of AS scope, array_agg('key:' || key_id) AS parts
        FROM keys WHERE alias_of IS NOT NULL GROUP BY 1, 2""",
    "days": f"""
        SELECT o.org, d.scope, DATE '1970-01-01' + d.day::int AS day, d.spent {_USD} AS spent_usd, d.byok {_USD} AS byok_usd,
               d.unpriced, d.requests, d.input_tokens, d.output_tokens
        FROM days d JOIN orgs o USING (org_id)""",
    "windows": f"""
        SELECT p.org, s.scope, p.period, p.start_at, p.end_at, coalesce(u.spent, 0) {_USD} AS spent_usd,
               coalesce(u.byok, 0) {_USD} AS byok_usd, coalesce(u.unpriced, 0) AS unpriced, coalesce(u.requests, 0) AS requests
        FROM watch.periods p
        JOIN (SELECT org_id, 'org' AS scope FROM orgs UNION ALL SELECT org_id, 'workspace:' || workspace_id FROM workspaces
              UNION ALL SELECT org_id, 'key:' || key_id FROM keys WHERE alias_of IS NULL) s USING (org_id)
        LEFT JOIN watch.parts a ON a.org_id = p.org_id AND a.scope = s.scope
        CROSS JOIN LATERAL (
          SELECT sum(spent) AS spent, sum(byok) AS byok, sum(unpriced) AS unpriced, sum(requests) AS requests FROM days d
          WHERE d.org_id = p.org_id AND d.scope = ANY (a.parts || s.scope)
            AND d.day >= p.first AND d.day < p.next) u
        WHERE p.period <> 'hour'""",
    "standing": """
        SELECT org_id, cap_id AS cap, scope, period, limit_nanos, action, include_byok, enforce FROM caps
        UNION ALL
        SELECT g.org_id, g.guardrail_id || '/key:' || k.key_id, 'key:' || k.key_id, g.period, g.limit_nanos, g.action,
               g.include_byok, g.enforce
        FROM guardrails g JOIN keys k USING (org_id)
        WHERE g.each = 'key' AND k.alias_of IS NULL AND g.within::jsonb ?| ARRAY['org', k.workspace]
          AND NOT g.except_::jsonb ?| ARRAY[k.key_id, k.workspace]
        UNION ALL
        SELECT g.org_id, g.guardrail_id || '/workspace:' || w.workspace_id, 'workspace:' || w.workspace_id, g.period, g.limit_nanos,
               g.action, g.include_byok, g.enforce
        FROM guardrails g JOIN workspaces w USING (org_id)
        WHERE g.each = 'workspace' AND g.within::jsonb ?| ARRAY['org', w.workspace_id] AND NOT g.except_::jsonb ? w.workspace_id""",
    "caps": f"""
        SELECT p.org, c.cap, c.scope, c.period, c.action, c.enforce, c.limit_nanos {_USD} AS limit_usd, u.spent {_USD} AS spent_usd,
               greatest(c.limit_nanos - u.spent, 0) {_USD} AS left_usd, 100.0 * u.spent / nullif(c.limit_nanos, 0) AS used_percent,
               CASE WHEN p.start_at < now() THEN round(u.spent * extract(epoch FROM p.end_at - p.start_at)
                    / extract(epoch FROM now() - p.start_at)) END {_USD} AS forecast_usd,
               p.start_at, p.end_at
        FROM watch.standing c JOIN watch.periods p USING (org_id, period)
        LEFT JOIN watch.parts a ON a.org_id = c.org_id AND a.scope = c.scope
        CROSS JOIN LATERAL (
          SELECT coalesce(sum(spent + CASE WHEN c.include_byok THEN byok ELSE 0 END), 0) AS spent FROM (
            SELECT spent, byok FROM days d
            WHERE p.period <> 'hour' AND d.org_id = c.org_id AND d.scope = ANY (a.parts || c.scope)
              AND d.day >= p.first AND d.day < p.next
            UNION ALL
            SELECT spent, byok FROM hours h
            WHERE p.period = 'hour' AND h.org_id = c.org_id AND h.scope = ANY (a.parts || c.scope)
              AND h.hour_us = extract(epoch FROM p.start_at)::bigint * 1000000) used) u""",
    "breaches": f"""
        SELECT o.org, b.cap_id AS cap, b.ordinal, b.kind, b.scope, b.period, b.limit_nanos {_USD} AS limit_usd, b.spent {_USD} AS spent_usd,
               greatest(b.spent - b.limit_nanos, 0) {_USD} AS over_usd, b.action, b.enforce, b.reason,
               {_at('b.opened_us', 'opened_at')}, {_at('b.closed_us', 'closed_at')}, {_at('b.end_us', 'end_at')}
        FROM breaches b JOIN orgs o USING (org_id)""",
    "keys": f"""
        SELECT o.org, k.workspace, k.key_id AS key, k.state, k.leaking, k.revision, {_at('k.changed_us', 'changed_at')}, concat_ws(', ',
                 (SELECT string_agg('cap:' || b.cap_id, ', ' ORDER BY b.cap_id) FROM breaches b
                  WHERE b.org_id = k.org_id AND b.closed_us IS NULL AND b.enforce = 'on' AND b.action <> 'alert'
                    AND b.scope IN ('org', 'workspace:' || k.workspace, 'key:' || k.key_id)),
                 (SELECT string_agg('wait:' || w.cap_id, ', ' ORDER BY w.cap_id) FROM waits w
                  WHERE w.org_id = k.org_id AND w.key = k.key_id),
                 'held:' || k.held) AS reasons
        FROM keys k JOIN orgs o USING (org_id) WHERE k.alias_of IS NULL AND NOT k.deleted""",
    "commands": f"""
        SELECT o.org, c.key, c.credential, c.revision, c.state, c.reasons, c.delivery, c.attempts, {_at('c.created_us', 'created_at')},
               {_at('c.attempted_us', 'attempted_at')}, {_at('c.confirmed_us', 'confirmed_at')}, c.error
        FROM commands c JOIN orgs o USING (org_id)""",
    "usage": f"""
        SELECT o.org, r.workspace, r.key, r.model, r.provider, r.preset, DATE '1970-01-01' + r.day::int AS day, r.spent {_USD} AS spent_usd,
               r.requests, r.unpriced
        FROM rollup r JOIN orgs o USING (org_id)""",
    "tables": """
        SELECT relname AS name, pg_total_relation_size(relid) AS bytes, n_live_tup AS rows, n_dead_tup AS dead_rows
        FROM pg_stat_user_tables WHERE schemaname = 'public'""",
}  # fmt: skip


async def grant_reading(connection: AsyncConnection, role: str, password: str) -> None:
    """Makes the views and the role, or makes them anew. Safe to repeat. The caller checked `role`; a view of `tables` the caller lacks
    is an error."""
    if not await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}):
        await connection.execute(text(f'CREATE ROLE "{role}"'))
    login = f"ALTER ROLE %I LOGIN CONNECTION LIMIT {MOST_CONNECTIONS} PASSWORD %L"
    quoted = text("SELECT format(CAST(:login AS text), CAST(:role AS text), CAST(:password AS text))")
    await connection.exec_driver_sql(str(await connection.scalar(quoted, {"login": login, "role": role, "password": password})))
    for statement in (
        f'ALTER ROLE "{role}" SET default_transaction_read_only = on',
        f"ALTER ROLE \"{role}\" SET statement_timeout = '{LONGEST_QUERY_S}s'",
        "DROP SCHEMA IF EXISTS watch CASCADE",
        "CREATE SCHEMA watch",
        *(f"CREATE VIEW watch.{name} AS {query}" for name, query in VIEWS.items()),
        f'GRANT USAGE ON SCHEMA watch TO "{role}"',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA watch TO "{role}"',
    ):
        await connection.exec_driver_sql(statement)
