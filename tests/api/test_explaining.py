"""Why a key is paused and until when: one URL and one command, whatever the reason is, true in its figures and in its words (J6)."""

from typing import Any

from sqlalchemy import update

from ledger.cli.explaining import breach_lines, key_lines
from ledger.relay import relay_once
from ledger.store import tables as t
from tests.api.asking import Api, event, moment

ORG = "/v1/orgs/acme"
HOUR_US = 3_600_000_000
MIDNIGHT = "2026-03-09T00:00:00Z"


async def cap(api: Api, name: str = "c", **more: Any) -> None:
    rule = {"scope": "key:crawler", "period": "day", "limit_usd": "10.00", "action": "pause"} | more
    answer = await api.ask("PUT", f"{ORG}/caps/{name}", rule)
    assert answer.status_code in (200, 201), answer.text


async def spend(api: Api, *costs: Any, key: str = "crawler", **more: Any) -> None:
    before = (await api.get(f"{ORG}/balances", scope="org", period="lifetime"))["balances"][0]["requests"] if await known(api) else 0
    await api.use(*(event(f"e{before + n}", cost, key, **more) for n, cost in enumerate(costs)))


async def known(api: Api) -> bool:
    return (await api.ask("GET", ORG)).status_code == 200


async def explained(api: Api, key: str = "crawler") -> tuple[dict[str, Any], str]:
    """What HTTP says of a key, and the terminal."""
    facts = (await api.get(f"{ORG}/explain", scope=f"key:{key}"))["facts"]
    return facts, "\n".join(key_lines(facts))


async def request(api: Api, what: str, body: dict[str, Any]) -> Any:
    return await api.post(f"{ORG}/{what}", body, headers={"Idempotency-Key": repr(body)})


async def seq_of(api: Api, number: int = -1) -> int:
    calls = [row["seq"] for row in (await api.get(f"{ORG}/entries", limit=1000))["entries"] if row["type"] == "UsageRecorded"]
    return int(calls[number])


async def test_a_key_that_a_correction_or_a_shared_cost_took_over_its_cap_is_explained(api: Api) -> None:
    """C3, C7: a breach may be opened by an entry that is no call."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "9.00")
    entry = await seq_of(api)
    await request(api, "adjustments", {"entry": entry, "amount_usd": "2.00", "reason": "the invoice says so"})
    facts, told = await explained(api)
    assert facts["crossed"][0]["corrects"] == entry and f"crossed  seq {entry + 1}  $2.00" in told and "the invoice says so" in told
    await cap(api, "all", scope="org", limit_usd="20.00")
    await request(api, "shared-costs", {"amount_usd": "15", "how": "evenly", "over": ["research"], "reason": "a licence"})
    facts, told = await explained(api)
    assert {row["cap"]: row["type"] for row in facts["crossed"]} == {"c": "UsageCorrected", "all": "CostShared"}
    assert "$15.00" in told and "a licence" in told


async def test_a_key_that_nothing_but_a_person_lets_go_says_so_and_not_the_end_of_a_window_before(api: Api) -> None:
    """K1, K2: every reason has to be over."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "11.00")
    assert (await explained(api))[0]["until"] == MIDNIGHT
    await cap(api, "week", period="week", limit_usd="11.00")
    assert (await explained(api))[0]["until"] == MIDNIGHT, "a Sunday: the week and the day end together"
    await cap(api, "month", period="month", limit_usd="11.00")
    assert (await explained(api))[0]["until"] == "2026-04-01T00:00:00Z"
    await api.post(f"{ORG}/keys/crawler/pause", {"reason": "a look"})
    facts, told = await explained(api)
    assert facts["until"] == "a person resumes it, and not before 2026-04-01T00:00:00Z" and "held     admin: a look" in told
    await api.ask("DELETE", f"{ORG}/caps/month")
    await api.ask("DELETE", f"{ORG}/caps/week")
    await api.ask("DELETE", f"{ORG}/caps/c")
    assert (await explained(api))[0]["until"] == "a person resumes it"


async def test_a_pause_that_no_window_ends_says_what_does(api: Api) -> None:
    """C1, W1: a limit of nothing is reached by every new window, and a lifetime is one that does not end."""
    await api.put(ORG, {}, 201)
    await spend(api, "11.00")
    await cap(api, "never", limit_usd="0")
    assert (await explained(api))[0]["until"] == "the limit of never is raised"
    await cap(api, "never", limit_usd="100")
    await cap(api, "ever", period="lifetime", limit_usd="5")
    assert (await explained(api))[0]["until"] == "the limit of ever is raised"
    await cap(api, "ever", period="lifetime", limit_usd="5", resume="manual")
    assert (await explained(api))[0]["until"] == "a person resumes it, and not before the limit of ever is raised"


