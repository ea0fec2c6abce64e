"""Owns how an explanation reads in a terminal: a few aligned lines of a key's state, a breach, a balance or a line of a report."""

from typing import Any

from .common import shortened

MOST_SHOWN = 20


def _dollars(text: str | None) -> str:
    if text is None:
        return "unpriced"
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def _over(of: dict[str, Any]) -> str:
    """How a cap's window stands: calls without a price stop too, where the cap says so (C10)."""
    unpriced = f"{of['unpriced']} unpriced calls, " if of["unpriced"] else ""
    return f"{unpriced}${of['spent_usd']} of ${of['limit_usd']}, over by ${of['over_usd']}"


def sum_lines(facts: dict[str, Any]) -> list[str]:
    """A balance or a line of a report, and the newest entries that it is the sum of."""
    sums = facts.get("sums") or facts["balance"]
    about = facts["balance"] if "balance" in facts else {"scope": ", ".join(facts["where"]), "period": "", **facts}
    start, end = about.get("start") or facts.get("from"), about.get("end") or facts.get("to")
    unpriced = f" + {sums['unpriced']} unpriced" if sums["unpriced"] else ""
    lines = [f"{about['scope']} {about['period'] or ''}  {_dollars(sums['spent_usd'])}{unpriced}   {start or 'ever'} to {end or 'now'}"]
    for cap in about.get("caps", ()):
        lines.append(f"{'cap':<9}{cap['cap']}: ${cap['left_usd']} left of ${cap['limit_usd']}")
    lines.append(f"{'entries':<9}{facts['entries']}, the newest first")
    for entry in facts["newest"][:MOST_SHOWN]:
        named = entry.get("id") or (f"corrects {entry['corrects']}: {entry['why']}" if "corrects" in entry else entry["type"])
        cost = _dollars(entry.get("cost_usd"))
        lines.append(f"{'':<9}seq {entry['seq']}  {cost}  {entry.get('key') or ''}  {entry.get('model') or ''}  {named}")
    seq = facts["seq"] if "seq" in facts else facts["as_of"]["seq"]
    return [*lines, f"{'as of':<9}seq {seq}"]


def key_lines(facts: dict[str, Any]) -> list[str]:
    """The state of a key as a few aligned lines."""
    took = f"{facts['for_s'] // 3600}h{facts['for_s'] // 60 % 60:02d}m{facts['for_s'] % 60:02d}s"
    lines = [f"key:{facts['key']}  {facts['state'].upper()} since {facts['since']} ({took})   {facts['workspace']}"]

    def add(name: str, text: str | None) -> None:
        if text:
            lines.append(f"{name:<9}{text}")

    revoked = facts["state"] == "revoked"
    if revoked and facts["turned"]:
        add("revoked", ", ".join(facts["turned"]["reasons"]))
    for cap in facts["why"]:
        add("why", f"{cap['cap']}, {cap['scope']} {cap['period']}: {_RESUME if cap['waiting'] else _over(cap)}")
    add("held", facts["held"])
    add("others", ", ".join(_other(cap) for cap in facts["others"]))
    for row in facts["crossed"]:
        add("crossed", f"{row['cap']}: {_crossed(row)}" if len(facts["crossed"]) > 1 else _crossed(row))
    if driver := facts["driver"]:
        add("driver", f"{driver['by']} {driver['value']}: {driver['share']} of it, ${driver['spent_usd']}")
    for cap in [] if revoked else [*facts["why"], *facts["others"]]:
        for breach in cap["breaches"]:
            add("waits", _asks(cap, breach))
    for line in _command_lines(facts):
        add("command", line)
    add("leaking", "it spends though its gateway confirmed that it is stopped: stop it at the vendor by hand" if facts["leaking"] else None)
    if effect := facts["effect"]:
        quiet = f"; last call {effect['quiet_since']}" if effect["calls_after"] else ""
        add("effect", f"{effect['calls_after']} calls after, ${effect['cost_usd']}{quiet}")
    add("unsure", f"{facts['unpriced_today']} unpriced calls today" if facts["unpriced_today"] else None)
    for row in facts["set_by"]:
        add("set by", f"{row['by']}, {row['at']}, seq {row['seq']}" + (f", it was ${row['was_usd']}" if row["was_usd"] else ""))
    add("until", facts["until"])
    add("as of", f"seq {facts['as_of']['seq']}, {facts['as_of']['recorded_at']}")
    return lines


_RESUME = "its breach is over, and a person has to resume the key (resume: manual)"


