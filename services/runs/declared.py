"""Endpoints that a Ray Serve configuration declares, for clusters that serve without an API beside them.

Kubernetes and ``serve deploy`` name ``neuromas.services.runs.declared:build`` as the import path of an application.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuromas.errors import Fault, SpecError
from neuromas.schema.faults import faults_of
from neuromas.serving.group import GraphSource

if TYPE_CHECKING:
    from ray.serve import Application


TOKEN_VARIABLE: Final = "NEUROMAS_SERVE_TOKEN"
"""Variable with what clients must bring as ``Authorization: Bearer``."""
_MIN_TOKEN: Final = 16


class Declared(BaseModel):
    """Arguments of an application in a Serve configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    graphs: dict[str, str] = Field(min_length=1)
    """Name of a model, to clients -> folder of its checkpoint. They share one engine, so their base, engine, rank and
    targets are equal."""
    replicas: int = Field(default=1, ge=1)
    """Copies at least."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Copies at most, by load; None = as many as at least."""
    cpus: float = Field(default=1, gt=0)
    """Processors that each copy claims."""
    gpus: float | None = Field(default=None, ge=0)
    """GPUs that each copy claims; None = what the run gave each rollout worker."""


def build(arguments: Mapping[str, Any]) -> Application:
    """Return the application that a Serve configuration describes.

    Clients bring the token in NEUROMAS_SERVE_TOKEN: the cluster has no other door.

    Args:
        arguments: the configuration's ``args``; see Declared.

    Raises:
        SpecError: the arguments are not valid, there is no token, or the graphs cannot share an engine.
        NeuroMASError: a checkpoint cannot be read.
    """
    from neuromas.serving.deploy import application
    from neuromas.serving.endpoint import CheckpointOpener, group_graphs

    declared, token = parse(arguments), os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < _MIN_TOKEN:
        message = f"got {len(token)} characters; Serve's port answers whoever reaches it, so set {_MIN_TOKEN} or more"
        raise SpecError("the application has no token", [Fault(TOKEN_VARIABLE, message)])
    bounds = (declared.replicas, declared.max_replicas or declared.replicas)
    groups = group_graphs(
        [GraphSource(name, checkpoint) for name, checkpoint in declared.graphs.items()],
        replicas=dict.fromkeys(declared.graphs, bounds),
        cpus=declared.cpus,
        gpus=declared.gpus,
    )
    if len(groups) > 1:
        names = "; ".join(", ".join(source.name for source in group.graphs) for group in groups)
        raise SpecError(f"these graphs need {len(groups)} engines ({names}); declare one application for each")
    return application(groups[0], CheckpointOpener(), token)


def parse(arguments: Mapping[str, Any]) -> Declared:
    """Return the arguments of an application, checked.

    Raises:
        SpecError: they are not valid, with all faults.
    """
    try:
        return Declared.model_validate(arguments)
    except ValidationError as error:
        raise SpecError("the arguments of the application are not valid", faults_of(error, Declared)) from error
