"""Owns the tables. All lead with the org, so that a database spread by org runs the same SQL.

The journal is the truth; `orgs` to `hours` are projections of it, which replay can rebuild; the rest is delivery state.
Money is integers of nano-USD, time integers of microseconds since 1970 UTC, a day the number of days since 1970-01-01.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
# SQLite's STRICT tables know INTEGER, TEXT and BLOB only.
Big = BigInteger().with_variant(Integer(), "sqlite")
Flag = Boolean().with_variant(Integer(), "sqlite")
Bytes = LargeBinary()


def _table(name: str, *columns: Column[object], key: tuple[str, ...], indexes: tuple[Index, ...] = (), rowid: bool = True) -> Table:
    return Table(name, metadata, *columns, PrimaryKeyConstraint(*key), *indexes, sqlite_strict=True, sqlite_with_rowid=rowid)


def _big(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, Big, nullable=null)


def _text(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, Text, nullable=null)


def _flag(name: str) -> Column[object]:
    return Column(name, Flag, nullable=False)


def _rule() -> tuple[Column[object], ...]:
    return (
        _text("period"), _big("limit_nanos"), _text("action"), _text("thresholds"), _flag("include_byok"),
        _text("on_unpriced"), _text("resume"), _text("enforce"), _flag("approval"), _big("backstop_percent", null=True),
    )  # fmt: skip


def _sums() -> tuple[Column[object], ...]:
    return tuple(_big(name) for name in ("spent", "byok", "unpriced", "requests", "input_tokens", "output_tokens"))


orgs = _table(
    "orgs",
    Column("org_id", Big, Identity(), primary_key=True),
    Column("org", Text, nullable=False, unique=True),
    _big("seq"), _big("recorded_us"), _big("latest_us"), _big("latest_day"), _big("taken_back"), _big("org_seq"),
    _text("zone"), _text("enforce"), _big("brake"), _big("due_us", null=True),
    key=("org_id",),
    indexes=(Index(None, "due_us"),),
)  # fmt: skip

ORG_CHANGED = "kind = 'OrgChanged'"  # few rows, found without reading the journal: which zone an org had (W4)

journal = _table(
    "journal",
    _big("org_id"), _big("seq"), _text("kind"), _big("recorded_us"),
    _big("day", null=True), _big("hour_us", null=True), _text("workspace", null=True), _text("key", null=True),
    _text("sent_key", null=True), _text("sent_workspace", null=True), _big("time_us", null=True),
    _text("source", null=True), _text("event_id", null=True),
    _big("cost", null=True), _text("cost_text", null=True), _big("upstream", null=True), _text("upstream_text", null=True),
    _big("computed", null=True), _big("card", null=True), Column("byok", Flag), Column("batch", Flag),
    _text("model", null=True), _text("provider", null=True),
    _big("input_tokens", null=True), _big("cached_input_tokens", null=True), _big("cache_write_tokens", null=True),
    _big("output_tokens", null=True), _big("reasoning_tokens", null=True), _big("audio_tokens", null=True),
    _big("images", null=True), _big("searches", null=True),
    _text("member", null=True), _text("end_user", null=True), _text("preset", null=True), _big("preset_version", null=True),
    _text("session", null=True), _text("tags", null=True), _text("hold", null=True), _text("response_id", null=True),
    _big("started_us", null=True), _big("corrects", null=True), _text("data", null=True),
    key=("org_id", "seq"),
    indexes=(
        Index(
            "ix_journal_corrects", "org_id", "corrects",
            sqlite_where=text("corrects IS NOT NULL"), postgresql_where=text("corrects IS NOT NULL"),
        ),
        Index(
            "ix_journal_unpriced", "org_id", "seq",
            sqlite_where=text("cost IS NULL AND model IS NOT NULL"), postgresql_where=text("cost IS NULL AND model IS NOT NULL"),
        ),
        Index("ix_journal_org_changed", "org_id", "seq", sqlite_where=text(ORG_CHANGED), postgresql_where=text(ORG_CHANGED)),
    ),
)  # fmt: skip

known_ids = _table("known_ids", _big("org_id"), Column("digest", Bytes, nullable=False), _big("seq"), key=("org_id", "digest"), rowid=False)

workspaces = _table("workspaces", _big("org_id"), _text("workspace_id"), _flag("deleted"), _big("seq"), key=("org_id", "workspace_id"))

keys = _table(
    "keys",
    _big("org_id"), _text("key_id"), _text("workspace"), _text("state"), _big("revision"), _big("changed_us"),
    _text("held", null=True), _text("by", null=True), _flag("leaking"), _text("alias_of", null=True), _flag("deleted"), _big("seq"),
    key=("org_id", "key_id"),
    indexes=(
        Index(
            "ix_keys_alias_of", "org_id", "alias_of",
            sqlite_where=text("alias_of IS NOT NULL"), postgresql_where=text("alias_of IS NOT NULL"),
        ),
    ),
)  # fmt: skip

credentials = _table("credentials", _big("org_id"), _text("credential"), _text("key"), _flag("has_left"), key=("org_id", "credential"))

confirmations = _table(
    "confirmations",
    _big("org_id"), _text("key"), _text("credential"), _text("connection"), _big("revision"), _text("state"),
    _text("mark", null=True), _big("confirmed_us"),
    key=("org_id", "key", "credential", "connection"),
)  # fmt: skip

caps = _table(
    "caps",
    _big("org_id"), _text("cap_id"), _text("scope"), *_rule(), _big("seq"),
    key=("org_id", "cap_id"),
    indexes=(Index(None, "org_id", "scope"),),
)  # fmt: skip

guardrails = _table(
    "guardrails",
    _big("org_id"), _text("guardrail_id"), _text("each"), _text("within"), _text("except_"), *_rule(), _big("seq"),
    key=("org_id", "guardrail_id"),
)  # fmt: skip

connections = _table(
    "connections",
    _big("org_id"), _text("connection_id"), _text("gateway"), _text("address", null=True), _text("token", null=True),
    _text("secret", null=True), _text("direction"), _flag("counts"), _flag("adopt_keys"), _text("keys"), _text("workspaces"),
    _big("seq"),
    key=("org_id", "connection_id"),
)  # fmt: skip

breaches = _table(
    "breaches",
    _big("org_id"), _text("cap_id"), _big("ordinal"), _text("kind"), _text("scope"), _text("period"), _big("start_us"),
    _big("end_us"), _big("limit_nanos"), _big("spent"), _big("unpriced"), _text("action"), _text("enforce"),
    _big("entry", null=True), _text("waits"), _big("opened_us"), _text("verdict", null=True), _text("judged_by", null=True),
    _big("closed_us", null=True), _text("reason", null=True),
    key=("org_id", "cap_id", "ordinal"),
)  # fmt: skip

spoken = _table("spoken", _big("org_id"), _text("cap_id"), _text("said"), key=("org_id", "cap_id"))
waits = _table("waits", _big("org_id"), _text("cap_id"), _text("key"), key=("org_id", "cap_id", "key"))

days = _table("days", _big("org_id"), _text("scope"), _big("day"), *_sums(), key=("org_id", "scope", "day"), rowid=False)

hours = _table("hours", _big("org_id"), _text("scope"), _big("hour_us"), *_sums(), key=("org_id", "scope", "hour_us"), rowid=False)

labels = _table(
    "labels", _big("org_id"), _text("scope"), _text("name"), _big("since"), _text("value", null=True),
    key=("org_id", "scope", "name", "since"),
)  # fmt: skip

PROJECTIONS = (workspaces, keys, credentials, confirmations, caps, guardrails, connections, breaches, spoken, waits, labels, days, hours)

rollup = _table(
    "rollup",
    _big("org_id"), _big("day"), _text("workspace"), _text("key"), _text("model"), _text("provider"), _text("preset"),
    _text("preset_version"), _text("member"), _text("charge"),
    *_sums(), _big("cached_input_tokens"), _big("cache_write_tokens"), _big("reasoning_tokens"),
    key=("org_id", "day", "workspace", "key", "model", "provider", "preset", "preset_version", "member", "charge"),
    rowid=False,
)  # fmt: skip

rolled = _table("rolled", _big("org_id"), _big("seq"), key=("org_id",))

outbox = _table(
    "outbox",
    _big("org_id"), _big("seq"), _text("topic"), _text("key"), _text("payload"),
    key=("org_id", "seq", "topic"),
)  # fmt: skip

places = _table("places", _big("org_id"), _text("reader"), _big("seq"), key=("org_id", "reader"))

commands = _table(
    "commands",
    _big("org_id"), _text("key"), _text("credential"), _text("connection"), _big("revision"), _text("state"), _text("reasons"),
    _text("delivery"), _big("attempts"), _big("created_us"), _big("next_us"), _big("attempted_us", null=True),
    _big("busy_us", null=True), _big("confirmed_us", null=True), _text("error", null=True), _big("told_us", null=True),
    key=("org_id", "credential", "connection", "revision"),
    indexes=(Index(None, "delivery", "next_us"),),
)  # fmt: skip

observed = _table(
    "observed",
    _big("org_id"), Column("digest", Bytes, nullable=False), _text("connection_id"), _big("time_us"), _text("response_id", null=True),
    _text("key"), _text("model", null=True), _big("cost", null=True), _big("input_tokens"), _big("output_tokens"),
    key=("org_id", "digest"),
)  # fmt: skip

heard = _table("heard", _big("org_id"), _text("connection_id"), _big("hour_us"), key=("org_id", "connection_id", "hour_us"))

# The rate card is the ledger's, not an org's. `provider` is empty for a rate of the model wherever it runs.
rate_cards = _table("rate_cards", _big("version"), _big("created_us"), _text("by"), _text("origin"), key=("version",))

rates = _table(
    "rates",
    _big("version"), _text("provider"), _text("model"), _text("origin"), _big("starts_us"), _text("standard"), _text("batch", null=True),
    _big("until_version", null=True),
    key=("version", "provider", "model", "origin", "starts_us"),
)  # fmt: skip

notified = _table("notified", _big("org_id"), _text("channel"), _big("seq"), key=("org_id", "channel"))

parked = _table(
    "parked",
    _text("org"), Column("digest", Bytes, nullable=False), _text("reason"), _big("received_us"), _text("event"),
    key=("org", "digest"),
)  # fmt: skip

tokens = _table(
    "tokens",
    Column("digest", Bytes, nullable=False), _text("name"), _text("scopes"), _text("org", null=True),
    _text("workspace", null=True), _big("created_us"), _big("revoked_us", null=True),
    key=("digest",),
)  # fmt: skip
