"""Problems: what a client is told when a request cannot be answered. One shape for all, one boundary.

``{"error": {"code", "message", "param", "type", "faults"}}``: ``param`` is the path of the first fault, ``faults`` has
all of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from neuromas.errors import (
    CheckpointError,
    Fault,
    GrowthError,
    NeuroMASError,
    SpecError,
    StorageError,
    TaskError,
    refusal,
)
from neuromas.services.logs import request_id
from neuromas.services.store.base import (
    ConflictError,
    MissingError,
    StoreUnavailableError,
    StoreUnusableError,
    StoreUnwritableError,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 2
"""Seconds that a client is asked to wait when something of ours is away."""
MAX_FAULTS: Final = 100
"""Faults that an answer lists."""
_MAX_MESSAGE: Final = 2000

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_ROUTING: Final = {404: ("not_found", "there is no such route"), 405: ("method_not_allowed", "not allowed here")}


class ApiError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status.
        code: for programs; stable.
        param: path of what is wrong in the request, None where it is not one thing.
        faults: everything that is wrong, for requests that are not valid.
        headers: of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.faults = tuple(faults)
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": str(self)[:_MAX_MESSAGE],
            "param": self.param,
            "type": _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error"),
            "faults": [
                {"path": fault.path, "message": fault.message[:_MAX_MESSAGE]} for fault in self.faults[:MAX_FAULTS]
            ],
        }
        return {"error": error}


def invalid(what: str, faults: Sequence[Fault], *, code: str = "invalid_request", status: int = 422) -> ApiError:
    """Return the problem of a document or parameter that is not valid, with all its faults."""
    first = f": {faults[0]}" if faults else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    param = faults[0].path or None if faults else None
    return ApiError(status, code, f"{what}{first}{more}", param=param, faults=faults)


@contextmanager
def below(path: str) -> Iterator[None]:
    """Tell what is wrong with a part of a body by its place in the whole.

    Args:
        path: of the part.

    Raises:
        SpecError: the one raised in the block, its faults below the path.
        ApiError: alike.
    """
    try:
        yield
    except SpecError as error:
        raise SpecError(error.message, _below(path, error.faults)) from error
    except ApiError as error:
        faults = _below(path, error.faults)
        param = error.param if error.param is None else f"{path}.{error.param}"
        raise ApiError(
            error.status, error.code, str(error), param=param, faults=faults, headers=error.headers
        ) from error


def _below(path: str, faults: Sequence[Fault]) -> list[Fault]:
    return [Fault(f"{path}.{fault.path}" if fault.path else path, fault.message) for fault in faults]


def unsupported(param: str, message: str) -> ApiError:
    """Return the problem of a request that is valid, but not for this service."""
    return ApiError(400, "unsupported", f"{param}: {message}", param=param, faults=[Fault(param, message)])


def busy(code: str, message: str, retry_after_s: float) -> ApiError:
    """Return the problem of a request that came at a moment when there is no room for it."""
    return ApiError(429, code, message, headers={"Retry-After": str(max(1, round(retry_after_s)))})


def problem_of(error: Exception) -> ApiError | None:
    """Return what a client is told of an error that we know; None for one that we do not."""
    match error:
        case ApiError():
            return error
        case NeuroMASError():
            return _of_ours(error)
        case RequestValidationError():
            return invalid("the request is not valid", [_fault(details) for details in error.errors()])
        case HTTPException():
            code, message = _ROUTING.get(error.status_code, ("http", str(error.detail)))
            return ApiError(error.status_code, code, message, headers=error.headers)
    if refusal(error) is not None:
        return _no_space()
    return None


def _of_the_store(error: NeuroMASError) -> ApiError | None:
    again = {"Retry-After": str(RETRY_AFTER_S)}
    match error:
        case StoreUnwritableError():
            message = "the disk of the store takes no changes now; nothing was changed: make space there, and try again"
            return ApiError(503, error.code, message, headers=again)
        case StoreUnavailableError():
            message = "the store cannot be reached now; nothing is lost, try again"
            return ApiError(503, error.code, message, headers=again)
        case StoreUnusableError():
            return ApiError(503, error.code, "the store cannot be used; the log of the service says why")
        case MissingError():
            return ApiError(404, error.code, str(error))
        case ConflictError():
            return ApiError(409, error.code, str(error))
    return None


def _of_ours(error: NeuroMASError) -> ApiError | None:
    match error:
        case SpecError():
            return invalid(error.message, error.faults or (Fault("", error.message),), code=error.code)
        case GrowthError():
            return invalid("the plan does not fit the graph", [Fault("plan", str(error))], code=error.code)
        case TaskError():
            return ApiError(400, error.code, str(error), param="task", faults=[Fault("task", str(error))])
        case StorageError():
            return _no_space()
        case CheckpointError():
            return ApiError(409, error.code, "the checkpoint's files are missing or altered; use another one")
    return _of_the_store(error)


def _no_space() -> ApiError:
    """Return the problem of a file that could not be written; where it lies is in the log, and for nobody else."""
    message = "the disk of the service is full or cannot be written; nothing was kept: make space there, and try again"
    return ApiError(507, StorageError.code, message)


def answer(problem: ApiError) -> JSONResponse:
    """Return the answer that tells a client of a problem."""
    return _Utf8Response(problem.document, status_code=problem.status, headers=problem.headers)


def add_handlers(app: FastAPI) -> None:
    """Make the application answer the errors that we know in the one shape."""
    for kind in (ApiError, NeuroMASError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _tell)


class CrashHandler:
    """Answers errors that we do not know: a client gets an id, the log what broke."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:  # nobody reads this, and nothing is broken
            if not has_started:
                await answer(ApiError(499, "client_gone", "the client went away"))(scope, receive, send)
        except Exception as error:  # the boundary: one request's crash is not the server's
            logger.error("request crashed", exc_info=error)
            if not has_started:
                message = f"something broke here; the log knows it under request {request_id.get()}"
                problem = problem_of(error) or ApiError(500, "internal", message)
                await answer(problem)(scope, receive, send)


class _Utf8Response(JSONResponse):
    """JSON that may quote what a client sent, halves of characters included."""

    @override
    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()


async def _tell(_: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error)
    if problem is None:
        raise error
    if problem.status >= 500:
        logger.warning("request failed", extra={"code": problem.code, "reason": str(error)})
    return answer(problem)


def _fault(details: Mapping[str, Any]) -> Fault:
    """Return the fault of a path, query or header parameter."""
    place = [str(part) for part in details["loc"]]
    path = ".".join(place[1:] if place[:1] in (["query"], ["path"], ["header"], ["body"]) else place)
    return Fault(path, str(details["msg"]))
