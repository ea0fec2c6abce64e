"""OpenRouter's account beyond single keys: keys by workspace a page at a time, workspaces, and analytics by key and day."""

from dataclasses import dataclass, field
from typing import Any

from tests.servers.openrouter import OpenRouterApi, hash_of
from tests.servers.vendor import Request

DEFAULT = "ws-default"


@dataclass
class OpenRouterAccount(OpenRouterApi):
    """`usage`: (hash, first instant of a day) → dollars, as doubles. A list without a workspace is the default one's only."""

    usage: dict[tuple[str, str], float] = field(default_factory=dict)
    truncated: bool = False
    analytics: bool = True
    page: int = 2

    def put(self, name: str, workspace: str = DEFAULT, seed: str | None = None, **more: Any) -> str:
        """A key; two of one name have seeds of their own. Its hash."""
        key = hash_of(seed or name)
        self.keys[self.add(seed or name)] |= {"name": name, "workspace_id": workspace, **more}
        return key

    def answer(self, request: Request) -> tuple[int, Any]:
        if request.headers.get("authorization") == f"Bearer {self.token}" and request.method == "GET" and len(request.path) == 3:
            offset = int(request.query.get("offset", 0))
            if request.path[2] == "workspaces":
                spaces = list(dict.fromkeys(key["workspace_id"] for key in self.keys.values()))
                shown = spaces[offset : offset + min(int(request.query.get("limit", 50)), 100)]
                return 200, {"data": [{"id": space, "name": space} for space in shown], "total_count": len(spaces)}
            space = request.query.get("workspace_id", DEFAULT)
            hidden = request.query.get("include_disabled") != "true"
            mine = [key for key in self.keys.values() if key["workspace_id"] == space and not (hidden and key["disabled"])]
            return 200, {"data": mine[offset : offset + self.page]}
        if request.path[2:] == ("analytics", "query") and self.analytics:
            start = request.body["time_range"]["start"]
            rows = [{"api_key_id": key, "date": day, "total_usage": spent} for (key, day), spent in self.usage.items() if day == start]
            return 200, {"data": {"data": rows, "metadata": {"row_count": len(rows), "query_time_ms": 9.5, "truncated": self.truncated}}}
        return super().answer(request)
