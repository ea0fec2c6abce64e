"""Owns what people are told of an entry, in words: one notice a breach, its end, a threshold, a leak, with a stable id (C6, C7).

What is observed only is told to nobody (C1).
"""

from typing import Any, NamedTuple

from ..core import entries as e
from ..core.caps import Action, Enforce, Waits, limit_text
from ..core.money import usd_text
from .messages import cap_data
from .times import moment_text

KINDS = tuple(kind.__name__ for kind in (e.ThresholdReached, e.CapBreached, e.CapCleared, e.BreachJudged, e.KeyLeaking))
_DONE = {Action.ALERT: "Nothing is stopped", Action.PAUSE: "Its keys are paused", Action.REVOKE: "Its keys are revoked"}
_OVER = {
    "window_ended": "its window ended", "limit_raised": "its limit was raised", "spend_corrected": "its spend was corrected",
    "cap_removed": "the cap was removed", "cap_changed": "the cap was changed",
}  # fmt: skip


class Notice(NamedTuple):
    """One thing to tell. `notice_id` is the same however often it is delivered."""

    notice_id: str
    kind: str
    at: str
    title: str
    text: str
    data: dict[str, Any]


def notice_of(org: str, entry: e.Entry) -> Notice | None:
    """What people are told of an entry; mostly nothing."""
    if isinstance(entry, e.UsageRecorded) or getattr(entry, "enforce", Enforce.ON) is Enforce.OBSERVE:
        return None
    told = _told(org, entry)
    if told is None:
        return None
    kind, title, text, data = told
    return Notice(f"{org}/{entry.seq}", kind, moment_text(entry.recorded_us) or "", title, text, {"org": org, **data})


def _told(org: str, entry: e.AnyFact) -> tuple[str, str, str, dict[str, Any]] | None:
    match entry:
        case e.ThresholdReached():
            what = "has unpriced calls" if entry.percent is None else f"is at {entry.percent}%"
            return "ledger.cap.threshold.v1", f"{org}: cap {entry.cap_id} {what}", _spend(entry), cap_data(entry)
        case e.CapBreached():
            title = f"{org}: cap {entry.cap_id} is reached" + (" by unpriced calls" if entry.unpriced and entry.kind == "unpriced" else "")
            return "ledger.cap.breached.v1", title, f"{_spend(entry)} {_deed(entry)}", cap_data(entry)
        case e.CapCleared():
            wait = (
                f" {len(entry.waiting)} keys stay paused until a person resumes them: {', '.join(entry.waiting[:10])}."
                if entry.waiting
                else ""
            )
            text = f"Breach {entry.cap_id}/{entry.ordinal} on {entry.scope} is over: {_OVER.get(entry.reason, entry.reason)}.{wait}"
            return "ledger.cap.cleared.v1", f"{org}: cap {entry.cap_id} is free again", text, cap_data(entry)
        case e.BreachJudged():
            data = {"cap": entry.cap_id, "ordinal": entry.ordinal, "verdict": entry.verdict, "by": entry.by, "why": entry.why}
            text = f"{entry.by} {entry.verdict} what breach {entry.cap_id}/{entry.ordinal} waited with: {entry.why}"
            return "ledger.breach.judged.v1", f"{org}: breach {entry.cap_id}/{entry.ordinal} {entry.verdict}", text, data
        case e.KeyLeaking():
            data = {"key": entry.key, "credential": entry.credential, "revision": entry.revision, "entry": entry.entry}
            text = (
                f"Key {entry.key} was confirmed stopped at {moment_text(entry.confirmed_us)}, yet a call began at "
                f"{moment_text(entry.started_us)}. It was told again; look at its gateway."
            )
            return "ledger.key.leaking.v1", f"{org}: key {entry.key} still spends", text, data
    return None


def _spend(entry: e.ThresholdReached | e.CapBreached) -> str:
    """Cap, scope, spend, limit and the window's end."""
    until = moment_text(entry.end_us)
    ends = f", until {until}" if until is not None else ""
    return f"Cap {entry.cap_id} on {entry.scope}: ${usd_text(entry.spent)} of {limit_text(entry.limit, entry.period)}{ends}."


def _deed(entry: e.CapBreached) -> str:
    """What was done."""
    name = f"{entry.cap_id}/{entry.ordinal}"
    if entry.waits is Waits.ALL:
        return f"The brake holds: nothing is stopped until a person says so: ledger commands approve {name}"
    if entry.waits is Waits.REVOKE:
        return f"Its keys are paused; to revoke them waits for a person: ledger commands approve {name}"
    return f"{_DONE[entry.action]}."
