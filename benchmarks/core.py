"""fold_core: the pure `execute` over batches of 10k events of 48 keys, caps on key, workspace and org, on one core."""

import gc
import time
from collections.abc import Sequence

from benchmarks.events import ORG, START_US, caps, commands
from benchmarks.figures import Figure
from ledger.core.batch import Found
from ledger.core.books import Books
from ledger.core.commands import RecordUsage
from ledger.core.execute import execute

BATCH = 10_000
NOW_US = START_US + 3_600_000_000


def fold_core(rounds: int) -> Figure:
    """Events a second; beside it a bare loop that only adds up cost by key."""
    books = Books(ORG)
    for order in caps():
        execute(books, [order], NOW_US, Found())
    execute(books, commands(0, BATCH), NOW_US, Found())
    runs: list[float] = []
    bare: list[float] = []
    for seed in range(1, rounds + 1):
        batch = commands(seed, BATCH)
        gc.collect()
        began = time.perf_counter()
        outcome = execute(books, batch, NOW_US, Found())
        runs.append(BATCH / (time.perf_counter() - began))
        assert len(outcome.entries) == BATCH
        bare.append(_bare(batch))
    return Figure("fold_core", "events/s", runs, "a loop that sums cost by key", bare, "≥ 300k")


def _bare(batch: Sequence[RecordUsage]) -> float:
    began = time.perf_counter()
    sums: dict[str, int] = {}
    for command in batch:
        sums[command.usage.key] = sums.get(command.usage.key, 0) + (command.cost or 0)
    return len(batch) / (time.perf_counter() - began)
