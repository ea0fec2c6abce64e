"""Usage for tests of the store."""

from ledger.core.commands import RecordUsage, Usage
from ledger.core.money import USD, Nanos
from ledger.wire.identity import identity

NOW_US = 1_772_960_400_000_000  # 2026-03-08T09:00Z


def usage(event_id: str, dollars: int, key: str = "k", org: str = "acme", time_us: int = NOW_US, workspace: str = "w") -> RecordUsage:
    return RecordUsage(
        source="test", event_id=event_id, digest=identity(org, "test", event_id), time_us=time_us, cost=Nanos(dollars * USD),
        cost_text=str(dollars), upstream=None, upstream_text=None, usage=Usage(org=org, key=key, workspace=workspace),
    )  # fmt: skip
