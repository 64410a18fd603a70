"""The training display in a log: plain lines, few of them."""

import io

import pytest
from rich.console import Console as RichConsole

from neuromas.display.console import Console, wrapped
from neuromas.display.status import step_line
from neuromas.display.training import TrainingDisplay
from neuromas.journal.events import Evaluated, Notice, Phase, StageEnded, StageStarted, StepDone


@pytest.fixture
def console() -> Console:
    console = Console()
    console.stderr = RichConsole(file=io.StringIO(), width=200, highlight=False, soft_wrap=True)
    return console


def written(console: Console) -> list[str]:
    assert isinstance(console.stderr.file, io.StringIO)
    return console.stderr.file.getvalue().splitlines()


def stage(steps: int) -> StageStarted:
    return StageStarted(
        stage=0,
        name="stage-0",
        topology={"nodes": [{"id": "n1"}, {"id": "n2"}]},
        level=3,
        steps=steps,
        trainable_parameters=1234,
    )


def step(number: int, reward: float) -> StepDone:
    metrics = {
        "rollout/reward_mean": reward,
        "rollout/tokens": 100.0,
        "rollout/prompt_tokens": 900.0,
        "time/step_s": 2.0,
        "train/entropy/n1": 0.5,
    }
    return StepDone(stage=0, step=number, metrics=metrics)


def test_a_log_gets_the_first_and_the_last_step(console: Console) -> None:
    with TrainingDisplay(console) as display:
        display(stage(3))
        for number, reward in ((1, 0.0), (2, 0.5), (3, 1.0)):
            display(step(number, reward))
        display(Evaluated(stage=0, step=3, level=3, mode="greedy", correct=3.0, examples=4))
        display(StageEnded(stage=0, name="stage-0", steps=3, reason="budget"))
    speed = "2.00 s/step · 500 tokens/s"
    assert written(console) == [
        "stage-0: 2 nodes, level 3, 1,234 trainable parameters",
        f"stage-0: 2 nodes, level 3 · step 1/3 · reward 0.000 · 0:04 left · mean of 1: 0.000 · {speed}",
        f"stage-0: 2 nodes, level 3 · step 3/3 · reward 1.000 · 0:00 left · mean of 3: 0.500 · {speed}",
        "  validation accuracy, greedy on level 3: 75.0 %",
        "stage-0 ended after 3 steps (budget)",
    ]


FIGURES = ["reward 0.552", "1:29 left", "mean of 10: 0.393", "1.82 s/step", "17,658 tokens/s"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("title", ["stage-0: 5 nodes", "a-stage-with-a-long-name: 1023 nodes, level 7"])
def test_a_line_of_any_width_keeps_what_matters(width: int, title: str) -> None:
    line = step_line(title, 12, 6000, FIGURES, width)
    assert len(line) < width
    assert "step 12/6000 · reward 0.552" in line
    assert ("1:29 left" in line) == (width >= 60 or len("step 12/6000 · reward 0.552 · 1:29 left") < width)


def test_at_80_columns_the_line_is_this() -> None:
    line = step_line("stage-0: 5 nodes", 30, 60, FIGURES, 80)
    assert line == "stage-0: 5 nodes · step 30/60 · reward 0.552 · 1:29 left · mean of 10: 0.393"


def test_a_log_says_what_is_done_while_nothing_can_be_shown(console: Console) -> None:
    with TrainingDisplay(console) as display:
        display(Phase(name="starting Ray"))
        display(Phase(name="loading base and engine"))
        display(stage(2))
    assert [line.partition("] ")[2] or line for line in written(console)] == [
        "starting Ray",
        "loading base and engine",
        "stage-0: 2 nodes, level 3, 1,234 trainable parameters",
    ]


def test_a_terminal_shows_the_phase_with_its_seconds_and_then_the_steps() -> None:
    console = Console()
    console.stderr = RichConsole(file=io.StringIO(), width=80, highlight=False, soft_wrap=True, force_terminal=True)
    with TrainingDisplay(console) as display:
        display(Phase(name="starting Ray"))
        shown = [segment.text for segment in console.stderr.render(display.status)]
        assert "starting Ray 0:00" in "".join(shown)
        display(stage(3))
        display(step(2, 0.5))
        shown = [segment.text for segment in console.stderr.render(display.status)]
        assert "step 2/3 · reward 0.500 · 0:02 left" in "".join(shown)


def test_nodes_shows_every_step_with_a_line_per_node(console: Console) -> None:
    with TrainingDisplay(console, show_nodes=True) as display:
        display(stage(2))
        display(step(1, 0.0))
        display(step(2, 0.0))
    lines = written(console)
    assert sum("step" in line and "reward" in line for line in lines) == 2
    assert sum(line.startswith("    n1") and "entropy 0.5" in line for line in lines) == 2


def test_warnings_stand_out(console: Console) -> None:
    with TrainingDisplay(console) as display:
        display(Notice(message="rollout worker 0 was lost", severity="warning"))
    assert written(console) == ["warning: rollout worker 0 was lost"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("one two three four", "one two\n  three\n  four"),
        ("  one two three", "  one two\n    three"),
        ("ab  one two three", "ab  one\n    two\n    three"),
        ("  ab  one\n\nwww.a.very.long.address", "  ab  one\n\nwww.a.very.long.address"),
        ("a-b-c-d-e-f", "a-b-c-d-e-f"),
        ("a label too long  one two", "a label\n  too long\n  one two"),
    ],
)
def test_lines_are_broken_between_words(text: str, expected: str) -> None:
    assert wrapped(text, 10) == expected


def test_a_terminal_gets_broken_lines_and_a_file_whole_ones(console: Console) -> None:
    sentence = "many words that do not fit a line of thirty columns"
    console.warn(sentence)
    assert written(console) == [f"warning: {sentence}"]
    console.stderr = RichConsole(file=io.StringIO(), width=30, soft_wrap=True, force_terminal=True, color_system=None)
    console.warn(sentence)
    assert written(console) == ["warning: many words that do", "  not fit a line of thirty", "  columns"]
