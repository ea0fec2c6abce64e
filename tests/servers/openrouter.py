"""OpenRouter's management API, as far as keys go: the shapes of its schema."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tests.servers.vendor import Request

TOKEN = "sk-or-v1-management"


def hash_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass
class OpenRouterApi:
    """Keys by hash. `turned` is every change of `disabled`, and every deletion, in order."""

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = TOKEN
    turned: list[tuple[str, str]] = field(default_factory=list)
    seconds: int = 0

    def add(self, name: str) -> str:
        """A key of its own by this name; its hash."""
        key = hash_of(name)
        self.keys[key] = {
            "hash": key, "name": name, "label": "sk-or-v1-0e6...1c96", "disabled": False, "limit": 100, "limit_remaining": 74.5,
            "limit_reset": "monthly", "include_byok_in_limit": False, "usage": 25.5, "usage_daily": 25.5, "byok_usage": 17.38,
            "created_at": "2025-08-24T10:30:00Z", "updated_at": None, "expires_at": None, "creator_user_id": "user_2dHF",
            "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11",
        }  # fmt: skip
        self.touch(key)
        return key

    def touch(self, key: str) -> None:
        self.seconds += 1
        self.keys[key]["updated_at"] = f"2025-08-24T15:{self.seconds // 60:02}:{self.seconds % 60:02}Z"

    def turn(self, key: str, state: str) -> None:
        """A change by anybody."""
        if self.keys[key]["disabled"] is not (state == "paused"):
            self.keys[key]["disabled"] = state == "paused"
            self.turned.append((self.keys[key]["name"], state))
        self.touch(key)

    def state(self, key: str) -> str:
        return "revoked" if key not in self.keys else "paused" if self.keys[key]["disabled"] else "active"

    def answer(self, request: Request) -> tuple[int, Any]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": {"code": 401, "message": "No cookie auth credentials found"}}
        if request.path[:3] != ("api", "v1", "keys") or len(request.path) < 4:
            return 404, {"error": {"code": 404, "message": "Not Found"}}
        key = request.path[3]
        if key not in self.keys:
            return 404, {"error": {"code": 404, "message": "API key not found"}}
        if request.method == "DELETE":
            self.turned.append((self.keys.pop(key)["name"], "revoked"))
            return 200, {"deleted": True}
        if request.method == "PATCH" and "disabled" in request.body:
            self.turn(key, "paused" if request.body["disabled"] else "active")
        elif request.method == "PATCH":
            self.keys[key] |= {name: request.body[name] for name in ("limit", "limit_reset") if name in request.body}
            self.touch(key)
        return 200, {"data": self.keys[key]}
