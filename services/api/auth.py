"""Who asks: bearer keys, what they may do, and how often they may ask."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from neuromas.services.api.fair_limit import LOCAL
from neuromas.services.api.problems import ApiError, busy
from neuromas.services.api.service import Service, service_of
from neuromas.services.records.key import Scope
from neuromas.serving.access import is_loopback_name

_WINDOW_S: Final = 60
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        id: owner of what it makes: the key, or the one that it was made in place of; "local" where keys are off.
        scopes: what the caller may do.
        quota: limits of this key; empty = the settings' own.
        key: id of the very key; "" where keys are off.
        project: keys of one share what they make; None = it shares nothing.
    """

    id: str
    scopes: frozenset[str]
    quota: Mapping[str, Any]
    key: str = ""
    project: str | None = None

    def limit(self, name: str, default: int) -> int:
        """Return one of the key's limits; 0 = none."""
        value = self.quota.get(name)
        return default if value is None else int(value)


class Needs(SecurityBase):
    """A dependency that lets callers in who have one of the scopes, and tells the OpenAPI document of keys."""

    def __init__(self, *scopes: Scope) -> None:
        self.model = HTTPBearer(description="A key made by `neuromas keys create`.")
        self.scheme_name = "key"
        self._scopes = scopes

    async def __call__(self, request: Request) -> Caller:
        """Return who makes a request.

        Raises:
            ApiError: no valid key (401), none of the scopes (403), too many requests (429).
        """
        caller = await authenticate(request)
        if caller.scopes.isdisjoint(self._scopes):
            wanted = " or ".join(self._scopes)
            raise ApiError(403, "missing_scope", f"this key lacks the scope {wanted}; make one that has it")
        return caller


Reader = Annotated[Caller, Depends(Needs(Scope.READ))]
Trainer = Annotated[Caller, Depends(Needs(Scope.TRAIN))]
Server = Annotated[Caller, Depends(Needs(Scope.SERVE))]
Admin = Annotated[Caller, Depends(Needs(Scope.ADMIN))]
ReaderOrServer = Annotated[Caller, Depends(Needs(Scope.READ, Scope.SERVE))]


async def authenticate(request: Request) -> Caller:
    """Return who makes a request; asked again in the same request, the same caller.

    Raises:
        ApiError: no valid key (401), a page of another site (403), or more requests than the quota allows (429).
    """
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    service = service_of(request)
    check_origin(request, service)
    caller = await _identify(request, service)
    request.state.caller, request.state.caller_id = caller, caller.id
    await _count(service, caller)
    return caller


def check_origin(request: Request, service: Service) -> None:
    """Refuse requests that a page of another site makes a browser send.

    Without keys, whoever reaches the address may do everything: so the name that the request came in under must be
    one of ours (a page could point a name of its own at this machine), and what changes something must not come from
    another site.

    Raises:
        ApiError: the request is one of these.
    """
    host = request.headers.get("host", "")
    if not is_allowed_host(host, service):
        message = f"requests for the host {host!r} are not answered; allowed_hosts in the settings says which are"
        raise ApiError(421, "wrong_host", message)
    origin = request.headers.get("origin")
    if origin in service.settings.cors_origins:
        return
    if request.method not in _SAFE and origin is not None and _host_of(origin) != host.lower():
        raise ApiError(403, "cross_origin", "requests from pages of other sites are not answered")


def is_allowed_host(host: str, service: Service) -> bool:
    """Whether requests may come in under a Host header."""
    settings = service.settings
    if not settings.allowed_hosts:
        return not settings.is_loopback or is_loopback_name(host)
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return name in map(str.lower, settings.allowed_hosts)


def _host_of(origin: str) -> str:
    """Return the host, with its port, of an Origin header; empty where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _identify(request: Request, service: Service) -> Caller:
    if not service.settings.keys_required:
        return Caller(LOCAL, frozenset(Scope), {})
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not text.strip():
        raise _unauthorized("send a key: Authorization: Bearer nmk_...; `neuromas keys create` makes one")
    key = await service.keys.find(text.strip())
    if key is None:
        raise _unauthorized("the key is not valid, was revoked, or has expired")
    return Caller(key.owner_id, frozenset(key.scopes), key.quota or {}, key.id, key.project)


async def _count(service: Service, caller: Caller) -> None:
    allowed = 0 if caller.id == LOCAL else caller.limit("requests_per_minute", service.settings.requests_per_minute)
    if allowed and await service.store.count(f"requests/{caller.id}", 1, _WINDOW_S) > allowed:
        message = f"this key may make {allowed} requests a minute"
        raise busy("rate_limited", message, _WINDOW_S - time.time() % _WINDOW_S)


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
