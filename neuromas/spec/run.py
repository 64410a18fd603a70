"""RunSpec: a whole run as frozen, strict data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from neuromas.adapters.families.data_start import DataStart
from neuromas.adapters.families.registry import AnyAdapterSpec, default_adapter
from neuromas.adapters.kinds import AdapterKinds, section_path
from neuromas.errors import Fault, SpecError, TopologyError
from neuromas.schema.bounds import MAX_PATH
from neuromas.schema.model import SpecModel
from neuromas.spec.growth import GrowthSpec
from neuromas.spec.machine import CheckpointSpec, EngineSpec, EngineType, EvaluationSpec, RuntimeSpec, TrackingSpec
from neuromas.spec.node_groups import GroupName, NodeGroupSpec, group_faults, marked, members
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.registry import AnyTaskSpec
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import MAX_NODES, NAME, Topology


def _topology(value: object) -> Topology:
    if isinstance(value, Topology):
        return value
    if not isinstance(value, Mapping):
        raise TopologyError(f"expected a topology document, such as {{layers = [2, 2]}}, got {value!r}")
    return topology_from_document(value)


TopologyField = Annotated[
    Topology,
    PlainValidator(_topology),
    PlainSerializer(Topology.to_document, return_type=dict[str, object]),
    WithJsonSchema({"type": "object", "title": "Topology"}),
]


class RunSpec(SpecModel):
    """Everything a run needs."""

    name: str = Field(default="run", pattern=f"^{NAME.pattern}$")
    """For lists, reports, and the run's folder."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of new adapters, training questions and sampling: a figure wants runs with several."""
    base: str = Field(default="tiny", min_length=1, max_length=MAX_PATH)
    """"tiny" is the base shipped with NeuroMAS; else a folder, a GGUF file, an imported base by its name (``neuromas
    base list``) or the id of a hub model. A path is relative to the spec's file."""
    topology: TopologyField
    """A topology document: ``nodes`` and ``edges``, or a shorthand (layers, chain, tree, star, dense, random). The
    spec holds the built, validated Topology."""
    task: AnyTaskSpec
    adapter: AnyAdapterSpec = default_adapter()
    node_groups: Mapping[GroupName, NodeGroupSpec] = Field(default={}, max_length=MAX_NODES)
    """Nodes with adapters of another kind, by the name of their group; all others have those of ``adapter``."""
    prompt: PromptSpec = PromptSpec()
    sampling: SamplingSpec = SamplingSpec()
    training: TrainingSpec = TrainingSpec()
    growth: GrowthSpec | None = None
    evaluation: EvaluationSpec = EvaluationSpec()
    engine: EngineSpec = EngineSpec()
    runtime: RuntimeSpec = RuntimeSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="before")
    @classmethod
    def _groups_reach_their_nodes(cls, value: object) -> object:
        return _grouped(value) if isinstance(value, Mapping) and value.get("node_groups") else value

    @property
    def adapters(self) -> AdapterKinds:
        """The kinds of adapters that the run trains."""
        return AdapterKinds(self.adapter, {name: group.adapter for name, group in self.node_groups.items()})

    def with_topology(self, topology: Topology) -> RunSpec:
        """Return the spec of a run of another graph, whose nodes carry their groups; groups without nodes go."""
        nodes, groups = members(topology), self.node_groups
        kept = {name: groups[name].model_copy(update={"nodes": nodes[name]}) for name in groups if name in nodes}
        return self.model_copy(update={"topology": topology, "node_groups": kept})

    def on_machine(
        self,
        engine: EngineType | None = None,
        runtime: Literal["ray", "local"] | None = None,
    ) -> RunSpec:
        """Return the spec with another engine or runtime; None leaves its own."""
        spec = self
        if engine is not None:
            spec = spec.model_copy(update={"engine": spec.engine.model_copy(update={"type": engine})})
        if runtime == "local":
            spec = spec.model_copy(update={"runtime": spec.runtime.in_one_process()})
        elif runtime is not None:
            spec = spec.model_copy(update={"runtime": spec.runtime.model_copy(update={"type": runtime})})
        return spec

    @model_validator(mode="after")
    def _sections_agree(self) -> RunSpec:
        if faults := list(group_faults(self.node_groups, self.topology)):
            raise SpecError("the node groups do not fit the topology", faults)
        checks = (
            _budget_faults,
            _sampling_faults,
            _adapter_faults,
            _level_faults,
            _turn_faults,
            _device_faults,
            _thread_faults,
            _shard_faults,
        )
        if faults := [fault for check in checks for fault in check(self)]:
            raise SpecError("the sections of the run do not agree", faults)
        return self


def _grouped(document: Mapping[str, object]) -> dict[str, object]:
    """Return a run's document with its groups on the nodes of its graph, and with their targets filled in.

    What is not as it must be stays as it is: the fields say so.
    """
    adapter, groups, changed = document.get("adapter"), document["node_groups"], dict(document)
    if not isinstance(groups, Mapping):
        return changed
    targets = adapter.get("targets") if isinstance(adapter, Mapping) else None
    filled, listed = {}, {}
    for name, group in groups.items():
        filled[name] = group
        if isinstance(group, Mapping):
            own = group.get("adapter")
            if targets is not None and isinstance(own, Mapping):
                filled[name] = {**group, "adapter": {"targets": targets, **own}}
            nodes = group.get("nodes")
            ids = nodes if isinstance(nodes, list | tuple) else ()
            listed.update({node: name for node in ids if isinstance(node, str) and node not in listed})
    changed["node_groups"] = filled
    try:
        changed["topology"] = marked(_topology(document.get("topology")), listed)
    except TopologyError:
        return changed
    return changed


