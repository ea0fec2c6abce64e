"""An order that is refused leaves nothing behind: a Reject comes before anything is emitted."""

import pytest

from ledger.core import commands as c
from ledger.core.caps import Guardrail, Rule
from ledger.core.connections import Connection, Gateway
from ledger.core.money import Nanos
from ledger.core.window import Period

from .harness import OrgLedger
from .histories import START

RULE = Rule(period=Period.DAY, limit=Nanos(5))


@pytest.mark.parametrize(
    "order",
    [
        c.SetOrg(org="acme", by="will", version=7),
        c.SetWorkspace(org="acme", by="will", workspace="w1", version=7),
        c.SetKey(org="acme", by="will", key="k1", version=7),
        c.SetCap(org="acme", by="will", cap="c1", scope="org", rule=RULE, version=7),
        c.SetGuardrail(org="acme", by="will", guardrail=Guardrail(guardrail_id="g1", each="key", within=("org",), rule=RULE), version=7),
        c.SetConnection(org="acme", by="will", connection=Connection(connection_id="or", gateway=Gateway.OPENROUTER), version=7),
    ],
    ids=lambda order: type(order).__name__,
)
def test_an_order_for_a_version_that_never_was_is_refused_and_opens_no_org(order: c.Command) -> None:
    """T3, J1: nobody has heard of the org, so nothing stands at version 7; the journal stays empty."""
    ledger = OrgLedger("acme")
    answer = ledger.send([order], START)[0]
    assert (answer.status, answer.reason) == (c.Status.REJECTED, c.Reason.STALE_VERSION)
    assert (ledger.journal, ledger.books.seq) == ([], 0)
