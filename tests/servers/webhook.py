"""A receiver of signed webhooks that verifies them by the reference library, and acts on key commands."""

from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.servers.vendor import Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """`taken` are messages by id, each acted on once; `status` is what they are answered with."""

    secret: str = SECRET
    status: int = 204
    taken: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    turned: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, request: Request) -> tuple[int, Any]:
        try:
            message = Webhook(self.secret).verify(request.raw, request.headers)
        except WebhookVerificationError as error:
            return 401, {"error": str(error)}
        name = request.headers["webhook-id"]
        if name not in self.taken and "state" in message["data"]:
            data = message["data"]
            self.states[data["credential"]] = data["state"]
            self.turned.append((data["credential"], data["state"]))
        self.taken[name] = message
        return self.status, None
