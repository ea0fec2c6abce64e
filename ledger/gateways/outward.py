"""Owns the choice of the file that speaks a connection's protocol, for key commands."""

from collections.abc import Mapping

from ..core.connections import Connection
from ..core.connections import Gateway as Kind
from .calling import TIMEOUT_S, Caller
from .gateway import Gateway
from .http import HttpGateway
from .litellm_proxy import LiteLLM
from .openrouter import OpenRouter
from .webhook import WebhookGateway


def open_gateway(connection: Connection, environ: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> Gateway:
    """The gateway at the other end of a connection. Made inside a running event loop; its secrets are read at each call."""
    return _KINDS[connection.gateway](Caller(connection, environ, timeout_s))


_KINDS = {Kind.HTTP: HttpGateway, Kind.OPENROUTER: OpenRouter, Kind.LITELLM: LiteLLM, Kind.WEBHOOK: WebhookGateway}
