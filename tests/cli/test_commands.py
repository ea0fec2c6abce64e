"""The other commands: what they show, what they change, and how they say what is wrong."""

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy.exc import DBAPIError

from ledger.cli.common import Format, out, run, show
from ledger.service import system_clock
from ledger.wire.times import moment_text
from tests.cli.conftest import Ledger, book


@pytest.fixture
def over(ledger: Ledger) -> Ledger:
    """An org whose one key is over its daily cap."""
    ledger("apply", ledger.file(), "--yes")
    book(ledger, ("e1", "1.50"), ("e2", "0.70"))
    return ledger


def test_what_is_printed_is_utf8_in_any_locale(over: Ledger) -> None:
    command = [sys.executable, "-m", "ledger", "balances"]
    settings = {name: str(value) for name, value in (os.environ | over.environment | {"PYTHONIOENCODING": "ascii"}).items()}
    said = subprocess.run(command, env=settings, capture_output=True, check=True)
    assert "daily/…" in said.stdout.decode() and said.stderr == b""


def test_every_command_has_help_worth_reading(fresh: Ledger) -> None:
    commands = [
        line.split()[1] for line in fresh("--help").stdout.splitlines() if line.startswith("│ ") and line[2] != " " and line[2] != "-"
    ]
    assert {"serve", "migrate", "apply", "get", "pause", "resume", "revoke", "balances", "explain", "replay", "verify", "tokens"} <= set(
        commands
    )
    for command in commands:
        assert len(fresh(command, "--help").stdout.splitlines()) > 5, command


def test_migrate_brings_the_schema_to_head_as_often_as_it_is_asked(fresh: Ledger) -> None:
    assert "ledger migrate" in fresh("get", "orgs", code=1).stderr
    fresh("migrate")
    assert "head" in fresh("migrate").stdout
    assert fresh.rows("get", "orgs") == []


def test_a_schema_that_a_newer_ledger_made_is_told_as_such_and_not_sent_to_migrate(ledger: Ledger) -> None:
    """After a deploy that was taken back."""
    ledger.sql("UPDATE alembic_version SET version_num = '9999'")
    for words in (("get", "orgs"), ("migrate",), ("verify",), ("doctor",)):
        answer = ledger(*words, code=1)
        told = answer.stdout + answer.stderr
        assert "9999" in told and "a newer ledger" in told and "`ledger migrate`" not in told, words


def test_lists_are_tables_json_and_csv(over: Ledger) -> None:
    (breach,) = over.rows("get", "breaches", "--open")
    assert (breach["cap"], breach["over_usd"]) == ("daily/key:crawler", "0.20")
    table = over("get", "keys").stdout.splitlines()
    assert table[0].split() == ["key", "workspace", "state", "confirmed", "revision", "reasons"]
    assert table[1].split()[:3] == ["crawler", "research", "paused"]
    (row,) = csv.DictReader(io.StringIO(over("get", "keys", "--format", "csv").stdout))
    assert (row["key"], json.loads(row["reasons"])) == ("crawler", ["cap:daily/key:crawler"])
    assert over.rows("get", "keys", "--state", "active") == []
    for things in ("orgs", "workspaces", "caps", "guardrails", "commands"):
        over("get", things)


def test_balances_show_what_was_spent_and_what_caps_leave(over: Ledger) -> None:
    rows = {row["scope"]: row for row in over.rows("balances")}
    assert {row["spent_usd"] for row in rows.values()} == {"2.20", "0"} and rows["workspace:lab"]["spent_usd"] == "0"
    assert rows["key:crawler"]["caps"] == [{"cap": "daily/key:crawler", "limit_usd": "2.00", "left_usd": "0"}]
    (month,) = over.rows("balances", "org", "--period", "month")
    assert month["caps"][0]["left_usd"] == "247.80"
    (earlier,) = over.rows("balances", "org", "--at", "2001-01-01T00:00:00Z")
    assert earlier["spent_usd"] == "0"
    assert "as of seq" in over("balances").stdout
    assert "write it as 2026-03-08T09:00:00Z, or 2026-03-08" in over("balances", "--at", "yesterday", code=1).stderr
    (whole,) = over.rows("balances", "org", "--at", "2001-01-01")
    told = over("explain", "org", "--period", "day", "--at", "2001-01-01").stdout
    assert whole["start"] == "2001-01-01T05:00:00Z" and "2001-01-02T05:00:00Z" in told, "a day of the org's own zone"
    assert "write it as 2026-03-08T09:00:00Z\n" in over("balances", "--until", "2001-01-01", code=1).stderr


