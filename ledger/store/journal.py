"""Owns the journal's rows: entries to rows and back, appended once and never changed (J1), and the identities known (J2)."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.caps import Sum
from ..core.commands import RecordUsage, Usage
from ..core.entries import CostShared, Entry, Opening, ShareBooked, UsageCorrected, UsageRecorded
from ..core.money import Nanos
from ..core.summing import summed
from ..core.window import Period, window_at
from ..wire.journal import decode_fact, encode_fact
from .bulk import append_rows, chunks, select_after, select_at, select_known
from .packing import JOURNAL_ORDER, pack_fact, pack_known, pack_row, pack_usage
from .tables import journal, known_ids

USAGE, SHARED = "UsageRecorded", "ShareBooked"
PAGE = 5_000
_COLUMNS = [str(column.name) for column in journal.columns]
_in_journal_order = itemgetter(*map(_COLUMNS.index, JOURNAL_ORDER))
_encode, _decode_tags = msgspec.json.encode, msgspec.json.Decoder(dict[str, str]).decode


def row_of(org_id: int, entry: Entry) -> tuple[Any, ...]:
    """An entry as a row of the journal, in the table's column order."""
    if type(entry) is not UsageRecorded:
        return _fact_row(org_id, entry)
    command = entry.command
    usage = command.usage
    return (
        org_id, entry.seq, USAGE, entry.recorded_us, entry.day, entry.hour_us, entry.workspace, entry.key,
        usage.key if usage.key != entry.key else None, usage.workspace, command.time_us, command.source, command.event_id,
        command.computed if command.cost is None else command.cost, command.cost_text, command.upstream, command.upstream_text,
        command.computed, command.card, usage.byok, usage.batch, usage.model, usage.provider,
        usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens,
        usage.reasoning_tokens, usage.audio_tokens, usage.images, usage.searches, usage.member, usage.end_user,
        usage.preset, usage.preset_version, usage.session, None if usage.tags is None else _encode(usage.tags).decode(),
        usage.hold, usage.response_id, usage.started_us, None, None,
    )  # fmt: skip


def _fact_row(org_id: int, entry: Any) -> tuple[Any, ...]:
    row = dict.fromkeys(_COLUMNS)
    row |= {"org_id": org_id, "seq": entry.seq, "kind": type(entry).__name__, "recorded_us": entry.recorded_us}
    row["data"] = encode_fact(entry)
    if isinstance(entry, UsageCorrected):  # so that sums over the journal's columns are right by themselves (M7)
        row |= {"day": entry.day, "hour_us": entry.hour_us, "key": entry.key, "workspace": entry.workspace}
        row |= {"cost": entry.cost, "corrects": entry.corrects}
    if isinstance(entry, ShareBooked):
        row |= {"day": entry.day, "workspace": entry.workspace, "key": "", "time_us": entry.time_us, "cost": entry.cost}
    return tuple(row.values())


def entry_of(row: Sequence[Any], org: str) -> Entry:
    """A row of the journal, in the table's column order, as the entry it was."""
    (_, seq, kind, recorded_us, day, hour_us, workspace, key, sent_key, sent_workspace, time_us, source, event_id, cost,
     cost_text, upstream, upstream_text, computed, card, byok, batch, model, provider, input_tokens, cached, cache_write,
     output_tokens, reasoning, audio, images, searches, member, end_user,
     preset, preset_version, session, tags, hold, response_id, started_us, _,
     data) = tuple(row)  # fmt: skip
    if kind != USAGE:
        return decode_fact(data)
    # By position, in the order of the fields: a tenth of the time that names take.
    usage = Usage(
        org, sent_key or key, sent_workspace, model, provider, input_tokens, cached, cache_write, output_tokens, reasoning, audio,
        images, searches, bool(byok), bool(batch), member, end_user, preset, preset_version, session,
        None if tags is None else _decode_tags(tags), hold, response_id, started_us,
    )  # fmt: skip
    sent = None if cost_text is None and computed is not None else cost
    command = RecordUsage(source, event_id, b"", time_us, sent, cost_text, upstream, upstream_text, usage, computed, card)
    return UsageRecorded(seq, recorded_us, day, hour_us, key, workspace, command)


