"""Owns how orders about policies are carried out: caps, guardrails, connections. See `orders`."""

from msgspec.structs import replace

from . import commands as c
from . import entries as e
from .answers import Answer, done, missing, open_org, outdated, resettle
from .backstop import LEAST_PERCENT
from .batch import RECORDED, Batch
from .caps import Cap, Rule
from .commands import Reason, Reject


def set_cap(batch: Batch, command: c.SetCap) -> Answer:
    """Puts a cap on a scope, evaluated at once against what its window already holds (C5)."""
    books = batch.books
    if "/" in command.cap:
        return Reject(reason=Reason.MALFORMED, detail="cap: an id can't contain '/', which stands in the ids that guardrails make")
    if refused := _bad_backstop(command.rule, command.scope):
        return refused
    was = books.caps.get(command.cap)
    if stale := outdated(command.version, was.seq if was else 0):
        return stale
    if was is not None and (was.scope, was.rule) == (command.scope, command.rule):
        return RECORDED
    open_org(batch, command.by)
    cap = Cap(cap_id=command.cap, scope=command.scope, rule=command.rule, seq=books.seq + 1)
    seq = batch.emit(e.CapSet, cap=cap, was=was, by=command.by, openings=batch.found.openings)
    resettle(batch, sorted({command.scope, was.scope if was else command.scope}))
    return done(seq)


def _bad_backstop(rule: Rule, scope: str) -> Reject | None:
    """A gateway keeps limits for single keys, and its own must not bite before ours does."""
    if rule.backstop_percent is None:
        return None
    if not scope.startswith("key:"):
        return Reject(reason=Reason.MALFORMED, detail="backstop_percent: a gateway's own limit is a key's: only a key's cap has one")
    if rule.backstop_percent < LEAST_PERCENT:
        return Reject(reason=Reason.MALFORMED, detail=f"backstop_percent: below {LEAST_PERCENT} the gateway would stop the key first")
    return None


def remove_cap(batch: Batch, command: c.RemoveCap) -> Answer:
    """Takes a cap away; its breach clears (C4)."""
    was = batch.books.caps.get(command.cap)
    if was is None:
        return missing("cap", command.cap)
    if stale := outdated(command.version, was.seq):
        return stale
    seq = batch.emit(e.CapRemoved, cap=was, by=command.by)
    resettle(batch, [was.scope])
    return done(seq)


def set_guardrail(batch: Batch, command: c.SetGuardrail) -> Answer:
    """Sets a guardrail; every cap it makes is evaluated at once (S5, C5)."""
    books, rail = batch.books, command.guardrail
    if "/" in rail.guardrail_id:
        return Reject(reason=Reason.MALFORMED, detail="guardrail: an id can't contain '/', which stands in the ids of its caps")
    if refused := _bad_backstop(rail.rule, f"{rail.each}:"):
        return refused
    was = books.guardrails.get(rail.guardrail_id)
    if stale := outdated(command.version, was.seq if was else 0):
        return stale
    if was is not None and replace(was, seq=rail.seq) == rail:
        return RECORDED
    open_org(batch, command.by)
    before = list(books.covered_by(was)) if was is not None else []
    covered = list(books.covered_by(rail))
    rail = replace(rail, seq=books.seq + 1)
    seq = batch.emit(e.GuardrailSet, guardrail=rail, was=was, by=command.by, openings=batch.found.openings)
    resettle(batch, sorted({*before, *covered}))
    return done(seq)


def remove_guardrail(batch: Batch, command: c.RemoveGuardrail) -> Answer:
    """Takes a guardrail and its caps away."""
    was = batch.books.guardrails.get(command.guardrail)
    if was is None:
        return missing("guardrail", command.guardrail)
    if stale := outdated(command.version, was.seq):
        return stale
    covered = sorted(batch.books.covered_by(was))
    seq = batch.emit(e.GuardrailRemoved, guardrail=was, by=command.by)
    resettle(batch, covered)
    return done(seq)


def set_connection(batch: Batch, command: c.SetConnection) -> Answer:
    """Declares a gateway's account, or changes it (S8)."""
    wish = command.connection
    was = batch.books.connections.get(wish.connection_id)
    if stale := outdated(command.version, was.seq if was else 0):
        return stale
    if was is not None and replace(was, seq=wish.seq) == wish:
        return RECORDED
    open_org(batch, command.by)
    made = replace(wish, seq=batch.books.seq + 1)
    return done(batch.emit(e.ConnectionSet, connection=made, was=was, by=command.by))


def remove_connection(batch: Batch, command: c.RemoveConnection) -> Answer:
    """Forgets a gateway's account; what came in by it stays."""
    was = batch.books.connections.get(command.connection)
    if was is None:
        return missing("connection", command.connection)
    if stale := outdated(command.version, was.seq):
        return stale
    return done(batch.emit(e.ConnectionRemoved, connection=was, by=command.by))