def _other(cap: dict[str, Any]) -> str:
    how = f"{cap['cap']} ${cap['spent_usd']} of ${cap['limit_usd']}"
    if cap["would_allow"]:
        return f"{how} (would allow)"
    over = "over" if "spend" in cap["reached"] else f"{cap['unpriced']} unpriced calls"
    held = [breach["verdict"] for breach in cap["breaches"] if breach["waits"] == "all"]
    if cap["enforce"] == "observe":
        verdict = "but only observed"
    elif held:
        verdict = "held by the brake" if None in held else "and a person rejected that it stops the key"
    else:
        verdict = "but only alerts" if cap["breaches"] else "and not acted on yet: that is for the next pulse"
    return f"{how} ({over}, {verdict})"


def _crossed(row: dict[str, Any]) -> str:
    """The entry that crossed: a call, or else a correction or a shared cost with what was said of it."""
    if row["type"] == "UsageRecorded":
        return f"seq {row['seq']}  {row['id']}  {_dollars(row['cost_usd'])}  {row['model'] or ''}"
    what = f"corrects {row['corrects']}" if "corrects" in row else "shared cost"
    return f"seq {row['seq']}  {_dollars(row.get('cost_usd') or row['amount_usd'])}  {what}: {row['why']}"


def _asks(cap: dict[str, Any], breach: dict[str, Any]) -> str | None:
    """What a breach still asks a person (K4)."""
    if breach["waits"] == "nothing" or breach["verdict"] or cap["enforce"] == "observe":
        return None
    what = "revoke" if breach["kind"] == "spend" and cap["action"] == "revoke" else "stop the key"
    return f"to {what}: ledger commands approve {breach['breach']}, or reject"


def _command_lines(facts: dict[str, Any]) -> list[str]:
    """What became of the newest command, for each name of the key at each of its gateways."""
    if facts["revision"] and not facts["commands"]:
        return [f"{facts['state']}, revision {facts['revision']}, not handed on yet"]
    lines: list[str] = []
    for command in facts["commands"][:MOST_SHOWN]:
        of = f", of {shortened(command['credential'])}" if command["credential"] != facts["key"] else ""
        at = f" at {command['connection']}" if command["connection"] else ""
        sent = f"sent {command['attempted_at'] or 'not yet'}, "
        became = f"confirmed {command['confirmed_at'] or 'not yet'}"
        if command["delivery"] in ("failed", "left", "unknown"):  # nothing more is tried
            sent, became = "", f"{command['delivery']}: {command['error']}"
        elif not command["confirmed_at"]:
            became += f" ({command['error'] or command['delivery']})"
        lines.append(f"{command['state']}, revision {command['revision']}{of}{at}, {sent}{became}")
    return lines


def breach_lines(facts: dict[str, Any]) -> list[str]:
    """A breach: how it opened, what crossed, what was done, what it waits for or how it ended (C7)."""
    breach = facts["breach"]
    state = f"CLOSED {breach['closed_at']}: {breach['reason'].replace('_', ' ')}" if breach["closed_at"] else "OPEN"
    lines = [f"breach {breach['cap']}/{breach['ordinal']}  {state}   {breach['scope']}"]

    def add(name: str, text: str | None) -> None:
        if text:
            lines.append(f"{name:<9}{text}")

    add("why", _over(breach))
    add("window", f"{breach['period']}, {breach['start'] or 'ever'} to {breach['end'] or 'no end'}")
    add("opened", breach["opened_at"])
    if row := facts["crossed"]:
        call = row["type"] == "UsageRecorded"
        cost = _dollars(row.get("cost_usd"))
        add("crossed", f"seq {row['seq']}  {cost}  {row['key']}  {row['model'] or ''}  {row['id']}" if call else _crossed(row))
    add("action", f"{breach['action']}{'' if breach['enforce'] == 'on' else ', only observed: nothing was sent'}")
    for fact in facts["done"][:MOST_SHOWN]:
        add("done", f"key:{fact['key']} {fact['state']}, seq {fact['seq']}, {fact['recorded_at']}")
    if facts["changes"] > MOST_SHOWN:
        add("", f"and {facts['changes'] - MOST_SHOWN} more changes of keys")
    if breach["verdict"]:
        add("verdict", f"{breach['verdict']} by {breach['judged_by']}")
    elif breach["waits"] != "nothing" and not breach["closed_at"]:
        add("waits", f"for a person: ledger commands approve {breach['cap']}/{breach['ordinal']}, or reject")
    return lines
