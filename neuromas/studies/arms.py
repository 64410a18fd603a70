"""The arms of an honest comparison, as run specs made from one spec. Pure; ``studies.compare`` runs them.

All arms use the base, the task, the learning rate and the batch of the spec they are made from. What is held equal is
said in each arm's note: trained parameters, node calls, or optimizer steps (that is, rollouts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from neuromas.adapters.export import ENGINE_RANKS
from neuromas.errors import Fault, SpecError
from neuromas.growth.controller import Controller
from neuromas.growth.schedule import check_schedule
from neuromas.spec.growth import GrowthSpec
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import make_task
from neuromas.topology.builders import chain, layered
from neuromas.topology.graph import Node, Topology

SHARED_ADAPTER = "shared"
DEFAULT_ARMS: Final = ("graph", "untrained", "call", "single", "vote", "shared")
_TRAINED: Final = {"greedy": "greedy", "sampled": "sampled"}
_UNTRAINED: Final = {"greedy": "untrained", "sampled": "untrained_sampled"}
_VOTED: Final = {"sampled": "voted"}


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of a comparison.

    Attributes:
        name: for the command line and folders.
        title: for tables.
        note: what is equal to the other arms and what is not.
        make: from the spec under comparison to the arm's own; None for an arm that is read off another's run.
        of: name of that arm; "" with ``make``.
        reads: for each column, the figure of the run that stands in it.
    """

    name: str
    title: str
    note: str
    make: Callable[[RunSpec], RunSpec] | None
    of: str = ""
    reads: Mapping[str, str] = field(default_factory=lambda: _TRAINED)

    @property
    def is_trained(self) -> bool:
        """Whether what it measures was trained."""
        return self.reads is not _UNTRAINED

    @property
    def is_vote(self) -> bool:
        """Whether it asks a question so often as ``evaluation.votes`` says."""
        return self.reads is _VOTED


def arm(name: str) -> Arm:
    """Return the arm with this name.

    Raises:
        SpecError: there is none.
    """
    if name not in ARMS:
        raise SpecError("the comparison cannot run", [Fault("arms", f"got {name!r}; allowed are {', '.join(ARMS)}")])
    return ARMS[name]


def default_arms(spec: RunSpec) -> tuple[str, ...]:
    """Return the arms that a spec is compared with unless the user names others."""
    if spec.growth is not None:
        return ("grown", "scratch", "parent")
    return ("graph", "untrained") if spec.node_groups else DEFAULT_ARMS


def single_agent(spec: RunSpec) -> RunSpec:
    """Return one node that has the rank of all adapters together and makes as many calls in training.

    Its run also measures the vote of as many answers as the graph has nodes.
    """
    calls = len(spec.topology.nodes)
    training = spec.training.model_copy(update={"steps": spec.training.steps * calls})
    evaluation = spec.evaluation.model_copy(update={"votes": calls})
    return _update(_with_pooled_rank(spec), topology=chain(1), training=training, evaluation=evaluation, growth=None)


def long_agent(spec: RunSpec) -> RunSpec:
    """Return one node that may say as much in its one message as all nodes together.

    Raises:
        SpecError: that does not fit the engine's context.
    """
    own = spec.sampling.max_tokens
    budget = sum(own if node.max_tokens is None else node.max_tokens for node in spec.topology.nodes)
    if budget >= spec.engine.max_model_len:
        message = f"got {spec.engine.max_model_len}; the arm 'long' needs more than {budget} for its one message"
        raise SpecError("the comparison cannot run", [Fault("engine.max_model_len", message)])
    return _update(_with_pooled_rank(spec), topology=chain(1, Node("long", max_tokens=budget)), growth=None)


def shared_adapter(spec: RunSpec) -> RunSpec:
    """Return the same graph with one adapter for all nodes, of the size of all adapters together."""
    return _sharing(spec, spec.topology)


def refining(spec: RunSpec) -> RunSpec:
    """Return one model that reads its own last message and answers anew, as often as the graph has nodes.

    Source: Madaan et al. 2023, arXiv 2303.17651 (Self-Refine), without its prompts for feedback: as everywhere here,
    nobody is told a role.
    """
    return _sharing(spec, chain(len(spec.topology.nodes)))


def debating(spec: RunSpec) -> RunSpec:
    """Return copies of one model that read each other's messages in rounds, and one that then answers.

    Two speak in each round, three in the first where the number of calls asks for it. Source: Du et al. 2023, arXiv
    2305.14325, without its prompts.

    Raises:
        SpecError: the graph makes fewer than three calls, which is no debate.
    """
    calls = len(spec.topology.nodes)
    if calls < 3:
        message = f"got {calls} nodes; the arm 'debate' needs at least 3 calls"
        raise SpecError("the comparison cannot run", [Fault("topology", message)])
    rounds, odd = divmod(calls - 1, 2)
    return _sharing(spec, layered([2 + odd, *[2] * (rounds - 1)]))


