"""Owns the population that is measured: 48 keys in 4 workspaces, random ids, one day; all by a seed."""

import json
import random
import uuid
from datetime import UTC, datetime

from ledger.core.caps import Action, Rule
from ledger.core.commands import Command, RecordUsage, SetCap, Usage
from ledger.core.money import USD, Nanos
from ledger.core.window import Period, micros
from ledger.wire.identity import identity

ORG = "acme"
START_US = micros(datetime(2026, 3, 9, 9, tzinfo=UTC))
KEYS = [(f"key-{n:02d}", f"workspace-{n % 4}") for n in range(48)]
MODELS = ("openai/gpt-5", "anthropic/claude-sonnet-5", "deepseek/deepseek-v4-flash")


def caps(limit_usd: int = 1_000_000_000) -> list[Command]:
    """A cap on every key, workspace and the org, that this population does not reach."""
    scopes = (
        [(f"key:{key}", Period.DAY) for key, _ in KEYS]
        + [(f"workspace:workspace-{n}", Period.WEEK) for n in range(4)]
        + [("org", Period.MONTH)]
    )
    rule = {period: Rule(period=period, limit=Nanos(limit_usd * USD), action=Action.PAUSE, thresholds=(50, 80)) for _, period in scopes}
    return [SetCap(org=ORG, by="bench", cap=scope.replace(":", "-"), scope=scope, rule=rule[period]) for scope, period in scopes]


def events(seed: int, count: int, start_us: int = START_US) -> list[dict[str, object]]:
    """CloudEvents as a gateway sends them."""
    draw = random.Random(seed)
    made: list[dict[str, object]] = []
    for n in range(count):
        key, workspace = draw.choice(KEYS)
        tokens_in, tokens_out = draw.randrange(10, 9000), draw.randrange(5, 3000)
        moment = datetime.fromtimestamp((start_us + n * 1000) / 1_000_000, UTC).isoformat(timespec="milliseconds")
        data = {
            "org": ORG, "workspace": workspace, "key": key, "model": MODELS[n % 3], "provider": "p", "input_tokens": tokens_in,
            "output_tokens": tokens_out, "cost_usd": f"0.{tokens_in * 125 + tokens_out * 1000:08d}", "byok": False,
        }  # fmt: skip
        made.append({
            "specversion": "1.0", "type": "llm.usage.v1", "source": f"gateway-{n % 3}",
            "id": str(uuid.UUID(int=draw.getrandbits(128), version=4)), "time": moment, "data": data,
        })  # fmt: skip
    return made


def bodies(seed: int, count: int, size: int, start_us: int = START_US) -> list[bytes]:
    """The same as HTTP batches."""
    made = events(seed, count, start_us)
    return [json.dumps(made[at : at + size]).encode() for at in range(0, count, size)]


def commands(seed: int, count: int) -> list[RecordUsage]:
    """The same as commands, for measuring what comes after the wire."""
    draw = random.Random(seed)
    made: list[RecordUsage] = []
    for n in range(count):
        key, workspace = draw.choice(KEYS)
        name = draw.randbytes(16).hex()
        cost = Nanos(draw.randrange(1, 10**7))
        usage = Usage(
            org=ORG,
            key=key,
            workspace=workspace,
            model=MODELS[n % 3],
            input_tokens=draw.randrange(9000),
            output_tokens=draw.randrange(3000),
        )
        made.append(RecordUsage(
            source="gateway", event_id=name, digest=identity(ORG, "gateway", name), time_us=START_US + n * 1000, cost=cost,
            cost_text=str(cost), upstream=None, upstream_text=None, usage=usage,
        ))  # fmt: skip
    return made
