"""What a run tells as it goes: events, metrics, rollouts, log lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from fastapi import Depends, Path, Query, Request, Response
from pydantic_core import from_json

from neuromas.schema.bounds import MAX_STEPS
from neuromas.services.api.auth import Caller, Reader
from neuromas.services.api.described import errors, event_of, sends
from neuromas.services.api.event_stream import EVENTS, follow, page, wants_events
from neuromas.services.api.paging import MAX_ID, AfterEntry, EntryLimit, Wait
from neuromas.services.api.prompts import read_prompt
from neuromas.services.api.rollout_filter import RolloutFilter
from neuromas.services.api.route import router
from neuromas.services.api.routes.runs import RunId
from neuromas.services.api.schemas.artifact import MetricPage, PromptView, StreamPage
from neuromas.services.api.service import Service, Serviced
from neuromas.services.api.told import told_entry, told_page, told_step
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream, logs_stream, questions_stream, rollouts_stream
from neuromas.services.store.base import Document, Store, StreamEntry
from neuromas.services.store.versions import encode

routes = router("streams")
_Route = TypeVar("_Route", bound=Callable[..., Any])
_SCAN: Final = 500
_MAX_SCANNED: Final = 20_000
"""Events that one request for metrics reads, whatever they are."""
_SCAN_ROLLOUTS: Final = 50
_MAX_LOOKED_AT: Final = 1000
"""Rollouts that one request looks at, whether they fit or not."""
_Entry = Annotated[int, Path(ge=1, le=2**53, description="Id of a rollout in its stream.")]
_Node = Annotated[str, Query(max_length=MAX_ID, description="Id of a node.")]


def _followed(entry: str) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route whose stream of entries, each of a schema, can be followed."""
    end = event_of("StreamEnd", name="end")
    return {
        200: {
            "description": "A page of entries; with `Accept: text/event-stream` all of them, then each as it comes.",
            "content": {EVENTS: sends(event_of(entry, has_id=True), end)},
        },
        204: {"description": "The run has ended and the client, by its `Last-Event-ID`, has seen everything."},
    }


_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "For event streams: id of the last event that was seen.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        }
    ]
}


@dataclass(frozen=True, slots=True)
class _Reading:
    """A request to read or follow a stream of a run's."""

    service: Service
    request: Request
    caller: Caller
    run_id: str
    after: int
    limit: int
    wait_s: float

    async def answer(self, stream: str) -> Any:
        """Return the page that is asked for, or the stream as it comes."""
        if wants_events(self.request):
            await self.service.store.get(RunRecord, self.run_id)
            return await follow(self.service, self.request, self.caller.id, self.run_id, stream, self.after)
        return await page(self.service, self.caller.id, self.run_id, stream, self.after, self.limit, self.wait_s)


def _pages(size: int) -> Any:
    """Return the dependency that reads a request; ``size`` is a page's where the request does not say."""

    async def read(
        caller: Reader,
        service: Serviced,
        request: Request,
        run_id: RunId,
        after: AfterEntry = 0,
        limit: EntryLimit = size,
        wait_s: Wait = 0,
    ) -> _Reading:
        return _Reading(service, request, caller, run_id, after, limit, wait_s)

    return Depends(read)


def _stream(name: str, entry: str) -> Callable[[_Route], _Route]:
    """Return the decorator of the route of a run's stream, whose entries are of a schema."""
    return routes.get(
        f"/runs/{{run_id}}/{name}",
        response_model=StreamPage,
        responses=errors(404) | _followed(entry),
        openapi_extra=_LAST_EVENT_ID,
    )


@_stream("events", "EventView")
async def read_events(reading: Annotated[_Reading, _pages(100)]) -> Any:
    """Read or follow a run's events: states, stages, steps with metrics, growth, warnings, errors."""
    return await reading.answer(events_stream(reading.run_id))


@_stream("logs", "EntryView")
async def read_logs(reading: Annotated[_Reading, _pages(100)]) -> Any:
    """Read or follow the log lines of a run's driver."""
    return await reading.answer(logs_stream(reading.run_id))


@_stream("rollouts", "EntryView")
async def read_rollouts(reading: Annotated[_Reading, _pages(20)]) -> Any:
    """Read or follow sampled rollouts, each with every node's message."""
    return await reading.answer(rollouts_stream(reading.run_id))


