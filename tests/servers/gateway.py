"""A self-made gateway that speaks the plain HTTP key protocol (`ledger.gateways.http`)."""

from dataclasses import dataclass, field
from typing import Any

from tests.servers.vendor import Request

TOKEN = "gateway-token"


@dataclass
class Key:
    state: str = "active"
    revision: int = 0
    mark: int = 1


@dataclass
class HttpProtocol:
    """Keys by the names that this gateway knows them by. `turned` is every change of a state, in order."""

    keys: dict[str, Key] = field(default_factory=dict)
    token: str = TOKEN
    turned: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, Any]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "who are you?"}
        if request.path != ("v1", "keys") or request.query.get("org") != "acme":
            return 404, {"error": "there is no such place"}
        name = request.query.get("key", "")
        key = self.keys.get(name)
        if key is None:
            return 404, {"error": "this key is not known here"}
        if request.method == "PUT" and request.body["revision"] >= key.revision:
            key.revision = request.body["revision"]
            self.turn(name, request.body["state"])
        return 200, {"state": key.state, "mark": str(key.mark)}

    def turn(self, name: str, state: str) -> None:
        """A change by anybody, which is a new mark."""
        key = self.keys[name]
        if key.state not in (state, "revoked"):
            key.state, key.mark = state, key.mark + 1
            self.turned.append((name, state))
