"""Wire models of what the service offers and how it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from neuromas.services.api.schemas.view import View


class Limits(View):
    """What a request may be at most."""

    max_body_bytes: int
    max_upload_bytes: int
    max_spec_bytes: int
    max_graph_nodes: int
    max_graph_edges: int
    max_followers: int
    max_page: int
    max_wait_s: float
    max_queued_runs: int
    """Unfinished runs of one owner; 0 = any number."""
    max_queued_evaluations: int
    """Unfinished evaluations of one owner; 0 = any number."""
    max_analysis_changes: int
    """How many times an analysis may ask its questions."""
    max_diagnosis_adapters: int
    """Adapters of a graph that is diagnosed."""
    requests_per_minute: int
    """Of one key; 0 = any number."""
    max_running: int
    """Runs at the same time."""
    serving_max_replicas: int
    chat_timeout_s: float


class Capabilities(View):
    """What a submit may ask for."""

    object: Literal["capabilities"] = "capabilities"
    version: str
    tasks: list[str]
    bases: list[str]
    adapters: list[str]
    losses: list[str]
    estimators: list[str]
    engines: list[str]
    runtimes: list[str]
    edits: list[str]
    evaluations: list[str]
    """Kinds of evaluations."""
    baselines: list[str]
    scopes: list[str]
    keys_required: bool
    limits: Limits
    run_schema: dict[str, Any]
    """JSON schema of a run spec."""


class ModelCard(View):
    """A model that chat completions may ask for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "neuromas"


class ModelList(View):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(View):
    """Whether the process lives, and what it can reach."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)
