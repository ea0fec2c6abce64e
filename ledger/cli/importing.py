"""Owns `ledger import`: usage from files or stdin into the books, safe to repeat, with a progress bar and a summary."""

import asyncio
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from ..core.commands import RecordUsage, Rejected, Result, Status
from ..core.connections import Connection, Gateway
from ..gateways.inward import TRACES, Parsed, parse_delivery
from ..service import Service
from ..store import observed, reports
from ..store.books import connection_of
from ..wire.table import TableError, columns_of, rows_of
from ..wire.usage import EnvelopeError, parse_usage
from .common import OrgOption, Wrong, err, out, progress, refuse, run, serving, the_org

TOGETHER = 10_000  # calls handed over at once
MOST_UNDER_WAY = 3
SOURCE = "import"
MOST_TOLD = 5  # places named for one reason
INTERRUPTED = 130
Call = tuple[int, RecordUsage | Rejected | None]
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Kinds(StrEnum):
    """What files can hold."""

    CLOUDEVENTS = "cloudevents"
    LITELLM = "litellm"
    OPENROUTER = "openrouter"
    OTLP = "otlp"
    CSV = "csv"


_GATEWAYS = {Kinds.LITELLM: Gateway.LITELLM, Kinds.OPENROUTER: Gateway.OPENROUTER, Kinds.OTLP: Gateway.OTLP}


class Source(NamedTuple):
    """How files are to be read: for which org, by which connection, and for CSV which column is what."""

    kind: Kinds
    org: str
    org_id: int
    connection: Connection
    columns: dict[str, str]
    name: str


