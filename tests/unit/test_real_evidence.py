"""The evidence on a real model: questions that nest, arms whose budgets and prompts are what their names say."""

import json
from pathlib import Path

import pytest

from benchmarks.real_arms import ARMS, STUDIES, arm_spec, drawn_terms, missing, write_data
from benchmarks.real_evidence import summarize, table
from neuromas.growth.controller import Controller
from neuromas.growth.plan import apply_plan
from neuromas.growth.schedule import check_schedule
from neuromas.rollout.prompt_text import PromptText
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Example
from neuromas.tasks.file import FileSpec
from neuromas.topology.graph import Topology

LEVELS = (2, 3, 4)


def spec_of(study: str, arm: str) -> RunSpec:
    return parse_run_spec(json.loads(json.dumps(arm_spec(study, arm, 0))))


def grown_graph(spec: RunSpec) -> Topology:
    assert spec.growth is not None
    graph = spec.topology
    for level in spec.growth.levels[:-1]:
        graph = apply_plan(graph, spec.growth.plans[0], examples_of=level).topology
    return graph


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_ends_at_its_size_after_as_many_rollouts(study: str, arm: str) -> None:
    spec, about = spec_of(study, arm), STUDIES[study]
    assert spec.training.steps == sum(about.stages)
    graphs: tuple[Topology, ...] = (spec.topology,)
    if spec.growth is not None:
        assert spec.growth.steps_per_level == (() if arm == "grown-sampled" else about.stages)
        graphs = check_schedule(Controller(spec.growth, about.levels, spec.training.steps), spec.topology, {})
    sizes = {"single": 1, "single-levels": 1, "grown-graft": 2**about.nodes - 1}
    assert len(graphs[-1].nodes) == sizes.get(arm, about.nodes)


@pytest.mark.parametrize("study", STUDIES)
def test_a_single_node_has_the_numbers_and_tokens_of_the_whole_graph(study: str) -> None:
    single, graph = spec_of(study, "single"), spec_of(study, "scratch")
    size = len(graph.topology.nodes)
    assert single.adapter.rank == size * graph.adapter.rank
    assert single.sampling.max_tokens == size * graph.sampling.max_tokens
    assert single.evaluation.votes == size


def test_questions_grow_or_stay_and_an_answer_says_the_sums_on_the_way() -> None:
    grows, stays, terms = STUDIES["three"], STUDIES["same"], (4, 9, 4, 5)
    asked = ["4 + 9", "(4 + 9) + 4", "((4 + 9) + 4) + 5"]
    assert [grows.question(terms[:level], level) for level in LEVELS] == asked
    assert [grows.answer(terms, level) for level in LEVELS] == ["13", "13 + 4 = 17", "13 + 4 = 17 + 5 = 22"]
    assert stays.question(terms[:3], 2) == "4 + 9\n+ 4"
    assert STUDIES["named"].question(terms[:3], 2) == "The first 2 numbers:\n4 + 9\n+ 4"
    assert [stays.answer(terms[:3], level) for level in (2, 3)] == ["4 + 9 = 13", "4 + 9 = 13 + 4 = 17"]


@pytest.mark.parametrize("level", LEVELS)
def test_no_question_is_both_trained_on_and_held_out(level: int) -> None:
    shown, train, test = drawn_terms(level)
    assert len({*shown, *train, *test}) == len(shown) + len(train) + len(test)
    assert (len(shown), len(train), len(test)) == {2: (2, 59, 20), 3: (2, 400, 48), 4: (2, 800, 48)}[level]


@pytest.mark.parametrize(
    ("study", "level"), [(study, level) for study, about in STUDIES.items() for level in about.levels]
)
def test_a_worked_answer_to_a_question_of_the_data_scores(tmp_path: Path, study: str, level: int) -> None:
    write_data(tmp_path)
    files = {name: str(tmp_path / study / f"{name}.jsonl") for name in ("train", "test")}
    task = FileSpec(type="file", **files, verifier="number", level_key="terms").make(0)
    about, example = STUDIES[study], task.example("test", 0, level)
    terms = about.drawn(level)[2][0]
    assert example.prompt == about.question(terms, level)
    assert task.score(example, about.answer(terms, level)) == 1.0
    assert task.score(example, about.answer(terms, level) + " + 1 = 0") == 0.0


