"""What a run will look like, before it begins: a question, what each node reads of it, and what the run will take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from neuromas.base.sizes import TRAINING_COPIES, read_sizes
from neuromas.engines.memory import engine_bytes
from neuromas.rollout.compact import CompactRenderer
from neuromas.rollout.prompt import make_renderer
from neuromas.run.expected_time import expected_time
from neuromas.run.preflight import Preflight
from neuromas.topology.graph import Topology
from neuromas.training.memory import plan_memory

Document = dict[str, Any]
_SHOWN_NODES: Final = 6
_FLOAT_BYTES: Final = 4


def preview(preflight: Preflight) -> Document:
    """Return the first question of the run, the prompts of its nodes and what the run takes, as plain data.

    Messages are not known yet: ``<message of n1>`` stands for that of n1, nothing for bases whose vocabulary is a list
    of words. Of large graphs the first nodes and the output are shown; of a graph that grows, what growth adds reads
    the first question of the last level (``grown``, else None).
    """
    from tokenizers import Tokenizer

    spec, graph, expected = preflight.spec, preflight.graphs[0], expected_time(preflight)
    levels = spec.growth.levels if spec.growth is not None and spec.growth.levels else (None,)
    tokenizer = Tokenizer.from_file(str(preflight.base.folder / "tokenizer.json"))
    seen = _question(preflight, graph, graph.order, levels[0])
    last = preflight.graphs[-1]
    added = tuple(node for node in last.order if node not in graph.order)
    return seen | {
        "grown": _question(preflight, last, added, levels[-1]) | {"nodes": len(last.nodes)} if added else None,
        "unknown_words": _unknown(tokenizer, seen["question"]),
        "memory_bytes": _memory(preflight),
        "time": None if expected is None else expected.to_document(),
    }


def _question(preflight: Preflight, graph: Topology, nodes: Sequence[str], level: int | None) -> Document:
    """Return the first question of a level, and what some nodes of a graph read of it."""
    spec = preflight.spec
    example = preflight.task.example("train", 0, level)
    renderer = make_renderer(spec.prompt, preflight.base.folder)
    is_compact = isinstance(renderer, CompactRenderer)
    prompts = {}
    for node in _shown(nodes):
        signals = [(sender, "" if is_compact else f"<message of {sender}>") for sender in graph.predecessors(node)]
        budget = graph.node(node).max_tokens or spec.sampling.max_tokens
        prompts[node] = renderer.spell(renderer.render(graph, node, example, signals, budget))
    return {"question": example.prompt, "answer": example.answer, "level": example.level, "prompts": prompts}


def preview_lines(document: Document, nodes: int) -> Iterator[str]:
    """Yield the preview for people."""
    yield from _asked("the first question", document)
    if words := document["unknown_words"]:
        yield f"warning: the base has no token for: {' '.join(words)}; it reads them as unknown"
    yield from _read(document)
    if hidden := nodes - len(document["prompts"]):
        yield f"and {hidden} more nodes"
    if grown := document["grown"]:
        yield from _asked(f"a question once grown to {grown['nodes']} nodes", grown)
        yield from _read(grown)


def _asked(title: str, seen: Document) -> Iterator[str]:
    level = "" if seen["level"] is None else f" (level {seen['level']})"
    yield f"{title}{level}:"
    yield from _indented(seen["question"])
    yield "its answer:"
    yield from _indented(seen["answer"])


def _read(seen: Document) -> Iterator[str]:
    for node, prompt in seen["prompts"].items():
        yield f"what {node} reads:"
        yield from _indented(prompt)


def memory_text(memory: Document) -> str:
    """Return the memory estimate for people."""
    parts = {"learner": "learner", "engine": "engine", "base": "base", "training": "adapters"}
    return ", ".join(f"{_size(memory[key])} {label}" for key, label in parts.items() if memory[key] is not None)


def passes_text(memory: Document) -> str:
    """Return how the update is cut, for people."""
    again = ", layers computed anew in the backward pass" if memory["gradient_checkpointing"] else ""
    return f"at most {memory['tokens_per_forward']:,} tokens{again}"


def time_texts(expected: Document | None) -> dict[str, str]:
    """Return the time estimate for people, and what it rests on."""
    if expected is None:
        return {"time": "not estimated for GPUs"}
    return {"time": expected["text"], "counted_for": expected["counted_for"]}


def _shown(nodes: Sequence[str]) -> Sequence[str]:
    return nodes if len(nodes) <= _SHOWN_NODES else (*nodes[: _SHOWN_NODES - 1], nodes[-1])


def _unknown(tokenizer: Any, text: str) -> list[str]:
    """Return the words for which the tokenizer has its unknown token alone."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    number = None if unknown is None else tokenizer.token_to_id(unknown)
    return (
        [] if number is None else [word for word in dict.fromkeys(text.split()) if number in tokenizer.encode(word).ids]
    )


def _memory(preflight: Preflight) -> Document:
    spec = preflight.spec
    sizes = read_sizes(preflight.base.folder, spec.adapters.targets)
    trained = max(map(preflight.num_trained, preflight.graphs))
    training, nodes = spec.training, max(len(graph.nodes) for graph in preflight.graphs)
    tokens = training.prompts_per_step * training.group_size * nodes * preflight.longest_call
    update = plan_memory(spec, None if sizes is None else sizes.dimensions, trained, tokens)
    engine = None
    if sizes is not None and spec.runtime.gpus_per_rollout_worker == 0:
        engine = engine_bytes(spec, preflight.engine, sizes, preflight.longest_call)
    return {
        "base": None if sizes is None else sizes.file_bytes,
        "training": trained * _FLOAT_BYTES * TRAINING_COPIES,
        "learner": update.peak_bytes,
        "engine": engine,
        "tokens_per_forward": update.tokens_per_forward,
        "gradient_checkpointing": update.gradient_checkpointing,
    }


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def _indented(text: str) -> Iterator[str]:
    return (f"    {line}" for line in text.splitlines() or [""])
