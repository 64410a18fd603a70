"""The class of all routes under /v1: strict about query parameters, idempotent where a key says so, room for all."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope
from typing_extensions import override

from neuromas.errors import Fault
from neuromas.schema.suggest import suggest
from neuromas.services.api.audit import is_audited, tell
from neuromas.services.api.auth import Caller, authenticate
from neuromas.services.api.idempotency import Handler, answer_once
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.service import service_of

_MAX_NAMED = 20


class ApiRoute(APIRoute):
    """One route."""

    def __init__(self, path: str, *args: Any, **options: Any) -> None:
        self._begins = path.partition("{")[0]
        super().__init__(path, *args, **options)

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Most routes are told apart by how they begin, which is cheaper than their patterns.
        if not scope.get("root_path") and not scope["path"].startswith(self._begins):
            return Match.NONE, {}
        return super().matches(scope)

    @override
    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        known = sorted(parameter.alias for parameter in get_flat_dependant(self.dependant).query_params)

        async def strict(request: Request) -> Response:
            check_parameters(request, known)
            caller = await authenticate(request)
            with service_of(request).requests.place(caller.id):
                return await (answer_once(request, audited) if request.method == "POST" else audited(request))

        async def audited(request: Request) -> Response:
            # Inside: what is sent again changes nothing, and a refusal is still the error, not yet its answer.
            work = handle(request)
            return await (_audited(request, await authenticate(request), work) if is_audited(request) else work)

        return strict


async def _audited(request: Request, caller: Caller, work: Coroutine[Any, Any, Response]) -> Response:
    """Return an answer; that it was given, or refused for lack of a right, is in the audit log."""
    try:
        response = await work
    except ApiError as error:
        if error.status == 403:
            await tell(request, caller, error.status, error.code)
        raise
    if response.status_code < 400:
        await tell(request, caller, response.status_code)
    return response


def check_parameters(request: Request, known: list[str]) -> None:
    """Refuse query parameters that a route does not have: a misspelt filter must not pass for none.

    Raises:
        ApiError: names them all.
    """
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        hint = "unknown parameter; " + ("this route takes none" if not known else "")
        faults = [
            Fault(name[:64], hint + (suggest(name[:64], known) if known else "")) for name in unknown[:_MAX_NAMED]
        ]
        raise invalid("the request is not valid", faults)


def router(tag: str) -> APIRouter:
    """Return a router for routes under /v1."""
    return APIRouter(prefix="/v1", tags=[tag], route_class=ApiRoute)
