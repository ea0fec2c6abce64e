"""What orders have in common: one that is refused, or changes nothing, leaves no entry behind."""

import pytest
from msgspec.structs import replace

from ledger.core import commands as c
from ledger.core.caps import Guardrail, Rule
from ledger.core.connections import Connection, Gateway
from ledger.core.money import Nanos
from ledger.core.window import Period

from .harness import OrgLedger
from .histories import START

RULE = Rule(period=Period.DAY, limit=Nanos(5))


LOWER = Rule(period=Period.DAY, limit=Nanos(4))


def rail(rule: Rule) -> Guardrail:
    return Guardrail(guardrail_id="g1", each="key", within=("org",), rule=rule)


def connection(counts: bool) -> Connection:
    return Connection(connection_id="or", gateway=Gateway.OPENROUTER, counts=counts)


ORDERS = {  # by what is set: so, and otherwise
    "org": (c.SetOrg(org="acme", by="will", brake=3), c.SetOrg(org="acme", by="will", brake=4)),
    "workspace": tuple(c.SetWorkspace(org="acme", by="will", workspace="w1", labels={"team": team}) for team in "ab"),
    "key": tuple(c.SetKey(org="acme", by="will", key="k1", credentials=(name,)) for name in ("n1", "n2")),
    "cap": tuple(c.SetCap(org="acme", by="will", cap="c1", scope="org", rule=rule) for rule in (RULE, LOWER)),
    "guardrail": tuple(c.SetGuardrail(org="acme", by="will", guardrail=rail(rule)) for rule in (RULE, LOWER)),
    "connection": tuple(c.SetConnection(org="acme", by="will", connection=connection(counts)) for counts in (True, False)),
}
every = pytest.mark.parametrize(("so", "otherwise"), ORDERS.values(), ids=ORDERS)


@every
def test_an_order_for_a_version_that_never_was_is_refused_and_opens_no_org(so: c.Command, otherwise: c.Command) -> None:
    """T3, J1: nobody has heard of the org, so nothing stands at version 7; the journal stays empty."""
    ledger = OrgLedger("acme")
    answer = ledger.send([replace(so, version=7)], START)[0]
    assert (answer.status, answer.reason) == (c.Status.REJECTED, c.Reason.STALE_VERSION)
    assert (ledger.journal, ledger.books.seq) == ([], 0)


@every
def test_an_order_given_twice_is_no_second_entry(so: c.Command, otherwise: c.Command) -> None:
    """J1: what stands already is no fact to record; something else is."""
    ledger = OrgLedger("acme")
    assert ledger.send([so], START)[0].seq
    journal = list(ledger.journal)
    assert ledger.send([so], START)[0] == c.Result(c.Status.RECORDED)
    assert ledger.journal == journal
    assert ledger.send([otherwise], START)[0].seq


@every
def test_the_version_of_what_stands_is_the_entry_that_set_it_last(so: c.Command, otherwise: c.Command) -> None:
    """T3: whoever read it may change it, and nobody else after that."""
    ledger = OrgLedger("acme")
    read = ledger.send([so], START)[0].seq
    assert ledger.send([replace(otherwise, version=read)], START)[0].status is c.Status.RECORDED
    journal = list(ledger.journal)
    assert ledger.send([replace(so, version=read)], START)[0].reason is c.Reason.STALE_VERSION
    assert ledger.journal == journal