Batches = Sequence[tuple[int, Sequence[Entry]]]  # by org: its id, and entries in sequence


async def append(connection: AsyncConnection, batches: Batches) -> None:
    """Appends each org's entries and the identities they make known. The primary keys refuse a second writer."""
    await append_rows(
        connection, journal, JOURNAL_ORDER,
        rows=(row_of(org_id, entry) for org_id, entries in batches for entry in entries),
        packed=(_pack(org_id, entry) for org_id, entries in batches for entry in entries),
    )  # fmt: skip
    await append_rows(
        connection, known_ids,
        rows=_ordered((org_id, *known) for org_id, entries in batches for known in _identities(entries)),
        packed=_ordered(row for org_id, entries in batches for row in pack_known(org_id, _identities(entries))),
    )  # fmt: skip


def _identities(entries: Sequence[Entry]) -> list[tuple[bytes, int]]:
    """The identities that entries make known, each with its entry's seq."""
    known = [(entry.command.digest, entry.seq) for entry in entries if type(entry) is UsageRecorded]
    return known + [(entry.digest, entry.seq) for entry in entries if type(entry) is UsageCorrected or type(entry) is CostShared]


def _ordered(rows: Iterable[Any]) -> Iterator[Any]:
    """Rows in the order of their index, where that is the order of their values or of their packed bytes."""
    yield from sorted(rows)


def _pack(org_id: int, entry: Entry) -> bytes:
    if isinstance(entry, UsageRecorded):
        return pack_usage(org_id, entry)
    if isinstance(entry, UsageCorrected | ShareBooked):
        return pack_row(_in_journal_order(_fact_row(org_id, entry)))
    return pack_fact(org_id, entry.seq, type(entry).__name__, entry.recorded_us, encode_fact(entry))


async def known(connection: AsyncConnection, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, dict[bytes, int]]:
    """Which of these identities, by org, the journals hold already, and as which entry; orgs without any are left out."""
    found: dict[int, dict[bytes, int]] = {}
    for org_id, digest, seq in await select_known(connection, wanted):
        found.setdefault(org_id, {})[digest] = seq
    return found


async def entries_at(connection: AsyncConnection, org_id: int, org: str, seqs: Collection[int]) -> dict[int, Entry]:
    """Entries of an org by their seq; those that are not there are left out."""
    return (await entries_of_orgs(connection, {org_id: (org, seqs)})).get(org_id, {})


async def entries_of_orgs(connection: AsyncConnection, wanted: Mapping[int, tuple[str, Collection[int]]]) -> dict[int, dict[int, Entry]]:
    """Entries by org and seq; `wanted`: each org's name and the seqs. Orgs that have none of them are left out."""
    found: dict[int, dict[int, Entry]] = {}
    for row in await select_at(connection, journal, _COLUMNS, {org_id: seqs for org_id, (_, seqs) in wanted.items()}):
        found.setdefault(row[0], {})[row[1]] = entry_of(row, wanted[row[0]][0])
    return found


async def prices(connection: AsyncConnection, org_id: int, seqs: Iterable[int]) -> dict[int, int]:
    """The price that the latest correction set, for entries that have one; nano-USD."""
    found: dict[int, int] = {}
    for part in chunks(seqs):
        query = select(journal.c.data).where(journal.c.org_id == org_id, journal.c.corrects.in_(part)).order_by(journal.c.seq)
        for (data,) in await connection.execute(query):
            correction = decode_fact(data)
            if isinstance(correction, UsageCorrected):
                found[correction.corrects] = correction.price
    return found


