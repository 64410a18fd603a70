"""The Python way in: the ten lines of the README on a small base, and what a notebook shows of their results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import neuromas as nm
from neuromas.cli.main import main
from neuromas.journal.events import Event, StepDone
from neuromas.tasks.base import Split
from neuromas.tasks.given import GivenSpec


@pytest.fixture(scope="module")
def spec(small_base: Path) -> nm.RunSpec:
    return nm.parse_run_spec(
        {
            "name": "small",
            "base": str(small_base),
            "topology": {"chain": 2},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 2, "prompts_per_step": 2, "group_size": 2},
            "evaluation": {"examples": 8},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def result(spec: nm.RunSpec, events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> nm.RunResult:
    return nm.train(spec, tmp_path_factory.mktemp("runs"), events.append)


@pytest.fixture(scope="module")
def graph(result: nm.RunResult) -> Iterator[nm.TrainedGraph]:
    with nm.load(result.folder) as loaded:
        yield loaded


EXAMPLES = Path(__file__).parents[2] / "examples"
NOISE_SETTINGS = ("HF_HUB_DISABLE_PROGRESS_BARS", "TORCH_CPP_LOG_LEVEL", "TRANSFORMERS_VERBOSITY", "VLLM_LOGGING_LEVEL")
OURS = (
    "CPU threads",
    "checking the spec",
    "evaluating,",
    "importing and starting the engine",
    "loading the base for training",
    "measuring the",
    "stage-0",
    "  validation accuracy",
    "writing report.html",
)


def said(answer: nm.Answer) -> list[tuple[str, str, str]]:
    """All of a trace but its log-probabilities, whose last digits depend on what else is in the batch."""
    return [(message.node, message.prompt, message.text) for message in answer.trace]


def test_a_spec_built_in_code_is_the_one_of_a_file(spec: nm.RunSpec, tmp_path: Path) -> None:
    document = spec.model_dump(mode="json")
    (tmp_path / "run.json").write_text(json.dumps(document))
    built = nm.RunSpec(**{**document, "topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}})
    assert nm.load_spec(str(tmp_path / "run.json")) == built == spec


def test_training_tells_its_steps_and_leaves_the_figures(result: nm.RunResult, events: list[Event]) -> None:
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2]
    stored = json.loads((result.folder / "result.json").read_text())["accuracy"]
    assert result.accuracy == {mode: figure["value"] for mode, figure in stored.items()}
    assert result.folder.name == "small"


def test_progress_is_shown_where_nobody_asks_for_events(
    spec: nm.RunSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nm.train(spec.model_copy(update={"name": "shown"}), tmp_path)
    shown = capsys.readouterr()
    assert "step 2/2 · reward" in shown.err
    assert shown.out == ""


def test_the_command_line_prints_what_the_functions_return(
    result: nm.RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    found = nm.evaluate(result.folder, sampled=True)
    assert found.accuracy["greedy"] == result.accuracy["greedy"]
    capsys.readouterr()
    assert main(["eval", str(result.folder), "--sampled", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.document))
    assert main(["eval", str(result.folder)]) == 0
    assert str(found).splitlines()[0] == capsys.readouterr().out.splitlines()[0]


def test_an_answer_is_the_evaluations_and_its_trace_is_every_message(graph: nm.TrainedGraph) -> None:
    question = "0: 5 1: 3 2: 7 3: 0 4: 6 5: 2 6: 1 7: 4 start 2 find B="
    answer = graph.ask(question)
    first, last = answer.trace
    assert (first.node, last.node) == graph.topology.order
    assert answer.text == str(answer) == last.text
    assert first.prompt.startswith(question)
    assert first.text in last.prompt
    assert first.logprob < 0 < first.tokens
    again, other = graph.ask_all([question, question.replace("start 2", "start 3")])
    assert said(again) == said(answer)
    assert other.trace[0].prompt != first.prompt
    drawn = [said(graph.ask(question, temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_more_questions_than_a_server_would_queue_are_answered(graph: nm.TrainedGraph) -> None:
    questions = [f"0: 1 1: 0 start {k % 2} find A=" for k in range(400)]
    assert len(graph.ask_all(questions)) == 400


def test_a_graph_that_was_closed_answers_again(graph: nm.TrainedGraph) -> None:
    answer = graph.ask("0: 1 1: 0 start 0 find A=")
    graph.close()
    graph.close()
    assert said(graph.ask("0: 1 1: 0 start 0 find A=")) == said(answer)


def test_growing_makes_a_child_with_the_parents_lineage(result: nm.RunResult) -> None:
    child = nm.grow(result.folder, 1, steps=1, overrides=["task.hops=3"], out=result.folder.parent)
    assert child.folder.name == "small-grown"
    assert len(child.document["topology"]["nodes"]) == 3
    assert child.document["lineage"][0]["parent"].startswith(str(result.folder))
    with pytest.raises(nm.SpecError, match="give exactly one"):
        nm.grow(result.folder)


def test_analysis_is_kept_in_the_runs_folder_with_what_a_page_draws(result: nm.RunResult) -> None:
    found = nm.analyze(result.folder, examples=4)
    document = json.loads((result.folder / "analysis.json").read_text())
    assert document == json.loads(json.dumps(found.document))
    assert [node["node"] for node in document["nodes"]] == ["n1", "n2"]
    assert [edge["change"] for edge in document["edges"]] == ["n1 -> n2"]
    assert {"gain", "low", "high", "p_value"} <= document["edges"][0]["effect"].keys()
    assert str(found).startswith("greedy accuracy ")
    assert str(found).count("the base's perplexity ") == 2
    assert all(node["perplexity"] >= 1 for node in document["nodes"])


class Letters(nm.Task):
    """Repeat a letter; a class of a program, which nobody can import by name from a run's folder."""

    def example(self, split: Split, index: int, level: int | None = None) -> nm.Example:
        return nm.Example(f"{split}/{index}", f"start {2 * index + (split == 'test')} find A=", "A= 1", level)

    def score(self, example: nm.Example, text: str) -> float:
        return float(text == example.answer)


