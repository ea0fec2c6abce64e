"""Owns the plain HTTP key protocol, which any self-made gateway can speak:

    GET {base}/v1/keys?key=CREDENTIAL&org=ORG    200 {"state", "mark"}, or 404: not known here
    PUT {base}/v1/keys?key=CREDENTIAL&org=ORG    {"state": "paused", "revision": 7}  →  200 {"state", "mark"} as it is now

`state` is active, paused or revoked; `mark` is any text that changes whenever anybody changes the key. A revision lower than
one seen before is answered with the present state and changes nothing (K3). Ids are percent-encoded; in a path not every id
would arrive as it is: clients and proxies resolve dots and slashes there.
"""

from typing import Any
from urllib.parse import quote, urlencode

from ..core.backstop import Backstop
from .calling import Answer, Caller
from .gateway import GatewayKey


class HttpGateway:
    """A gateway at an address."""

    reads = True
    periods = ()

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        answer = await self._ask("GET", org, credential)
        return None if answer.status == 404 else answer.done().read(GatewayKey)

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._put(org, credential, "paused", revision)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._put(org, credential, "active", revision)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`."""
        return await self._put(org, credential, "revoked", revision)

    async def keep(self, credential: str, backstop: Backstop) -> None:
        """It keeps no limits."""
        raise NotImplementedError

    async def _put(self, org: str, credential: str, state: str, revision: int) -> GatewayKey:
        answer = await self._ask("PUT", org, credential, {"state": state, "revision": revision})
        return answer.done().read(GatewayKey)

    async def _ask(self, method: str, org: str, credential: str, body: Any = None) -> Answer:
        return await self._caller.ask(method, f"/v1/keys?{urlencode({'key': credential, 'org': org}, quote_via=quote)}", body=body)
