"""`ledger apply`: what a policy file makes of an org, what it shows first, and what it refuses."""

from collections.abc import Sequence

import pytest

from ledger.core.commands import Command, RemoveCap
from ledger.record import Booked
from ledger.service import Service
from tests.cli.conftest import POLICY, Ledger, book


def test_a_plan_shows_every_difference_and_changes_nothing(ledger: Ledger) -> None:
    plan = ledger("apply", ledger.file(), "--plan", code=2).stdout
    for line in ("+ org, America/New_York", "+ workspace:research", "+ key:crawler in research", "+ guardrail daily: $2.00 per day, pause",
                 "+ cap org-month: $250.00 per month, alert"):  # fmt: skip
        assert line in plan
    assert ledger.rows("get", "orgs") == []


def test_what_was_applied_leaves_no_differences(ledger: Ledger) -> None:
    assert "done" in ledger("apply", ledger.file(), "--yes").stdout
    assert "no differences" in ledger("apply", ledger.file(), "--plan").stdout
    assert [key["key"] for key in ledger.rows("get", "keys")] == ["crawler"]
    assert [row["guardrail"] for row in ledger.rows("get", "guardrails")] == ["daily"]


def test_an_amount_keeps_the_digits_that_were_written(ledger: Ledger) -> None:
    """M1: YAML's floats come nowhere near money."""
    ledger("apply", ledger.file(POLICY.replace("limit_usd: 2.00", "limit_usd: 0.123456789")), "--yes")
    assert ledger.rows("get", "guardrails")[0]["limit_usd"] == "0.123456789"


def test_a_whole_number_is_in_decimals_whatever_it_begins_with(ledger: Ledger) -> None:
    """M1: YAML 1.1 takes 010 for eight."""
    ledger("apply", ledger.file(POLICY.replace("limit_usd: 2.00", "limit_usd: 010")), "--yes")
    assert ledger.rows("get", "guardrails")[0]["limit_usd"] == "10.00"


@pytest.mark.parametrize("value", ["!!int x", "!!bool maybe"])
def test_a_value_that_is_not_what_its_tag_says_is_no_yaml(ledger: Ledger, value: str) -> None:
    assert "policy.yaml: is not YAML" in ledger("apply", ledger.file(f"org: {{id: {value}}}"), code=1).stderr


def test_a_plan_notes_what_its_rules_name_and_nobody_has(ledger: Ledger) -> None:
    """It may be meant for later, as workspaces open by usage; or it is misspelt, and the rule covers nothing."""
    known = POLICY.replace("in: [org]", "in: [research, unassigned]").replace("scope: org", "scope: key:hash-1")
    assert ledger("apply", ledger.file(known), "--yes").stderr == ""
    assert ledger("apply", ledger.file("org: {id: acme}\n" + known[known.index("guardrails") :]), "--plan").stderr == ""
    wrong = known.replace("in: [research", "in: [reserch").replace("key:hash-1", "key:crawlr")
    noted = ledger("apply", ledger.file(wrong), "--plan", code=2).stderr
    assert "guardrail daily: there is no workspace:reserch yet" in noted and "cap org-month: there is no key:crawlr yet" in noted
    assert noted.count("note") == 2


def test_a_backstop_is_shown_kept_and_refused_where_no_gateway_has_one(ledger: Ledger) -> None:
    """K7."""
    ledger("apply", ledger.file(), "--yes")
    with_it = POLICY.replace("limit_usd: 2.00", "limit_usd: 2.00, backstop_percent: 120")
    plan = ledger("apply", ledger.file(with_it), "--plan", code=2).stdout
    assert "~ guardrail daily: $2.00 per day, pause → $2.00 per day, pause, backstop 120 %" in plan
    ledger("apply", ledger.file(with_it), "--yes")
    assert ledger.rows("get", "guardrails")[0]["backstop_percent"] == 120
    assert "no differences" in ledger("apply", ledger.file(with_it), "--plan").stdout
    wrong = POLICY.replace("action: alert", "action: alert, backstop_percent: 120")
    assert "only a key's cap has one" in ledger("apply", ledger.file(wrong), "--plan", code=1).stderr
    low = POLICY.replace("limit_usd: 2.00", "limit_usd: 2.00, backstop_percent: 90")
    assert "backstop_percent" in ledger("apply", ledger.file(low), "--plan", code=1).stderr


