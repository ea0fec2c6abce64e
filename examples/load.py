"""A steady load for a ledger that runs elsewhere (docker compose's profile `demo`): the sample org's agents, in real time, over HTTP.

The org gets a guardrail of two dollars a day for each key and a monthly cap; one agent runs away every hour and is paused.
"""

import argparse
import asyncio
import itertools
import os
import time
from datetime import datetime, timezone
from decimal import Decimal

import httpx

from examples.fleet import ORG, Call, runaway, trace

HOUR_S = 3600
DAILY = {"each": "key", "in": ["org"], "period": "day", "limit_usd": "2.00", "action": "pause", "thresholds": [50, 80]}
MONTHLY = {"scope": "org", "period": "month", "limit_usd": "250.00", "action": "alert"}


def event(call: Call, number: int, run: str) -> dict[str, object]:
    """A call that ended now, as a gateway reports it."""
    return {
        "specversion": "1.0", "type": "llm.usage.v1", "source": f"examples.load/{run}", "id": f"call-{number}",
        "time": datetime.now(timezone.utc).isoformat(),
        "data": {
            "org": ORG, "workspace": call.agent.workspace, "key": call.agent.name, "model": call.agent.model, "session": call.session,
            "input_tokens": call.input_tokens, "output_tokens": call.output_tokens, "cost_usd": str(Decimal(call.nanos).scaleb(-9)),
        },
    }  # fmt: skip


async def declare(client: httpx.AsyncClient) -> None:
    """The org's caps."""
    for path, body in (("", {"time_zone": "UTC"}), ("/guardrails/daily", DAILY), ("/caps/org-month", MONTHLY)):
        answer = await client.put(f"/v1/orgs/{ORG}{path}", json=body)
        answer.raise_for_status()


async def main(args: argparse.Namespace) -> None:
    """Sends the sample's calls, each at its time in the hour, for ever or for so many."""
    headers = {"Authorization": f"Bearer {os.environ['LEDGER_ADMIN_TOKEN']}"}
    calls = sorted([*trace(), *runaway(900_000_000, 3_000_000, 660)])
    async with httpx.AsyncClient(base_url=args.url, headers=headers, timeout=30) as client:
        await declare(client)
        began, run = time.monotonic(), f"{time.time_ns():x}"
        for number, call in enumerate(itertools.islice(itertools.cycle(calls), args.calls)):
            due_s = number // len(calls) * HOUR_S + call.offset_us / 1_000_000
            await asyncio.sleep(max(0.0, began + due_s / args.speed - time.monotonic()))
            answer = await client.post("/v1/usage", json=event(call, number, run), headers={"Content-Type": "application/cloudevents+json"})
            answer.raise_for_status()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.load", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the ledger (default %(default)s); its token is LEDGER_ADMIN_TOKEN")
    parser.add_argument("--speed", type=float, default=1, help="how much faster than real the calls come (default %(default)s)")
    parser.add_argument("--calls", type=int, help="end after so many (default: go on)")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
