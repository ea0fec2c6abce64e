"""Owns errors as RFC 9457 problem documents that name the field. No answer ever carries a stack trace or a sent value.

Who sends protobuf, an OTLP exporter, reads no JSON: it is told as OTLP has it, in a `google.rpc.Status`, or would have to drop
its spans without a word why.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status as ProtobufStatus
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from ..core.commands import Reason, Result, Status
from ..gateways.inward import PROTOBUF
from ..wire.events import NotTaken

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = "2"
_OF_REASON = {Reason.NOT_FOUND: 404, Reason.CONFLICT: 409, Reason.STALE_VERSION: 412}


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457. `errors` names each field that is wrong."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


class Problem(HTTPException):
    """Raised to answer with a problem document; an HTTPException, so that it passes through the framework's reading of bodies."""

    def __init__(self, status: int, detail: str, field: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.faults = [Fault(field=field, detail=detail)] if field else []


def answer(status: int, detail: str, faults: Sequence[Fault] = (), headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem document as a response."""
    document = ProblemDocument(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=list(faults))
    return JSONResponse(document.model_dump(), status, headers, MEDIA_TYPE)


def answer_to(request: Request, status: int, detail: str, faults: Sequence[Fault] = (), headers: dict[str, str] | None = None) -> Response:
    """A problem document, or in protobuf what of it an exporter shows: the detail."""
    if media_of(request) != PROTOBUF:
        return answer(status, detail, faults, headers)
    # google.rpc.Status has its message at the same number, and its code may be left out
    return Response(ProtobufStatus(message=detail).SerializeToString(), status, headers, PROTOBUF)


def media_of(request: Request) -> str:
    """What kind of body a request says it has, without parameters; nothing where it does not say."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def accept(result: Result) -> Result:
    """The result of an order, or its refusal raised as a Problem."""
    if result.status is Status.REJECTED:
        detail = result.detail or str(result.reason)
        field = detail.partition(":")[0] if result.reason in (Reason.MALFORMED, Reason.TOO_MUCH) and ":" in detail else None
        raise Problem(_OF_REASON.get(result.reason or Reason.MALFORMED, 422), detail, field)
    return result


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem document, or what stands for one."""

    @app.exception_handler(Problem)
    async def _(request: Request, problem: Problem) -> Response:
        return answer_to(request, problem.status_code, problem.detail, problem.faults, dict(problem.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        for fault in error.errors():
            if fault["type"] == "json_invalid":
                why = fault["ctx"]["error"]
                return answer_to(request, 400, f"the body {why}", [Fault(field="body", detail=why)])
        told = dict.fromkeys((_field(fault), _detail(fault)) for fault in error.errors())  # a route and its token's check both read the org
        faults = [Fault(field=field, detail=detail) for field, detail in told]
        return answer_to(request, 422, "; ".join(f"{fault.field}: {fault.detail}" for fault in faults[:5]), faults)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        return answer_to(request, error.status_code, str(error.detail), (), dict(error.headers or {}))

    @app.exception_handler(NotTaken)
    async def _(request: Request, error: NotTaken) -> Response:
        log.warning("usage_not_taken", why=str(error))
        return answer_to(request, 503, f"{error}: nothing was taken, try again", (), {"Retry-After": RETRY_AFTER_S})

    @app.exception_handler(DBAPIError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OSError)
    async def _(request: Request, error: Exception) -> Response:
        log.warning("database_unavailable", error=type(error).__name__)
        return answer_to(request, 503, "the database does not answer: nothing was recorded, try again", (), {"Retry-After": RETRY_AFTER_S})

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        log.error("unexpected", error=type(error).__name__, exc_info=error)
        return answer_to(request, 500, "something went wrong here; it was logged")


def _field(fault: dict[str, Any]) -> str:
    where = [str(part) for part in fault["loc"] if "[" not in str(part)]  # a choice between types is no part of the body
    return ".".join(where[1:] if where[0] in ("body", "query", "path", "header") and len(where) > 1 else where)


def _detail(fault: dict[str, Any]) -> str:
    message: str = fault["msg"]
    return message.removeprefix("Value error, ")


def describe(app: FastAPI) -> None:
    """Files every problem document under its own media type in the API's description: the framework knows only that of good answers."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        whole = plain()
        for operation in (operation for path in whole["paths"].values() for operation in path.values()):
            for response in operation["responses"].values():
                schema = response.get("content", {}).get("application/json", {}).get("schema", {})
                if schema.get("$ref") == f"#/components/schemas/{ProblemDocument.__name__}":
                    response["content"] = {MEDIA_TYPE: {"schema": schema}}
        return whole

    app.openapi = described


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDocument, "description": HTTPStatus(status).phrase} for status in (400, 401, 403, 404, 413, 422, 503)
}
CHANGES: dict[int | str, dict[str, Any]] = RESPONSES | {
    status: {"model": ProblemDocument, "description": HTTPStatus(status).phrase} for status in (409, 412)
}
