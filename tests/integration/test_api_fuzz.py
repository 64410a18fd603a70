"""Requests that schemathesis makes of the OpenAPI document: no crash, no status and no body that is not documented.

More than CI's cases: ``API_FUZZ_CASES=5000 python -m pytest tests/integration/test_api_fuzz.py -s --timeout 3600``; the
last test counts them. CI's are the same each time, those of a larger run are new ones.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
import schemathesis
from api_server import RUN, ApiServer, checkpoint_of, running_api, settings_over
from graph_upstream import upstream
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy, booleans, integers
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from stored import an_endpoint

from neuromas.services.api.app import make_app
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.cluster import ClusterRecord
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.record import Record
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream, logs_stream, rollouts_stream
from neuromas.services.records.topology import TopologyRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document, Store
from neuromas.services.store.listing import all_of
from neuromas.services.store.open import open_store

CI_CASES = 600
CASES = int(os.environ.get("API_FUZZ_CASES", CI_CASES))
"""Requests that all tests of this file together make at least."""
EVENTS = "text/event-stream"
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
KNOWN = {
    "run_id": ("run_0123456789abcdef", "run_00000000000ended"),
    "checkpoint_id": ("ckpt_0123456789abcdef",),
    "topology_id": ("topo_0123456789abcdef01234567",),
    "endpoint_id": (f"ep_{hashlib.sha256(b'solver').hexdigest()[:16]}", "solver"),
    "evaluation_id": ("eval_0123456789abcdef",),
    "name": ("latest", "best"),
    "model": ("solver",),
}
"""Ids that are there, by parameter; half of the requests name them."""
seen: Counter[str] = Counter()


ROLLOUT = {
    "stage": 0,
    "step": 1,
    "example": "e",
    "question": "2 + 2",
    "expected": "4",
    "messages": [{"node": "n1", "text": "4", "prompt_tokens": 9}],
    "answer": "4",
    "reward": 1.0,
}


def operations() -> list[APIOperation]:
    """Return the operations of the document, which needs no server."""
    configured = Settings()
    document = make_app(configured, open_store(configured)).openapi()
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


OPERATIONS = operations()
# Twice as many as needed, once for each mode: some operations have fewer cases than this.
EXAMPLES = math.ceil(CASES / len(OPERATIONS))


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, word_base: Path
) -> Iterator[tuple[ApiServer, list[Record]]]:
    with ExitStack() as stack:
        graph = stack.enter_context(upstream(word_base, "solver"))
        # Whoever answers at Ray's address counts as there; Ray itself has no part in what is tested here.
        folder = tmp_path_factory.mktemp("fuzz")
        configured = settings_over("sqlite", request, folder, keep_alive_s=0.2, ray_address=graph.url)
        server = stack.enter_context(running_api(configured))
        yield server, populate(server, graph.url)


@pytest.fixture
def api(served: tuple[ApiServer, list[Record]]) -> ApiServer:
    """Give the server with everything there, whatever the cases of other tests have deleted or changed."""
    server, records = served

    async def restore(store: Store) -> None:
        for endpoint in await all_of(store, EndpointRecord):
            await store.delete(EndpointRecord, endpoint.id)  # nobody deploys it: 503
        for record in records:
            await store.delete(type(record), record.id)
            await store.create(record)

    server.store(restore)
    return server


def populate(api: ApiServer, graph_url: str) -> list[Record]:
    """Return one of everything, under the ids that the document's examples name; streams and files are made."""
    topology = api.client.post("/v1/topologies", json={"layers": [2]}).json()
    found: list[Record] = [TopologyRecord.model_validate(topology | {"id": KNOWN["topology_id"][0]})]
    run: Document = api.client.post("/v1/runs", json=RUN).json()
    stored = api.store(lambda store: store.get(RunRecord, run["id"])).to_document()
    metrics = {"rollout/reward_mean": 0.5, "train/kl": None}
    for id, state in zip(KNOWN["run_id"], ("queued", "succeeded"), strict=True):
        own = stored | {"id": id, "state": state, "latest": metrics, "accuracy": 0.5}
        found.append(RunRecord.model_validate(own))
        api.tell(events_stream(id), {"type": "step", "stage": 0, "step": 1, "time_s": 1.0, "metrics": metrics})
        api.tell(rollouts_stream(id), ROLLOUT)
        api.tell(logs_stream(id), {"time": 1.0, "message": "begin"})
        checkpoint = checkpoint_of(api, own, 3, 0.5)
    known = KNOWN["checkpoint_id"][0]
    best = {"id": known, "run": KNOWN["run_id"][0], "accuracy": 0.9}
    found.append(CheckpointRecord.model_validate(checkpoint | best))
    ready = {"checkpoint": known, "run": run["id"], "state": "ready", "url": graph_url}
    found.append(an_endpoint(KNOWN["endpoint_id"][0], name="solver", **ready))
    api.put(found[-2])  # the checkpoint
    evaluation = api.client.post("/v1/evaluations", json={"checkpoint": known, "examples": 8}).raise_for_status().json()
    found.append(ClusterRecord(fault="", seen=time.time() + 3600))  # for readiness
    return [*found, EvaluationRecord.model_validate(evaluation | {"id": KNOWN["evaluation_id"][0]})]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_documented(api: ApiServer, operation: APIOperation, mode: GenerationMode) -> None:
    try:
        fuzz(api, operation.as_strategy(mode), EXAMPLES)
    except Unsatisfiable:  # no value that can be sent is wrong here
        assert mode == GenerationMode.NEGATIVE


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_documented_examples_are_answered_as_documented(api: ApiServer, operation: APIOperation) -> None:
    for example in operation.schema.get_strategies_from_examples(operation):
        fuzz(api, example, 3)


