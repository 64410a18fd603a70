"""What the tiny base practises: lessons that mix steps, copies and direct answers over questions of the rule tasks.

One row is a question with several branches. A branch is what one Node could see and say: its position, some incoming
signals, and one fact. Stated values are often wrong, so that a fact can only be right by reading the messages, and
positions are random, so that they carry no meaning until an adapter gives them one. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from neuromas.base.practice import Kind, Practice, draw_practice
from neuromas.base.symbols import BOS, EOS, MAX_POSITION, PROMPT_END, SIGNAL, SIGNAL_BODY, TASK_END
from neuromas.tasks.facts import Fact, Rule, derive

FORM_WEIGHT, NAME_WEIGHT, VALUE_WEIGHT = 0.2, 0.5, 1.0


@dataclass(frozen=True, slots=True)
class BranchMixture:
    """How the branches of one family are drawn. All shares are in [0, 1].

    Attributes:
        messages: numbers of incoming messages, drawn uniformly.
        copy: share of branches that repeat a message, when there is one.
        jump: share of branches that state any fact of the question outright, read or not.
        wrong: share of messages that state a random value.
        coherent: share of branches whose messages include all operands of one fact.
        shuffled: share of the coherent branches whose messages come in any order; the others keep that of the operands.
        jump_weights: weights of the names a jump states; names not listed weigh 1.
        step_weights: the same for a fact that follows in one step from the question or the messages.
    """

    messages: tuple[int, ...]
    copy: float
    jump: float
    wrong: float
    coherent: float = 0.0
    shuffled: float = 1.0
    jump_weights: dict[str, float] = field(default_factory=dict)
    step_weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Questions of one kind at levels drawn uniformly, in proportion ``weight`` of a stage's rows."""

    kind: Kind
    levels: tuple[int, ...]
    weight: float
    mixture: BranchMixture


@dataclass(frozen=True, slots=True)
class Branch:
    """Symbols of one branch after the shared question.

    Attributes:
        prompt: position, signals and the prompt end.
        completion: one fact in one of its surface forms, ended by ``<eos>``.
        weights: weight in the loss of each completion symbol.
    """

    prompt: tuple[str, ...]
    completion: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PracticeRow:
    """A question, up to and including the end of the task text, with branches that continue it independently."""

    question: tuple[str, ...]
    branches: tuple[Branch, ...]


def draw_row(rng: Random, lessons: Sequence[Lesson], num_branches: int) -> PracticeRow:
    """Return one random row of a stage's lessons."""
    lesson = rng.choices(lessons, [lesson.weight for lesson in lessons])[0]
    practice = draw_practice(rng, lesson.kind, rng.choice(lesson.levels))
    truth = derive(practice.rules)
    branches = tuple(_draw_branch(rng, practice, truth, lesson.mixture) for _ in range(num_branches))
    return PracticeRow(question_symbols(practice.question), branches)


def question_symbols(question: str) -> tuple[str, ...]:
    """Return the shared beginning of every Node's prompt."""
    return (BOS, *question.split(), TASK_END)


def prompt_symbols(position: tuple[int, int], signals: Sequence[tuple[tuple[int, int], str]] = ()) -> tuple[str, ...]:
    """Return the part of a compact prompt that differs between Nodes.

    Args:
        position: the Node's (layer, index), both from 1.
        signals: (position of the sender, message text) of each incoming signal.
    """
    words = list(_position(position))
    for sender, text in signals:
        words += [SIGNAL, *_position(sender), SIGNAL_BODY, *text.split()]
    return (*words, PROMPT_END)


def surface(rng: Random, fact: Fact) -> str:
    """Return a fact in one of its four surface forms."""
    opening = "so " if rng.random() < 0.3 else ""
    ending = " ." if rng.random() < 0.3 else ""
    return f"{opening}{fact}{ending}"


def _draw_branch(rng: Random, practice: Practice, truth: dict[str, int], mixture: BranchMixture) -> Branch:
    messages = _draw_messages(rng, practice, truth, mixture)
    fact = _draw_fact(rng, practice.rules, messages, mixture)
    prompt = prompt_symbols(_draw_position(rng), [(_draw_position(rng), surface(rng, message)) for message in messages])
    completion = (*surface(rng, fact).split(), EOS)
    return Branch(prompt, completion, tuple(_weight(word, fact) for word in completion))


def _draw_messages(rng: Random, practice: Practice, truth: dict[str, int], mixture: BranchMixture) -> list[Fact]:
    number = rng.choice(mixture.messages)
    names = [rng.choice(practice.rules).name for _ in range(number)]
    candidates = [rule.operands for rule in practice.rules if 0 < len(rule.operands) <= number]
    if candidates and rng.random() < mixture.coherent:
        operands = rng.choice(candidates)
        names[: len(operands)] = operands
        if rng.random() < mixture.shuffled:
            rng.shuffle(names)
    # A fact stated twice has one value, otherwise what follows from it would be undefined.
    stated = {
        name: rng.choice(practice.values) if rng.random() < mixture.wrong else truth[name]
        for name in dict.fromkeys(names)
    }
    return [Fact(name, stated[name]) for name in names]


def _draw_fact(rng: Random, rules: Sequence[Rule], messages: Sequence[Fact], mixture: BranchMixture) -> Fact:
    if messages and rng.random() < mixture.copy:
        return rng.choice(messages)
    stated = {message.name: message.value for message in messages}
    if rng.random() < mixture.jump:
        names, weights = [rule.name for rule in rules], mixture.jump_weights
    else:
        names, weights = [rule.name for rule in rules if stated.keys() >= set(rule.operands)], mixture.step_weights
    name = rng.choices(names, [weights.get(name, 1.0) for name in names])[0]
    return Fact(name, derive(rules, stated)[name])


def _draw_position(rng: Random) -> tuple[int, int]:
    return rng.randint(1, MAX_POSITION), rng.randint(1, MAX_POSITION)


def _position(position: tuple[int, int]) -> tuple[str, str]:
    return f"L{position[0]}", f"N{position[1]}"


def _weight(word: str, fact: Fact) -> float:
    if word == f"{fact.name}=":
        return NAME_WEIGHT
    return VALUE_WEIGHT if word == str(fact.value) else FORM_WEIGHT
