"""Owns what the orders' functions share: how they answer, refuse, and settle what a change of policy touches."""

from . import entries as e
from . import levels
from .batch import Batch
from .commands import Reason, Reject, Result, Status

Answer = Result | Reject


def outdated(version: int | None, seq: int) -> Reject | None:
    """Whether an order was based on another version than the one that stands (`seq` 0: nothing stands)."""
    if version is None or version == seq:
        return None
    now = f'it is at version "{seq}"' if seq else "it does not exist"
    return Reject(reason=Reason.STALE_VERSION, detail=f"it was changed meanwhile: {now}")


def missing(what: str, name: str) -> Reject:
    """There is no such thing."""
    return Reject(reason=Reason.NOT_FOUND, detail=f"there is no {what} {name!r}")


def done(seq: int) -> Result:
    """It became an entry."""
    return Result(Status.RECORDED, seq=seq)


def open_org(batch: Batch, by: str) -> None:
    """Opens the org by its first order, in UTC."""
    if not batch.books.seq:
        batch.emit(e.OrgOpened, time_zone="UTC", enforce=batch.books.enforce, brake=batch.books.brake, by=by)


def resettle(batch: Batch, scopes: list[str]) -> None:
    """After a policy changed: breaches without a cap clear, then every level and every key under it is looked at again."""
    books = batch.books
    keys = levels.sweep(books, batch.emit)
    for scope in scopes:
        keys.update(dict.fromkeys(books.keys_under(scope)))
    batch.settle(*scopes, keys=tuple(keys))
