"""People are told once of each breach, by real receivers on good and bad days (C6, C7)."""

import email
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from ledger.core.caps import Action, Enforce, Rule
from ledger.core.commands import JudgeBreach, SetCap, SetKey, SetOrg, TurnKey, Verdict
from ledger.core.keys import State
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.gateways.channels import Channel, EmailChannel, SlackChannel, WebhookChannel
from ledger.metrics import Metrics
from ledger.notifier import Notifier
from ledger.service import Service
from ledger.settings import SettingsError, read_settings
from ledger.store.dialect import Database
from tests.servers.postgres import free_port
from tests.servers.vendor import Fault, Request, Vendor, serving
from tests.servers.webhook import SECRET, Receiver
from tests.stage import Clock, Stage, stage
from tests.store.events import usage

__all__ = ["stage"]
HOUR_US = 3_600_000_000


@dataclass
class Slack:
    """An incoming webhook of Slack's."""

    texts: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, Any]:
        self.texts.append(request.body["text"])
        return 200, "ok"


class Mailbox:
    """What an SMTP server was given. `refuse` is what it answers instead."""

    def __init__(self) -> None:
        self.mails: list[email.message.EmailMessage] = []
        self.refuse: str | None = None

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@contextmanager
def receiving(box: Mailbox) -> Iterator[str]:
    """A real mail server for a block; its address."""
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    box = Mailbox()
    with receiving(box) as url:
        yield box, url


class Office:
    """A ledger whose breaches are told by a webhook and by Slack."""

    def __init__(self, database: Database, hook: Vendor, slack: Vendor) -> None:
        self.clock = Clock()
        self.service = Service(database, Metrics(), self.clock)
        self.hook, self.slack = hook, slack
        self.notifier = self.new_notifier()

    def new_notifier(self, *more: Channel) -> Notifier:
        return Notifier(self.service, [WebhookChannel(self.hook.address, SECRET), SlackChannel(self.slack.address), *more])

    @property
    def taken(self) -> dict[str, Any]:
        return self.hook.api.taken  # type: ignore[attr-defined]

    @property
    def texts(self) -> list[str]:
        return self.slack.api.texts  # type: ignore[attr-defined]

    async def tell(self) -> None:
        self.notifier._waits.clear()  # the wait has passed
        while await self.notifier.once():
            pass


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[Office]:
    async with serving(Receiver()) as hook, serving(Slack()) as slack:
        office = Office(database, hook, slack)
        try:
            yield office
        finally:
            await office.notifier.close()


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    async with opened(database) as office:
        await office.tell()  # it begins before anything happens
        yield office


def cap(action: Action = Action.PAUSE, scope: str = "workspace:w", **more: Any) -> SetCap:
    rule = Rule(period=Period.DAY, limit=Nanos(5 * USD), action=action, **more)
    return SetCap(org="acme", by="will", cap="day", scope=scope, rule=rule)


async def test_a_breach_of_48_keys_is_one_notice_on_each_channel_that_says_it_all(office: Office) -> None:
    await office.service.record([SetKey(org="acme", by="will", key=f"k{n}", workspace="w") for n in range(47)])
    await office.service.record([cap(), usage("e1", 6)])
    await office.tell()
    ((name, message),) = office.taken.items()
    assert name.startswith("acme/")
    assert message["type"] == "ledger.cap.breached.v1"
    data = message["data"]
    assert (data["org"], data["cap"], data["scope"], data["spent_usd"], data["limit_usd"], data["over_usd"], data["end"]) == (
        "acme", "day", "workspace:w", "6.00", "5.00", "1.00", "2026-03-09T00:00:00Z",
    )  # fmt: skip
    assert data["text"] == "Cap day on workspace:w: $6.00 of $5.00 per day, until 2026-03-09T00:00:00Z. Its keys are paused."
    assert office.texts == [f"*acme: cap day is reached*\n{data['text']}"]


