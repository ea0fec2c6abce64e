"""Owns the commands about a gateway's account: its keys linked with ours, an existing one adopted, its figures compared."""

import os
from collections.abc import Container
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer
import yaml

from ..accounts import connections_of, matched, opener, reconcile, sync_keys, vendor_keys
from ..core.commands import Status
from ..core.connections import Connection, Gateway, is_reference
from ..core.matching import MOST_ID, DayVerdict, Line, VendorKey, new_id
from ..core.money import usd_text
from ..core.window import Period, date_of, day_number
from ..gateways.gateway import GatewayRefused, GatewayUnavailable
from ..gateways.outward import open_gateway
from ..keycheck import NOT_CHECKED, check_org
from ..store import reports
from ..store.dialect import Database
from .common import Format, FormatOption, OrgOption, Wrong, YesOption, err, opened, out, person, run, serving, show, the_org
from .ordering import carry_out

keys = typer.Typer(help="Keys at their gateways.", no_args_is_help=True)
ConnectionOption = Annotated[str | None, typer.Option(help="Which connection; may be left out while there is only one of that kind.")]
GatewayArgument = Annotated[Gateway, typer.Argument(help="openrouter.")]


@keys.command("sync")
def sync(
    gateway: GatewayArgument = Gateway.OPENROUTER,
    org: OrgOption = None,
    connection: ConnectionOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show; exit code 2 if there are differences.")] = False,
) -> None:
    """Read a gateway's keys of all its workspaces and link their hashes and names with keys here.

    A name that several keys there share is nobody's: it is shown, not guessed. With `adopt_keys` on the connection, keys that
    are unknown here are registered.
    """

    async def work() -> int:
        async with serving() as service:
            head, account = await _account(service.database, org, gateway, connection)
            found = await matched(service.database, head, account, await _read_keys(account))
            for link in found.links:
                out.print(f"{'+' if link.new else '~'} key:{link.key}  {', '.join(link.credentials)}", markup=False)
            for name, hashes in found.ambiguous.items():
                out.print(f"ambiguous  {name!r} is the name of {len(hashes)} keys: {', '.join(hashes)}; rename them there", markup=False)
            for key in found.unknown:
                out.print(f"unknown    {key.name!r} {key.credential}: link it to a key, or set adopt_keys", markup=False)
            for name in found.vanished:
                out.print(f"vanished   {name} is not at the gateway any more", markup=False)
            if plan or not found.links:
                out.print("no differences" if not found.links else f"{len(found.links)} keys would be linked")
                return 2 if plan and found.links else 0
            results = await sync_keys(service, head.org, found, person())
        refused = [f"key:{link.key}: {r.detail}" for link, r in zip(found.links, results, strict=True) if r.status is Status.REJECTED]
        out.print(f"linked {len(results) - len(refused)} keys")
        if refused:
            raise Wrong("; ".join(refused))
        return 0

    if code := run(work):
        raise typer.Exit(code)


@keys.command("check")
def check(
    org: OrgOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show; exit code 2 if there are differences.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare what is wanted of keys with what is at their gateways, and repair what is ours: commands are sent again, and the
    gateway's own limit is set where a cap has a backstop_percent.

    A serving ledger does so every ten minutes; it also carries out what this command sends again.
    """

    async def work() -> int:
        async with serving() as service:
            async with service.database.reader.connect() as connection:
                head = await the_org(connection, org)
            findings = await check_org(service, head, lambda way: open_gateway(way, os.environ), repair=not plan)
        rows = [finding._asdict() | {"repaired": finding.repair and not plan} for finding in findings]
        show(rows, form, ("key", "credential", "connection", "what", "wanted", "found", "repaired"))
        failed = [finding for finding in findings if finding.found.startswith(NOT_CHECKED)]
        return 1 if failed else 2 if plan and findings else 0

    if code := run(work):
        raise typer.Exit(code)


def adopt(
    gateway: GatewayArgument = Gateway.OPENROUTER,
    org: OrgOption = None,
    connection: Annotated[str | None, typer.Option(help="Its name, else the gateway's; one that is new needs --token.")] = None,
    token: Annotated[str | None, typer.Option(help="Where the management key lies: env:NAME or file:/path.")] = None,
    address: Annotated[str | None, typer.Option(help="Another address than the vendor's own.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only print the file that `ledger apply` would take.")] = False,
    yes: YesOption = False,
) -> None:
    """Take over an existing gateway: its keys, with their limits and resets, as a policy file; applied unless --plan."""

    async def work() -> int:
        if org is None:
            raise Wrong("say for which --org; it is made if it is not there yet")
        async with opened() as database:
            async with database.snapshot() as reading:
                head = await reports.head(reading, org)
            standing = {c.connection_id: c for c in await connections_of(database, head)} if head else {}
        name = connection or gateway.value
        account = standing.get(name)
        if account is None:
            if token is None or not is_reference(token):
                raise Wrong(f"there is no connection {name!r} yet: say --token env:NAME, where its management key lies")
            account = Connection(connection_id=name, gateway=gateway, token=token, address=address)
        text = policy_of(org, head.zone if head else "UTC", account, await _read_keys(account))
        if plan:
            print(text, end="")
            return 0
        return await carry_out("the adopted policy", text, plan=False, yes=yes, prune=False)

    if code := run(work):
        raise typer.Exit(code)


def reconcile_usage(
    org: OrgOption = None,
    connection: ConnectionOption = None,
    since: Annotated[str | None, typer.Option("--from", help="First UTC day; default: seven days ago.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last UTC day; default: yesterday.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what matches.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare a gateway's own figures with ours per key and UTC day: matched, missing, extra and unattributed.

    Exit code 1 if anything differs.
    """

    async def work() -> int:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        last = _day("--to", until) if until else yesterday
        first = _day("--from", since) if since else last - timedelta(days=6)
        if first > last:
            raise Wrong(f"--from: {first} comes after --to, {last}")
        async with opened() as database:
            head, account = await _account(database, org, None, connection)
            try:
                lines = await reconcile(database, head, account, opener(os.environ), day_number(first), day_number(last))
            except (GatewayUnavailable, GatewayRefused) as error:
                raise _unasked(account, error) from None
        shown = [_row(line) for line in lines if everything or line.verdict is not DayVerdict.MATCHED]
        show(shown, form, ("day", "key", "verdict", "theirs_usd", "ours_usd", "requests"))
        if form is Format.TABLE:
            counts = {verdict: sum(line.verdict is verdict for line in lines) for verdict in DayVerdict}
            err.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + " (keys × days)")
        return 1 if any(line.verdict is not DayVerdict.MATCHED for line in lines) else 0

    if code := run(work):
        raise typer.Exit(code)


