"""Owns how a gateway is called over HTTP, and what its statuses mean: not now, never, or an answer.

aiohttp, because a breach may command ten thousand keys at once: a call costs it a tenth of what it costs httpx.
"""

import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from ..core.connections import Connection, Gateway
from .gateway import GatewayRefused, GatewayUnavailable, TokenRefused
from .references import SecretMissing, secret_at

TIMEOUT_S = 5.0
LONGEST_QUIET_S = 3_600.0  # a gateway that asks for more, or for nonsense, is asked again after an hour: its keys go on spending
OWN_ADDRESS = {Gateway.OPENROUTER: "https://openrouter.ai"}  # where a vendor is for everybody
JSON = {"Content-Type": "application/json"}
_NOT_NOW = frozenset({408, 425, 429})
_TOKEN = frozenset({401, 403})


class Answer(NamedTuple):
    """What a gateway answered: a status that is neither "not now" nor "who are you", and a body."""

    status: int
    body: bytes

    def read(self, shape: type[Any]) -> Any:
        """The body as a shape. Raises GatewayUnavailable where it is another: half an answer, or a page of something else."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise GatewayUnavailable("the gateway's answer is not what it should be: is its address right?") from None

    def done(self) -> "Answer":
        """Itself, if the gateway did what it was asked. Raises GatewayRefused."""
        if not 200 <= self.status < 300:
            raise GatewayRefused(f"the gateway answered {self.status}: it can't do this to the key")
        return self


class Caller:
    """One connection's address and secrets, with kept-alive sockets. Made inside a running event loop.

    The secrets are read anew at every call: a rotated one is taken up at once, and none is kept (S2).
    """

    def __init__(self, connection: Connection, environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self._base_url = (connection.address or OWN_ADDRESS.get(connection.gateway, "")).rstrip("/")
        self.connection = connection
        self._environ = environ
        self._proxy = _proxy_of(self._base_url)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s), connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._session.close()

    def secret(self, reference: str | None) -> str | None:
        """What a reference leads to. Raises TokenRefused where that is nowhere."""
        try:
            return None if reference is None else secret_at(reference, self._environ)
        except SecretMissing as error:
            raise TokenRefused(str(error)) from None

    async def ask(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> Answer:
        """One call. Raises GatewayUnavailable for no answer or "not now", TokenRefused for a token that is not taken.

        `path` is percent-encoded already; `raw` is sent as it is, `more` are further headers. Redirects are not followed:
        they would carry the token elsewhere.
        """
        if not self._base_url:
            raise GatewayRefused("the connection has no address: say where the gateway's API is")
        url = URL(self._base_url + path, encoded=True)
        token = self.secret(self.connection.token)
        headers = {"Authorization": f"Bearer {token}", **(more or {})} if token else dict(more or {})
        try:
            async with self._session.request(
                method, url, headers=headers, json=body, data=raw, allow_redirects=False, proxy=self._proxy
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise GatewayUnavailable(f"the gateway can't be reached: {type(error).__name__}", harmless=True) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise GatewayUnavailable(f"no answer from the gateway: {type(error).__name__}") from None
        status = answer.status
        if status in _NOT_NOW or status >= 500:
            raise GatewayUnavailable(f"the gateway answered {status}", _retry_after_s(answer.headers), harmless=status in _NOT_NOW)
        if status in _TOKEN:
            raise TokenRefused(f"the gateway answered {status}: it does not take the token it was given; mend it, then `ledger keys check`")
        return Answer(status, content)


def _proxy_of(address: str) -> str | None:
    """The proxy that the environment names for an address. Looked up once: aiohttp's own way reads files at every call."""
    url = URL(address)
    if not url.host or urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date, at most an hour; None for anything else."""
    after = headers.get("Retry-After", "")
    try:
        wait_s = float(after) if after.isdecimal() else parsedate_to_datetime(after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, wait_s), LONGEST_QUIET_S)
