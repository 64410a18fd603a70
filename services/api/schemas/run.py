"""Wire models of runs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from neuromas.schema.bounds import MAX_STEPS
from neuromas.schema.model import SpecModel
from neuromas.services.api.schemas.topology import TOPOLOGY_SCHEMA
from neuromas.services.api.schemas.view import View
from neuromas.services.records.failure import Failure
from neuromas.services.records.run import RunOrigin, RunProgress, RunState, Wanted
from neuromas.spec.growth import PlanSpec
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import NAME

CHECKPOINT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9:@._-]{0,199}$"
"""References of checkpoints: an id, ``<run>@<id, folder, latest or best>``, or within a run the part after the @."""


MAX_TAGS: Final = 16
TAG_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}$"
Tag = Annotated[str, Field(pattern=TAG_PATTERN)]


def _once_each(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS), AfterValidator(_once_each)]
"""Words by which runs are found: letters, digits and . _ : / @ + -"""


class ParentView(RunOrigin):
    """What a grown run was grown from."""


class RunView(View):
    """A run."""

    id: str
    object: Literal["run"] = "run"
    name: str
    state: RunState
    wanted: Wanted = Wanted.RUN
    """What was asked for last; the run gets there as soon as it can."""
    task: str
    base: str
    topology: str
    """Id of the graph it begins with."""
    spec: dict[str, Any]
    """The run spec with every default filled in."""
    tags: list[str] = Field(default_factory=list)
    """Words of its owner, to find it by."""
    parent: ParentView | None = None
    owner: str = "local"
    """Id of the key that made it."""
    project: str | None = None
    """Keys of this project may change it too."""
    attempt: int = 0
    """How often it was started."""
    max_attempts: int = 1
    created: int
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    progress: RunProgress | None = None
    latest: dict[str, float | None] | None = None
    """Metrics of the last step."""
    reward: float | None = None
    """Mean of the last 5 steps of the stage, fewer where it has no more yet."""
    accuracy: float | None = None
    """Greedy: on validation questions by the last evaluation; on test questions once the run has succeeded."""
    result: dict[str, Any] | None = None
    verdict: str | None = None
    """What has come out of it, in one sentence; null before it has succeeded."""
    error: Failure | None = None
    version: int = 1


class RunChange(SpecModel):
    """What may be changed in a run, whatever its state."""

    tags: Tags
    """Take the place of those that it has."""


class GrowRequest(SpecModel):
    """A new run from a checkpoint of this one."""

    plan: PlanSpec
    checkpoint: str = Field(default="latest", pattern=CHECKPOINT_PATTERN)
    """The checkpoint to grow: "latest", "best", the name of its folder, or its id."""
    name: str | None = Field(default=None, pattern=f"^{NAME.pattern}$")
    """Name of the new run; null = the parent's with "-grown"."""
    level: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Task level of the new run; null = the task's target."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """What differs from the parent's spec, section by section, e.g. {"training": {"steps": 40}}. The base, the
    adapters and the topology cannot: the weights come from the parent."""


class LineageView(View):
    """One run in a family tree."""

    id: str
    name: str
    state: RunState
    nodes: int
    """Of its last known graph."""
    accuracy: float | None = None
    checkpoint: str | None = None
    """Checkpoint of the parent that it was grown from."""
    plan: dict[str, Any] | None = None
    children: list[LineageView] = Field(default_factory=list)


class Lineage(View):
    """The family tree of a run, from the first ancestor."""

    object: Literal["lineage"] = "lineage"
    run: str
    """The run that was asked for."""
    root: LineageView
    truncated: bool = False
    """Whether the tree has more runs than are shown."""


def run_schema(ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON schema of a run's submission, and the schemas that it refers to by name."""
    schema = RunSpec.model_json_schema(ref_template=ref_template)
    parts: dict[str, Any] = schema.pop("$defs", {})
    schema["title"] = "RunRequest"
    schema["description"] = "A whole run as data; every key but topology and task has a default."
    schema["properties"]["topology"] = {
        "anyOf": [
            {"$ref": ref_template.format(model="Topology")},
            {"type": "string", "pattern": "^topo_[0-9a-f]{24}$", "description": "Id of a stored topology."},
        ]
    }
    return schema, parts | {"Topology": TOPOLOGY_SCHEMA}


RUN_EXAMPLES: Final[dict[str, Any]] = {
    "quickstart": {
        "summary": "Three nodes on the tiny base learn to follow a permutation",
        "value": {
            "name": "quickstart",
            "topology": {"layers": [2]},
            "task": {"type": "chain", "hops": 3},
            "training": {"steps": 40},
        },
    },
    "by id": {
        "summary": "A stored topology",
        "value": {"topology": "topo_0123456789abcdef01234567", "task": {"type": "tree", "depth": 2}},
    },
}
