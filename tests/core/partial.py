"""Books in service, as `record` keeps them: the structure whole, and of the sums only what `needs` names."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import groupby

from ledger.core import entries as e
from ledger.core.books import Books, SumKey
from ledger.core.caps import Sum, total
from ledger.core.commands import Command, RecordUsage, Result
from ledger.core.execute import ahead
from ledger.core.needs import needs
from ledger.core.window import Period

from .harness import OrgLedger, days_of_one, rows_of
from .histories import tell


class Loader:
    """Loads sums from the rows of complete books, which see the same commands a moment later.

    `cold`: structure and sums are loaded anew for every batch, as by a process that has just started; else kept.
    """

    def __init__(self, rows: OrgLedger, cold: bool) -> None:
        self.rows, self.cold = rows, cold

    def __call__(self, books: Books, run: Sequence[Command], now_us: int, originals: dict[int, e.Entry]) -> Books:
        if self.cold or books.complete:
            books = deepcopy(books)
            books.complete = False
            books.sums, books.rooms = {}, {}
            books.forget_policies()
        stored = rows_of(self.rows.books)
        for period, start in ahead(books, max(now_us, books.recorded_us)).items():
            rows = {k: deepcopy(row) for k, row in stored.items() if k.period is period and k.start > start}
            books.sums = rows | books.sums
        wanted = needs(books, run, now_us, originals)
        for key in wanted.sums - books.sums.keys():
            books.put_sum(key, self._load(key, stored))
        return books

    def _load(self, key: SumKey, stored: dict[SumKey, Sum]) -> Sum:
        if key.period in (Period.DAY, Period.HOUR):
            return deepcopy(stored.get(key, Sum()))
        return total(days_of_one(self.rows.books, key))


class Both(OrgLedger):
    """Complete books that have partial ones carry out every command first, and compares the journals."""

    def __init__(self, org: str, cold: bool) -> None:
        super().__init__(org)
        self.partial = OrgLedger(org, Loader(self, cold))

    def send(self, commands: Sequence[Command], now_us: int) -> list[Result]:
        answer: list[Result] = []
        for run in runs(commands) or [[]]:
            results = self.partial.send(run, now_us)
            assert results == super().send(run, now_us)
            assert self.partial.journal[-9:] == self.journal[-9:]
            assert len(self.partial.journal) == len(self.journal)
            answer += results
        return answer


def runs(commands: Sequence[Command]) -> list[list[Command]]:
    """As `record` has them carried out: usage together, an order by itself."""
    found: list[list[Command]] = []
    for usage, group in groupby(commands, lambda command: isinstance(command, RecordUsage)):
        run = list(group)
        found += [run] if usage else [[order] for order in run]
    return found


def play_both(actions: list, cold: bool) -> None:
    """Plays a history on complete and on partial books; the entries must be the same."""
    tell(actions, Both("acme", cold))