async def test_thresholds_ends_verdicts_and_leaks_are_told_each_once(office: Office) -> None:
    await office.service.record([SetOrg(org="acme", by="will", brake=0), cap(Action.REVOKE, thresholds=(50,)), usage("e1", 6)])
    await office.service.record([JudgeBreach(org="acme", by="will", cap="day", ordinal=1, verdict=Verdict.REJECTED, why="a bad price")])
    office.clock.now_us += 24 * HOUR_US
    await office.service.pulse(["acme"])
    await office.tell()
    kinds = [message["type"] for message in office.taken.values()]
    assert kinds == ["ledger.cap.threshold.v1", "ledger.cap.breached.v1", "ledger.breach.judged.v1", "ledger.cap.cleared.v1"]
    assert "ledger commands approve day/1" in office.texts[1]
    assert "a bad price" in office.texts[2]
    assert "its window ended" in office.texts[3]


async def test_what_is_observed_is_told_to_nobody(office: Office) -> None:
    await office.service.record([cap(enforce=Enforce.OBSERVE, thresholds=(50,)), usage("e1", 6)])
    await office.tell()
    assert (office.taken, office.texts) == ({}, [])


@pytest.mark.parametrize("broken", [Fault("status", 503), Fault("status", 429, {"Retry-After": "1"}), Fault("cut"), Fault("half"),
                                    *(Fault("status", status) for status in (302, 308, 401, 403, 404, 405, 410))])  # fmt: skip
async def test_a_channel_on_a_bad_day_tells_later_and_holds_up_no_other(office: Office, broken: Fault) -> None:
    office.hook.always = broken
    await office.service.record([cap(thresholds=(50,)), usage("e1", 6)])
    await office.tell()
    assert len(office.texts) == 2
    office.hook.always = None
    await office.tell()
    assert [message["type"] for message in office.taken.values()] == ["ledger.cap.threshold.v1", "ledger.cap.breached.v1"]
    assert len(office.texts) == 2


async def test_a_notice_that_is_refused_for_good_is_given_up_and_the_next_one_told(office: Office) -> None:
    office.slack.faults.append(Fault("status", 400))
    await office.service.record([cap(thresholds=(50,)), usage("e1", 6)])
    await office.tell()
    assert ["is reached" in text for text in office.texts] == [True]


async def test_neither_a_restart_nor_a_replica_tells_again(office: Office) -> None:
    await office.service.record([cap(), usage("e1", 6)])
    second = office.new_notifier()
    assert await second.once() == 0, "the first has the lease"
    await office.tell()
    office.clock.now_us += HOUR_US  # and it ends
    assert await second.once() == 0
    await second.close()
    assert len(office.hook.log) == 1


async def test_a_channel_that_is_new_tells_nothing_that_is_past(database: Database, mailbox: tuple[Mailbox, str]) -> None:
    box, url = mailbox
    async with opened(database) as office:
        await office.service.record([cap(), usage("e1", 6)])
        office.notifier = office.new_notifier(EmailChannel(url, "ledger@example.org", ("ops@example.org",)))
        await office.tell()
        assert office.texts == []
        await office.service.record([usage("e2", 6, org="beta", key="b"), cap_of("beta")])
        await office.tell()
        assert len(office.texts) == len(box.mails) == 1


def cap_of(org: str) -> SetCap:
    rule = Rule(period=Period.DAY, limit=Nanos(USD), action=Action.ALERT)
    return SetCap(org=org, by="will", cap="c\r\nBcc: x@example.org", scope="org", rule=rule)


