"""RolloutBatch: the order for one batch of rollouts. Frozen and picklable; it crosses process boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuromas.adapters.ref import AdapterRef
from neuromas.errors import RolloutError
from neuromas.rollout.record import Provenance
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Example, Task
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class Substitution:
    """What one Node reads in place of another's message; the message itself is sampled and recorded as ever.

    Attributes:
        sender: whose message is replaced.
        reader: who reads the other text.
        texts: example id -> the text; examples that are not in it keep the message.
    """

    sender: str
    reader: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """``group_size`` rollouts of each example on one Topology.

    Attributes:
        topology: the graph.
        examples: the questions, in the order in which their Groups are returned. The same example given twice gives
            the same rollouts twice: seeds depend on the example's id, not on its place, so that a batch may be split
            over several workers without changing a single token.
        group_size: rollouts per example, G >= 1.
        adapters: adapter name -> version that samples for it; None is the bare base.
        sampling: budget, temperature and top-p of Nodes that set none of their own.
        greedy: take the most probable token everywhere, whatever ``sampling`` and the Nodes say.
        seed: with the provenance, the example and the Node it makes every call's own seed.
        provenance: copied to every Rollout.
        task: scores the answers; None leaves that to the task the worker was made with.
        substitutions: what is read in place of messages, at most one for each edge.
        given: messages by Node; these Nodes are not asked, and their calls are recorded without tokens.
        replays: how many times each Node is asked anew in the context of its example's one rollout, the anchor: it
            and all that its message reaches are sampled, every other message is the anchor's.
    """

    topology: Topology
    examples: tuple[Example, ...]
    group_size: int
    adapters: Mapping[str, AdapterRef | None]
    sampling: SamplingSpec
    greedy: bool
    seed: int
    provenance: Provenance
    task: Task | None = None
    substitutions: tuple[Substitution, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict, hash=False)
    replays: int = 0

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise RolloutError(f"group_size is {self.group_size}, expected at least 1")
        if self.replays and (self.group_size > 1 or self.given):
            raise RolloutError(
                f"replays have one anchor that asks every node; got group_size {self.group_size} and "
                f"{len(self.given)} given messages"
            )
        missing = [name for name in self.topology.adapters if name not in self.adapters]
        if missing:
            raise RolloutError(
                f"no version given for the adapters {', '.join(missing)}; name an AdapterRef, or None for the bare base"
            )
        check_given(self.topology, self.given)
        for entry in self.substitutions:
            if entry.sender not in self.topology.predecessors(entry.reader):
                raise RolloutError(f"a message is replaced on {entry.sender} -> {entry.reader}, which is not an edge")

    @property
    def rollouts_per_example(self) -> int:
        """Rollouts of each example, replays included."""
        return self.group_size + self.replays * len(self.topology.nodes)


def check_given(topology: Topology, given: Mapping[str, str]) -> None:
    """Refuse messages of Nodes that a graph does not have, and of its output, whose message is the answer.

    Raises:
        RolloutError: names them.
    """
    known = {*topology.order} - {topology.output}
    if unknown := [node for node in given if node not in known]:
        raise RolloutError(
            f"messages are given for {', '.join(map(repr, unknown[:3]))}; the graph has no such node, or it is the "
            f"output {topology.output!r}, whose message is the answer"
        )
