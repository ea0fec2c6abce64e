"""Owns the composition of the HTTP API: routes, errors, bounds, documentation that works without the internet."""

import asyncio
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from sqlalchemy import text

from .. import __version__
from ..service import Service
from ..store.schema import is_current
from . import charging, commands, connections, orgs, policies, problems, rates, reading, reconciling, report, usage, webhooks
from .auth import Gate
from .bounds import Bounds
from .streams import Slots
from .webhooks import Known

READY_WITHIN_S = 2.0


def build_app(service: Service, environ: Mapping[str, str] | None = None) -> FastAPI:
    """The API over a service; `environ`: where references of connections lead (S2). Nothing is opened here."""
    app: FastAPI = FastAPIOffline(
        title="Spend ledger for LLM usage", version=__version__, redoc_url=None,
        description="Usage goes in, the books are exact, a capped key is paused.",
    )  # fmt: skip
    app.state.service = service
    app.state.gate = Gate(service)
    app.state.known = Known(environ or {})
    app.state.reports = Slots(report.MOST_AT_ONCE, report.MOST_WAITING)
    problems.install(app)
    for router in (
        usage.router, webhooks.router, orgs.router, policies.router, connections.router, rates.router, commands.router, reading.router,
        report.router, charging.router, reconciling.router,
    ):  # fmt: skip
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.summary = route.description.partition("\n")[0].rstrip(".")  # what it does, not its function's name
        app.include_router(router)
    app.add_middleware(Bounds)  # type: ignore[arg-type]
    app.add_api_route("/livez", livez, tags=["health"], methods=["GET"])
    app.add_api_route("/readyz", readyz, tags=["health"], methods=["GET"], responses={503: {"model": problems.ProblemDocument}})
    problems.describe(app)
    return app


async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


async def readyz(request: Request) -> JSONResponse:
    """Whether requests can be served; why not, in words."""
    try:
        async with asyncio.timeout(READY_WITHIN_S), request.app.state.service.database.reader.connect() as connection:
            await connection.execute(text("SELECT 1"))
            if not await is_current(connection):
                return problems.answer(503, "the database's schema is not this version's: run `ledger migrate`")
    except Exception as error:
        return problems.answer(503, f"the database does not answer: {type(error).__name__}")
    return JSONResponse({"status": "ready"})