async def test_mail_names_it_all_and_no_name_of_a_cap_becomes_a_header(database: Database, mailbox: tuple[Mailbox, str]) -> None:
    box, url = mailbox
    async with opened(database) as office:
        office.notifier = Notifier(office.service, [EmailChannel(url, "ledger@example.org", ("ops@example.org", "cto@example.org"))])
        await office.tell()
        await office.service.record([usage("e2", 6, org="beta", key="b"), cap_of("beta")])
        box.refuse = "451 later"
        await office.tell()
        box.refuse = None
        await office.tell()
        (mail,) = box.mails
        assert (mail["To"], mail["From"], mail["Bcc"]) == ("ops@example.org, cto@example.org", "ledger@example.org", None)
        assert mail["Subject"] == "beta: cap c Bcc: x@example.org is reached"
        assert "$6.00 of $1.00 per day, until 2026-03-09T00:00:00Z. Nothing is stopped." in mail.get_content().replace("\n", " ")


async def test_a_mail_that_is_refused_for_good_is_given_up(database: Database, mailbox: tuple[Mailbox, str]) -> None:
    box, url = mailbox
    async with opened(database) as office:
        office.notifier = Notifier(office.service, [EmailChannel(url, "ledger@example.org", ("ops@example.org",))])
        await office.tell()
        box.refuse = "550 never"
        await office.service.record([cap(), usage("e1", 6)])
        await office.tell()
        box.refuse = None
        await office.tell()
        assert box.mails == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
async def test_a_mail_server_that_does_not_take_the_password_loses_no_notice(database: Database) -> None:
    box, port, refuse = Mailbox(), free_port(), {"now": True}

    def known(*_: Any) -> AuthResult:
        return AuthResult(success=not refuse["now"], handled=not refuse["now"])

    controller = Controller(box, hostname="127.0.0.1", port=port, authenticator=known, auth_required=True, auth_require_tls=False)
    controller.start()
    try:
        async with opened(database) as office:
            channel = EmailChannel(f"smtp://me:old@127.0.0.1:{port}", "ledger@example.org", ("ops@example.org",))
            office.notifier = Notifier(office.service, [channel])
            await office.tell()
            await office.service.record([cap(), usage("e1", 6)])
            await office.tell()
            assert box.mails == []
            refuse["now"] = False
            await office.tell()
            assert len(box.mails) == 1
    finally:
        controller.stop()


async def test_slack_reads_no_markup_in_a_name(office: Office) -> None:
    await office.service.record([usage("e1", 6, key="<!channel>"), cap(scope="key:<!channel>")])
    await office.tell()
    assert "&lt;!channel&gt;" in office.texts[0] and "<!" not in office.texts[0]


async def test_commands_that_are_stuck_or_given_up_are_told_once_for_each_connection(stage: Stage) -> None:
    async with serving(Slack()) as slack:
        notifier = Notifier(stage.service, [SlackChannel(slack.address)])
        await notifier.once()
        stage.vendor.always = Fault("status", 500)
        await stage.turn(State.PAUSED)
        await stage.try_once()
        assert await notifier.once() == 0, "five minutes have not passed"
        stage.clock.now_us += 6 * 60_000_000
        assert await notifier.once() == 1
        assert await notifier.once() == 0
        assert "1 key commands are not carried out at gateway: k. The gateway said: the gateway answered 500." in slack.api.texts[0]  # type: ignore[attr-defined]
        stage.vendor.always = None
        stage.api.token = "another"
        await stage.order(TurnKey(org="acme", by="will", key="k", state=State.ACTIVE, why="so"))
        await stage.run()
        assert await notifier.once() == 1
        await notifier.close()


@pytest.mark.parametrize(
    "given",
    [
        {"LEDGER_NOTIFY_WEBHOOK_URL": "https://example.org/hook"},
        {"LEDGER_NOTIFY_WEBHOOK_SECRET": SECRET},
        {"LEDGER_NOTIFY_EMAIL_TO": "ops@example.org", "LEDGER_NOTIFY_SMTP_URL": "smtp://mail"},
        {"LEDGER_NOTIFY_SLACK_URL": "slack"},
        {"LEDGER_NOTIFY_SMTP_URL": "http://mail"},
    ],
)
def test_half_a_channel_stops_the_start(given: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LEDGER_NOTIFY"):
        read_settings(given, tmp_path / ".env")