async def test_a_key_that_waits_for_a_person_after_its_window_is_explained_by_that(api: Api) -> None:
    """C1: the window that contains now is empty, and is not why."""
    await api.put(ORG, {}, 201)
    await cap(api, resume="manual")
    await spend(api, "11.00")
    assert (await explained(api))[0]["until"] == f"a person resumes it, and not before {MIDNIGHT}"
    api.clock[0] += 24 * HOUR_US
    await api.service.pulse(["acme"])
    facts, told = await explained(api)
    assert facts["until"] == "a person resumes it" and facts["reasons"] == ["wait:c"]
    assert "why      c, key:crawler day: its breach is over, and a person has to resume the key (resume: manual)" in told
    assert [row["cap"] for row in facts["set_by"]] == ["c"]


async def test_a_window_that_is_over_and_was_not_closed_yet_is_told_as_such(api: Api) -> None:
    """W5: without a pulse nothing comes back; the new window's figures do not explain the pause."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "11.00")
    api.clock[0] += 24 * HOUR_US
    facts, told = await explained(api)
    assert facts["state"] == "paused" and facts["until"] == f"the next pulse: {MIDNIGHT} has passed"
    assert "why      c, key:crawler day: $11.00 of $10.00, over by $1.00" in told


async def test_a_revoked_key_never_comes_back_and_says_who_ended_it(api: Api) -> None:
    """K1: revoked is final, whatever a cap's window does."""
    await api.put(ORG, {}, 201)
    await cap(api, action="revoke")
    await spend(api, "11.00")
    facts, told = await explained(api)
    assert facts["state"] == "paused" and "waits    to revoke: ledger commands approve c/1, or reject" in told
    assert facts["why"][0]["breaches"] == [{"breach": "c/1", "kind": "spend", "waits": "revoke", "verdict": None}]
    await api.post(f"{ORG}/commands/c%2F1/approve", {"reason": "seen it"})
    facts, told = await explained(api)
    assert (facts["state"], facts["until"]) == ("revoked", "never: revoked is final") and "approve c/1" not in told
    assert facts["turned"]["reasons"] == ["approved:admin: seen it"] and "revoked  approved:admin: seen it" in told
    await spend(api, "1.00", key="other")
    await api.post(f"{ORG}/keys/other/revoke", {"reason": "it was stolen"})
    assert "revoked  revoked:admin: it was stolen" in (await explained(api, "other"))[1]


async def test_a_breach_that_the_brake_holds_is_not_said_to_be_an_alert(api: Api) -> None:
    """K4: the key works until a person says so, and a person may say no."""
    await api.put(ORG, {"brake": 0}, 201)
    await cap(api)
    await spend(api, "11.00")
    facts, told = await explained(api)
    assert facts["state"] == "active" and facts["others"][0]["breaches"][0]["waits"] == "all"
    assert "c $11.00 of $10.00 (over, held by the brake)" in told
    assert "waits    to stop the key: ledger commands approve c/1, or reject" in told
    await api.post(f"{ORG}/commands/c%2F1/reject", {"reason": "a wrong price"})
    told = (await explained(api))[1]
    assert "c $11.00 of $10.00 (over, and a person rejected that it stops the key)" in told and "waits" not in told


async def test_unpriced_calls_that_stop_nobody_are_not_said_to_be_allowed(api: Api) -> None:
    """C10."""
    await api.put(ORG, {}, 201)
    await cap(api, on_unpriced="pause", enforce="observe")
    await spend(api, ...)
    facts, told = await explained(api)
    assert not facts["others"][0]["would_allow"] and "(1 unpriced calls, but only observed)" in told


async def test_a_key_that_leaks_says_so(api: Api) -> None:
    """K6."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "11.00")
    await relay_once(api.service)
    (command,) = (await api.get(f"{ORG}/commands"))["commands"]
    await api.post(f"{ORG}/commands/{command['id']}/confirm", {"state": "paused"})
    api.clock[0] += HOUR_US
    await spend(api, "1.00", time=moment(hours=1), started_at=moment(minutes=59))
    facts, told = await explained(api)
    assert facts["leaking"] and "leaking  " in told


async def test_the_newest_command_of_every_name_and_gateway_of_a_key_is_shown(api: Api) -> None:
    """K3: one that was given up is not hidden by one that was confirmed, nor is a command of before taken for today's."""
    await api.put(ORG, {}, 201)
    await api.put(f"{ORG}/keys/crawler", {"workspace": "research", "credentials": ["hash-1", "hash-2"]}, 201)
    await api.post(f"{ORG}/keys/crawler/pause", {"reason": "a look"})
    assert "command  paused, revision 1, not handed on yet" in (await explained(api))[1]
    await relay_once(api.service)
    async with api.service.database.writer.begin() as connection:
        failed = update(t.commands).where(t.commands.c.credential == "hash-2").values(delivery="failed", error="its token is refused")
        await connection.execute(failed)
    (first,) = [row for row in (await api.get(f"{ORG}/commands"))["commands"] if row["credential"] == "hash-1"]
    await api.post(f"{ORG}/commands/{first['id']}/confirm", {"state": "paused"})
    told = (await explained(api))[1]
    assert "command  paused, revision 1, of hash-1, sent not yet, confirmed 2026-03-08T09:00:00Z" in told
    assert "command  paused, revision 1, of hash-2, failed: its token is refused" in told
    await api.post(f"{ORG}/keys/crawler/resume", {"reason": "it was fine"})
    assert "command  active, revision 2, not handed on yet" in (await explained(api))[1]


