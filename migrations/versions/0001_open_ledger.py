"""The first schema: the journal, its projections, and what is under way."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def big() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def flag() -> sa.types.TypeEngine[bool]:
    return sa.Boolean().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "breaches",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("cap_id", sa.Text(), nullable=False),
        sa.Column("ordinal", big(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("start_us", big(), nullable=False),
        sa.Column("end_us", big(), nullable=False),
        sa.Column("limit_nanos", big(), nullable=False),
        sa.Column("spent", big(), nullable=False),
        sa.Column("unpriced", big(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("enforce", sa.Text(), nullable=False),
        sa.Column("entry", big(), nullable=True),
        sa.Column("waits", sa.Text(), nullable=False),
        sa.Column("opened_us", big(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("judged_by", sa.Text(), nullable=True),
        sa.Column("closed_us", big(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "cap_id", "ordinal", name=op.f("pk_breaches")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "caps",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("cap_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("limit_nanos", big(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thresholds", sa.Text(), nullable=False),
        sa.Column("include_byok", flag(), nullable=False),
        sa.Column("on_unpriced", sa.Text(), nullable=False),
        sa.Column("resume", sa.Text(), nullable=False),
        sa.Column("enforce", sa.Text(), nullable=False),
        sa.Column("approval", flag(), nullable=False),
        sa.Column("backstop_percent", big(), nullable=True),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "cap_id", name=op.f("pk_caps")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    with op.batch_alter_table("caps", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_caps_org_id_scope"), ["org_id", "scope"], unique=False)

    op.create_table(
        "commands",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("revision", big(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("attempts", big(), nullable=False),
        sa.Column("created_us", big(), nullable=False),
        sa.Column("next_us", big(), nullable=False),
        sa.Column("attempted_us", big(), nullable=True),
        sa.Column("busy_us", big(), nullable=True),
        sa.Column("confirmed_us", big(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("told_us", big(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "credential", "connection", "revision", name=op.f("pk_commands")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    with op.batch_alter_table("commands", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commands_delivery_next_us"), ["delivery", "next_us"], unique=False)

    op.create_table(
        "confirmations",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("revision", big(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=True),
        sa.Column("confirmed_us", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "key", "credential", "connection", name=op.f("pk_confirmations")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "connections",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("counts", flag(), nullable=False),
        sa.Column("adopt_keys", flag(), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("workspaces", sa.Text(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "connection_id", name=op.f("pk_connections")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "credentials",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("has_left", flag(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "credential", name=op.f("pk_credentials")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "days",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("day", big(), nullable=False),
        sa.Column("spent", big(), nullable=False),
        sa.Column("byok", big(), nullable=False),
        sa.Column("unpriced", big(), nullable=False),
        sa.Column("requests", big(), nullable=False),
        sa.Column("input_tokens", big(), nullable=False),
        sa.Column("output_tokens", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "scope", "day", name=op.f("pk_days")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "guardrails",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("guardrail_id", sa.Text(), nullable=False),
        sa.Column("each", sa.Text(), nullable=False),
        sa.Column("within", sa.Text(), nullable=False),
        sa.Column("except_", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("limit_nanos", big(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thresholds", sa.Text(), nullable=False),
        sa.Column("include_byok", flag(), nullable=False),
        sa.Column("on_unpriced", sa.Text(), nullable=False),
        sa.Column("resume", sa.Text(), nullable=False),
        sa.Column("enforce", sa.Text(), nullable=False),
        sa.Column("approval", flag(), nullable=False),
        sa.Column("backstop_percent", big(), nullable=True),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "guardrail_id", name=op.f("pk_guardrails")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "heard",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("hour_us", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "connection_id", "hour_us", name=op.f("pk_heard")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "hours",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("hour_us", big(), nullable=False),
        sa.Column("spent", big(), nullable=False),
        sa.Column("byok", big(), nullable=False),
        sa.Column("unpriced", big(), nullable=False),
        sa.Column("requests", big(), nullable=False),
        sa.Column("input_tokens", big(), nullable=False),
        sa.Column("output_tokens", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "scope", "hour_us", name=op.f("pk_hours")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recorded_us", big(), nullable=False),
        sa.Column("day", big(), nullable=True),
        sa.Column("hour_us", big(), nullable=True),
        sa.Column("workspace", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("sent_key", sa.Text(), nullable=True),
        sa.Column("sent_workspace", sa.Text(), nullable=True),
        sa.Column("time_us", big(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("cost", big(), nullable=True),
        sa.Column("cost_text", sa.Text(), nullable=True),
        sa.Column("upstream", big(), nullable=True),
        sa.Column("upstream_text", sa.Text(), nullable=True),
        sa.Column("computed", big(), nullable=True),
        sa.Column("card", big(), nullable=True),
        sa.Column("byok", flag(), nullable=True),
        sa.Column("batch", flag(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("input_tokens", big(), nullable=True),
        sa.Column("cached_input_tokens", big(), nullable=True),
        sa.Column("cache_write_tokens", big(), nullable=True),
        sa.Column("output_tokens", big(), nullable=True),
        sa.Column("reasoning_tokens", big(), nullable=True),
        sa.Column("audio_tokens", big(), nullable=True),
        sa.Column("images", big(), nullable=True),
        sa.Column("searches", big(), nullable=True),
        sa.Column("member", sa.Text(), nullable=True),
        sa.Column("end_user", sa.Text(), nullable=True),
        sa.Column("preset", sa.Text(), nullable=True),
        sa.Column("preset_version", big(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("hold", sa.Text(), nullable=True),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("started_us", big(), nullable=True),
        sa.Column("corrects", big(), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "seq", name=op.f("pk_journal")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    with op.batch_alter_table("journal", schema=None) as batch_op:
        batch_op.create_index(
            "ix_journal_corrects",
            ["org_id", "corrects"],
            unique=False,
            sqlite_where=sa.text("corrects IS NOT NULL"),
            postgresql_where=sa.text("corrects IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_journal_unpriced",
            ["org_id", "seq"],
            unique=False,
            sqlite_where=sa.text("cost IS NULL AND model IS NOT NULL"),
            postgresql_where=sa.text("cost IS NULL AND model IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_journal_org_changed",
            ["org_id", "seq"],
            unique=False,
            sqlite_where=sa.text("kind = 'OrgChanged'"),
            postgresql_where=sa.text("kind = 'OrgChanged'"),
        )

    op.create_table(
        "keys",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", big(), nullable=False),
        sa.Column("changed_us", big(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("leaking", flag(), nullable=False),
        sa.Column("alias_of", sa.Text(), nullable=True),
        sa.Column("deleted", flag(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "key_id", name=op.f("pk_keys")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.create_index(
            "ix_keys_alias_of",
            ["org_id", "alias_of"],
            unique=False,
            sqlite_where=sa.text("alias_of IS NOT NULL"),
            postgresql_where=sa.text("alias_of IS NOT NULL"),
        )

    op.create_table(
        "known_ids",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "digest", name=op.f("pk_known_ids")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "labels",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", big(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", "scope", "name", "since", name=op.f("pk_labels")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "observed",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("time_us", big(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("cost", big(), nullable=True),
        sa.Column("input_tokens", big(), nullable=False),
        sa.Column("output_tokens", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "digest", name=op.f("pk_observed")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "orgs",
        sa.Column("org_id", big(), sa.Identity(always=False), nullable=False),
        sa.Column("org", sa.Text(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.Column("recorded_us", big(), nullable=False),
        sa.Column("latest_us", big(), nullable=False),
        sa.Column("latest_day", big(), nullable=False),
        sa.Column("taken_back", big(), nullable=False),
        sa.Column("org_seq", big(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("enforce", sa.Text(), nullable=False),
        sa.Column("brake", big(), nullable=False),
        sa.Column("due_us", big(), nullable=True),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_orgs")),
        sa.UniqueConstraint("org", name=op.f("uq_orgs_org")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    with op.batch_alter_table("orgs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_orgs_due_us"), ["due_us"], unique=False)

    op.create_table(
        "places",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "reader", name=op.f("pk_places")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "outbox",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "seq", "topic", name=op.f("pk_outbox")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "notified",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "channel", name=op.f("pk_notified")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "parked",
        sa.Column("org", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("received_us", big(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("org", "digest", name=op.f("pk_parked")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "rate_cards",
        sa.Column("version", big(), nullable=False),
        sa.Column("created_us", big(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_rate_cards")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "rates",
        sa.Column("version", big(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("starts_us", big(), nullable=False),
        sa.Column("standard", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=True),
        sa.Column("until_version", big(), nullable=True),
        sa.PrimaryKeyConstraint("version", "provider", "model", "origin", "starts_us", name=op.f("pk_rates")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "rolled",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_rolled")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "rollup",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("day", big(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("preset", sa.Text(), nullable=False),
        sa.Column("preset_version", sa.Text(), nullable=False),
        sa.Column("member", sa.Text(), nullable=False),
        sa.Column("charge", sa.Text(), nullable=False),
        sa.Column("spent", big(), nullable=False),
        sa.Column("byok", big(), nullable=False),
        sa.Column("unpriced", big(), nullable=False),
        sa.Column("requests", big(), nullable=False),
        sa.Column("input_tokens", big(), nullable=False),
        sa.Column("output_tokens", big(), nullable=False),
        sa.Column("cached_input_tokens", big(), nullable=False),
        sa.Column("cache_write_tokens", big(), nullable=False),
        sa.Column("reasoning_tokens", big(), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id", "day", "workspace", "key", "model", "provider", "preset", "preset_version", "member", "charge",
            name=op.f("pk_rollup"),
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "spoken",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("cap_id", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "cap_id", name=op.f("pk_spoken")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("org", sa.Text(), nullable=True),
        sa.Column("workspace", sa.Text(), nullable=True),
        sa.Column("created_us", big(), nullable=False),
        sa.Column("revoked_us", big(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_tokens")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "waits",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("cap_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "cap_id", "key", name=op.f("pk_waits")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )
    op.create_table(
        "workspaces",
        sa.Column("org_id", big(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("deleted", flag(), nullable=False),
        sa.Column("seq", big(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workspace_id", name=op.f("pk_workspaces")),
        sqlite_strict=True,
        sqlite_with_rowid=True,
    )


def downgrade() -> None:
    op.drop_table("workspaces")
    op.drop_table("waits")
    op.drop_table("tokens")
    op.drop_table("spoken")
    op.drop_table("rates")
    op.drop_table("rate_cards")
    op.drop_table("rollup")
    op.drop_table("rolled")
    op.drop_table("places")
    op.drop_table("parked")
    op.drop_table("notified")
    op.drop_table("outbox")
    with op.batch_alter_table("orgs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_orgs_due_us"))

    op.drop_table("orgs")
    op.drop_table("labels")
    op.drop_table("observed")
    op.drop_table("known_ids")
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_keys_alias_of", sqlite_where=sa.text("alias_of IS NOT NULL"), postgresql_where=sa.text("alias_of IS NOT NULL")
        )

    op.drop_table("keys")
    with op.batch_alter_table("journal", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_journal_org_changed", sqlite_where=sa.text("kind = 'OrgChanged'"), postgresql_where=sa.text("kind = 'OrgChanged'")
        )
        batch_op.drop_index(
            "ix_journal_unpriced",
            sqlite_where=sa.text("cost IS NULL AND model IS NOT NULL"),
            postgresql_where=sa.text("cost IS NULL AND model IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_journal_corrects", sqlite_where=sa.text("corrects IS NOT NULL"), postgresql_where=sa.text("corrects IS NOT NULL")
        )

    op.drop_table("journal")
    op.drop_table("hours")
    op.drop_table("heard")
    op.drop_table("guardrails")
    op.drop_table("days")
    op.drop_table("credentials")
    op.drop_table("connections")
    op.drop_table("confirmations")
    with op.batch_alter_table("commands", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_commands_delivery_next_us"))

    op.drop_table("commands")
    with op.batch_alter_table("caps", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_caps_org_id_scope"))

    op.drop_table("caps")
    op.drop_table("breaches")
