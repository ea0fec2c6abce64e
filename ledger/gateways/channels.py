"""Owns how a notice reaches people: a signed webhook, a Slack incoming webhook, e-mail. Each may be told the same notice twice."""

from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import msgspec

from ..core.connections import Connection
from ..core.connections import Gateway as Kind
from ..wire.notices import Notice
from .calling import Caller
from .gateway import GatewayRefused, GatewayUnavailable, TokenRefused
from .webhook import signed

TIMEOUT_S = 10.0
_NOT_THERE = frozenset({301, 302, 303, 307, 308, 404, 405, 410})  # it is elsewhere, or something else is there


class Channel(Protocol):
    """One way to tell people. `send` raises GatewayUnavailable, or GatewayRefused for a notice that it will never take."""

    name: str

    async def send(self, notice: Notice) -> None:
        """Delivers a notice."""
        ...

    async def aclose(self) -> None:
        """Closes its connections."""
        ...


def _caller(name: str, url: str) -> Caller:
    return Caller(Connection(connection_id=name, gateway=Kind.WEBHOOK, address=url), {}, TIMEOUT_S)


async def _post(caller: Caller, **said: Any) -> None:
    """A channel that does not know us, or is not there, says nothing of the notice: it is told once that is mended (C6)."""
    try:
        answer = await caller.ask("POST", "", **said)
    except TokenRefused:
        raise GatewayUnavailable("the channel refuses us: is its address still the right one?") from None
    if answer.status in _NOT_THERE:
        raise GatewayUnavailable(f"the channel answered {answer.status}: is its address still the right one?")
    answer.done()


class WebhookChannel:
    """A webhook signed by the Standard Webhooks scheme; the message's id is the notice's (T2)."""

    name = "webhook"

    def __init__(self, url: str, secret: str) -> None:
        self._caller, self._secret = _caller(self.name, url), secret
        self.aclose = self._caller.aclose

    async def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        data = notice.data | {"title": notice.title, "text": notice.text}
        body = msgspec.json.encode({"type": notice.kind, "timestamp": notice.at, "data": data})
        headers = signed(self._secret, notice.notice_id, datetime.now(UTC), body)
        await _post(self._caller, raw=body, more=headers)


class SlackChannel:
    """A Slack incoming webhook. Its address is a secret."""

    name = "slack"

    def __init__(self, url: str) -> None:
        self._caller = _caller(self.name, url)
        self.aclose = self._caller.aclose

    async def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        text = f"*{_plain(notice.title)}*\n{_plain(notice.text)}"
        await _post(self._caller, body={"text": text})


def _plain(text: str) -> str:
    """Slack's own three characters, so that no name of a cap or key becomes a link or a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class EmailChannel:
    """E-mail through an SMTP server: smtp://[user:password@]host[:port], with TLS where the server offers it, or smtps://."""

    name = "email"

    def __init__(self, url: str, sender: str, to: tuple[str, ...]) -> None:
        self._server, self._sender, self._to = urlsplit(url), sender, to

    async def aclose(self) -> None:
        """Nothing stays open."""

    async def send(self, notice: Notice) -> None:
        """See `Channel.send`."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, ", ".join(self._to), " ".join(notice.title.split())
        message["Message-ID"] = f"<{notice.notice_id.encode().hex()}@ledger>"
        message.set_content(notice.text)
        server = self._server
        user, password = (unquote(part) if part else None for part in (server.username, server.password))
        try:
            await aiosmtplib.send(
                message, hostname=server.hostname, port=server.port, timeout=TIMEOUT_S, use_tls=server.scheme == "smtps",
                username=user, password=password,
            )  # fmt: skip
        except aiosmtplib.SMTPDataError as error:  # only now has it seen the notice: what it refused before is us, or an address
            raise (GatewayRefused if error.code >= 500 else GatewayUnavailable)(f"the mail server answered {error.code}") from None
        except aiosmtplib.SMTPAuthenticationError:
            raise GatewayUnavailable("the mail server does not take the user and the password") from None
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = sorted({one.code for one in error.recipients})
            raise GatewayUnavailable(f"the mail server answered {codes} to every receiver: are the addresses right?") from None
        except aiosmtplib.SMTPResponseException as error:
            raise GatewayUnavailable(f"the mail server answered {error.code} before it saw the mail: {type(error).__name__}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise GatewayUnavailable(f"the mail server does not answer: {type(error).__name__}") from None