async def test_what_is_said_of_the_calls_after_a_pause_is_of_calls_after_it_at_their_price_of_now(api: Api) -> None:
    """W2, J3: a late call of before is none of them, and a call that is priced later costs what it costs."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "11.00")
    api.clock[0] += HOUR_US
    await spend(api, "3.00", time=moment(hours=-2))
    await spend(api, ..., "0.50", time=moment(minutes=5))
    await request(api, "adjustments", {"entry": await seq_of(api, -2), "cost_usd": "0.25", "reason": "its price"})
    effect = (await explained(api))[0]["effect"]
    assert effect == {"calls_after": 2, "cost_usd": "0.75", "quiet_since": moment(minutes=5)}


async def test_what_drove_a_key_over_counts_corrections(api: Api) -> None:
    """J3: calls that were priced later are spend of their session."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "2.00", session="small")
    await spend(api, ..., session="large")
    await request(api, "adjustments", {"entry": await seq_of(api), "cost_usd": "8.00", "reason": "its price"})
    assert (await explained(api))[0]["driver"] == {"by": "session", "value": "large", "spent_usd": "8.00", "share": "80%"}


async def test_a_session_of_a_few_cents_is_not_what_drove_a_key_over(api: Api) -> None:
    """The driver is what most of the spend shares: where no session is, the model."""
    await api.put(ORG, {}, 201)
    await cap(api)
    await spend(api, "1.00", session="small")
    await spend(api, "9.00")
    driver = (await explained(api))[0]["driver"]
    assert driver == {"by": "model", "value": "deepseek/deepseek-v4-flash", "spent_usd": "10.00", "share": "100%"}


async def test_what_was_done_about_a_breach_is_told_of_every_key_whenever_it_was_done(api: Api) -> None:
    """C7: also of the keys that came under it later, and after a person approved."""
    await api.put(ORG, {"brake": 0}, 201)
    await cap(api, scope="org")
    await spend(api, "11.00")
    api.clock[0] += HOUR_US
    await api.post(f"{ORG}/commands/c%2F1/approve", {"reason": "stop it"})
    api.clock[0] += HOUR_US
    await spend(api, *(["0.01"] * 1), key="late")
    facts = (await api.get(f"{ORG}/explain", breach="c/1"))["facts"]
    assert [(row["key"], row["state"]) for row in facts["done"]] == [("crawler", "paused"), ("late", "paused")]
    assert "verdict  approved by admin" in "\n".join(breach_lines(facts))


async def test_a_breach_that_stopped_very_many_keys_says_how_many(api: Api) -> None:
    await api.put(ORG, {}, 201)
    await api.use(*(event(f"e{n}", "0.10", f"k{n}") for n in range(130)))
    await cap(api, scope="org")
    facts = (await api.get(f"{ORG}/explain", breach="c/1"))["facts"]
    assert facts["changes"] == 130 and len(facts["done"]) == 100
    assert "and 110 more changes of keys" in "\n".join(breach_lines(facts))


async def test_a_key_is_explained_by_any_of_its_names(api: Api) -> None:
    """S1: a gateway, and whoever looks at it, may know the name only."""
    await api.put(f"{ORG}/keys/crawler", {"workspace": "research", "credentials": ["hash-1"]}, 201)
    facts, _ = await explained(api, "hash-1")
    assert facts["key"] == "crawler"


async def test_a_parameter_of_another_question_is_refused(api: Api) -> None:
    """As on the command line: passed over, it would leave another question answered than was asked."""
    await spend(api, "1.00")
    for query, field in (
        ({"scope": "key:crawler", "at": moment()}, "at"), ({"scope": "org", "period": "day", "from": "2026-03-01"}, "from"),
        ({"where": "key:crawler", "scope": "org"}, "scope"), ({"breach": "c/1", "period": "day"}, "period"),
        ({"where": "key:crawler", "breach": "c/1"}, "breach"), ({"scope": "key:crawler", "to": "2026-03-09"}, "to"),
    ):  # fmt: skip
        answer = await api.ask("GET", f"{ORG}/explain", **query)
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field, (query, answer.text)
