"""EndpointError: why a request is not answered, as status and body in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from neuromas.errors import NeuroMASError, RolloutError
from neuromas.serving.graph_client import LeftError
from neuromas.serving.question import DeadlineError, QueueFullError, TooLongError, UnknownGraphError

_CLIENT_GONE = 499  # nginx's number; nobody reads it
_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients ask again after a 5xx; that would not help here


class EndpointError(Exception):
    """A request that cannot be answered."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = dict(headers or {})


def invalid(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> EndpointError:
    """Return the error of a request that is wrong in itself."""
    return EndpointError(status, "invalid_request_error", message, param, code)


def first_fault(error: ValidationError) -> EndpointError:
    """Return the first thing that is wrong with a body."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return invalid(f"{path}: this server knows no such parameter", path, "unknown_parameter")
    code = "unsupported_value" if "is not supported" in fault["msg"] else None
    return invalid(f"{path or 'body'}: {fault['msg'].removeprefix('Value error, ')}", path or None, code)


def from_refusal(error: NeuroMASError, question: str | None = None) -> EndpointError:
    """Return the API's error for one of the server's; ``question`` is the parameter that holds what was asked."""
    message = str(error)
    if isinstance(error, UnknownGraphError):
        return invalid(message, "model", error.code, 404)
    if isinstance(error, TooLongError | RolloutError):
        return invalid(message, question, error.code)
    if isinstance(error, QueueFullError):
        return EndpointError(
            429, "rate_limit_error", message, None, error.code, {"retry-after": str(error.retry_after_s)}
        )
    if isinstance(error, DeadlineError):
        return EndpointError(504, "timeout_error", message, None, error.code, _NO_RETRY)
    if isinstance(error, LeftError):
        return EndpointError(_CLIENT_GONE, "client_error", message, None, error.code)
    return EndpointError(503, "server_error", message, None, error.code)