async def pages(connection: AsyncConnection, org_id: int, org: str, after: int = 0) -> AsyncIterator[list[Entry]]:
    """An org's entries in sequence after one, a page at a time, with as much of them as the fold reads. Raises GapError where
    the sequence has a gap (J1)."""
    while rows := await select_after(connection, journal, _FOLDED, org_id, after, PAGE):
        if [row[0] for row in rows] != list(range(after + 1, after + 1 + len(rows))):
            missing = next(n for n, row in enumerate(rows, after + 1) if row[0] != n)
            raise GapError(f"org {org}: entry {missing} is missing from the journal")
        after += len(rows)
        yield [_to_fold(org, *row) for row in rows]


_FOLDED = ("seq", "kind", "recorded_us", "day", "hour_us", "workspace", "key", "time_us", "cost", "upstream", "byok", "input_tokens",
           "output_tokens", "data")  # fmt: skip


def _to_fold(
    org: str, seq: int, kind: str, recorded_us: int, day: int, hour_us: int | None, workspace: str, key: str, time_us: int,
    cost: Nanos | None, upstream: Nanos | None, byok: bool, input_tokens: int, output_tokens: int, data: str,
) -> Entry:  # fmt: skip
    if kind != USAGE:
        return decode_fact(data)
    usage = Usage(org, key, None, None, None, input_tokens, 0, 0, output_tokens, 0, 0, 0, 0, bool(byok))
    command = RecordUsage("", "", b"", time_us, cost, None, upstream, None, usage)
    return UsageRecorded(seq, recorded_us, day, hour_us, key, workspace, command)


class GapError(Exception):
    """The journal's sequence has a hole: an entry was lost or removed."""


async def used_since(
    connection: AsyncConnection, org_id: int, org: str, scopes: Iterable[str], start_us: int, zone: str, early_us: int
) -> tuple[Opening, ...]:
    """What scopes used by the hour at times from `start_us` on, for a cap by the hour that starts to count (C5).

    Read backwards from the journal's end; `early_us`: how long before its own time usage may have been recorded (W3),
    which bounds how far back to read.
    """
    inside: dict[int, UsageRecorded] = {}
    corrected: list[UsageCorrected] = []
    query = select(journal).where(journal.c.org_id == org_id).order_by(journal.c.seq.desc()).limit(PAGE)
    rows = (await connection.execute(query)).all()
    while rows:
        for entry in (entry_of(row, org) for row in rows if row.kind == USAGE or row.corrects is not None):
            if isinstance(entry, UsageCorrected):
                corrected.append(entry)
            elif isinstance(entry, UsageRecorded) and entry.command.time_us >= start_us:
                inside[entry.seq] = entry
        if len(rows) < PAGE or rows[-1].recorded_us < start_us - early_us:
            break
        rows = (await connection.execute(query.where(journal.c.seq < rows[-1].seq))).all()
    return openings_of(scopes, inside, corrected, zone)


def openings_of(
    scopes: Iterable[str], inside: Mapping[int, UsageRecorded], corrected: Iterable[UsageCorrected], zone: str
) -> tuple[Opening, ...]:
    """Usage and its corrections summed by scope and hour."""
    parts = [(entry, summed([entry]).popitem()[1]) for entry in inside.values()]
    parts += [(inside[fix.corrects], Sum(spent=fix.cost, unpriced=fix.unpriced)) for fix in corrected if fix.corrects in inside]
    sums: dict[tuple[str, int], Sum] = {}
    wanted = set(scopes)
    for entry, part in parts:
        hour_us = window_at(Period.HOUR, entry.command.time_us, zone).start_us
        for scope in wanted.intersection((f"key:{entry.key}", f"workspace:{entry.workspace}", "org")):
            sums.setdefault((scope, hour_us), Sum()).add(part)
    return tuple(Opening(scope, hour_us, used) for (scope, hour_us), used in sorted(sums.items(), key=lambda item: item[0]))
