"""A task, a verifier, an environment and a base of a package outside the project, trained on from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.base.resolve import resolve_base

# The task: one file of the user's.
TASK = """
from typing import Literal
from neuromas.tasks.base import Example, Score, Task
from neuromas.tasks.spec import TaskSpec

class Echo(Task):
    def __init__(self, symbols: str, seed: int):
        self.symbols, self.seed = symbols, seed
    def example(self, split, index, level=None):
        offset = self.seed if split == "train" else 1000
        symbol = self.symbols[(offset + index) % len(self.symbols)]
        return Example(f"{split}/{index}", f"{index} {symbol} {'+' if split == 'train' else '-'}", symbol)
    def score(self, example, text):
        return Score(0.5 * (example.answer in text) + 0.5 * (len(text) < 20), {"right": example.answer in text})

class EchoSpec(TaskSpec):
    type: Literal["echo"]
    symbols: str = "12345"
    def make(self, seed):
        return Echo(self.symbols, seed)

def make(seed, symbols="12345"):
    return Echo(symbols, seed)

def nearly(example, text):
    return 1.0 if example.info["answer"] in text else 0.25

class Guess:
    def reset(self, *, seed):
        self.secret = str(seed % 5)
        return f"{seed} + ", {}
    def step(self, action):
        return "", float(self.secret in action), True, False, {}

class Episodes(Task):
    def __init__(self, seed):
        self.seed = seed
    def example(self, split, index, level=None):
        number = 2 * (self.seed + index) + (split == "test")
        observation, _ = Guess().reset(seed=number)
        return Example(f"{split}/{index}", observation, "", info={"seed": number})
    def score(self, example, text):
        environment = Guess()
        environment.reset(seed=example.info["seed"])
        _, reward, *_ = environment.step(text)
        return reward
"""
ENTRY = "[neuromas.tasks]\necho = echo_task:EchoSpec\n"
COMMON = """
name = "own"
topology = { chain = 2 }
adapter = { type = "lora", targets = ["q_proj"] }
training = { steps = 2, prompts_per_step = 2, group_size = 2 }
evaluation = { examples = 4 }
engine = { type = "transformers" }
runtime = { type = "local" }
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "echo_task-1.0.dist-info").mkdir(parents=True)
    (folder / "echo_task.py").write_text(TASK)
    (folder / "echo_task-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: echo-task\nVersion: 1.0\n"
    )
    (folder / "echo_task-1.0.dist-info" / "entry_points.txt").write_text(ENTRY)
    shutil.copytree(resolve_base("tiny"), folder / "a_base")
    for split in ("train", "test"):
        rows = [{"question": f"{split} {n}", "answer": str(n)} for n in range(8)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def python(package: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run Python where the package is installed, in the folder around it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=package.parent)


TASKS = {
    "entry": '{ type = "echo", symbols = "123" }',
    "factory": '{ type = "python", factory = "echo_task:make", options = { symbols = "123" } }',
    "verifier": '{ type = "file", train = "train.jsonl", test = "test.jsonl", verifier = "echo_task:nearly" }',
    "environment": '{ type = "python", factory = "echo_task:Episodes" }\nbase = "site/a_base"',
}
REWARDS = {
    "entry": {0.0, 0.5, 1.0},
    "factory": {0.0, 0.5, 1.0},
    "verifier": {0.25, 1.0},
    "environment": {0.0, 1.0},
}
# In one process: imports are paid once.
TRAIN = """
import sys
from neuromas.cli.main import main
sys.exit(max(main(["train", f"{name}.toml", "--out", "runs"]) for name in sys.argv[1:]))
"""
VALIDATE = """
import sys
from neuromas.cli.main import main
sys.exit(min(main(["validate", spec]) for spec in sys.argv[1:]))
"""
WRONG = {
    '{ type = "echo", symbol = "1" }': "task.symbol: unknown key; did you mean 'symbols'?",
    '{ type = "python", factory = "echo_task:made" }': "task.factory: echo_task has no function made",
    '{ type = "python", factory = "echo_task:make", options = { size = 3 } }': (
        "making the task of echo_task:make failed: TypeError"
    ),
}


def test_two_steps_on_tasks_of_ones_own(package: Path) -> None:
    for name, task in TASKS.items():
        spec = COMMON.replace('"own"', f'"{name}"') + f"task = {task}\n"
        (package.parent / f"{name}.toml").write_text(spec)
    done = python(package, "-c", TRAIN, *TASKS)
    assert done.returncode == 0, done.stderr
    for name, rewards in REWARDS.items():
        folder = package.parent / "runs" / name
        lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
        assert {line["reward"] for line in lines} <= rewards
        assert {line["failure"] for line in lines} == {None}
        steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert len(steps) == 2
        if name in ("entry", "factory"):
            assert all(0 <= step["reward/right"] <= 1 for step in steps)
        accuracy = json.loads((folder / "result.json").read_text())["accuracy"]["greedy"]
        assert accuracy["interval"] == ("wilson" if name == "environment" else "bootstrap")
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_a_task_that_is_not_installed_is_unknown(package: Path) -> None:
    spec = package.parent / "run.toml"
    spec.write_text(COMMON + 'task = { type = "echo" }\n')
    done = python(package.parent / "nothing", "-m", "neuromas", "validate", spec)
    assert done.returncode == 2
    assert "task: got type = 'echo'" in done.stderr


def test_a_task_that_cannot_be_made_says_why(package: Path) -> None:
    specs = [package.parent / f"wrong-{number}.toml" for number in range(len(WRONG))]
    for spec, task in zip(specs, WRONG, strict=True):
        spec.write_text(COMMON + f"task = {task}\n")
    done = python(package, "-c", VALIDATE, *specs)
    assert done.returncode == 2
    places = [done.stderr.index(reason) for reason in WRONG.values()]
    assert places == sorted(places)
