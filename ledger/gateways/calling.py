"""Owns how a gateway is called over HTTP, and what its statuses mean: not now, never, or an answer.

pyreqwest, because a breach may command ten thousand keys at once: a call costs it a quarter of what it costs aiohttp.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import RequestError

from ..core.connections import Connection, Gateway
from .gateway import GatewayRefused, GatewayUnavailable, TokenRefused
from .references import SecretMissing, secret_at

TIMEOUT_S = 5.0
LONGEST_QUIET_S = 3_600.0  # a gateway that asks for more, or for nonsense, is asked again after an hour: its keys go on spending
OWN_ADDRESS = {Gateway.OPENROUTER: "https://openrouter.ai"}  # where a vendor is for everybody
JSON = {"Content-Type": "application/json"}
_NOT_NOW = frozenset({408, 425, 429})
_TOKEN = frozenset({401, 403})
_UNREACHED = "client error (Connect)"  # of the kinds of error, only one for connections that break later is told


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
        if 300 <= self.status < 400:
            raise GatewayRefused(f"the gateway answered {self.status}: it is at another address, and redirects are not followed: mend it")
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
        self._client = ClientBuilder().timeout(timedelta(seconds=timeout_s)).follow_redirects(False).build()
        self.aclose = self._client.close

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
        token = self.secret(self.connection.token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= JSON if body is not None else {}
        headers |= more or {}
        try:
            request = self._client.request(method, self._base_url + path).headers(headers)
            content = raw if body is None else msgspec.json.encode(body)
            answer = await (request if content is None else request.body_bytes(content)).build().send()
        except ValueError:
            raise GatewayRefused("the gateway's address is none, or a name can't be told in a header") from None
        except RequestError as error:
            why = [cause["message"] for cause in error.details["causes"] or ()][1:]  # the first repeats the address
            if _UNREACHED in why:
                raise GatewayUnavailable(f"the gateway can't be reached: {why[-1]}", harmless=True) from None
            raise GatewayUnavailable(f"no answer from the gateway: {why[-1] if why else type(error).__name__}") from None
        status = answer.status
        if status in _NOT_NOW or status >= 500:
            raise GatewayUnavailable(f"the gateway answered {status}", _retry_after_s(answer.headers), harmless=status in _NOT_NOW)
        if status in _TOKEN:
            raise TokenRefused(f"the gateway answered {status}: it does not take the token it was given; mend it, then `ledger keys check`")
        return Answer(status, bytes(await answer.bytes()))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date, at most an hour; None for anything else."""
    after = headers.get("retry-after") or ""
    try:
        wait_s = float(after) if after.isdecimal() else parsedate_to_datetime(after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, wait_s), LONGEST_QUIET_S)