def test_a_plan_says_all_that_would_be_another(ledger: Ledger) -> None:
    """A line that looks the same on both sides of its arrow tells a person nothing."""
    plan = ledger("apply", ledger.file(), "--yes").stdout
    assert "+ guardrail daily: $2.00 per day, pause, each key in org except testing, thresholds 50 80\n" in plan
    assert "+ cap org-month: $250.00 per month, alert, on org\n" in plan
    changed = POLICY.replace("except: [testing]", "except: []").replace("thresholds: [50, 80]", "resume: manual, enforce: observe")
    changed = changed.replace("scope: org", "scope: workspace:lab")
    plan = ledger("apply", ledger.file(changed), "--plan", code=2).stdout.splitlines()
    assert plan == [
        "~ guardrail daily: $2.00 per day, pause, each key in org except testing, thresholds 50 80, resume auto, enforce on"
        " → $2.00 per day, pause, each key in org, thresholds none, resume manual, enforce observe",
        "~ cap org-month: $250.00 per month, alert, on org → $250.00 per month, alert, on workspace:lab",
    ]


def test_a_plan_says_whom_it_would_stop_at_once(ledger: Ledger) -> None:
    """C5: a lowered limit acts at once, so it is told before."""
    ledger("apply", ledger.file(), "--yes")
    book(ledger, ("e1", "1.50"))
    lowered = ledger.file(POLICY.replace("limit_usd: 2.00", "limit_usd: 1.00"))
    plan = ledger("apply", lowered, "--plan", code=2).stdout
    assert "~ guardrail daily: $2.00 per day, pause → $1.00 per day, pause" in plan
    assert "! key:crawler would be paused at once" in plan
    assert ledger.rows("get", "keys")[0]["state"] == "active"
    ledger("apply", lowered, "--yes")
    assert ledger.rows("get", "keys")[0]["state"] == "paused"


def test_nothing_is_removed_without_prune(ledger: Ledger) -> None:
    ledger("apply", ledger.file(), "--yes")
    shorter = ledger.file(POLICY.partition("guardrails:")[0])
    assert "no differences" in ledger("apply", shorter, "--yes").stdout
    plan = ledger("apply", shorter, "--prune", "--plan", code=2).stdout
    assert "- cap org-month" in plan and "- guardrail daily" in plan
    ledger("apply", shorter, "--prune", "--yes")
    assert ledger.rows("get", "caps") == ledger.rows("get", "guardrails") == []