def in_turn(spec: RunSpec) -> RunSpec:
    """Return the same graph, its nodes trained one after the other.

    Raises:
        SpecError: there are fewer steps than adapters.
    """
    steps, needed = spec.training.steps, len(spec.topology.adapters)
    if steps < needed:
        message = f"got {steps}; the arm 'in-turn' needs at least {needed}, one for each adapter"
        raise SpecError("the comparison cannot run", [Fault("training.steps", message)])
    return _update(spec, training=spec.training.model_copy(update={"in_turn": True}), growth=None)


def from_scratch(spec: RunSpec) -> RunSpec:
    """Return the graph that growth ends with, trained on the target level for the same number of steps."""
    return _update(spec.with_topology(final_topology(spec)), growth=None)


def from_scratch_by_levels(spec: RunSpec) -> RunSpec:
    """Return the graph that growth ends with, walking through the same levels without growing."""
    return _update(spec.with_topology(final_topology(spec)), growth=_levels_only(spec))


def parent(spec: RunSpec) -> RunSpec:
    """Return the graph that growth begins with, trained on the target level for the same number of steps."""
    _growth(spec)
    return _update(spec, growth=None)


def parent_by_levels(spec: RunSpec) -> RunSpec:
    """Return the graph that growth begins with, walking through the same levels without growing."""
    return _update(spec, growth=_levels_only(spec))


def final_topology(spec: RunSpec) -> Topology:
    """Return the graph that a growth schedule ends with when every stage reaches its end.

    Raises:
        SpecError: the spec does not grow, or grafts other checkpoints.
    """
    task = make_task(spec.task, spec.seed)
    return check_schedule(Controller(_growth(spec), task.levels, spec.training.steps), spec.topology, {})[-1]


def _itself(spec: RunSpec) -> RunSpec:
    return spec


def _grown(spec: RunSpec) -> RunSpec:
    _growth(spec)
    return spec


def _sharing(spec: RunSpec, graph: Topology) -> RunSpec:
    nodes = tuple(replace(node, adapter=SHARED_ADAPTER) for node in graph.nodes)
    return _update(_with_pooled_rank(spec), topology=replace(graph, nodes=nodes), growth=None)


def _with_pooled_rank(spec: RunSpec) -> RunSpec:
    """Give one adapter the size of all."""
    num = len(spec.topology.adapters)
    if spec.node_groups:
        message = f"got {', '.join(spec.node_groups)}; adapters of several kinds cannot be pooled in one"
        raise SpecError("the comparison cannot run", [Fault("node_groups", f"{message}; leave this arm out")])
    try:
        pooled = spec.adapter.pooled(num)
    except SpecError as error:
        faults = [Fault(f"adapter.{fault.path}", fault.message) for fault in error.faults]
        raise SpecError("the comparison cannot run", faults) from error
    if pooled.served_rank > ENGINE_RANKS[-1]:
        own, most = spec.adapter.served_rank, ENGINE_RANKS[-1]
        message = f"{num} adapters of rank {own} pooled in one exceed rank {most}; lower it for this arm"
        raise SpecError("the comparison cannot run", [Fault("adapter.rank", message)])
    return _update(spec, adapter=pooled)


def _levels_only(spec: RunSpec) -> GrowthSpec:
    return _growth(spec).model_copy(update={"plans": (), "trial": None})


def _growth(spec: RunSpec) -> GrowthSpec:
    if spec.growth is None:
        raise SpecError("the comparison cannot run", [Fault("growth", "this arm needs a spec that grows")])
    return spec.growth


def _update(spec: RunSpec, **changes: object) -> RunSpec:
    return spec.model_copy(update=changes)


ARMS: Mapping[str, Arm] = {
    entry.name: entry
    for entry in (
        Arm("graph", "trained graph", "one adapter per node, trained jointly", _itself),
        Arm("untrained", "untrained graph", "the same graph on the bare base", None, "graph", _UNTRAINED),
        Arm("call", "single call", "one call of the bare base", None, "single", _UNTRAINED),
        Arm("single", "single agent", "same trained parameters in one adapter, same number of calls", single_agent),
        Arm("vote", "single agent, majority vote", "as many answers as the graph has nodes", None, "single", _VOTED),
        Arm("long", "single agent, long message", "same parameters, rollouts and tokens in one message", long_agent),
        Arm("shared", "one shared adapter", "same graph, same trained parameters in one adapter", shared_adapter),
        Arm("refine", "self-refine", "one adapter of the same size reads its own last message, same calls", refining),
        Arm("refine-untrained", "self-refine, untrained", "the same on the bare base", None, "refine", _UNTRAINED),
        Arm("debate", "debate", "one adapter of the same size, two speakers in rounds, same calls", debating),
        Arm("debate-untrained", "debate, untrained", "the same on the bare base", None, "debate", _UNTRAINED),
        Arm("in-turn", "nodes trained in turn", "same graph, same rollouts, one adapter after the other", in_turn),
        Arm("grown", "grown graph", "grown with the task's levels", _grown),
        Arm("scratch", "full size from scratch", "same final graph, same rollouts, target level only", from_scratch),
        Arm("scratch-levels", "full size, same levels", "same final graph, levels, no growth", from_scratch_by_levels),
        Arm("parent", "small graph", "the graph before growth, same rollouts, target level only", parent),
        Arm("parent-levels", "small graph, same levels", "the graph before growth, levels", parent_by_levels),
    )
}
"""All arms by name."""
