"""Owns telling people: each channel follows every org's journal by itself, so that one that is down holds up no other.

Decided once (an entry), delivered at least once, with the entry's own id (C6). A notice that a channel will never take is given
up loudly; one that it can't take now is tried again, and those after it wait.
"""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog

from .gateways.channels import Channel
from .gateways.gateway import GatewayRefused, GatewayUnavailable
from .service import Service
from .store import notices
from .store.dialect import claim
from .wire.notices import Notice, notice_of
from .wire.times import moment_text

LEASE_US = 30 * 1_000_000
NOTIFIER_IDLE_S = 1.0
STUCK_US = 5 * 60 * 1_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0

_Place = tuple[int, str, str, int]  # of a key command: its org's id, credential, connection and revision

log = structlog.get_logger()


class Notifier:
    """Tells by its channels what they have not told yet. One process at a time does so."""

    def __init__(self, service: Service, channels: Sequence[Channel]) -> None:
        self._service = service
        self._channels = channels
        self._lease_us = 0
        self._waits: dict[str, tuple[float, float]] = {}  # by channel: until when it is left alone, and for how long
        self._told: defaultdict[str, set[_Place]] = defaultdict(set)  # by channel: stuck commands that another has yet to tell

    async def once(self) -> int:
        """Tells what there is to tell; how many notices."""
        sent = 0
        if not await self._mine():
            return 0
        for channel in self._channels:
            if self._may(channel):
                sent += await self._follow(channel)
        return sent + await self._tell_stuck()

    async def close(self) -> None:
        """Closes its channels."""
        for channel in self._channels:
            await channel.aclose()

    def _may(self, channel: Channel) -> bool:
        """Whether a channel is not left alone just now."""
        return self._waits.get(channel.name, (0.0, 0.0))[0] <= time.monotonic()

    async def _mine(self) -> bool:
        """Whether it is this process that tells: a lease of half a minute, so that no replica tells what another does (C6)."""
        now_us = self._service.clock()
        if self._lease_us - now_us > LEASE_US // 2:
            return True
        async with self._service.database.writer.begin() as connection:
            if not await claim(connection, "notifier"):
                return False
            held_us = await notices.lease(connection)
            if held_us > now_us and held_us != self._lease_us:
                return False
            if not self._lease_us:
                for channel in self._channels:
                    await notices.begin(connection, channel.name)
            self._lease_us = now_us + LEASE_US + random.randrange(1_000_000)
            await notices.set_lease(connection, self._lease_us)
        return True

    async def _follow(self, channel: Channel) -> int:
        sent = 0
        async with self._service.database.reader.connect() as connection:
            behind = await notices.behind(connection, channel.name)
        for org_id, org, after, last in behind:
            async with self._service.database.reader.connect() as connection:
                entries, until = await notices.to_tell(connection, org_id, org, after, last)
            told = until
            for entry in entries:
                notice = notice_of(org, entry)
                if notice is not None and not await self._send(channel, notice):
                    told = entry.seq - 1
                    break
                sent += notice is not None
            if told > after:
                async with self._service.database.writer.begin() as connection:
                    await notices.told(connection, channel.name, org_id, told)
            if told < until:
                break
        return sent

    async def _send(self, channel: Channel, notice: Notice) -> bool:
        """Whether a channel is done with a notice: delivered, or refused for good."""
        try:
            await channel.send(notice)
        except GatewayUnavailable as error:
            wait_s = min(max(FIRST_WAIT_S, self._waits.get(channel.name, (0.0, 0.0))[1] * 2), LONGEST_WAIT_S)
            self._waits[channel.name] = (time.monotonic() + max(wait_s, error.retry_after_s or 0.0), wait_s)
            log.warning("notice_waits", channel=channel.name, notice=notice.notice_id, why=str(error), again_in_s=wait_s)
            return False
        except GatewayRefused as error:
            log.error("notice_given_up", channel=channel.name, notice=notice.notice_id, why=str(error))
        self._waits.pop(channel.name, None)
        return True

    async def _tell_stuck(self) -> int:
        """Commands that were given up, or have been open for minutes: one notice for each connection. While one channel
        can't be told, those that were are not told again (C6)."""
        now_us = self._service.clock()
        async with self._service.database.reader.connect() as connection:
            rows = await notices.stuck(connection, now_us - STUCK_US)
        ways: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for row in rows:
            ways[row.org, row.connection].append(row)
        still, sent = {_place(row) for row in rows}, 0
        for channel in self._channels:
            self._told[channel.name] &= still
            for (org, way), some in ways.items():
                news = [row for row in some if _place(row) not in self._told[channel.name]]
                if news and self._may(channel) and await self._send(channel, _stuck_notice(org, way, news)):
                    self._told[channel.name].update(map(_place, news))
                    sent += 1
        done = [row for row in rows if all(_place(row) in self._told[channel.name] for channel in self._channels)]
        if done:
            async with self._service.database.writer.begin() as connection:
                await notices.stuck_told(connection, done, now_us)
        return sent


def _place(row: Any) -> _Place:
    return row.org_id, row.credential, row.connection, row.revision


def _stuck_notice(org: str, way: str, rows: Sequence[Any]) -> Notice:
    first, names = rows[0], ", ".join(dict.fromkeys(row.key for row in rows[:10]))
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    said = first.error or "nothing yet"
    text = f"{len(rows)} key commands are not carried out at {way or 'any gateway'}: {names}{more}. The gateway said: {said}."
    data = {"org": org, "connection": way, "commands": len(rows), "keys": [row.key for row in rows[:100]], "error": first.error}
    name = f"{org}/stuck/{way}/{first.revision}/{first.credential}"
    return Notice(name, "ledger.commands.stuck.v1", moment_text(first.created_us) or "", f"{org}: key commands are stuck", text, data)
