"""Owns the composition of the HTTP API: routes, errors, bounds, documentation that works without the internet."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from .. import __version__
from ..service import Service
from ..store.glance import Glances
from ..store.schema import why_unready
from . import charging, commands, connections, orgs, policies, problems, rates, reading, reconciling, report, usage, webhooks
from .auth import Gate
from .bounds import Bounds
from .streams import Slots
from .values import KNOWN_QUERY
from .webhooks import Known


def build_app(service: Service, environ: Mapping[str, str] | None = None) -> FastAPI:
    """The API over a service; `environ`: where references of connections lead (S2). Nothing is opened here."""
    app: FastAPI = FastAPIOffline(
        title="Spend ledger for LLM usage", version=__version__, redoc_url=None,
        description="Usage goes in, the books are exact, a capped key is paused.",
        redirect_slashes=False,  # it would lead to whatever host and scheme a proxy was asked by, and the token with it
    )  # fmt: skip
    app.state.service = service
    app.state.gate = Gate(service)
    app.state.glances = Glances()
    app.state.known = Known(environ or {})
    app.state.reports = Slots(report.MOST_AT_ONCE, report.MOST_WAITING)
    app.state.places = Slots(reading.MOST_AT_ONCE, reading.MOST_WAITING, reading.MOST_OF_ORG)
    problems.install(app)
    for router in (  # tried one after the other: what is asked often comes first
        usage.router, reading.router, webhooks.router, orgs.router, policies.router, connections.router, rates.router, commands.router,
        report.router, charging.router, reconciling.router,
    ):  # fmt: skip
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.summary = route.description.partition("\n")[0].rstrip(".")  # what it does, not its function's name
        third = router in (usage.router, webhooks.router)  # whose senders may put into their addresses what they like
        app.include_router(router, dependencies=[] if third else [KNOWN_QUERY])
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
    trouble = await why_unready(request.app.state.service.database.reader)
    if trouble is not None:
        return problems.answer(503, trouble)
    return JSONResponse({"status": "ready"})