IGNORED = [
    (("get", "caps", "--state", "active"), "--state: is of keys, not of caps"),
    (("get", "breaches", "--workspace", "lab"), "--workspace: is of keys, not of breaches"),
    (("get", "keys", "--open"), "--open: is of breaches"), (("get", "orgs", "--org", "acme"), "--org: goes with"),
    (("explain", "key:crawler", "--at", "2026-03-08"), "--at: goes with --period"),
    (("explain", "--where", "key:crawler", "--at", "2026-03-08"), "--at: goes with --period"),
    (("explain", "--where", "key:crawler", "--period", "day"), "--period: goes with a scope"),
    (("explain", "key:crawler", "--from", "2026-03-08"), "--from: goes with --where"),
    (("explain", "org", "--period", "day", "--to", "2026-03-08"), "--to: goes with --where"),
    (("balances", "--watch", "--at", "2026-03-08"), "--at: does not go with --watch"),
    (("balances", "--watch", "--as-of", "2026-03-08T09:00:00Z"), "--as-of: does not go with --watch"),
    (("balances", "--watch", "--until", "2026-03-08T09:00:00Z"), "--until: does not go with --watch"),
    (("balances", "--watch", "--format", "json"), "--format: does not go with --watch"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), IGNORED)
def test_an_option_that_would_be_passed_over_is_refused(over: Ledger, words: tuple[str, ...], said: str) -> None:
    assert over(*words, code=1).stderr.startswith(f"error {said}")


def test_an_explanation_is_no_list_and_help_says_where_the_caps_of_guardrails_are(over: Ledger) -> None:
    assert "'csv' is not one of" in over("explain", "key:crawler", "--format", "csv", code=2).stderr
    told = " ".join(over("get", "--help").stdout.split())
    assert "a guardrail makes" in told and "`ledger balances` shows them" in told
    assert over.rows("balances", "key:crawler")[0]["above"][0]["cap"] == "daily/key:crawler"


def test_a_csv_has_a_column_for_what_any_of_its_rows_has(capsys: pytest.CaptureFixture[str]) -> None:
    """What waits for a person stands in one list with what was sent, and says less."""
    show([{"key": "a"}, {"key": "b", "error": "no"}], Format.CSV, ("key",))
    assert capsys.readouterr().out == "key,error\na,\nb,no\n"


def test_what_nobody_has_met_is_said_to_be_unmet_beside_its_zeros(over: Ledger) -> None:
    unmet = over("balances", "key:nobody", "workspace:lab", "workspace:lob", "key:hash-1")
    for line in ("key:nobody: nobody has met it", "workspace:lob: nobody has met it", "key:hash-1 is a credential of key:crawler"):
        assert line in unmet.stdout
    assert "workspace:lab: nobody" not in unmet.stdout and not unmet.stderr
    assert "nobody has met it" in over("balances", "key:nobody", "--format", "csv").stderr
    assert "nobody" not in over("balances", "org", "key:crawler").stdout


def test_an_explanation_of_what_nobody_has_met_says_so_as_its_balance_does(over: Ledger) -> None:
    """What is misspelt reads as nothing spent."""
    for scope, note in (
        ("key:nobody", "nobody has met it"), ("workspace:lob", "nobody has met it"), ("key:hash-1", "is a credential of key:crawler"),
    ):  # fmt: skip
        assert note in over("explain", scope, "--period", "day").stdout
        assert note in over("explain", scope, "--period", "day", "--format", "json").stderr
    assert "nobody" not in over("explain", "key:crawler", "--period", "day").stdout
    assert "say key:ID" in over("explain", "crawler", code=1).stderr


def test_a_delivery_or_a_number_that_can_be_none_is_refused_and_not_answered_by_an_empty_list(over: Ledger) -> None:
    for words in (("--delivery", "confirmd"), ("--limit", "0"), ("--limit", "-1"), ("--limit", "9" * 20)):
        assert words[0] in over("commands", "list", *words, code=2).stderr
    assert "confirmed" in over("commands", "list", "--delivery", "x", code=2).stderr
    over("commands", "list", "--delivery", "confirmed")


