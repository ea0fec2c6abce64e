"""Owns how a request is begun to be read: who asks is asked first, then its JSON is read by its digits."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from .auth import entering


class ExactRoute(APIRoute):
    """Asks for the token before anything of the request is read (T1), and reads JSON numbers by their digits: no float ever
    touches money (M1)."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def exact(request: Request) -> Response:
            await entering(request)
            return await handle(_ExactRequest(request.scope, request.receive))

        return exact


class _ExactRequest(Request):
    async def json(self) -> Any:
        def refuse(name: str) -> None:
            raise json.JSONDecodeError(f"{name} is not a number", "", 0)

        try:
            return json.loads(await self.body(), parse_float=Decimal, parse_constant=refuse)
        except RecursionError:
            raise json.JSONDecodeError("is nested too deep", "", 0) from None
        except UnicodeDecodeError:
            raise json.JSONDecodeError("is not UTF-8", "", 0) from None
        except json.JSONDecodeError as error:
            raise json.JSONDecodeError(f"is not JSON: {error.msg}", error.doc, error.pos) from None
        except ValueError:
            raise json.JSONDecodeError("holds a number of too many digits", "", 0) from None
