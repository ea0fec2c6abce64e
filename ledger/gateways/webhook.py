"""Owns key commands to whatever can take a webhook, signed by the Standard Webhooks scheme (T2):

    POST {address}   {"type": "ledger.key.pause.v1", "timestamp": …, "data": {"command", "org", "credential", "state", "revision"}}

200 or 204 says that it is done, 202 that it was taken and will be confirmed by `POST /v1/orgs/{org}/commands/{command}/confirm`.
The message's id is the same each time that a command is sent. A revision lower than one seen before is to be ignored (K3).
"""

from base64 import b64decode
from datetime import UTC, datetime

import msgspec
from standardwebhooks import Webhook

from ..core.backstop import Backstop
from ..wire.messages import command_id
from .calling import Caller
from .gateway import ACCEPTED, GatewayKey, TokenRefused

_VERB = {"active": "resume", "paused": "pause", "revoked": "revoke"}
OURS = "sent"  # it tells nobody's changes apart: what it did for us is ours to undo


def signed(secret: str, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers that sign a message. Raises TokenRefused for what is not a secret of the scheme (`whsec_` and base64)."""
    try:
        fits = 24 <= len(b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    except ValueError:
        fits = False
    if not fits:
        raise TokenRefused("the connection's secret is not one of Standard Webhooks: whsec_ and 24 to 64 bytes in base64")
    signature = Webhook(secret).sign(message_id, moment, body.decode())
    return {
        "webhook-id": message_id, "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature,
        "Content-Type": "application/json",
    }  # fmt: skip


class WebhookGateway:
    """One receiver of webhooks."""

    reads = False
    periods = ()

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._connection = caller.connection
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """It can't be asked."""
        raise NotImplementedError

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._send(org, credential, "paused", revision)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._send(org, credential, "active", revision)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`."""
        return await self._send(org, credential, "revoked", revision)

    async def keep(self, credential: str, backstop: Backstop) -> None:
        """It keeps no limits."""
        raise NotImplementedError

    async def _send(self, org: str, credential: str, state: str, revision: int) -> GatewayKey:
        secret = self._caller.secret(self._connection.secret)
        if secret is None:
            raise TokenRefused("the connection has no secret to sign with: say where it lies")
        moment, command = datetime.now(UTC), command_id(self._connection.connection_id, credential, revision)
        data = {"command": command, "org": org, "credential": credential, "state": state, "revision": revision}
        body = msgspec.json.encode({"type": f"ledger.key.{_VERB[state]}.v1", "timestamp": moment.isoformat(), "data": data})
        answer = await self._caller.ask("POST", "", raw=body, more=signed(secret, f"{org}/{command}", moment, body))
        return GatewayKey(ACCEPTED if answer.done().status == 202 else state, OURS)
