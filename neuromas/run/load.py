"""What a run computes: calls of nodes, and operations in the products of activations and weights. Loads no torch.

What prompts begin with in common is computed once, as engines and learner do: an engine what the rollouts of a question
share, in whole blocks where it is vLLM, and once for all questions what these share; a learner what a group shares. The
samples of a context share their whole prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neuromas.base.sizes import Dimensions
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.run.preflight import Preflight
from neuromas.spec.credit import calls_per_example
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology

_EXAMPLES: Final = 8
_PROMPTS: Final = 512
"""Prompts that are looked at; of large graphs those of fewer questions."""
_FORWARD: Final = 2
_UPDATE: Final = 4
"""Operations for each weight and token: a product and a sum; the same again for the gradient of the activations. The
weights have none: they are frozen."""


@dataclass(frozen=True, slots=True)
class Load:
    """What something computes.

    Attributes:
        calls: of nodes.
        operations: multiplications and additions.
    """

    calls: float = 0.0
    operations: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(self.calls + other.calls, self.operations + other.operations)

    def times(self, count: float) -> Load:
        """Return that of so many of it."""
        return Load(self.calls * count, self.operations * count)


@dataclass(frozen=True, slots=True)
class GraphLoad:
    """What one graph computes.

    Attributes:
        sampling: the rollouts of one question's group.
        update: learning from them.
        answer: one answer to a question in an evaluation.
    """

    sampling: Load
    update: Load
    answer: Load


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """Tokens of a node's prompt, on average.

    Attributes:
        whole: all of it.
        group: its beginning that all rollouts of a question share: what stands before the first message.
        always: its beginning that all questions share.
    """

    whole: float
    group: float
    always: float


def graph_load(preflight: Preflight, base: Dimensions, graph: Topology, level: int | None) -> GraphLoad:
    """Return what a group's rollouts, learning from them, and an answer in an evaluation compute."""
    spec = preflight.spec
    renderer, group = make_renderer(spec.prompt, preflight.base.folder), spec.training.group_size
    examples = preflight.task.sample("train", level, max(2, min(_EXAMPLES, _PROMPTS // len(graph.nodes))))
    block = spec.engine.block_size if preflight.engine == "vllm" else 1
    head, sampling, update, answer = base.hidden * base.vocabulary, Load(), Load(), Load()
    asked, again = calls_per_example(spec.training, graph), group - 1 if spec.training.credit != "shared" else 0
    for node in graph.order:
        lengths = prompt_lengths(spec, renderer, graph, node, examples)
        budget = _budget(spec, graph, node)
        shared, kept = (tokens // block * block for tokens in (lengths.group, lengths.always))
        said = budget * (base.layer_weights + head)
        calls, rest = asked[node], lengths.whole - lengths.whole // block * block
        read = (shared - kept) + (calls - again) * (lengths.whole - shared) + again * rest
        sampling += Load(calls, _FORWARD * (read * base.layer_weights + calls * said))
        answer += Load(1, _FORWARD * ((lengths.whole - kept) * base.layer_weights + said))
        packed = lengths.group + (group - again) * (lengths.whole - lengths.group)
        if spec.training.forward != "packed":
            packed = group * lengths.whole
        update += Load(group, _UPDATE * (packed * base.layer_weights + group * said))
    return GraphLoad(sampling, update, answer)


def prompt_lengths(
    spec: RunSpec, renderer: Renderer, graph: Topology, node: str, examples: Sequence[Example]
) -> PromptLengths:
    """Return how long a node's prompt is when its messages have the length of their budgets."""
    senders, limit = graph.predecessors(node), spec.prompt.max_signal_tokens
    budgets = [_budget(spec, graph, sender) for sender in senders]
    read = sum(tokens if limit is None else min(limit, tokens) for tokens in budgets)
    silent, spoken = (
        [
            renderer.render(graph, node, example, [(sender, text) for sender in senders], _budget(spec, graph, node))
            for example, text in zip(examples, texts, strict=True)
        ]
        for texts in ([""] * len(examples), [example.answer for example in examples])
    )
    mean = 1 / len(examples)
    group = mean * sum(shared_tokens(pair) for pair in zip(silent, spoken, strict=True))
    whole = mean * sum(map(len, silent)) + read
    return PromptLengths(whole, group, min(group, shared_tokens(silent)))


def shared_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with in common."""
    places = zip(*prompts, strict=False)
    return next((place for place, found in enumerate(places) if len(set(found)) > 1), min(map(len, prompts)))


def _budget(spec: RunSpec, graph: Topology, node: str) -> int:
    own = graph.node(node).max_tokens
    return spec.sampling.max_tokens if own is None else own
