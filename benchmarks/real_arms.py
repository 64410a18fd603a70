"""The arms of the evidence on a real model: sums of more and more digits, and graphs with a node for each. Pure.

The answer of each level is an intermediate fact of the next. Where questions grow, level k asks for k numbers,
"((4 + 9) + 4) + 5"; where they stay, every level shows all numbers, a line each from the second on, and wants the sum
of the first k. The worked examples of a level say the sums on the way, "13 + 4 = 17 + 5 = 22", and the template lets a
node go on where the message that it reads stops: "Answer: 13" is answered by "+ 4 = 17".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path
from random import Random
from typing import Any, Final

Document = dict[str, Any]
Terms = tuple[int, ...]

FIRST_LEVEL: Final = 2
_HELD_OUT: Final[Mapping[int, int]] = {2: 20, 3: 48, 4: 48}
_TRAINED: Final[Mapping[int, int]] = {2: 59, 3: 400, 4: 800}
_WORKED: Final = 2
_MESSAGE_TOKENS: Final = 10
_RANK: Final = 8
_EXAMPLES: Final = 36


@dataclass(frozen=True)
class RealStudy:
    """Sums of up to ``levels[-1]`` digits.

    Attributes:
        levels: of the stages of a grown graph, which begins with one node and gets one at each change.
        stages: optimizer steps of each; all arms take as many in total.
        stays: whether the questions of all levels show all numbers.
        names: whether a question says how many of them it asks for.
    """

    levels: tuple[int, ...]
    stages: tuple[int, ...]
    stays: bool = False
    names: bool = False

    @property
    def nodes(self) -> int:
        """Nodes of the full graph."""
        return len(self.levels)

    def drawn(self, level: int) -> tuple[list[Terms], list[Terms], list[Terms]]:
        """Return the numbers of a level's worked examples, its training and its test questions, all different."""
        return drawn_terms(self.levels[-1] if self.stays else level)

    def question(self, terms: Terms, level: int) -> str:
        """Return what is asked of these numbers."""
        asked = in_lines(terms) if self.stays else bracketed(terms)
        return f"The first {level} numbers:\n{asked}" if self.names else asked

    def answer(self, terms: Terms, level: int) -> str:
        """Return the answer at a level with the sums on the way; where questions stay, the first sum is written out."""
        said = worked(terms[:level])
        return f"{terms[0]} + {terms[1]} = {said}" if self.stays else said


STUDIES: Final[Mapping[str, RealStudy]] = {
    "two": RealStudy(levels=(2, 3), stages=(6, 12)),
    "same": RealStudy(levels=(2, 3), stages=(6, 12), stays=True),
    "named": RealStudy(levels=(2, 3), stages=(6, 12), stays=True, names=True),
    "three": RealStudy(levels=(2, 3, 4), stages=(6, 10, 14)),
    "same-three": RealStudy(levels=(2, 3, 4), stages=(6, 10, 14), stays=True),
}


def in_lines(terms: Terms) -> str:
    """Return the sum to be asked for, the first two numbers in one line, the others in lines of their own."""
    return "\n+ ".join([f"{terms[0]} + {terms[1]}", *map(str, terms[2:])])


def bracketed(terms: Terms) -> str:
    """Return the sum to be asked for, a bracket around each part that is added to."""
    text = f"{terms[0]} + {terms[1]}"
    for term in terms[2:]:
        text = f"({text}) + {term}"
    return text


def worked(terms: Terms) -> str:
    """Return the answer with the sums on the way, the first of them by itself."""
    first, *sums = list(accumulate(terms))[1:]
    return " ".join([str(first), *(f"+ {term} = {total}" for term, total in zip(terms[2:], sums, strict=True))])


def drawn_terms(level: int) -> tuple[list[Terms], list[Terms], list[Terms]]:
    """Return the questions of a level for worked examples, training and tests, all of them different."""
    every = list(product(range(1, 10), repeat=level))
    Random(f"real/{level}").shuffle(every)
    shown, held_out = every[:_WORKED], every[_WORKED : _WORKED + _HELD_OUT[level]]
    return shown, every[_WORKED + _HELD_OUT[level] :][: _TRAINED[level]], held_out