def test_a_task_and_a_reward_may_be_objects_of_the_program(spec: nm.RunSpec, tmp_path: Path) -> None:
    asked: list[str] = []

    def reward(example: nm.Example, text: str) -> nm.Score:
        asked.append(example.prompt)
        return nm.Score(0.5, {"length": len(text)})

    # The spec leaves the runtime at its default, which has other processes.
    document = spec.model_dump(mode="json", exclude={"runtime"}) | {"name": "given"}
    result = nm.train(nm.parse_run_spec(document), tmp_path, task=Letters(), reward=reward)
    assert result.accuracy["greedy"] == 0.5
    assert all(prompt.startswith("start ") for prompt in asked)
    assert nm.evaluate(result.folder).accuracy == {"greedy": 0.5}
    stored = json.loads((result.folder / "spec.resolved.json").read_text())
    assert stored["task"]["name"] == f"{__name__}.Letters with {reward.__module__}.{reward.__qualname__}"
    assert stored["runtime"]["type"] == "local"
    with nm.load(result.folder) as graph:
        assert graph.ask("start 1 find A=").trace


def test_a_reward_may_score_the_spec_s_own_questions(spec: nm.RunSpec, tmp_path: Path) -> None:
    result = nm.train(spec.model_copy(update={"name": "rewarded"}), tmp_path, reward=lambda _, text: float(not text))
    assert 0 <= result.accuracy["greedy"] <= 1
    assert "chain" not in json.loads((result.folder / "spec.resolved.json").read_text())["task"]["type"]


def test_objects_are_refused_where_other_processes_would_need_them(spec: nm.RunSpec, tmp_path: Path) -> None:
    on_ray = nm.parse_run_spec(spec.model_dump(mode="json", exclude={"runtime"}) | {"runtime": {"type": "ray"}})
    with pytest.raises(nm.SpecError, match=r'got "ray", whose processes cannot have the objects'):
        nm.train(on_ray, tmp_path, task=Letters())
    with pytest.raises(nm.NeuroMASError, match=r"x\.Y was given to train\(\) as a Python object"):
        GivenSpec(type="given", name="x.Y").make(0)


def test_a_graph_is_served_beside_the_program(result: nm.RunResult) -> None:
    with nm.serve(result.folder) as served:
        question = {"model": "small", "messages": [{"role": "user", "content": "0: 1 1: 0 start 0 find A="}]}
        answer = httpx.post(f"{served.url}/chat/completions", json=question, timeout=60).json()
        said = answer["choices"][0]["message"]["content"]
        with nm.load(result.folder) as graph:
            assert said == graph.ask("0: 1 1: 0 start 0 find A=").text
        port = int(served.url.split(":")[2].split("/")[0])
        with pytest.raises(nm.SpecError, match="cannot be bound"):
            nm.serve(result.folder, port=port)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/models", timeout=60)
    served.close()


def test_notebooks_show_pictures_and_escape_what_models_say(result: nm.RunResult, graph: nm.TrainedGraph) -> None:
    answer = graph.ask("<script>alert(1)</script> start 2 find A=")
    shown = [thing._repr_html_() for thing in (result, graph, graph.topology, answer)]
    assert all("<svg" in html for html in shown)
    assert all(len(re.findall(r"<rect ", html)) >= 2 for html in shown)
    assert "<script" not in "".join(shown)
    assert "&lt;script&gt;alert(1)" in shown[-1]


SCRIPT = """
import sys
import neuromas as nm
result = nm.train(nm.load_spec("examples/quickstart.toml", sys.argv[2:]), sys.argv[1])
with nm.load(result.folder) as graph:
    print(graph.ask("0: 5 1: 3 2: 7 3: 0 4: 6 5: 2 6: 1 7: 4 start 2 find A="))
"""


@pytest.mark.engine
def test_a_script_shows_lines_of_ours_alone_and_engines_leave_nothing(tmp_path: Path) -> None:
    small = ["training.steps=1", "training.prompts_per_step=2", "evaluation.examples=8", "runtime.type=local"]
    script = [sys.executable, "-c", SCRIPT, str(tmp_path), *small]
    quiet = {name: value for name, value in os.environ.items() if name not in NOISE_SETTINGS}
    quiet["TMPDIR"] = tempfile.mkdtemp(dir=tmp_path)
    done = subprocess.run(script, env=quiet, cwd=EXAMPLES.parent, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[A-E]= \d\n", done.stdout) is not None
    shown = [re.sub(r"^\[ ?\d+:\d\d\] ", "", line) for line in done.stderr.splitlines()]
    assert [line for line in shown if not line.startswith(OURS)] == []
    assert list(Path(quiet["TMPDIR"]).glob("vllm_*")) == []