@dataclass(frozen=True, slots=True)
class _Scan:
    """A look through a run's stream for entries that fit, ``part`` at a time and at most about ``most`` a request."""

    run_id: str
    stream: str
    part: int
    most: int

    async def page(self, store: Store, after: int, limit: int, tell: Callable[[StreamEntry], str | None]) -> Response:
        """Return the entries of which ``tell`` returns something, as it tells them.

        Raises:
            MissingError: there is no such run.
        """
        found: list[str] = []
        has_more, scanned = True, 0
        while has_more and len(found) < limit and scanned < self.most:
            part = self.part if scanned else min(self.part, limit + 1)  # most streams hold what is looked for
            entries = await store.read(self.stream, after=after, limit=part)
            if not entries and not scanned:  # a run that is gone has left none
                await store.get(RunRecord, self.run_id)
            has_more = len(entries) == part
            scanned += len(entries)
            for entry in entries:
                if len(found) == limit:
                    has_more = True
                    break
                after = entry.id
                if (told := tell(entry)) is not None:
                    found.append(told)
        return told_page(found, after, has_more=has_more)


@routes.get("/runs/{run_id}/rollouts:find", response_model=StreamPage, responses=errors(404))
async def find_rollouts(
    _: Reader,
    service: Serviced,
    run_id: RunId,
    after: AfterEntry = 0,
    limit: EntryLimit = 20,
    stage: Annotated[int | None, Query(ge=0, le=MAX_STEPS, description="Only of this stage, from 0.")] = None,
    from_step: Annotated[int, Query(ge=0, le=MAX_STEPS, description="Only of this step of a stage, or later.")] = 0,
    to_step: Annotated[int, Query(ge=0, le=MAX_STEPS, description="Only of this step of a stage, or earlier.")] = (
        MAX_STEPS
    ),
    result: Annotated[Literal["right", "wrong"] | None, Query(description="Only those with, or without, reward 1.")] = (
        None
    ),
    contains: Annotated[
        str, Query(max_length=MAX_ID, description="Only with this text, in any case, in a message or in the question.")
    ] = "",
    node: Annotated[str | None, Query(max_length=MAX_ID, description="Look at the messages of this node alone.")] = (
        None
    ),
) -> Response:
    """Find sampled rollouts. A page may be shorter than asked for although more follow: ``has_more`` says so."""
    wanted = RolloutFilter(stage, from_step, to_step, result, contains.lower(), node)
    scan = _Scan(run_id, rollouts_stream(run_id), _SCAN_ROLLOUTS, _MAX_LOOKED_AT)
    return await scan.page(
        service.store, after, limit, lambda entry: told_entry(entry) if wanted.fits(entry.document) else None
    )


@_stream("questions", "EntryView")
async def read_questions(reading: Annotated[_Reading, _pages(20)]) -> Any:
    """Read or follow what every node said to the held-out questions that the run asks again and again."""
    return await reading.answer(questions_stream(reading.run_id))


@routes.get("/runs/{run_id}/rollouts/{entry}/prompt", response_model=PromptView, responses=errors(404, 409))
async def read_prompt_of_rollout(
    caller: Reader, service: Serviced, run_id: RunId, entry: _Entry, node: _Node
) -> Document:
    """Read what a node read in a sampled rollout: its whole prompt, written again as it was."""
    return await read_prompt(service, caller, run_id, rollouts_stream(run_id), entry, node)


@routes.get("/runs/{run_id}/questions/{entry}/prompt", response_model=PromptView, responses=errors(404, 409))
async def read_prompt_of_question(
    caller: Reader, service: Serviced, run_id: RunId, entry: _Entry, node: _Node
) -> Document:
    """Read what a node read when a held-out question was asked: its whole prompt, written again as it was."""
    return await read_prompt(service, caller, run_id, questions_stream(run_id), entry, node)


@routes.get("/runs/{run_id}/metrics", response_model=MetricPage, responses=errors(404))
async def read_metrics(
    _: Reader,
    service: Serviced,
    run_id: RunId,
    after: AfterEntry = 0,
    limit: EntryLimit = 1000,
    names: Annotated[
        str | None, Query(max_length=2000, description="Only these metrics, separated by commas; a * ends a prefix.")
    ] = None,
) -> Response:
    """Read a run's metrics, step by step."""
    scan = _Scan(run_id, events_stream(run_id), _SCAN, _MAX_SCANNED)
    wanted = None if names is None else [name.strip() for name in names.split(",")]
    return await scan.page(service.store, after, limit, told_step if wanted is None else _Chosen.of(wanted).tell)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some metrics of steps, by their names or how these begin."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Self:
        """Return those that a request names; a * ends a prefix."""
        exact = frozenset(name for name in names if not name.endswith("*"))
        return cls(exact, tuple(name[:-1] for name in names if name.endswith("*")))

    def tell(self, entry: StreamEntry) -> str | None:
        """Return them of a step, as ``told_step`` does all."""
        told = told_step(entry)
        if told is None:
            return None
        point = from_json(told)
        metrics = point["metrics"]
        kept = {name: metrics[name] for name in metrics if name in self.exact or name.startswith(self.prefixes)}
        return encode({**point, "metrics": kept})