def write_data(folder: Path) -> None:
    """Write the questions of each study into a folder of its name; every time the same ones."""
    for study, about in STUDIES.items():
        (folder / study).mkdir(parents=True, exist_ok=True)
        for name, split in (("train", 1), ("test", 2)):
            rows = (
                json.dumps({"question": about.question(terms, level), "answer": sum(terms[:level]), "terms": level})
                for level in about.levels
                for terms in about.drawn(level)[split]
            )
            (folder / study / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def arm_spec(study: str, arm: str, seed: int) -> Document:
    """Return the run spec of one arm; its task reads the study's folder beside it, see ``write_data``.

    Raises:
        KeyError: the study or the arm does not exist.
    """
    about = STUDIES[study]
    spec: Document = {
        "name": f"{study}-{arm}-s{seed}",
        "seed": seed,
        "base": "smollm2-135m",
        "task": {
            "type": "file",
            "train": f"{study}/train.jsonl",
            "test": f"{study}/test.jsonl",
            "verifier": "number",
            "level_key": "terms",
        },
        "prompt": _prompt(about, _continued(about.nodes)),
        "sampling": {"max_tokens": _MESSAGE_TOKENS},
        "adapter": {"type": "lora", "rank": _RANK},
        "training": _training(about),
        "evaluation": {"examples": _EXAMPLES},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_every": 2, "rollouts_per_sample": 4},
        "engine": {"type": "transformers", "max_model_len": 192},
        "runtime": {"type": "local"},
    }
    return spec | ARMS[arm](about)


def _training(study: RealStudy) -> Document:
    return {"steps": sum(study.stages), "prompts_per_step": 6, "group_size": 8, "warmup_steps": 2}


def _prompt(study: RealStudy, template: str, *, by_level: bool = True, totals: bool = False) -> Document:
    shown = study.levels if by_level else study.levels[-1:]
    return {
        "renderer": "plain",
        "template": template,
        "cue": "",
        "stop": ["\n"],
        "demonstrations": [
            {
                "question": study.question(terms, level),
                "answer": str(sum(terms[:level])) if totals else study.answer(terms, level),
            }
            | ({"level": level} if by_level else {})
            for level in shown
            for terms in study.drawn(level)[0]
        ],
    }


def _continued(nodes: int) -> str:
    """Return the template of a node that goes on where the message it reads stops."""
    messages = "".join(f"{{messages[n{index}]}}" for index in range(1, nodes))
    return f"{{demonstrations}}\n\nTask:\n{{question}}\n\nAnswer: {messages}"


def _grown(study: RealStudy, *, new: str = "fresh", old: str = "train", edit: Document | None = None) -> dict[str, Any]:
    edits = [edit or {"edit": "append", "layers": [1]}]
    plan = {"edits": edits, "inherit": {"new": new, "old": old}}
    return {"topology": {"chain": 1}, "growth": _stages(study, [plan])}


def _stages(study: RealStudy, plans: Sequence[Document]) -> Document:
    return {
        "levels": list(study.levels),
        "plans": list(plans),
        "trigger": {"type": "steps"},
        "steps_per_level": list(study.stages),
    }


def _grown_one_prompt(study: RealStudy) -> Document:
    """Every node is shown the worked examples of the last level, whatever it was trained on."""
    return _grown(study) | {"prompt": _prompt(study, _continued(study.nodes), by_level=False)}


def _grown_letters(study: RealStudy, *, totals: bool = False) -> Document:
    """Messages stand between the question and the answer, with their senders, as by default."""
    template = "{demonstrations}\n\nTask:\n{question}\n\n{messages}\n\nAnswer:"
    return _grown(study) | {"prompt": _prompt(study, template, totals=totals)}


def _grown_totals(study: RealStudy) -> Document:
    """As "grown-letters", with worked examples that say the last sum alone."""
    return _grown_letters(study, totals=True)


def _grown_before(study: RealStudy) -> Document:
    """New nodes are asked first; the output, which keeps its level's worked examples, goes on where they stop."""
    prompt = _prompt(study, _continued(study.nodes + 1))
    return _grown(study, edit={"edit": "before_output"}) | {"prompt": prompt}


def _grown_graft(study: RealStudy) -> Document:
    """Growth of two nodes' study: a new output goes on where the old one stops, and reads a new sibling before that."""
    template = "{demonstrations}\n\nTask:\n{question}\n{messages[n2]}\nAnswer: {messages[n1]}"
    return _grown(study, edit={"edit": "graft"}) | {"prompt": _prompt(study, template)}


def _grown_credit(study: RealStudy) -> Document:
    """Each call is compared with others of its node in its context; as many calls as in "grown", or a few less."""
    return _grown(study) | {"training": _training(study) | {"credit": "counterfactual", "group_size": 6}}


def _grown_sampled(study: RealStudy) -> Document:
    """A level ends once sampled answers to validation questions are right; the last one takes what steps are left."""
    trigger = {
        "type": "threshold",
        "accuracy": 0.9,
        "sampled_accuracy": 0.9,
        "every": 2,
        "min_steps": 2,
        "examples": 20,
    }
    growth = _grown(study)["growth"] | {"trigger": trigger}
    del growth["steps_per_level"]
    return _grown(study) | {"growth": growth}


def _scratch_prompts(study: RealStudy) -> Document:
    """The prompts that the nodes of the grown graph have: each is shown the worked examples of a level of its own."""
    nodes = [
        {
            "id": f"n{layer}",
            "position": [layer, 1],
            "view": {"role": "output", "depth": layer, "width": 1, "level": level},
        }
        for layer, level in enumerate(study.levels, start=1)
    ]
    edges = [[f"n{layer}", f"n{layer + 1}"] for layer in range(1, study.nodes)]
    return {"topology": {"nodes": nodes, "edges": edges}}


def _single(study: RealStudy) -> Document:
    """One node: the trained numbers and the tokens of an answer of all nodes together, and a vote of as many calls."""
    return {
        "topology": {"chain": 1},
        "sampling": {"max_tokens": study.nodes * _MESSAGE_TOKENS},
        "adapter": {"type": "lora", "rank": study.nodes * _RANK},
        "evaluation": {"examples": _EXAMPLES, "votes": study.nodes},
    }


ARMS: Final[Mapping[str, Callable[[RealStudy], Document]]] = {
    "grown": _grown,
    "scratch": lambda study: {"topology": {"chain": study.nodes}},
    "scratch-prompts": _scratch_prompts,
    "scratch-levels": lambda study: {"topology": {"chain": study.nodes}, "growth": _stages(study, [])},
    "single": _single,
    "single-levels": lambda study: _single(study) | {"growth": _stages(study, [])},
    "grown-copy": lambda study: _grown(study, new="copy"),
    "grown-frozen": lambda study: _grown(study, old="freeze"),
    "grown-one-prompt": _grown_one_prompt,
    "grown-letters": _grown_letters,
    "grown-totals": _grown_totals,
    "grown-eva": lambda study: _grown(study, new="eva"),
    "grown-before": _grown_before,
    "grown-graft": _grown_graft,
    "grown-credit": _grown_credit,
    "grown-sampled": _grown_sampled,
}
"""What is compared, the arms that the page needs first."""

TITLES: Final[Mapping[str, str]] = {
    "grown": "grown in step with the levels, new nodes fresh",
    "scratch": "full graph on the last level",
    "scratch-prompts": "full graph on the last level, prompts of the grown one",
    "scratch-levels": "full graph, the same levels",
    "single": "one node on the last level",
    "single-levels": "one node, the same levels",
    "grown-copy": "grown, new nodes as copies",
    "grown-frozen": "grown, old nodes frozen",
    "grown-one-prompt": "grown, worked examples of the last level for all",
    "grown-letters": "grown, messages with their senders, before the answer",
    "grown-totals": "the same, worked examples with the last sum alone",
    "grown-eva": "grown, new nodes start from what they read (EVA)",
    "grown-before": "grown in front of the output",
    "grown-graft": "grown by a graft: a sibling and a new output",
    "grown-credit": "grown, counterfactual credit",
    "grown-sampled": "grown once sampled answers are right",
}


def missing(
    done: Sequence[Document], studies: Sequence[str], arms: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[str, str, int]]:
    """Yield (study, arm, seed) of what is not done, all arms of a seed before the next one."""
    finished = {(row["study"], row["arm"], row["seed"]) for row in done}
    for seed, study, arm in product(seeds, studies, arms):
        if (study, arm, seed) not in finished:
            yield study, arm, seed
