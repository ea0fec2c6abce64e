"""Owns what is done at gateways by the clock alone: keys checked, keys synced, accounts reconciled; each as often as it is set to be."""

from collections.abc import Mapping

from .accounts import opener, reconcile_once, sync_once
from .gateways.outward import open_gateway
from .keycheck import check_once
from .loop import Chore
from .service import Service


def chores(service: Service, environ: Mapping[str, str], *, check_s: float, sync_s: float, reconcile_s: float) -> list[Chore]:
    """The chores, with secrets where references lead in `environ`; one that is set to every 0 seconds is left out."""
    reach = opener(environ)
    every = [
        Chore("keycheck", lambda: check_once(service, lambda way: open_gateway(way, environ)), check_s),
        Chore("keysync", lambda: sync_once(service, reach), sync_s),
        Chore("reconcile", lambda: reconcile_once(service, reach), reconcile_s),
    ]
    return [chore for chore in every if chore.every_s]
