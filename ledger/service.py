"""Owns what a running ledger has at hand: its database, its clock, and `record` for whoever has commands.

Commands that arrive while batches are under way are booked together in the next one, a sender's in the order they came.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .core.commands import Command, RecordUsage, Result, Status
from .core.rates import Card
from .metrics import Metrics, exemplar
from .pipeline import Pipeline
from .record import Booked, Shelf, record
from .store import rates
from .store.dialect import Database
from .wire.events import HandOver

Clock = Callable[[], int]
CARD_S = 1.0  # how long usage is priced by a card that was changed meanwhile
MOST_AHEAD = 2  # batches under way: one written, one decided


class _Waiting(NamedTuple):
    """Commands that are to be booked, and who waits for what becomes of them; the rest as in `Service.record`."""

    commands: Sequence[Command]
    answer: asyncio.Future[list[Result]]
    trace: str | None
    sender: str | None


def system_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Service:
    """One process's door to the books.

    Attributes:
      hand_over: where usage goes that comes in by HTTP; None: into the books at once. Raises NotTaken.
      news: set after every commit of facts, which may have put messages in the outbox.
    """

    def __init__(self, database: Database, metrics: Metrics, clock: Clock = system_clock, *, declared_only: bool = False) -> None:
        self.database = database
        self.metrics = metrics
        self.clock = clock
        self.declared_only = declared_only
        self.news = asyncio.Event()
        self.hand_over: HandOver | None = None
        self._card = Card(0, ())
        self._card_until = 0.0
        self._pipeline = Pipeline(database)
        self._waiting: list[_Waiting] = []
        self._under_way = 0
        self._stirred = asyncio.Event()
        self._drain: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, usage: Sequence[RecordUsage], sender: str | None, trace: str | None = None) -> list[Result]:
        """Takes usage from a door: booked when it returns, or with Kafka on every replica of its topic, to be booked (T4).

        So a database that is away holds up no sender. Raises NotTaken, or what the database raises. `sender`, `trace`: as in `record`.
        """
        if self.hand_over is None:
            return await self.record(usage, trace, sender)
        if usage:
            await self.hand_over(usage, trace)
        return [Result(Status.ACCEPTED)] * len(usage)

    async def record(self, commands: Sequence[Command], trace: str | None = None, sender: str | None = None) -> list[Result]:
        """Books commands; a result per command, durable when it returns. Raises what the database raises.

        `trace`: the `traceparent` they came in with, if any: an exemplar of the time that their batch takes. `sender`: the org whose
        commands they are, if of one: a sender's stay in order, and take turns with those of others.
        """
        if not commands:
            return []
        answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(commands, answer, trace, sender))
        self._stirred.set()
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._book_waiting())
        return await answer

    async def card(self) -> Card:
        """The rate card that prices now, at most `CARD_S` old."""
        if time.monotonic() >= self._card_until:
            async with self.database.snapshot() as connection:
                newest = await rates.newest(connection)
                if newest is not None and newest.version != self._card.version:
                    self._card = await rates.card(connection)
            self._card_until = time.monotonic() + CARD_S
        return self._card

    async def rehearse(self, commands: Sequence[Command]) -> Booked:
        """What would become of commands; nothing is kept."""
        return await record(self.database, Shelf(), commands, self.clock(), rehearse=True)

    async def pulse(self, orgs: Sequence[str]) -> None:
        """Does for these orgs what is due by now (W5)."""
        self._tell(await self._record((), orgs))

    async def _book_waiting(self) -> None:
        """Hands what waits to the pipeline: a large batch ahead of the one that is being written, a small one after it, with all
        that has come meanwhile."""
        while self._waiting:
            most = MOST_AHEAD if self._pipeline.overlaps(sum(len(one.commands) for one in self._waiting)) else 1
            if self._under_way >= most:
                self._stirred.clear()
                await self._stirred.wait()
                continue
            self._under_way += 1
            self._waiting = _in_turns(self._waiting)
            taken, size = 0, 0
            while taken < len(self._waiting) and (not taken or size + len(self._waiting[taken].commands) <= self._pipeline.most):
                size += len(self._waiting[taken].commands)
                taken += 1
            together, self._waiting = self._waiting[:taken], self._waiting[taken:]
            task = asyncio.create_task(self._book(together))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _book(self, together: list[_Waiting]) -> None:
        try:
            trace = next((one.trace for one in together if one.trace is not None), None)
            booked = await self._record([command for one in together for command in one.commands], trace=trace)
        except Exception as error:
            for one in together:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        finally:
            self._under_way -= 1
            self._stirred.set()
        at = 0
        for one in together:
            if not one.answer.done():  # its caller may have gone away; what it sent is booked all the same
                one.answer.set_result(booked.results[at : at + len(one.commands)])
            at += len(one.commands)
        self._tell(booked)

    async def _record(self, commands: Sequence[Command], orgs: Sequence[str] = (), trace: str | None = None) -> Booked:
        if commands:
            (await self.card()).apply(commands)
        began = time.perf_counter()
        try:
            return await self._pipeline.book(commands, self.clock(), orgs=orgs, declared_only=self.declared_only)
        finally:
            self.metrics.batch_seconds.observe(time.perf_counter() - began, exemplar(trace))

    def _tell(self, booked: Booked) -> None:
        self.metrics.count(booked)
        if any(outcome.facts for outcomes in booked.outcomes.values() for outcome in outcomes):
            self.news.set()


def _in_turns(waiting: Sequence[_Waiting]) -> list[_Waiting]:
    """What waits, each sender's first before any sender's second: one that sends much holds up no other (T1)."""
    before = Counter[str | None]()
    turns: list[int] = []
    for one in waiting:
        turns.append(before[one.sender])
        before[one.sender] += 1
    return [waiting[place] for place in sorted(range(len(waiting)), key=turns.__getitem__)]
