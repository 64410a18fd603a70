"""Requests that schemathesis makes of the OpenAPI document: no crash, no status and no body that is not documented.

More than CI's cases: ``API_FUZZ_EXAMPLES=300 python -m pytest tests/integration/test_api_fuzz.py`` (per operation).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import schemathesis
from api_server import RUN, ApiServer, checkpoint_of, running_api, settings_over
from graph_upstream import upstream
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy, booleans, integers
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from services.api.app import make_app
from services.records import events_stream, logs_stream, rollouts_stream
from services.settings import Settings
from services.store.base import Document, Kind
from services.store.open import open_store

EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", "12"))
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


def operations() -> list[APIOperation]:
    """Return the operations of the document, which needs no server."""
    configured = Settings()
    document = make_app(configured, open_store(configured)).openapi()
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


OPERATIONS = operations()


@pytest.fixture(scope="module")
def api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, word_base: Path
) -> Iterator[ApiServer]:
    with ExitStack() as stack:
        graph = stack.enter_context(upstream(word_base, "solver"))
        # Whoever answers at Ray's address counts as there; Ray itself has no part in what is tested here.
        folder = tmp_path_factory.mktemp("fuzz")
        configured = settings_over("sqlite", request, folder, keep_alive_s=0.2, ray_address=graph.url)
        server = stack.enter_context(running_api(configured))
        populate(server, graph.url)
        yield server
    total = sum(seen.values())
    print(f"\n{total} cases: " + ", ".join(f"{status} x {count}" for status, count in sorted(seen.items())))  # noqa: T201


def populate(api: ApiServer, graph_url: str) -> None:
    """Put one of everything into the store, under the ids that the document's examples name."""
    topology = api.client.post("/v1/topologies", json={"layers": [2]}).json()
    api.put(Kind.TOPOLOGY, topology | {"id": KNOWN["topology_id"][0], "state": None})
    run: Document = api.client.post("/v1/runs", json=RUN).json()
    stored = api.store(lambda store: store.get(Kind.RUN, run["id"]))
    metrics = {"rollout/reward_mean": 0.5, "train/kl": None}
    for id, state in zip(KNOWN["run_id"], ("queued", "succeeded"), strict=True):
        own = api.put(Kind.RUN, stored | {"id": id, "state": state, "latest": metrics, "accuracy": 0.5})
        api.tell(events_stream(id), {"type": "step", "stage": 0, "step": 1, "time_s": 1.0, "metrics": metrics})
        api.tell(rollouts_stream(id), {"stage": 0, "step": 1, "example": "e", "messages": []})
        api.tell(logs_stream(id), {"time": 1.0, "message": "begin"})
        checkpoint = checkpoint_of(api, own, 3, 0.5)
    known = KNOWN["checkpoint_id"][0]
    api.put(Kind.CHECKPOINT, checkpoint | {"id": known})
    endpoint = {
        "object": "endpoint", "name": "solver", "checkpoint": known, "run": run["id"], "state": "ready",
        "wanted": "run", "replicas": 1, "max_replicas": 1, "generation": 1, "error": None, "url": graph_url,
        "owner": "local",
    }  # fmt: skip
    api.put(Kind.ENDPOINT, endpoint | {"id": KNOWN["endpoint_id"][0]})
    body = {"checkpoint": known, "examples": 8}
    evaluation = api.client.post("/v1/evaluations", json=body).json()
    api.put(Kind.EVALUATION, evaluation | {"id": KNOWN["evaluation_id"][0]})


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_documented(api: ApiServer, operation: APIOperation, mode: GenerationMode) -> None:
    try:
        fuzz(api, operation.as_strategy(mode), EXAMPLES)
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE
        pytest.skip("no value that can be sent is wrong here")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_documented_examples_are_answered_as_documented(api: ApiServer, operation: APIOperation) -> None:
    for example in operation.schema.get_strategies_from_examples(operation):
        fuzz(api, example, 3)


def fuzz(api: ApiServer, cases: SearchStrategy[Case], count: int) -> None:
    """Send cases, half of them about what is there, and check the answers."""

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases, booleans(), integers(0, 1))
    def check(case: Case, is_known: bool, which: int) -> None:
        if is_known:
            named = [name for name in case.path_parameters or () if name in KNOWN]
            known = {name: KNOWN[name][which % len(KNOWN[name])] for name in named}
            case.path_parameters = {**(case.path_parameters or {}), **known}
        if case.query and isinstance(case.query.get("wait_s"), float | int):
            case.query["wait_s"] = min(case.query["wait_s"], 0.05)  # long enough to be waited for
        response = case.call(base_url=api.url, timeout=60)
        seen[str(response.status_code)] += 1
        case.validate_response(response, checks=CHECKS)

    check()