def test_a_kafka_that_is_not_there_is_told_in_one_line(over: Ledger) -> None:
    said = over("dead", "list", code=1, LEDGER_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1").stderr
    assert said.startswith("error Kafka at 127.0.0.1:1") and "is it running?" in said and "Unclosed" not in said


FAULTS = [
    (OSError(errno.ENOSPC, "No space left on device"), "the output can't be written: [Errno 28] No space left on device"),
    (DBAPIError("", {}, Exception("database or disk is full")), "make room where the database lies"),
    (DBAPIError("", {}, Exception("attempt to write a readonly database")), "may it be written"),
    (DBAPIError("", {}, Exception("cannot execute INSERT in a read-only transaction")), "may it be written"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Is LEDGER_DATABASE_URL right, and is it running?"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS)
def test_a_full_disk_and_a_database_that_is_only_read_are_told_from_one_that_is_away(
    capsys: pytest.CaptureFixture[str], fault: Exception, said: str
) -> None:
    async def work() -> None:
        raise fault

    with pytest.raises(typer.Exit):
        run(work)
    told = capsys.readouterr().err
    assert told.startswith("error ") and said in told and ("is it running?" in told) == isinstance(fault, ConnectionRefusedError)


ACCOUNTS = """
org: {id: acme}
connections:
  there: {gateway: openrouter, address: "http://127.0.0.1:1", token: "env:HOME"}
"""


def test_a_gateway_that_is_not_declared_or_not_there_is_named(ledger: Ledger) -> None:
    ledger("apply", ledger.file("org: {id: acme}\n"), "--yes")
    for words, said in ((("keys", "sync"), "there is no connection to openrouter in"), (("reconcile",), "there is no connection in")):
        assert f"{said} org 'acme': a policy file declares one" in ledger(*words, code=1).stderr
    ledger("apply", ledger.file(ACCOUNTS), "--yes")
    assert "there is no connection 'here'" in ledger("reconcile", "--connection", "here", code=1).stderr
    for words in (("keys", "sync"), ("reconcile",), ("adopt", "--org", "acme", "--connection", "there")):
        said = ledger(*words, code=1).stderr
        assert said.startswith("error connection there (openrouter at http://127.0.0.1:1): ") and "is it running?" in said


def test_days_that_end_before_they_begin_are_refused_and_not_shown_as_no_difference(ledger: Ledger) -> None:
    ledger("apply", ledger.file(ACCOUNTS), "--yes")
    said = ledger("reconcile", "--from", "2026-03-09", "--to", "2026-03-08", code=1).stderr
    assert "--from: 2026-03-09 comes after --to, 2026-03-08" in said


def test_a_table_tells_hashes_by_their_first_digits_and_cuts_nothing_else_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 60)
    row = {"key": "a key of some length", "credential": "0e6" + "a" * 61, "delivery": "failed", "error": "its token " + "is refused " * 20}
    show([row], Format.TABLE, ("key", "credential", "delivery", "error"))
    told = capsys.readouterr().out
    assert all(f"{word} " in told for word in ("a key of some length", "0e6aaaaaaaaa…", "failed")) and told.count("refused") == 20
    show([row], Format.JSON, ())
    assert row["credential"] in capsys.readouterr().out


@pytest.mark.parametrize("scope", ["crawler", "keys:crawler", "key:"])
def test_a_misspelt_scope_is_refused_and_not_shown_as_having_spent_nothing(over: Ledger, scope: str) -> None:
    assert repr(scope) in over("balances", scope, code=1).stderr
    assert repr(scope) in over("balances", scope, "--watch", code=1).stderr
    assert repr(scope) in over("explain", scope, "--period", "day", code=1).stderr


@pytest.mark.parametrize("scope", ["org", "workspace:research"])
def test_a_scope_that_is_there_is_not_said_to_be_missing_where_its_period_is(over: Ledger, scope: str) -> None:
    assert "--period" in over("explain", scope, code=1).stderr


def test_a_state_that_no_key_can_have_is_refused(over: Ledger) -> None:
    assert "stopped" in over("get", "keys", "--state", "stopped", code=2).stderr


def test_a_paused_key_is_explained_in_a_few_lines(over: Ledger) -> None:
    """J6, C7."""
    lines = over("explain", "key:crawler").stdout.splitlines()
    assert lines[0].startswith("key:crawler  PAUSED since ") and lines[0].endswith("research")
    words = {line.split()[0]: line for line in lines[1:]}
    assert "$2.20 of $2.00, over by $0.20" in words["why"]
    assert "org-month $2.20 of $250.00" in words["others"]
    assert "e2  $0.70" in words["crossed"]
    assert "policy" not in words["set"] and "seq" in words["as"]
    assert json.loads(over("explain", "daily/key:crawler/1", "--format", "json").stdout)["breach"]["over_usd"] == "0.20"
    assert json.loads(over("explain", "org", "--period", "day", "--format", "json").stdout)["entries_usd"] == "2.20"
    for nothing in ("key:stranger", "daily/key:crawler/9", "nonsense"):
        assert nothing in over("explain", nothing, code=1).stderr


def test_calls_without_a_price_are_explained_as_what_stopped_the_key(ledger: Ledger) -> None:
    """C10: and a cap that never resets has a window without an end on either side."""
    rule = "{scope: org, period: lifetime, limit_usd: 5, action: pause, on_unpriced: pause}"
    ledger("apply", ledger.file(f"org: {{id: acme}}\ncaps:\n  c: {rule}\n"), "--yes")
    call = {"specversion": "1.0", "type": "llm.usage.v1", "source": "s", "id": "e", "time": moment_text(system_clock())}
    (ledger.home / "call.json").write_text(json.dumps(call | {"data": {"org": "acme", "key": "a", "model": "m"}}))
    ledger("import", "call.json")
    lines = ledger("explain", "key:a").stdout
    assert "c, org lifetime: 1 unpriced calls, $0 of $5.00" in lines and "e  unpriced  m" in lines
    assert [cap["would_allow"] for cap in ledger.rows("explain", "key:a")["why"]] == [False]
    assert "lifetime, ever to no end" in ledger("explain", "c/1").stdout


def test_no_name_is_taken_for_a_sign(ledger: Ledger) -> None:
    """`:a:` would be one."""
    ledger("apply", ledger.file("org: {id: acme}\nkeys: {a: }\ncaps:\n  a:a: {scope: 'key:a', period: day, limit_usd: 5}\n"), "--yes")
    assert "a:a: $5.00 left of $5.00" in ledger("explain", "key:a", "--period", "day").stdout


def test_a_person_pauses_resumes_and_revokes(over: Ledger) -> None:
    """K1, K2."""
    assert "paused" in over("pause", "key:crawler", "--reason", "looks odd").stdout
    resumed = over("resume", "workspace:research", "--reason", "it was fine").stdout
    assert "paused" in resumed and "still: cap:daily/key:crawler" in resumed
    assert "revoked" in over("revoke", "org", "--reason", "leaked").stdout
    assert "final" in over("resume", "key:crawler", "--reason", "please", code=1).stderr
    assert "final" in over("resume", "org", "--reason", "please").stdout, "of many, each is told of"
    (key,) = over.rows("get", "keys")
    assert key["state"] == "revoked"
    assert "no key" in over("pause", "key:stranger", "--reason", "x", code=1).stderr
    assert "galaxy:x" in over("pause", "galaxy:x", "--reason", "x", code=1).stderr
    assert "--reason" in over("pause", "key:crawler", code=2).stderr
    for words in (("resume", "key:crawler"), ("commands", "approve", "daily/1"), ("adjust", "1", "--cost", "1")):
        assert "1 to 500 characters" in over(*words, "--reason", "", code=2).stderr, "the bounds that HTTP has"


def test_who_ends_keys_at_a_terminal_is_asked_first(over: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing brings them back; a script is taken at its word."""
    monkeypatch.setattr("ledger.cli.ordering.at_terminal", lambda: True)
    assert "org, keys: 1. End them for good?" in over("revoke", "org", "--reason", "leaked", code=1, answer="n\n").stdout
    assert over.rows("get", "keys")[0]["state"] == "paused"
    assert "revoked" in over("revoke", "org", "--reason", "leaked", "--yes").stdout
    assert over.rows("get", "keys")[0]["state"] == "revoked"


def test_verify_proves_the_books_and_replay_makes_them_again(over: Ledger) -> None:
    """J1."""
    proved = over("verify")
    assert "equal" in proved.stdout and not proved.stderr, "where nobody looks there is no progress, and no line for it"

    def stands() -> list[Any]:
        shown = [over.rows("get", things) for things in ("orgs", "keys", "breaches", "caps", "guardrails")]
        return [*shown, [row | {"above": ...} for row in over.rows("balances")]]  # a forecast moves on with the clock

    before = stands()
    again = over("replay")
    assert "replayed" in again.stdout and not again.stderr
    assert "equal" in over("verify", "--org", "acme").stdout
    assert stands() == before


TAMPERING = {
    "a journal row is changed": ("UPDATE journal SET cost = cost + 1 WHERE cost > 0", "acme"),
    "a journal row is removed": ("DELETE FROM journal WHERE seq = 3", "3"),
    "the newest journal row is removed": ("DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)", "acme"),
    "a balance is changed": ("UPDATE days SET spent = spent + 1 WHERE scope = 'key:crawler'", "key:crawler"),
    "a balance is removed": ("DELETE FROM days WHERE scope = 'org'", "org"),
    "a key is set free": ("UPDATE keys SET state = 'active'", "crawler"),
    "a cap is raised": ("UPDATE caps SET limit_nanos = limit_nanos * 2", "org-month"),
    "a breach is hidden": ("DELETE FROM breaches", "daily/key:crawler"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_verify_finds_what_was_tampered_with_and_names_it(over: Ledger, what: str) -> None:
    """J1, M7."""
    statement, named = TAMPERING[what]
    over.sql(statement)
    said = over("verify", code=1).stderr
    assert "different" in said and named in said


def test_replay_mends_projections_that_were_tampered_with(over: Ledger) -> None:
    """J1: drop them, replay, and they come back equal."""
    for statement in ("DELETE FROM days", "DELETE FROM breaches", "UPDATE keys SET state = 'active'", "DELETE FROM caps"):
        over.sql(statement)
    over("verify", code=1)
    over("replay")
    assert "equal" in over("verify").stdout


def test_tokens_are_shown_once_listed_without_their_text_and_revoked(ledger: Ledger) -> None:
    """T1."""
    made = ledger("tokens", "create", "gateway", "--scope", "ingest", "--org", "acme")
    text = made.stdout.strip()
    assert text.startswith("ldg_") and "there is no org 'acme' yet: its first usage opens it" in made.stderr
    (row,) = ledger.rows("tokens", "list")
    assert (row["name"], row["scopes"], row["org"], row["revoked_at"]) == ("gateway", "ingest", "acme", None)
    assert text not in ledger("tokens", "list").stdout
    assert "revoked 1" in ledger("tokens", "revoke", "gateway").stdout
    assert ledger.rows("tokens", "list")[0]["revoked_at"]
    assert "gateway" in ledger("tokens", "revoke", "gateway", code=1).stderr
    assert "'all' is not a scope" in ledger("tokens", "create", "x", "--scope", "all", code=1).stderr
    assert "--workspace" in ledger("tokens", "create", "x", "--scope", "admin", "--workspace", "lab", code=1).stderr
    assert "--org: is not 1 to 128" in ledger("tokens", "create", "x", "--scope", "read", "--org", "", code=1).stderr
    assert "NAME: is not 1 to 128" in ledger("tokens", "create", "", "--scope", "admin", code=1).stderr, "who did it is in the entry (T3)"
    ledger("apply", ledger.file(), "--yes")
    assert not ledger("tokens", "create", "lab", "--scope", "read", "--org", "acme", "--workspace", "lab").stderr


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("LEDGER_LISTEN", "127.0.0.1", "HOST:PORT"), ("LEDGER_DATABASE_URL", "mysql://x/y", "postgresql://"),
        ("LEDGER_DATABASE_URL", "not a url", "sqlite:///"), ("LEDGER_LISTENS", "127.0.0.1:1", "did you mean LEDGER_LISTEN?"),
        ("LEDGER_METRICS_PORT", "many", "integer"), ("LEDGER_LOG_LEVEL", "loud", "'debug'"), ("LEDGER_ADMIN_TOKEN", "short", "16"),
        ("LEDGER_DATABASE_URL_FILE", "nowhere", "can't be read"), ("LEDGER_PORT", "8081", "is not a setting"),
        ("LEDGER_KAFKA_SSL_CAFILE", "nowhere", "holds no certificates"), ("LEDGER_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "USERNAME"),
        ("LEDGER_KAFKA_SASL_USERNAME", "ledger", "PLAINTEXT"), ("LEDGER_KAFKA_SASL_PASSWORD", "secret", "USERNAME"),
        ("LEDGER_KAFKA_SSL_CERTFILE", "own.pem", "PLAINTEXT"), ("LEDGER_KAFKA_SSL_KEYFILE", "own.key", "CERTFILE"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [("serve",), ("get", "orgs"), ("doctor",)])
def test_a_malformed_or_misspelt_setting_stops_every_command_and_is_named(
    fresh: Ledger, command: tuple[str, ...], name: str, value: str, word: str
) -> None:
    said = fresh(*command, code=1, **{name: value}).stderr
    assert name.removesuffix("_FILE") in said and word in said
    assert value not in said or name != "LEDGER_ADMIN_TOKEN", "no secret is repeated"


def test_settings_come_from_the_environment_then_a_file_then_defaults(fresh: Ledger) -> None:
    fresh("migrate")
    fresh.environment["LEDGER_DATABASE_URL"] = None
    Path(".env").write_text(f"LEDGER_DATABASE_URL=sqlite:///{fresh.home / 'fresh.db'}\nOTHER=1\n")
    assert fresh.rows("get", "orgs") == []
    fresh("get", "orgs", code=1, LEDGER_DATABASE_URL=f"sqlite:///{fresh.home / 'elsewhere.db'}")
    Path("secret").write_text(f"sqlite:///{fresh.home / 'fresh.db'}\n")
    Path(".env").unlink()
    fresh.environment["LEDGER_DATABASE_URL_FILE"] = "secret"
    assert fresh.rows("get", "orgs") == []
    Path(".env").write_text("LEDGER_DATABASE_ULR=x\n")
    assert "LEDGER_DATABASE_ULR is not a setting" in fresh("get", "orgs", code=1).stderr


def test_a_database_that_does_not_answer_is_told_in_words(fresh: Ledger) -> None:
    said = fresh("get", "orgs", code=1, LEDGER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/x").stderr
    assert "LEDGER_DATABASE_URL" in said and "Traceback" not in said
    said = fresh("get", "orgs", code=1, LEDGER_DATABASE_URL="sqlite:////nowhere/at/all.db").stderr
    assert "LEDGER_DATABASE_URL: there is no directory /nowhere/at" in said and "Traceback" not in said
    assert "is a directory" in fresh("migrate", code=1, LEDGER_DATABASE_URL="sqlite:////tmp").stderr
    said = fresh("get", "orgs", code=1, LEDGER_DATABASE_URL="postgresql://ann:pa/ss@127.0.0.1/x").stderr
    assert "%2F" in said and "'pa'" not in said and "Traceback" not in said, "a password that cuts the URL short"
    assert "there is no file misspelt.db" in fresh("balances", code=1, LEDGER_DATABASE_URL="sqlite:///misspelt.db").stderr
    assert not Path("misspelt.db").exists()
    notes = "these are notes, not a database" * 100
    Path("notes.db").write_text(notes)
    for command in (("get", "orgs"), ("migrate",), ("doctor",), ("serve",)):
        told = fresh(*command, code=1, LEDGER_DATABASE_URL="sqlite:///notes.db")
        assert "is no SQLite database" in told.stdout + told.stderr and "does not answer" not in told.stdout + told.stderr
    assert Path("notes.db").read_text() == notes


def test_there_is_nothing_to_show_before_there_is_an_org(ledger: Ledger) -> None:
    for command in (("get", "keys"), ("balances",), ("explain", "org", "--period", "day")):
        assert "ledger apply" in ledger(*command, code=1).stderr
    assert "'nobody'" in ledger("get", "keys", "--org", "nobody", code=1).stderr
    assert "equal" in ledger("verify").stdout


def test_what_others_named_commands_neither_the_terminal_nor_the_printer(ledger: Ledger) -> None:
    """A key's id comes from whoever sends usage: it is shown, not obeyed."""
    name = "[/red][bold]\\x1b]0;gotcha\\x07\\x1b[2J"
    policy = 'org: {id: acme}\nkeys:\n  "NAME": {workspace: "[/]"}\ncaps:\n  c: {scope: org, period: day, limit_usd: 1}\n'
    policy = policy.replace("NAME", name)
    plan = ledger("apply", ledger.file(policy), "--yes").stdout
    table = ledger("get", "keys").stdout
    lines = ledger("explain", "key:" + name.encode().decode("unicode_escape")).stdout
    said = ledger("explain", "key:[/]", code=1).stderr
    for shown in (plan, table, lines):
        assert "[/red][bold]\\x1b]0;gotcha" in shown and "\x1b" not in shown and "\x07" not in shown
    assert "[/]" in plan and "key:[/]" in said