@pytest.mark.parametrize("study", STUDIES)
def test_the_full_graph_with_the_prompts_of_the_grown_one_reads_the_same(study: str) -> None:
    grown, scratch, about = spec_of(study, "grown"), spec_of(study, "scratch-prompts"), STUDIES[study]
    level = about.levels[-1]
    example = Example("one", about.question((4, 9, 4, 5)[:level], level), "0", level)

    def prompts(spec: RunSpec, graph: Topology) -> list[str]:
        text = PromptText(spec.prompt)
        read = [[(sender, f"said by {sender}") for sender in graph.predecessors(node)] for node in graph.order]
        return [text.write(graph, node, example, said, 10) for node, said in zip(graph.order, read, strict=True)]

    first, *_, last = found = prompts(grown, grown_graph(grown))
    assert found == prompts(scratch, scratch.topology)
    assert f"Answer: {about.answer(about.drawn(2)[0][0], 2)}\n" in first
    assert last.endswith(f"Answer: said by n{len(found) - 1}")
    assert prompts(spec_of(study, "scratch"), spec_of(study, "scratch").topology)[:-1] != found[:-1]


def test_where_questions_stay_a_trained_node_reads_what_it_was_trained_on() -> None:
    spec, about, terms = spec_of("same", "grown"), STUDIES["same"], (4, 9, 4)
    before, after = (
        PromptText(spec.prompt).write(graph, "n1", Example("one", about.question(terms, level), "0", level), [], 10)
        for graph, level in ((spec.topology, 2), (grown_graph(spec), 3))
    )
    assert before == after


def test_a_node_is_asked_where_the_message_it_reads_stops() -> None:
    spec = spec_of("two", "grown")
    example = Example("one", "(4 + 9) + 4", "17", 3)
    text = PromptText(spec.prompt).write(grown_graph(spec), "n2", example, [("n1", "13")], 10)
    assert text.endswith("Task:\n(4 + 9) + 4\n\nAnswer: 13")


def test_arms_without_a_record_are_run_seed_by_seed() -> None:
    done = [{"study": "two", "arm": "grown", "seed": 0}]
    assert list(missing(done, ["two"], ["grown", "scratch"], [0, 1])) == [
        ("two", "scratch", 0),
        ("two", "grown", 1),
        ("two", "scratch", 1),
    ]


def record(seed: int, sampled: float, first: float) -> dict[str, object]:
    def share(value: float) -> dict[str, object]:
        return {"value": value, "examples": 36}

    result = {
        "topology": {"nodes": [{"id": "n1"}, {"id": "n2"}]},
        "trainable_parameters": 10,
        "accuracy": {"greedy": share(1.0), "sampled": share(sampled), "untrained_sampled": share(0.0)},
        "spending": {"rollouts": 864, "calls": 1440, "prompt_tokens": 9_000, "generated_tokens": 600},
        "seconds": {"total": 1.0},
        "versions": {},
    }
    return {"study": "two", "arm": "grown", "seed": seed} | summarize(result, [[0.5] * 6, [first] * 8 + [0.75] * 4])


def test_the_table_says_what_the_runs_said() -> None:
    titles, _, row = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table([record(1, 0.5, 0.25), record(0, 1.0, 0.0)], "two").splitlines()
    )
    assert dict(zip(titles, row, strict=True)) == {
        "sums of 3 digits, questions grow": "grown in step with the levels, new nodes fresh",
        "nodes": "2",
        "seeds": "0, 1",
        "greedy": "100.0 (100.0 to 100.0)",
        "sampled": "75.0 (50.0 to 100.0)",
        "vote": "-",
        "reward, first step of the last stage": "12.5 (0.0 to 25.0)",
        "reward, last 4 steps": "75.0 (75.0 to 75.0)",
        "rollouts": "864",
        "calls": "1,440",
        "tokens": "9,600",
    }


def test_a_study_of_which_nothing_has_finished_has_no_table() -> None:
    assert table([record(0, 1.0, 0.0)], "three") == "Sums of 4 digits, questions grow: no run has finished."
