"""Capabilities: what a submit may ask for here."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter

from neuromas import __version__
from neuromas.adapters.families.registry import FAMILIES as ADAPTERS
from neuromas.losses.registry import LOSSES
from neuromas.services.api.auth import ReaderOrServer
from neuromas.services.api.bounds import MAX_EDGES
from neuromas.services.api.described import errors
from neuromas.services.api.paging import MAX_PAGE, MAX_WAIT_S
from neuromas.services.api.route import router
from neuromas.services.api.schemas.artifact import EvaluationRequest
from neuromas.services.api.schemas.capability import Capabilities
from neuromas.services.api.schemas.run import run_schema
from neuromas.services.api.service import Service, Serviced
from neuromas.services.api.studied import MAX_ADAPTERS, MAX_CHANGES
from neuromas.services.records.evaluation import EvaluationKind
from neuromas.services.records.key import Scope
from neuromas.services.store.base import Document
from neuromas.spec.growth import EditSpec
from neuromas.spec.machine import EngineSpec, RuntimeSpec
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.registry import FAMILIES

routes: APIRouter = router("service")


@routes.get("/capabilities", response_model=Capabilities, responses=errors())
async def read_capabilities(_: ReaderOrServer, service: Serviced) -> Document:
    """Read what runs may ask for: tasks, bases, adapters, losses, engines, limits, and the spec's JSON schema."""
    settings = service.settings
    schema, parts = run_schema("#/$defs/{model}")
    return {
        "object": "capabilities",
        "version": __version__,
        "tasks": _tasks(service),
        "bases": [*settings.bases, *(f"{root}/..." for root in settings.base_roots)],
        "adapters": list(ADAPTERS),
        "losses": list(LOSSES),
        "estimators": _choices(TrainingSpec, "estimator"),
        "engines": _choices(EngineSpec, "type"),
        "runtimes": _choices(RuntimeSpec, "type"),
        "edits": _tags(EditSpec, "edit"),
        "evaluations": list(get_args(EvaluationKind)),
        "baselines": list(get_args(get_args(EvaluationRequest.model_fields["baselines"].annotation)[0])),
        "scopes": list(Scope),
        "keys_required": settings.keys_required,
        "limits": _limits(service),
        "run_schema": schema | {"$defs": parts},
    }


def _tasks(service: Service) -> list[str]:
    """Return the families that a spec may name; what is code by name only where the settings allow some."""
    return [name for name, family in FAMILIES.items() if service.settings.task_code or not family.runs_code]


def _limits(service: Service) -> dict[str, Any]:
    settings = service.settings
    names = (
        "max_body_bytes", "max_upload_bytes", "max_spec_bytes", "max_graph_nodes", "max_followers",
        "max_queued_runs", "max_queued_evaluations", "requests_per_minute", "max_running", "serving_max_replicas",
        "chat_timeout_s",
    )  # fmt: skip
    own = {
        "max_graph_edges": MAX_EDGES,
        "max_page": MAX_PAGE,
        "max_wait_s": MAX_WAIT_S,
        "max_analysis_changes": MAX_CHANGES,
        "max_diagnosis_adapters": MAX_ADAPTERS,
    }
    return {name: getattr(settings, name) for name in names} | own


def _choices(section: Any, key: str) -> list[str]:
    return list(get_args(section.model_fields[key].annotation))


def _tags(variants: Any, key: str) -> list[str]:
    """Return the tags of the sections in an annotated union."""
    return [tag for section in get_args(get_args(variants)[0]) for tag in _choices(section, key)]
