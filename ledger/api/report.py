"""Owns `GET /v1/orgs/{org}/report`: chargeback by any dimensions, as JSON, CSV or FOCUS, streamed."""

from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from msgspec.structs import replace

from ..core.questions import Dimension, Kind, Only, Question, QuestionError
from ..store import report, reports
from ..store.tokens import Token
from ..wire import focus
from ..wire import report as written
from ..wire.times import moment_text
from .auth import Reader
from .problems import RESPONSES, Problem
from .reading import figures, found
from .routes import ExactRoute
from .streams import Stream
from .values import OrgId

MOST_AT_ONCE = 3
MOST_WAITING = 50
CSV, FOCUS = "text/csv", "application/vnd.focus+csv"
router = APIRouter(route_class=ExactRoute)
Form = Literal["json", "csv", "focus"]
_CSV = {"schema": {"type": "string"}}
_DOCS = RESPONSES | {200: {"description": "The report", "content": {"application/json": {}, CSV: _CSV, FOCUS: _CSV}}}


@router.get("/v1/orgs/{org}/report", tags=["report"], responses=_DOCS, response_class=Response)
async def get_report(
    request: Request, org: OrgId, caller: Reader,
    from_: Annotated[str | None, Query(alias="from", description="the first day, or a moment; default: this month's first")] = None,
    to: Annotated[str | None, Query(description="the day after the last, or a moment; default: tomorrow")] = None,
    by: Annotated[list[str] | None, Query(description="org, workspace, key, member, end_user, model, provider, preset, preset_version, "
                                          "session, tag:NAME, label:NAME, charge; comma-separated or repeated")] = None,
    grain: Annotated[str | None, Query(description="hour, day, week, month or year; default: one line for the whole range")] = None,
    where: Annotated[list[str] | None, Query(max_length=20, description="only lines with this, such as model:openai/gpt-5, "
                                             "tag:team=web, or end_user: for those without one")] = None,
    zone: Annotated[str | None, Query(description="whose days; default: the org's, in which it is booked")] = None,
    form: Annotated[Form | None, Query(alias="format", description="default: as Accept says, else json")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:  # fmt: skip
    """What was spent, by any dimensions, in windows of any grain; totals equal the balances to the nano (M7).

    Deleted and rotated keys are there, unpriced calls stand beside the money. `Ledger-Seq` is the journal's place that it is
    true for. A CSV is streamed; FOCUS is version 1.2, a row a day, and takes no `by` or `grain`.
    """
    form = form or (("focus" if FOCUS in accept else "csv") if CSV in accept or FOCUS in accept else "json")
    held = AsyncExitStack()
    try:
        connection = await held.enter_async_context(figures(request, long=True))
        head = await found(connection, org)
        now_us = max(request.app.state.service.clock(), head.recorded_us)
        ask = focus.ask_focus if form == "focus" else written.ask
        asked = _for(caller, ask(from_, to, by or [], grain, where or [], zone, head.zone, now_us))
        labels = await reports.label_history(connection, head) if form == "focus" else {}
    except QuestionError as error:
        await held.aclose()
        raise Problem(422, f"{error.field}: {error}", error.field) from None
    except BaseException:
        await held.aclose()
        raise
    rows = await held.enter_async_context(aclosing(report.rows(connection, head, asked)))
    headers = {"Ledger-Seq": str(head.seq), "Ledger-Recorded-At": moment_text(head.recorded_us) or ""}
    if form == "json":
        texts = written.as_json(written.about(asked, org, head.seq, head.recorded_us), asked, rows)
        return Stream(texts, held, "application/json", headers)
    name = written.file_name(org, asked, head.seq, "_focus" if form == "focus" else "")
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    texts = written.as_csv(asked, rows) if form == "csv" else focus.as_focus(org, asked.zone, head.seq, labels, rows)
    return Stream(texts, held, "text/csv; charset=utf-8", headers)


def _for(caller: Token, asked: Question) -> Question:
    """A token for one workspace sees that workspace's spend only (T1)."""
    if caller.workspace is None or caller.may("admin"):
        return asked
    return replace(asked, only=(*asked.only, Only(Dimension(Kind.WORKSPACE), caller.workspace)))
