"""What one channel can't take yet is not told again by those that took it, and waits where it is the channel's fault (C6)."""

from typing import Any

import pytest

from ledger.core.commands import SetKey
from ledger.core.keys import State
from ledger.gateways.channels import EmailChannel, SlackChannel, WebhookChannel
from ledger.notifier import Notifier
from ledger.store.dialect import Database
from tests.servers.vendor import Fault, serving
from tests.servers.webhook import SECRET, Receiver
from tests.stage import MINUTE_US, Stage, stage
from tests.store.events import usage
from tests.test_notifier import Mailbox, Slack, cap, opened, receiving

__all__ = ["stage"]


async def test_stuck_commands_are_told_once_by_each_channel_though_another_is_down(stage: Stage) -> None:
    async with serving(Slack()) as slack, serving(Receiver()) as hook:
        slacks: Any = slack.api
        notifier = Notifier(stage.service, [WebhookChannel(hook.address, SECRET), SlackChannel(slack.address)])
        await notifier.once()
        stage.vendor.always = Fault("status", 500)
        hook.always = Fault("status", 503)
        await stage.turn(State.PAUSED)
        await stage.try_once()
        stage.clock.now_us += 6 * MINUTE_US
        for _ in range(5):
            await notifier.once()
        assert (len(slacks.texts), len(hook.log)) == (1, 1), "the one is told, the other left alone for a while"
        await stage.order(SetKey(org="acme", by="will", key="k2", workspace="w"))
        await stage.turn(State.PAUSED, "k2")
        stage.clock.now_us += 6 * MINUTE_US
        await notifier.once()
        assert [": k2." in text for text in slacks.texts] == [False, True], "and only of what is new"
        hook.always = None
        notifier._waits.clear()  # the wait has passed
        await notifier.once()
        (message,) = hook.api.taken.values()  # type: ignore[attr-defined]
        assert message["data"]["keys"] == ["k", "k2"]
        assert await notifier.once() == 0
        await notifier.close()
        fresh = Notifier(stage.service, [WebhookChannel(hook.address, SECRET), SlackChannel(slack.address)])
        stage.clock.now_us += MINUTE_US
        assert await fresh.once() == 0, "a restart knows that it was told"
        await fresh.close()


class Doorman(Mailbox):
    """A mail server that answers one step of the way with `refuse` instead."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.refuse and self.step == "MAIL":
            return self.refuse
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]) -> str:
        if self.refuse and self.step == "RCPT":
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 OK"


@pytest.mark.parametrize(
    ("step", "refusal"),
    [("RCPT", "450 greylisted, come again"), ("RCPT", "550 no such user"), ("MAIL", "553 not your sender"), ("MAIL", "451 later")],
)
async def test_a_mail_that_was_refused_before_it_was_seen_is_sent_once_that_is_mended(database: Database, step: str, refusal: str) -> None:
    box = Doorman(step)
    with receiving(box) as url:
        async with opened(database) as office:
            office.notifier = Notifier(office.service, [EmailChannel(url, "ledger@example.org", ("ops@example.org", "cto@example.org"))])
            await office.tell()
            box.refuse = refusal
            await office.service.record([cap(), usage("e1", 6)])
            await office.tell()
            assert box.mails == []
            box.refuse = None
            await office.tell()
            assert len(box.mails) == 1
