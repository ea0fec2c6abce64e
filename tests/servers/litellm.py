"""A LiteLLM proxy's key management, as far as it goes here."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.servers.vendor import Request

TOKEN = "sk-litellm-master"


@dataclass
class LiteLLMApi:
    """Keys by hash: the SHA-256 of their secret. `turned` is every change, in order. Deleted ones go on being told, `archived`.

    `marks` is whether it tells when a key's settings were last changed, as proxies do since August 2026."""

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    archived: dict[str, dict[str, Any]] = field(default_factory=dict)
    token: str = TOKEN
    turned: list[tuple[str, str]] = field(default_factory=list)
    marks: bool = True
    _changed: datetime = datetime(2026, 11, 28, 5, 37, 31, 797_000, UTC)

    def add(self, name: str) -> str:
        """A key by this alias; its hash. `blocked` is null until somebody sets it."""
        key = hashlib.sha256(f"sk-{name}".encode()).hexdigest()
        self.keys[key] = {"key_name": "sk-...abcd", "key_alias": name, "spend": 0.5, "blocked": None, "updated_at": "2026-03-08T09:00:00Z"}
        self.keys[key]["settings_updated_at"] = None
        return key

    def turn(self, key: str, state: str) -> None:
        """A change by anybody."""
        if bool(self.keys[key]["blocked"]) is not (state == "paused"):
            self.turned.append((self.keys[key]["key_alias"], state))
        self.keys[key]["blocked"] = state == "paused"
        self._mark(key)

    def _mark(self, key: str) -> None:
        self._changed += timedelta(milliseconds=778)
        self.keys[key]["settings_updated_at"] = self._changed.isoformat(timespec="microseconds") if self.marks else None

    def delete(self, key: str) -> None:
        """A deletion by anybody."""
        self.archived[key] = self.keys.pop(key)
        self.turned.append((self.archived[key]["key_alias"], "revoked"))

    def state(self, key: str) -> str:
        return "revoked" if key not in self.keys else "paused" if self.keys[key]["blocked"] else "active"

    def answer(self, request: Request) -> tuple[int, Any]:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": {"message": "Authentication Error, invalid user key", "type": "auth_error", "code": "401"}}
        name = request.query.get("key") or (request.body or {}).get("key") or (request.body or {}).get("keys", [""])[0]
        if request.path == ("key", "info") and name in self.archived:
            return 200, {"key": name, "info": self.archived[name] | {"status": "deleted", "deleted_at": "2026-03-08T10:00:00Z"}}
        if name not in self.keys:
            return 404, {"error": {"message": "Key not found in database", "code": "404"}}
        match request.path:
            case ("key", "info"):
                return 200, {"key": name, "info": self.keys[name] | {"status": "revoked" if self.keys[name]["blocked"] else "active"}}
            case ("key", "block" | "unblock" as verb):
                self.turn(name, "paused" if verb == "block" else "active")
                told = self.keys[name]["settings_updated_at"]  # the other call writes the zone as +00:00
                return 200, {"token": name, **self.keys[name], "settings_updated_at": told and told.replace("+00:00", "Z")}
            case ("key", "update"):
                self.keys[name] |= {field: request.body[field] for field in ("max_budget", "budget_duration")}
                self._mark(name)
                return 200, {"key": name, **self.keys[name]}
            case ("key", "delete"):
                self.delete(name)
                return 200, {"deleted_keys": [name]}
        return 404, {"detail": "Not Found"}
