"""The training display in a log: plain lines, few of them."""

import io

import pytest
from rich.console import Console as RichConsole

from neuromas.cli.console import Console
from neuromas.cli.progress import TrainingDisplay
from neuromas.events import Evaluated, Notice, StageEnded, StageStarted, StepDone


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
    assert written(console) == [
        "stage-0: 2 nodes, level 3, 1,234 trainable parameters",
        "stage-0: 2 nodes, level 3 step 1/3 reward 0.000 (mean 0.000) · 500 tokens/s · 2.00 s/step · 4 s left",
        "stage-0: 2 nodes, level 3 step 3/3 reward 1.000 (mean 0.500) · 500 tokens/s · 2.00 s/step · 0 s left",
        "  held-out accuracy, greedy on level 3: 0.750",
        "stage-0 ended after 3 steps (budget)",
    ]


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