def test_what_another_prune_took_away_meanwhile_is_no_fault_of_this_one(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    rehearse = Service.rehearse

    async def and_then_it_goes(self: Service, commands: Sequence[Command]) -> Booked:
        booked = await rehearse(self, commands)
        await self.record([RemoveCap(org="acme", by="another", cap="org-month")])
        return booked

    ledger("apply", ledger.file(), "--yes")
    monkeypatch.setattr(Service, "rehearse", and_then_it_goes)
    assert "done" in ledger("apply", ledger.file(POLICY.partition("guardrails:")[0]), "--prune", "--yes").stdout
    assert ledger.rows("get", "caps") == ledger.rows("get", "guardrails") == []


def test_where_nobody_can_be_asked_nothing_is_changed(ledger: Ledger) -> None:
    assert "--yes" in ledger("apply", ledger.file(), code=1).stderr
    assert ledger.rows("get", "orgs") == []


def test_several_orgs_stand_in_one_file(ledger: Ledger) -> None:
    ledger("apply", ledger.file(POLICY + "---\norg: {id: other}\n"), "--yes")
    assert [row["org"] for row in ledger.rows("get", "orgs")] == ["acme", "other"]
    assert "--org" in ledger("get", "keys", code=1).stderr
    assert ledger.rows("get", "keys", "--org", "other") == []


def test_an_org_stands_once_in_a_file_so_that_prune_takes_away_nothing_that_another_document_of_it_holds(ledger: Ledger) -> None:
    twice = "org: {id: acme}\ncaps: {a: {scope: org, period: day, limit_usd: 1}}\n---\norg: {id: acme}\n"
    assert "policy.yaml: line 4: org.id: 'acme' is there twice" in ledger("apply", ledger.file(twice), "--yes", code=1).stderr
    assert ledger.rows("get", "orgs") == []


def test_credentials_change_keys_in_whichever_order_a_file_names_those(ledger: Ledger) -> None:
    """S1: what one key gives up in a file, another may have by the same file."""
    file = "org: {{id: acme}}\nkeys:\n  a: {{credentials: [{}]}}\n  b: {{credentials: [{}]}}\n"
    for mine, yours in (("x, y", "z"), ("z, y", "x"), ("z", "x, y"), ("x, z", "y")):
        assert "done" in ledger("apply", ledger.file(file.format(mine, yours)), "--yes").stdout
        assert [set(key["credentials"]) for key in ledger.rows("get", "keys")] == [{*mine.split(", ")}, {*yours.split(", ")}]
        assert "no differences" in ledger("apply", ledger.file(file.format(mine, yours)), "--plan").stdout


def test_what_a_file_does_not_say_of_an_org_stays_as_it_is(ledger: Ledger) -> None:
    ledger("apply", ledger.file("org: {id: acme, time_zone: America/Los_Angeles, enforce: observe, brake: 3}\n"), "--yes")
    assert "no differences" in ledger("apply", ledger.file("org: {id: acme}\n"), "--yes").stdout
    plan = ledger("apply", ledger.file("org: {id: acme, brake: 4}\n"), "--yes").stdout
    assert "~ org: America/Los_Angeles, enforce observe, brake 3 → America/Los_Angeles, enforce observe, brake 4" in plan
    (org,) = ledger.rows("get", "orgs")
    assert (org["time_zone"], org["enforce"], org["brake"]) == ("America/Los_Angeles", "observe", 4)


def test_a_new_org_has_the_defaults_of_what_its_file_does_not_say(ledger: Ledger) -> None:
    ledger("apply", ledger.file("org: {id: acme}\n"), "--yes")
    (org,) = ledger.rows("get", "orgs")
    assert (org["time_zone"], org["enforce"], org["brake"]) == ("UTC", "on", 20)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("org: {id: acme}\ncaps:\n  c: {scope: org, period: day, limit_usd: -1}\n", 3, "caps.c.limit_usd: is negative"),
        ("org: {id: acme}\ncaps:\n  c:\n    scope: org\n    period: fortnight\n    limit_usd: 1\n", 5, "caps.c.period"),
        ("org: {id: acme}\nguardrails:\n  g: {each: key, in: [org], period: day, limit_usd: 1e-10}\n", 3, "g.limit_usd: is less"),
        ("org: {id: acme}\n\ncapps: {}\n", 3, "capps: is not known here"),
        ("org: {id: acme}\nby: mallory\n", 2, "by: is not known here"),
        ("org: {id: acme}\ncaps:\n  c: {scope: org, period: day, limit_usd: 1:30}\n", 3, "c.limit_usd: is not a decimal number"),
        (f"org: {{id: acme}}\ncaps:\n  c: {{scope: org, period: day, limit_usd: {'9' * 5000}}}\n", 3, "c.limit_usd: is longer"),
        ("org: {id: !!float x}\n", 1, "could not determine a constructor"),
        ("org: {id: acme}\nguardrails:\n  g: {each: key, period: day, limit_usd: 1}\n", 3, "guardrails.g.in"),
        ("org: {id: acme}\ncaps:\n  c: {scope: org, period: day, limit_usd: 1}\n  c: {scope: org, period: day}\n", 4, "twice"),
        ("org: {id: acme}\n---\norg: {}\n", 3, "org.id"),
        ("org: {id: acme\ncaps: {}\n", 2, ""),
        ("org: {id: acme}\nkeys:\n  k: {credentials: [a, '']}\n", 3, "keys.k.credentials.1"),
        ("- just\n- a list\n", 1, "org"),
        ("org: acme\n", 1, "org: is not a mapping of names to values, such as org: {id: acme}"),
        ("org: {id: acme}\ncaps:\n", 2, "caps: is not a mapping of names to values"),
        ("org: {id: acme}\n? [a, b]\n: c\n", 2, "a name is not plain text"),
        ("org:\n  id: acme\n  time_zone: Mars/Olympus\n", 3, "org.time_zone: is not in the tz database, as America/New_York is"),
    ],
)  # fmt: skip
def test_a_file_that_is_refused_names_the_line_and_the_field(ledger: Ledger, text: str, line: int, word: str) -> None:
    said = ledger("apply", ledger.file(text), "--yes", code=1).stderr
    assert f"policy.yaml: line {line}: " in said and word in said
    assert ledger.rows("get", "orgs") == []


def test_a_file_in_another_encoding_is_refused_at_its_line(ledger: Ledger) -> None:
    path = ledger.home / "latin.yaml"
    path.write_bytes("org:\n  id: café\n".encode("latin-1"))
    assert "latin.yaml: line 2: is not UTF-8" in ledger("apply", str(path), "--yes", code=1).stderr


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n"])
def test_a_file_without_a_policy_says_how_one_begins(ledger: Ledger, text: str) -> None:
    assert "org: {id: …}" in ledger("apply", ledger.file(text), "--yes", code=1).stderr


def test_what_the_books_refuse_is_told_and_nothing_of_the_file_is_done(ledger: Ledger) -> None:
    said = ledger("apply", ledger.file(POLICY.replace("America/New_York", "Mars/Olympus")), "--yes", code=1).stderr
    assert "time_zone" in said and "policy.yaml" in said
    assert ledger.rows("get", "orgs") == []
