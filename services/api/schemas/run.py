"""Wire models of runs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from neuromas.run.imports import MAX_ERROR
from neuromas.schema.bounds import MAX_STEPS
from neuromas.schema.model import SpecModel
from neuromas.services.api.schemas.topology import TOPOLOGY_SCHEMA
from neuromas.services.api.schemas.view import View
from neuromas.services.records.failure import Failure
from neuromas.services.records.run import RunImport, RunOrigin, RunProgress, RunState, Wanted
from neuromas.spec.growth import PlanSpec
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import NAME

CHECKPOINT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9:@._-]{0,199}$"
"""References of checkpoints: an id, ``<run>@<id, folder, latest or best>``, or within a run the part after the @."""


MAX_TAGS: Final = 16
TAG_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}$"
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Tag = Annotated[str, Field(pattern=TAG_PATTERN)]


def _once_each(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS), AfterValidator(_once_each)]
"""Words by which runs are found: letters, digits and . _ : / @ + -"""


class ParentView(RunOrigin):
    """What a grown run was grown from."""


class ImportView(RunImport):
    """Adapters that a run begins with."""


class ImportedAdapter(View):
    """What became of an adapter that was brought along."""

    method: str
    """PEFT's name of what it was."""
    rank: int
    """Of the LoRA that it is here."""
    error: float
    """Largest relative error of a layer, ||dW - B A|| / ||dW||; 0 = exact."""
    worst_layer: str
    """That layer; empty where it is exact."""


class Imported(View):
    """What became of the adapters that a run begins with."""

    adapters: dict[str, ImportedAdapter]
    """By their names in the graph; those that have been read by now."""
    fresh: list[str] = Field(default_factory=list)
    """Adapters of the graph that were not given, and begin as the base."""


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
    imports: ImportView | None = None
    """Adapters that it begins with."""
    imported: Imported | None = None
    """What became of them; null before the first was read, and where there are none."""
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


class ImportRequest(SpecModel):
    """A run whose graph begins with adapters that were brought along."""

    spec: dict[str, Any] = Field(json_schema_extra={"allOf": [{"$ref": "#/components/schemas/RunRequest"}]})
    """The run spec that the adapters are nodes of, on the base that they were trained on."""
    adapters: dict[Name, Name] = Field(min_length=1)
    """Adapters of the graph (a node's id, unless nodes share one) -> names under which they were brought along."""
    max_error: float = Field(default=MAX_ERROR, ge=0, le=1)
    """Largest relative error of a layer where an adapter is no LoRA of the spec's rank."""
    train: bool = False
    """Train on from them; false = the run ends once it has a checkpoint that holds them."""


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


IMPORT_EXAMPLES: Final[dict[str, Any]] = {
    "two of three": {
        "summary": "Two adapters that were brought along, and a third node that begins as the base",
        "value": {
            "spec": {"name": "brought", "topology": {"layers": [2]}, "task": {"type": "chain", "hops": 2}},
            "adapters": {"n1": "first", "n2": "second"},
        },
    },
}
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