def _budget_faults(spec: RunSpec) -> list[Fault]:
    limit = spec.engine.max_model_len
    faults = []
    if spec.sampling.max_tokens >= limit:
        message = f"got {spec.sampling.max_tokens}; allowed is below engine.max_model_len = {limit}: the prompt counts"
        faults.append(Fault("sampling.max_tokens", message))
    for index, node in enumerate(spec.topology.nodes):
        if node.max_tokens is not None and node.max_tokens >= limit:
            message = f"got {node.max_tokens}; allowed is below engine.max_model_len = {limit}: the prompt counts"
            faults.append(Fault(f"topology.nodes[{index}].max_tokens", message))
    return faults


def _sampling_faults(spec: RunSpec) -> list[Fault]:
    """Refuse a ratio of two distributions: below 1 the sampler's logprobs are the nucleus's, the trainer's are not.

    On-policy that ratio is the mass of the nucleus, so clipping takes the gradient off what it should push down.
    """
    if spec.sampling.top_p == 1 or spec.training.old_logprobs == "trainer":
        return []
    message = (
        f"got {spec.sampling.top_p:g}; below 1 the sampler's logprobs are those of a nucleus, which the trainer's "
        "ratio is not about: set training.old_logprobs = 'trainer', or top_p = 1"
    )
    return [Fault("sampling.top_p", message)]


def _adapter_faults(spec: RunSpec) -> list[Fault]:
    faults = []
    for index, plan in enumerate(spec.growth.plans if spec.growth is not None else ()):
        for group, section in spec.adapters.sections.items():
            if plan.inherit.new not in section.starts:
                kind, words = section.type, ", ".join(sorted(section.starts))
                message = (
                    f"got {plan.inherit.new!r}; adapters of type {kind!r} allow {words} ({section_path(group)}.type)"
                )
                faults.append(Fault(f"growth.plans[{index}].inherit.new", message))
    new = {plan.inherit.new for plan in (spec.growth.plans if spec.growth is not None else ())}
    for group, section in spec.adapters.sections.items():
        faults += [Fault(f"{section_path(group)}.{fault.path}", fault.message) for fault in section.idle(new)]
    return faults


def _turn_faults(spec: RunSpec) -> list[Fault]:
    if not spec.training.in_turn:
        return []
    if spec.growth is not None:
        return [Fault("training.in_turn", "got true; a graph that grows trains jointly: set it to false")]
    steps, needed = spec.training.steps, len(spec.topology.adapters)
    message = f"got {steps}; with in_turn allowed is at least {needed}, one for each adapter"
    return [Fault("training.steps", message)] if steps < needed else []


def _level_faults(spec: RunSpec) -> list[Fault]:
    levels = () if spec.growth is None else spec.growth.levels
    return [Fault("growth.levels", message) for message in spec.task.level_faults(levels)]


def _thread_faults(spec: RunSpec) -> list[Fault]:
    engine, learner = spec.engine.threads, spec.runtime.learner_threads
    if spec.runtime.type == "ray" or "auto" in (engine, learner) or engine == learner:
        return []
    message = f"got {engine}, and runtime.learner_threads is {learner}; one process does both: set one of them"
    return [Fault("engine.threads", message)]


def _shard_faults(spec: RunSpec) -> list[Fault]:
    """Refuse shares of a base that no one else has, and starts for which one learner computes passes alone."""
    if not spec.runtime.shard_base:
        return []
    leave = "or set runtime.shard_base to false"
    faults = []
    if (learners := spec.runtime.learner_workers) < 2:
        message = f"got true; allowed with two learners or more, and there is {learners}: raise runtime.learner_workers"
        faults.append(Fault("runtime.shard_base", f"{message}, {leave}"))
    alone = "needs the whole base on one learner: take another start"
    for group, section in spec.adapters.sections.items():
        if isinstance(section, DataStart) and section.looks_at_rollouts:
            name, value = section.start_setting
            faults.append(Fault(f"{section_path(group)}.{name}", f"got {value!r}, which {alone}, {leave}"))
    for index, plan in enumerate(spec.growth.plans if spec.growth is not None else ()):
        if plan.inherit.new == "eva":
            faults.append(Fault(f"growth.plans[{index}].inherit.new", f"got 'eva', which {alone}, {leave}"))
    return faults


def _device_faults(spec: RunSpec) -> list[Fault]:
    """Refuse what the engine's device does not read. On Ray a worker without a GPU sees none; one process sees all."""
    if spec.runtime.type != "ray":
        return []
    on_gpu = spec.runtime.gpus_per_rollout_worker > 0
    idle = ("kv_cache_gib", "lora_kernel") if on_gpu else ("gpu_memory_utilization",)
    reason = "above 0: a GPU's engine" if on_gpu else "0: an engine on CPU"
    return [
        Fault(f"engine.{name}", f"runtime.gpus_per_rollout_worker is {reason} does not read it; leave it out")
        for name in idle
        if not spec.engine.is_default(name)
    ]
