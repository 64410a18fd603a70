import re
from random import Random

import pytest

from neuromas.base.curriculum import Branch, BranchMixture, Lesson, draw_row, prompt_symbols, question_symbols, surface
from neuromas.base.practice import draw_practice
from neuromas.base.recipe import Recipe
from neuromas.base.resolve import resolve_base
from neuromas.base.symbols import symbols
from neuromas.rollout.prompt import make_renderer
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.chain import ChainProblem, ChainTask
from neuromas.tasks.facts import Fact, derive, parse_fact
from neuromas.topology.builders import layered

STAGES = Recipe.tiny().stages


def stated(branch: Branch) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"([A-Z])= (\d)", " ".join(branch.prompt))}


def test_practice_prompts_are_those_of_the_compact_renderer() -> None:
    example = ChainTask(5).example("train", 0)
    rendered = make_renderer(PromptSpec(), resolve_base("tiny")).render(
        layered([2]), "n3", example, [("n1", "so A= 3 ."), ("n2", "B= 1")]
    )
    practised = question_symbols(example.prompt) + prompt_symbols((2, 1), [((1, 1), "so A= 3 ."), ((1, 2), "B= 1")])
    assert tuple(symbols()[token] for token in rendered) == practised


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_completion_is_one_fact_in_known_symbols(stage) -> None:
    known, rng = set(symbols()), Random(1)
    for _ in range(30):
        row = draw_row(rng, stage.lessons, 4)
        assert set(row.question) <= known
        for branch in row.branches:
            assert {*branch.prompt, *branch.completion} <= known
            assert re.fullmatch(r"(so )?[A-Z]= \d( \.)? <eos>", " ".join(branch.completion))
            assert sorted(branch.weights)[-2:] == [0.5, 1.0]


def test_without_jumps_and_copies_a_chain_fact_is_the_first_hop_or_the_next_of_a_message() -> None:
    lesson = Lesson("chain", (5,), 1.0, BranchMixture((0, 1, 2), copy=0.0, jump=0.0, wrong=0.5))
    rng, steps = Random(2), 0
    for _ in range(100):
        row = draw_row(rng, [lesson], 3)
        problem = ChainProblem.parse(" ".join(row.question))
        for branch in row.branches:
            fact, told = parse_fact(" ".join(branch.completion)), stated(branch)
            before = chr(ord(fact.name) - 1)
            assert fact.name == "A" or before in told
            assert fact.value == problem.successor[told[before] if fact.name != "A" else problem.start]
            steps += fact.name != "A"
    assert steps > 50


def test_messages_are_wrong_and_facts_are_copied_as_often_as_asked_for() -> None:
    lesson = Lesson("chain", (9,), 1.0, BranchMixture((1,), copy=1.0, jump=0.0, wrong=0.4))
    rng, wrong = Random(3), 0
    for _ in range(1000):
        row = draw_row(rng, [lesson], 1)
        truth = derive(ChainProblem.parse(" ".join(row.question)).rules)
        told = stated(row.branches[0])
        fact = parse_fact(" ".join(row.branches[0].completion))
        assert told == {fact.name: fact.value}
        wrong += truth[fact.name] != fact.value
    assert wrong == pytest.approx(1000 * 0.4 * 7 / 8, abs=50)


def test_coherent_messages_state_both_operands() -> None:
    lesson = Lesson("tree", (3,), 1.0, BranchMixture((2,), copy=0.0, jump=0.0, wrong=0.0, coherent=1.0))
    rng = Random(4)
    for _ in range(50):
        branch = draw_row(rng, [lesson], 1).branches[0]
        assert set(stated(branch)) in ({"A", "B"}, {"C", "D"}, {"E", "F"})


def test_the_four_surface_forms_all_occur() -> None:
    rng = Random(5)
    assert {surface(rng, Fact("A", 7)) for _ in range(200)} == {"A= 7", "so A= 7", "A= 7 .", "so A= 7 ."}


def test_small_lookups_are_chains_over_few_symbols() -> None:
    practice = draw_practice(Random(6), "lookup", 3)
    pairs = dict(re.findall(r"(\d): (\d)", practice.question))
    assert len(pairs) == 3
    assert set(pairs) == set(pairs.values()) == set(map(str, practice.values))


def test_the_operands_of_a_combination_are_not_in_its_question() -> None:
    practice = draw_practice(Random(7), "combine", 1)
    assert re.fullmatch(r"([E-GL-O])= ([A-N]) [+-]([A-N]) find \1=", practice.question)