async def _account(database: Database, org: str | None, gateway: Gateway | None, name: str | None) -> tuple[reports.Head, Connection]:
    async with database.snapshot() as connection:
        head = await the_org(connection, org)
    standing = [c for c in await connections_of(database, head) if name in (None, c.connection_id) and gateway in (None, c.gateway)]
    if len(standing) == 1:
        return head, standing[0]
    if standing:
        raise Wrong(f"there are several connections in org {head.org!r}: say --connection NAME, as `ledger get connections` lists them")
    which = "connection" + (f" {name!r}" if name is not None else "") + (f" to {gateway}" if gateway is not None else "")
    todo = "`ledger get connections` lists those that are" if name is not None else "a policy file declares one, under `connections`"
    raise Wrong(f"there is no {which} in org {head.org!r}: {todo}")


async def _read_keys(account: Connection) -> list[VendorKey]:
    try:
        return await vendor_keys(account, opener(os.environ))
    except (GatewayUnavailable, GatewayRefused) as error:
        raise _unasked(account, error) from None


def _unasked(account: Connection, error: Exception) -> Wrong:
    """Why a gateway's account could not be read, and whose it is."""
    where = f"{account.gateway} at {account.address}" if account.address else account.gateway
    ask = isinstance(error, GatewayUnavailable) and not str(error).endswith("?")  # else it has asked already
    todo = ". Is its address right, and is it running?" if ask else ""
    return Wrong(f"connection {account.connection_id} ({where}): {error}{todo}")


def policy_of(org: str, zone: str, account: Connection, theirs: list[VendorKey]) -> str:
    """A gateway's keys and limits as a policy file. A limit that never resets becomes what was left of it: what was spent before
    is not in these books."""
    names = [key.name for key in theirs]
    shared = {name for name in names if names.count(name) > 1}
    entries: dict[str, Any] = {}
    caps: dict[str, Any] = {}
    spaces: dict[str, Any] = {}
    for key in sorted(theirs, key=lambda key: (key.name, key.credential)):
        name = new_id(key, set(entries), shared)
        entries[name] = {"credentials": [key.credential]}
        home = account.workspaces.get(key.workspace or "", key.workspace)
        if home is not None:
            spaces[home] = {}
            entries[name]["workspace"] = home
        limit = key.left if key.period is Period.LIFETIME and key.left is not None else key.limit
        if limit is not None:
            caps[_cap_id(name, key, caps)] = {
                "scope": f"key:{name}", "period": str(key.period), "limit_usd": usd_text(limit), "action": "pause",
                **({"include_byok": True} if key.include_byok else {}),
            }  # fmt: skip
    given = {"gateway": str(account.gateway), "address": account.address, "token": account.token, "secret": account.secret,
             "direction": str(account.direction), "counts": account.counts, "adopt_keys": True, "keys": account.keys,
             "workspaces": account.workspaces}  # fmt: skip
    shown = {name: value for name, value in given.items() if value not in (None, {})}
    policy = {"org": {"id": org, "time_zone": zone}, "connections": {account.connection_id: shown}, "workspaces": spaces, "keys": entries,
              "caps": caps}  # fmt: skip
    return yaml.safe_dump(policy, sort_keys=False, allow_unicode=True, width=120)


def _cap_id(key: str, theirs: VendorKey, taken: Container[str]) -> str:
    """An id of its own for the cap on a key; without slashes, since a breach is CAP/ORDINAL."""
    cap = f"{key}-limit".replace("/", "-")
    return cap if cap not in taken and len(cap) <= MOST_ID else f"{key[: MOST_ID - 15]}-{theirs.credential[:8]}-limit".replace("/", "-")


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Wrong(f"{option}: {text!r} is not a day, such as 2026-03-08") from None


def _row(line: Line) -> dict[str, Any]:
    return {
        "day": date_of(line.day).isoformat(), "key": line.key, "verdict": str(line.verdict), "theirs_usd": usd_text(line.theirs),
        "ours_usd": usd_text(line.ours), "requests": line.requests,
    }  # fmt: skip
