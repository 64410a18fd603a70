"""Measures what a base can do before any adapter is trained: single steps, direct answers, and how messages end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from neuromas.base.curriculum import prompt_symbols, question_symbols
from neuromas.base.symbols import EOS, symbols
from neuromas.tasks.chain import HOP_NAMES, ChainProblem
from neuromas.tasks.facts import Fact, derive
from neuromas.tasks.tree import TreeProblem

Family = Literal["chain", "tree"]
_SENDER_LAYER, _READER_LAYER = 1, 2
_BUDGET = 16


@dataclass(frozen=True, slots=True)
class Probe:
    """A situation: a question at a level, true facts stated by messages, and the fact one would like to hear."""

    family: Family
    level: int
    stated: str
    wanted: str

    @property
    def label(self) -> str:
        """Short name in tables, such as ``chain5 C|B``."""
        return f"{self.family}{self.level} {self.wanted}|{self.stated or '-'}"


@dataclass(frozen=True, slots=True)
class Skill:
    """What the base does in a Probe.

    Attributes:
        probe: label of the Probe.
        value: share of questions whose value is right (most likely token) once the wanted name has been written.
        prior: mean probability, at temperature 1, that the message is about the wanted fact.
        names: the same for every name with a probability of at least 0.02.
    """

    probe: str
    value: float
    prior: float
    names: dict[str, float]


@dataclass(frozen=True, slots=True)
class Endings:
    """How messages sampled at temperature 1 end; shares of all messages.

    Attributes:
        one_fact: exactly one well-formed fact, ended by the end-of-sequence token.
        two_facts: more than one fact before the end-of-sequence token.
        unended: no end within the budget of 16 tokens.
        forced_fact: with the end-of-sequence token forbidden, at least two facts within the budget.
        forced_step: the same, and the last fact is true and one the first fact does not state.
    """

    one_fact: float
    two_facts: float
    unended: float
    forced_fact: float
    forced_step: float


def probes() -> tuple[Probe, ...]:
    """Return the situations of the skills table."""
    chain = [Probe("chain", 9, "", name) for name in HOP_NAMES]
    chain += [Probe("chain", 9, HOP_NAMES[k - 1], HOP_NAMES[k]) for k in range(1, len(HOP_NAMES))]
    chain += [Probe("chain", hops, "", HOP_NAMES[hops - 1]) for hops in (3, 5, 7)]
    chain += [Probe("chain", 5, HOP_NAMES[k - 1], HOP_NAMES[k]) for k in range(1, 5)]
    chain += [Probe("chain", 5, "A", "C"), Probe("chain", 7, "E", "G"), Probe("chain", 5, "AB", "C")]
    tree = [("", "A"), ("", "D"), ("", "E"), ("A", "E"), ("AB", "E"), ("DC", "F"), ("", "G"), ("E", "G"), ("EF", "G")]
    shallow = [("", "A"), ("", "E"), ("AB", "E")]
    deep = [("", "H"), ("HI", "L"), ("EF", "G"), ("LM", "N"), ("GN", "O"), ("", "E"), ("", "G"), ("", "O")]
    return (
        *chain,
        *(Probe("tree", 3, stated, wanted) for stated, wanted in tree),
        *(Probe("tree", 2, stated, wanted) for stated, wanted in shallow),
        *(Probe("tree", 4, stated, wanted) for stated, wanted in deep),
    )


@torch.no_grad()
def measure_skill(model: Qwen3ForCausalLM, probe: Probe, num_questions: int = 512, seed: int = 0) -> Skill:
    """Return the skill of a model (in evaluation mode) in one situation."""
    vocabulary = symbols()
    ids = {symbol: place for place, symbol in enumerate(vocabulary)}
    rng = Random(f"skills/{probe.label}/{seed}")
    problems = [_draw(rng, probe.family, probe.level) for _ in range(num_questions)]
    truths = [derive(problem.rules) for problem in problems]
    prompts = _prompts(problems, truths, probe.stated, ids)
    plain = _next_probabilities(model, prompts)
    opened = _next_probabilities(model, _append(prompts, ids["so"]))
    about = (plain + plain[:, ids["so"], None] * opened).mean(0)
    named = _next_probabilities(model, _append(prompts, ids[f"{probe.wanted}="]))
    right = torch.tensor([ids[str(truth[probe.wanted])] for truth in truths])
    names = {
        word[0]: round(float(about[ids[word]]), 3) for word in vocabulary if word[1:] == "=" if about[ids[word]] >= 0.02
    }
    value = float((named.argmax(-1) == right).float().mean())
    return Skill(probe.label, round(value, 3), round(float(about[ids[f"{probe.wanted}="]]), 3), names)


@torch.no_grad()
def measure_endings(model: Qwen3ForCausalLM, family: Family, level: int, num_questions: int = 512) -> Endings:
    """Return how a model (in evaluation mode) ends the message of a Node that sees only the question."""
    ids = {symbol: place for place, symbol in enumerate(symbols())}
    rng = Random(f"endings/{family}{level}")
    problems = [_draw(rng, family, level) for _ in range(num_questions)]
    truths = [derive(problem.rules) for problem in problems]
    prompts = _prompts(problems, truths, "", ids)
    generator = torch.Generator().manual_seed(0)
    free = _sample(model, prompts, generator)
    forced = _sample(model, prompts, generator, forbidden=ids[EOS])
    ended = [EOS in words for words in free]
    facts = [_facts(words[: words.index(EOS)] if EOS in words else words) for words in free]
    steps = [
        len(told) > 1 and told[-1].name != told[0].name and truth.get(told[-1].name) == told[-1].value
        for told, truth in zip(map(_facts, forced), truths, strict=True)
    ]
    return Endings(
        one_fact=_share([end and len(told) == 1 for end, told in zip(ended, facts, strict=True)]),
        two_facts=_share([len(told) > 1 for told in facts]),
        unended=_share([not end for end in ended]),
        forced_fact=_share([len(_facts(words)) > 1 for words in forced]),
        forced_step=_share(steps),
    )


def skills_table(model: Qwen3ForCausalLM, num_questions: int = 512) -> dict[str, Any]:
    """Return all skills as JSON-ready data: ``probes`` in the order of ``probes()``, and ``endings`` by family."""
    return {
        "probes": [asdict(measure_skill(model, probe, num_questions)) for probe in probes()],
        "endings": {
            "chain5": asdict(measure_endings(model, "chain", 5, num_questions)),
            "chain9": asdict(measure_endings(model, "chain", 9, num_questions)),
            "tree3": asdict(measure_endings(model, "tree", 3, num_questions)),
        },
    }


def _draw(rng: Random, family: Family, level: int) -> ChainProblem | TreeProblem:
    return ChainProblem.draw(rng, level) if family == "chain" else TreeProblem.draw(rng, level)


def _prompts(
    problems: Sequence[ChainProblem | TreeProblem], truths: Sequence[dict[str, int]], stated: str, ids: dict[str, int]
) -> Tensor:
    """Return (questions, seq) token ids; all prompts of a Probe are equally long."""
    texts = []
    for problem, truth in zip(problems, truths, strict=True):
        signals = [((_SENDER_LAYER, place), str(Fact(name, truth[name]))) for place, name in enumerate(stated, start=1)]
        layer = _READER_LAYER if signals else _SENDER_LAYER
        texts.append((*question_symbols(problem.question), *prompt_symbols((layer, 1), signals)))
    return torch.tensor([[ids[word] for word in text] for text in texts])


def _append(prompts: Tensor, token: int) -> Tensor:
    return torch.cat([prompts, torch.full((len(prompts), 1), token)], dim=1)


def _next_probabilities(model: Qwen3ForCausalLM, input_ids: Tensor) -> Tensor:
    """Return (questions, vocabulary) probabilities of the next token."""
    hidden = model.model(input_ids=input_ids, use_cache=False).last_hidden_state[:, -1]
    return torch.softmax(model.lm_head(hidden), dim=-1)


def _sample(
    model: Qwen3ForCausalLM, prompts: Tensor, generator: torch.Generator, forbidden: int | None = None
) -> list[list[str]]:
    """Return the symbols of one continuation per prompt, as many as the budget allows."""
    vocabulary, input_ids = symbols(), prompts
    for _ in range(_BUDGET):
        probabilities = _next_probabilities(model, input_ids)
        if forbidden is not None:
            probabilities[:, forbidden] = 0.0
        input_ids = torch.cat([input_ids, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return [[vocabulary[token] for token in row] for row in input_ids[:, prompts.shape[1] :].tolist()]


def _facts(words: Sequence[str]) -> list[Fact]:
    """Return every fact in a text, in order."""
    pairs = pairwise(words)
    return [Fact(name[0], int(value)) for name, value in pairs if name[1:] == "=" and value.isdigit()]


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / len(flags), 3)
