"""Owns the plain HTTP key protocol, which any self-made gateway can speak:

    GET {base}/v1/keys/{credential}?org=ORG          200 {"state", "mark"}, or 404: not known here
    PUT {base}/v1/keys/{credential}/state?org=ORG    {"state": "paused", "revision": 7}  →  200 {"state", "mark"} as it is now

`state` is active, paused or revoked; `mark` is any text that changes whenever anybody changes the key. A revision lower than
one seen before is answered with the present state and changes nothing (K3). Ids are percent-encoded.
"""

from urllib.parse import quote

import httpx
import msgspec

from .gateway import GatewayKey, GatewayRefused, GatewayUnavailable

_NOT_NOW = frozenset({408, 425, 429})
_decode = msgspec.json.Decoder(GatewayKey).decode


class HttpGateway:
    """A gateway at an address, with one kept-alive client."""

    def __init__(self, base_url: str, token: str | None, timeout_s: float = 5.0) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(base_url=base_url.rstrip("/"), headers=headers, timeout=timeout_s)

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        answer = await self._ask("GET", org, credential)
        return None if answer.status_code == 404 else self._key(answer)

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._put(org, credential, "paused", revision)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._put(org, credential, "active", revision)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`."""
        return await self._put(org, credential, "revoked", revision)

    async def _put(self, org: str, credential: str, state: str, revision: int) -> GatewayKey:
        return self._key(await self._ask("PUT", org, credential, "/state", {"state": state, "revision": revision}))

    async def _ask(self, method: str, org: str, credential: str, tail: str = "", body: object = None) -> httpx.Response:
        path = f"/v1/keys/{quote(credential, safe='')}{tail}"
        try:
            return await self._client.request(method, path, params={"org": org}, json=body)
        except httpx.HTTPError as error:
            raise GatewayUnavailable(f"no answer from the gateway: {type(error).__name__}") from None

    def _key(self, answer: httpx.Response) -> GatewayKey:
        status = answer.status_code
        if status in _NOT_NOW or status >= 500:
            after = answer.headers.get("Retry-After", "")
            raise GatewayUnavailable(f"the gateway answered {status}", float(after) if after.isdigit() else None)
        if status in (401, 403):
            raise GatewayRefused(f"the gateway answered {status}: is LEDGER_GATEWAY_TOKEN right?")
        if status != 200:
            raise GatewayRefused(f"the gateway answered {status}: it can't do this to the key")
        try:
            return _decode(answer.content)
        except msgspec.DecodeError:
            raise GatewayUnavailable("the gateway's answer is not {state, mark}: is LEDGER_GATEWAY_URL right?") from None