def test_there_were_as_many_cases_as_asked_for() -> None:
    total = sum(seen.values())
    print(f"\n{total} cases: " + ", ".join(f"{answer} x {count}" for answer, count in sorted(seen.items())))  # noqa: T201
    assert total >= CASES
    assert seen[f"200 {EVENTS}"] > 0


def fuzz(api: ApiServer, cases: SearchStrategy[Case], count: int) -> None:
    """Send cases, half of them about what is there, and check the answers."""
    quiet = list(HealthCheck)

    @settings(
        max_examples=count, deadline=None, suppress_health_check=quiet, database=None, derandomize=CASES == CI_CASES
    )
    @given(cases, booleans(), booleans(), integers(0, 1))
    def check(case: Case, is_known: bool, is_followed: bool, which: int) -> None:
        if is_known:
            name_known(case, which)
        if case.query and isinstance(case.query.get("wait_s"), float | int):
            case.query["wait_s"] = min(case.query["wait_s"], 0.05)  # long enough to be waited for
        # A run that goes on is followed for as long as the timeout says.
        can_follow = case.method == "GET" and EVENTS in str(case.operation.definition.raw["responses"])
        following = {"Accept": EVENTS} if can_follow and is_followed else {}
        case.headers.update(following)
        response = called(case, api.url, (0.5, 5, 60) if following else (60,))
        kind = response.headers.get("content-type", ["none"])[0].partition(";")[0]
        seen[f"{response.status_code} {kind}"] += 1
        case.validate_response(response, checks=CHECKS)

    check()


def called(case: Case, url: str, timeouts_s: tuple[float, ...]) -> Response:
    """Return the answer to a case; one that only reads is sent again, with more time, where the answer is late."""
    for timeout_s in timeouts_s[:-1]:
        try:
            return case.call(base_url=url, timeout=timeout_s)
        except requests.Timeout:
            continue
    return case.call(base_url=url, timeout=timeouts_s[-1])


def name_known(case: Case, which: int) -> None:
    """Make a case be about what is there."""
    named = [name for name in case.path_parameters or () if name in KNOWN]
    known = {name: KNOWN[name][which % len(KNOWN[name])] for name in named}
    case.path_parameters = {**(case.path_parameters or {}), **known}
    if isinstance(case.body, dict):
        here = {"model": KNOWN["model"][0], "checkpoint": KNOWN["checkpoint_id"][0]}
        case.body = case.body | {name: value for name, value in here.items() if isinstance(case.body.get(name), str)}