def import_usage(
    files: Annotated[list[str], typer.Argument(help="Files, or - for stdin.")],
    kind: Annotated[Kinds, typer.Option("--format", help="What they hold, one a line; JSON also as an array.")] = Kinds.CLOUDEVENTS,
    org: OrgOption = None,
    connection: Annotated[str | None, typer.Option(help="The connection whose usage it is, for its maps and identities.")] = None,
    columns: Annotated[list[str] | None, typer.Option("--map", help="csv: FIELD=COLUMN. May be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="csv: what the ids are unique in.", show_default=SOURCE)] = None,
    start: Annotated[int, typer.Option("--from-line", min=1, help="Go on at this line of the first file.")] = 1,
) -> None:
    """Record usage from files. Sent again, nothing is booked twice; stopped with Ctrl-C, it says where to go on.

    A CSV's columns are fields of an event by their own names, or by --map, such as --map cost_usd=total_cost --map tag.team=Team.
    With --connection, calls that came by its webhook already are known; without, spans that came to /v1/traces are. Exit code 1
    if anything was rejected.
    """

    async def work() -> int:
        if kind is not Kinds.CSV:
            refuse({"--map": columns, "--source": source}, f"is for --format csv; files of {kind} say by themselves what is what")
        async with serving() as service:
            how = await _source(service, kind, org, connection, columns or [], source or SOURCE)
            return await _Import(service, how).files(files, start)

    code = run(work)
    if code:
        raise typer.Exit(code)


async def _source(service: Service, kind: Kinds, org: str | None, name: str | None, columns: list[str], source: str) -> Source:
    pairs: dict[str, str] = {}
    for text in columns:
        field, _, column = text.partition("=")
        pairs[field] = column
    if any(not field or not column for field, column in pairs.items()):
        raise Wrong("--map is FIELD=COLUMN, such as cost_usd=total_cost")
    async with service.database.snapshot() as connection:
        head = await the_org(connection, org)
        row = await reports.connection_row(connection, head, name) if name is not None else None
    if name is not None and row is None:
        raise Wrong(f"there is no connection {name!r} in org {head.org!r}")
    gateway = _GATEWAYS.get(kind, Gateway.HTTP)
    if row is not None:
        account = connection_of(row)
    else:
        account = TRACES if gateway is Gateway.OTLP else Connection(connection_id="import", gateway=gateway)
    if kind in _GATEWAYS and account.gateway is not gateway:
        raise Wrong(f"connection {name!r} is of {account.gateway}, the files of {kind}")
    return Source(kind, head.org, head.org_id, account, pairs, source)


class _Import:
    """One run: what was counted, what is under way, and whether a person wants it to stop."""

    def __init__(self, service: Service, how: Source) -> None:
        self.service, self.how = service, how
        self.counts: Counter[str] = Counter()
        self.reasons: dict[str, list[str]] = {}
        self.stop = self.reading = False
        self.done_at = 0
        self._fault: EnvelopeError | TableError | None = None
        self._under_way: deque[tuple[int, list[Call], asyncio.Future[list[Result]]]] = deque()

    async def files(self, names: list[str], start: int) -> int:
        """Every file in turn; the exit code."""
        before = signal.signal(signal.SIGINT, self._interrupt)
        stopped = None
        try:
            for name in names:
                self.done_at = start
                with _opened(name) as stream:
                    await self._stream(name, stream, start)
                if self.stop:
                    stopped = name
                    break
                start = 1
        except Wrong:
            if self.counts:
                self._summary()
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        self._summary()
        if stopped is not None:
            err.print(f"stopped: go on with --from-line {self.done_at} at {stopped}, or run it again from the start", markup=False)
            return INTERRUPTED
        return 1 if self.reasons else 0

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C: what was read is still booked. A read is broken off, since one of a pipe may wait for ever."""
        broken_off, self.stop, self.reading = self.reading, True, False
        if broken_off:
            raise KeyboardInterrupt

    async def _stream(self, name: str, stream: BinaryIO, start: int) -> None:
        size = os.fstat(stream.fileno()).st_size if stream.seekable() else None
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[calls]:,} calls"), TimeRemainingColumn()
        with progress(*columns) as bar:
            task = bar.add_task(name, total=size, calls=0)
            calls = (call for call in _read(stream, self.how) if call[0] >= start)
            while batch := self._batch(calls):
                await self._hand_over(batch, MOST_UNDER_WAY)
                bar.update(task, completed=stream.tell() if size is not None else None, calls=sum(self.counts.values()))
            await self._hand_over([], 0)
        if self._fault is not None:
            raise Wrong(f"{name}: {self._fault}")

    def _batch(self, calls: Iterator[Call]) -> list[Call]:
        """The next calls of a file, up to where it can't be read on; none at its end, or when a person wants to stop."""
        batch: list[Call] = []
        with suppress(KeyboardInterrupt):
            self.reading = not self.stop
            try:
                batch.extend(islice(calls, TOGETHER if self.reading else 0))
            except (EnvelopeError, TableError) as error:
                self._fault = error
            self.reading = False
        return batch

    async def _hand_over(self, batch: list[Call], most: int) -> None:
        """Books a batch; waits until at most so many are under way."""
        if batch:
            commands = [call for _, call in batch if isinstance(call, RecordUsage)]
            self._under_way.append((batch[-1][0], batch, asyncio.ensure_future(self._book(commands))))
            await asyncio.sleep(0)  # it takes its place in the queue before the next one does
        while len(self._under_way) > most:
            last, calls, answer = self._under_way.popleft()
            results = iter(await answer)
            for line, call in calls:
                if isinstance(call, Rejected):
                    self._count(line, Result(Status.REJECTED, call.reason, call.detail))
                elif call is not None:
                    self._count(line, next(results))
            self.done_at = last

    async def _book(self, commands: list[RecordUsage]) -> list[Result]:
        if self.how.connection.counts:
            return await self.service.record(commands)
        async with self.service.database.writer.begin() as connection:
            await observed.keep(connection, self.how.org_id, self.how.connection.connection_id, commands)
        return [Result(Status.RECORDED, detail="observed")] * len(commands)

    def _count(self, line: int, result: Result) -> None:
        self.counts["observed" if result.detail == "observed" else str(result.status)] += 1
        if result.status in (Status.REJECTED, Status.PARKED, Status.EXISTS_WITH_DIFFERENT_CONTENT):
            why = result.detail or str(result.reason or result.status)
            self.reasons.setdefault(why, []).append(str(line))

    def _summary(self) -> None:
        unpriced = self.service.metrics.unpriced._value.get()
        parts = [f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items()]
        parts += [f"{int(unpriced):,} of them unpriced"] if unpriced else []
        out.print(", ".join(parts) or "nothing in it")
        for why, lines in self.reasons.items():
            more = f" and {len(lines) - MOST_TOLD:,} more" if len(lines) > MOST_TOLD else ""
            out.print(f"  {why}: line {', '.join(lines[:MOST_TOLD])}{more}", markup=False)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as stream:
            yield stream
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise Wrong(f"{name}: {error.strerror}") from None


def _read(stream: BinaryIO, how: Source) -> Iterator[Call]:
    """The calls of a file with their lines; of an array or one object over many lines, with their places in it."""
    if how.kind is Kinds.CSV:
        columns = columns_of(stream.readline(), how.columns)
        yield from rows_of(_text(stream), columns, how.org, how.name)
        return
    first, begins = stream.readline(), 1
    while first and not first.strip():
        first, begins = stream.readline(), begins + 1
    if first.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise EnvelopeError("begins with a byte order mark: save it as plain UTF-8")
    lines: Iterable[bytes] = chain((first,), stream)
    if first.lstrip()[:1] == b"[" or (first.lstrip()[:1] == b"{" and not _is_json(first)):
        body = first + stream.read()
        if _is_json(body):
            yield from enumerate((call for item in _items(body) for call in _line(item, how)), 1)
            return
        lines = body.split(b"\n")
    for number, line in enumerate(lines, begins):
        if line.strip():
            yield from ((number, call) for call in _line(line, how))


def _is_json(text: bytes) -> bool:
    try:
        _decode_raw(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _items(body: bytes) -> Iterable[bytes]:
    """The items of an array, of any number; one object is one."""
    return map(bytes, _decode_array(body)) if body.lstrip()[:1] == b"[" else (body,)


def _text(stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, 2):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise TableError(f"line {number}: is not UTF-8 text; nothing was read from there on") from None


def _line(line: bytes, how: Source) -> Parsed:
    try:
        if how.kind is Kinds.CLOUDEVENTS:
            return [parse_usage(line, how.org)]
        return parse_delivery(line, how.org, how.connection)
    except EnvelopeError as error:
        return [Rejected(detail=str(error))]
