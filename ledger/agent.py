"""Owns the carrying out of key commands at gateways: attempted until confirmed, superseded, or given up loudly (K3).

The attempt is stored before the call, so that a crash leaves "unknown", never "not tried". A person's decision at the
gateway outlives ours (K2): we resume only what we paused, which the gateway's own change mark tells; while an attempt's
outcome is unknown, nothing is concluded about people. Nothing calls a gateway inside a transaction; attempts are claimed,
and their outcomes stored, many at once. A gateway that is down or asks to be left alone holds up nobody else (K5).
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from .core.commands import ConfirmCommand, Status
from .core.connections import Connection
from .core.keys import State
from .gateways.gateway import ACCEPTED, Gateway, GatewayKey, GatewayRefused, GatewayUnavailable
from .service import Service
from .store import inbox
from .store.dialect import claim
from .store.inbox import DueCommand, Lane, Outcome

MOST_AT_ONCE = 1_024  # half of them by one lane, a third by each of two: none has more under way than are left for others
MOST_CLAIMED = 256  # in one transaction: half a lane, so that it is not idle while the next are claimed
MANY = 128  # attempts under way: a gateway is being told of a whole workspace
FIRST_WAIT_US, LONGEST_WAIT_US = 250_000, 60_000_000
LEASE_US = 30_000_000  # longer than any call may take
FAILURES_IN_A_ROW = 3  # before a gateway is left alone for a while
DRAIN_S = 2.0
NOTE_EVERY_S = 1.0  # at most, while attempts are under way: booking a thousand confirmations takes little longer than booking one
ACCEPTED_WAIT_US = 300_000_000  # for a confirmation, before it is sent again
AGENT = "key agent"
MOST_SAID = 1_024  # characters of a gateway's state or mark of a key
Key = TypeVar("Key", GatewayKey, GatewayKey | None)

log = structlog.get_logger()


class Done(msgspec.Struct, frozen=True):
    """What an attempt found or left. `state`: what the gateway has now. `delivery`: what became of the command."""

    state: State | None
    mark: str | None = None
    delivery: str = inbox.CONFIRMED
    why: str | None = None


async def act(gateway: Gateway, command: DueCommand) -> Done:
    """Brings a gateway's key to the state that is wanted, unless a person's decision there stands in the way (K2)."""
    wanted = State(command.state)
    try:
        here = _sound(await gateway.read(command.org, command.credential)) if gateway.reads else GatewayKey("unread", command.mark)
    except GatewayUnavailable as error:
        error.harmless = True
        raise
    if here is None:
        return _nowhere(command, wanted)
    ours = command.unsure or not gateway.reads or (here.mark is not None and here.mark == command.mark)
    if here.state == wanted and not (wanted is State.PAUSED and ours):
        return Done(wanted)  # already so. A pause of somebody else is not ours to resume later
    if here.state == State.REVOKED:
        return Done(State.REVOKED, delivery=inbox.LEFT, why="it was revoked at the gateway")
    if wanted is State.ACTIVE and not ours:
        return Done(State.PAUSED, delivery=inbox.LEFT, why="left paused: somebody else did that at the gateway")
    turn = {State.PAUSED: gateway.pause, State.ACTIVE: gateway.resume, State.REVOKED: gateway.revoke}[wanted]
    key = _sound(await turn(command.org, command.credential, command.revision))
    if key.state == ACCEPTED:
        return Done(None, delivery=inbox.ATTEMPTED, why="the gateway has taken it, and has yet to confirm it")
    if key.state != wanted:
        raise GatewayUnavailable(f"the gateway says {key.state} after it was told {wanted}")
    return Done(wanted, key.mark if wanted is State.PAUSED else None)


def _sound(key: Key) -> Key:
    """What a gateway says of a key is stored beside what others say: of one that can't be, nobody else's may fail with it (T4)."""
    if key is not None and any("\0" in said or len(said) > MOST_SAID for said in (key.state, key.mark or "")):
        raise GatewayUnavailable("the gateway's answer is not what it should be: a state or a mark that is no plain, short text")
    return key


def _nowhere(command: DueCommand, wanted: State) -> Done:
    """The gateway has no such key: revoked, if it had it before; else it never had, or not by this name."""
    if wanted is State.REVOKED and (command.known or command.unsure):
        return Done(State.REVOKED)
    gone = "any more" if command.known else ""
    why = f"the gateway does not know this key {gone}".rstrip() + ": link the name it uses as a credential of the key"
    return Done(None, delivery=inbox.UNKNOWN, why=why)


Ended = Done | GatewayUnavailable | GatewayRefused


class _Way:
    """One connection as this process uses it."""

    def __init__(self, connection: Connection, gateway: Gateway) -> None:
        self.seq = connection.seq
        self.gateway = gateway
        self.under_way = 0
        self.failures = 0
        self.quiet_us = 0

    def failed(self, now_us: int, retry_after_s: float | None) -> None:
        """After some failures in a row, or when it asks for it, a gateway is left alone for a while."""
        if now_us >= self.quiet_us:
            self.failures += 1
            rounds = self.failures - FAILURES_IN_A_ROW
            self.quiet_us = now_us + (wait_us(rounds) if rounds >= 0 else 0)
        self.quiet_us = max(self.quiet_us, now_us + int((retry_after_s or 0) * 1_000_000))


def wait_us(attempts: int) -> int:
    """How long to wait after so many attempts: doubling up to a minute, and not all at the same moment."""
    longest = min(FIRST_WAIT_US * 2 ** min(attempts, 20), LONGEST_WAIT_US)
    return int(longest * random.uniform(0.5, 1.0))


class Agent:
    """Carries out key commands until it is closed. `wake` is set whenever an attempt has ended that leaves room for another."""

    def __init__(self, service: Service, open_gateway: Callable[[Connection], Gateway], wake: asyncio.Event) -> None:
        self._service = service
        self._open = open_gateway
        self._wake = wake
        self._ways: dict[Lane, _Way] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[tuple[DueCommand, Ended]] = []
        self._noting: asyncio.Task[None] | None = None
        self._noted_s = 0.0
        self._more = False  # whether the last claim may have left some

    @property
    def busy(self) -> bool:
        """Whether attempts are under way, or have ended and are not stored yet."""
        return bool(self._tasks or self._ended or self._noting)

    @property
    def pressed(self) -> bool:
        """Whether many attempts are under way: money runs until the last of them."""
        return len(self._tasks) >= MANY

    async def step(self) -> int:
        """Begins the attempts whose time has come, and has what others came to stored meanwhile; how many were begun.

        Raises what went wrong with the storing before; it is tried again by the next step.
        """
        if self._noting is not None and self._noting.done():
            failed, self._noting = self._noting, None
            failed.result()
        self._note_soon()
        return await self._begin()

    async def close(self) -> None:
        """Waits a moment for what is under way; what has not ended by then is tried again by whoever comes next."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S)
        for task in self._tasks:
            task.cancel()
        if self._noting is not None:
            await asyncio.wait([self._noting])
        await self._note()
        for way in self._ways.values():
            await way.gateway.aclose()

    async def _begin(self) -> int:
        now_us, room = self._service.clock(), MOST_AT_ONCE - len(self._tasks)
        await self._reopen([lane for lane, way in self._ways.items() if way.quiet_us > now_us], now_us)
        shut = [lane for lane, way in self._ways.items() if way.under_way >= room or way.quiet_us > now_us]
        most = min(MOST_CLAIMED, (room + 1) // 2)  # all may be of one lane: as many are left for others (K5)
        if room <= 0:
            return 0
        if shut or not self._more:
            async with self._service.database.reader.connect() as connection:
                if not await inbox.any_due(connection, now_us, shut):
                    return 0
        async with self._service.database.writer.begin() as connection:
            if not await claim(connection, "agent"):
                return 0
            due = await inbox.claim_due(connection, now_us, now_us + LEASE_US, most, shut)
            news = {command.lane for command in due if command.lane not in self._ways or self._ways[command.lane].seq != command.declared}
            declared = await inbox.declared(connection, news)
        self._more = len(due) == most
        for lane in news:
            await self._declare(lane, declared.get(lane))
        for command in due:
            way = self._ways.get(command.lane)
            task = asyncio.create_task(self._attempt(way, command))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(due)

    async def _reopen(self, quiet: Sequence[Lane], now_us: int) -> None:
        """A connection that is left alone is not any more once it was declared anew: another gateway may be there by now."""
        if not quiet:
            return
        async with self._service.database.reader.connect() as connection:
            declared = await inbox.declared(connection, quiet)
        moved = [lane for lane in quiet if lane not in declared or declared[lane].seq != self._ways[lane].seq]
        if moved:
            async with self._service.database.writer.begin() as connection:
                await inbox.hurry(connection, moved, now_us)
        for lane in moved:
            await self._declare(lane, declared.get(lane))

    async def _declare(self, lane: Lane, declared: Connection | None) -> None:
        """Opens the way to a connection as it is declared now, or closes it where there is none any more."""
        before = self._ways.pop(lane, None)
        if before is not None:
            await before.gateway.aclose()
        if declared is not None and declared.outward:
            self._ways[lane] = _Way(declared, self._open(declared))

    async def _attempt(self, way: _Way | None, command: DueCommand) -> None:
        outcome: Ended
        if way is None:
            self._end(command, GatewayRefused("the connection is not there any more, or takes no key commands"))
            return
        way.under_way += 1
        try:
            outcome = await act(way.gateway, command)
            way.failures = 0
        except GatewayUnavailable as error:
            way.failed(self._service.clock(), error.retry_after_s)
            outcome = error
        except GatewayRefused as error:
            outcome = error
        finally:
            way.under_way -= 1
        self._end(command, outcome)
        if way.under_way <= MOST_AT_ONCE - len(self._tasks):  # else its lane is full still: to look would be a query in vain
            self._wake.set()

    def _end(self, command: DueCommand, outcome: Ended) -> None:
        self._ended.append((command, outcome))
        self._note_soon()

    def _note_soon(self) -> None:
        """Has what attempts came to stored: at once where little goes on, else many together."""
        now_s = time.monotonic()
        little = len(self._tasks) <= 1 or now_s - self._noted_s >= NOTE_EVERY_S
        if self._noting is None and self._ended and little:
            self._noted_s = now_s
            self._noting = asyncio.create_task(self._note())
            self._noting.add_done_callback(self._noted)

    def _noted(self, noting: asyncio.Task[None]) -> None:
        """What could not be stored is left for the next step, which says why and waits."""
        if not noting.cancelled() and noting.exception() is None:
            self._noting = None
        self._wake.set()

    async def _note(self) -> None:
        """What a gateway says becomes an entry first: crashing after it, the next attempt finds it done (J1)."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        try:
            refused = await self._record(ended)
            outcomes = [(command, self._outcome(command, outcome, refused.get(command))) for command, outcome in ended]
            async with self._service.database.writer.begin() as connection:
                await inbox.note(connection, outcomes)
        except BaseException:
            self._ended = [*ended, *self._ended]
            raise

    async def _record(self, ended: Sequence[tuple[DueCommand, Ended]]) -> dict[DueCommand, str]:
        """Books what gateways said; why, where it was not taken."""
        said = [(command, done, done.state) for command, done in ended if isinstance(done, Done) and done.state is not None]
        orders = [
            ConfirmCommand(
                org=command.org, by=AGENT, key=command.key, credential=command.credential, connection=command.connection,
                revision=command.revision, state=state, mark=done.mark,
            )
            for command, done, state in said
        ]  # fmt: skip
        results = zip(said, await self._service.record(orders), strict=True)
        return {command: result.detail or "" for (command, _, _), result in results if result.status is Status.REJECTED}

    def _outcome(self, command: DueCommand, ended: Ended, refused: str | None) -> Outcome:
        now_us, metrics = self._service.clock(), self._service.metrics
        tried, before_us = command.attempts + 1, command.attempted_us
        about = {"org": command.org, "connection": command.connection, "revision": command.revision, "attempt": tried}
        if isinstance(ended, GatewayUnavailable):
            metrics.failures.labels("no").inc()
            log.warning("key_command_failed", **about, why=str(ended))
            sent_us = before_us if ended.harmless else command.begun_us
            again_us = now_us + max(wait_us(tried), int((ended.retry_after_s or 0) * 1_000_000))
            return Outcome(inbox.PENDING if sent_us is None else inbox.ATTEMPTED, tried, again_us, sent_us, None, str(ended))
        if isinstance(ended, GatewayRefused) or refused is not None:
            metrics.failures.labels("yes").inc()
            log.error("key_command_given_up", **about, why=refused or str(ended))
            return Outcome(inbox.FAILED, tried, now_us, before_us, None, refused or str(ended))
        if ended.delivery == inbox.ATTEMPTED:
            return Outcome(inbox.ATTEMPTED, tried, now_us + ACCEPTED_WAIT_US, command.begun_us, None, ended.why)
        if ended.delivery != inbox.CONFIRMED:
            log.warning(f"key_command_{ended.delivery}", **about, why=ended.why)
            return Outcome(ended.delivery, tried, now_us, before_us, None, ended.why)
        metrics.confirm_seconds.observe((now_us - command.created_us) / 1_000_000)
        return Outcome(inbox.CONFIRMED, tried, now_us, command.begun_us, now_us, None)
