"""examples/verifiers with the package itself, in an environment of its own: ``make verifiers``."""

import subprocess
import sys
from pathlib import Path

import pytest
import verifiers.v1 as vf
from taskset_task import make, refusal

from neuromas.errors import TaskError
from neuromas.tasks.judge import judge
from neuromas.tasks.registry import make_task, task_spec

OWN = """
import verifiers.v1 as vf

class Data(vf.TaskData):
    answer: str

class Sum(vf.Task[Data]):
    @vf.reward(weight=0.75)
    async def right(self, task, trace):
        return float(task.answer in trace.last_reply)

    @vf.reward(weight=0.25)
    async def short(self, task, trace):
        return float(len(trace.last_reply) < 10)

class Sums(vf.Taskset[Sum, vf.TasksetConfig]):
    INFINITE = True

    def load(self):
        number = 0
        while True:
            yield Sum(Data(prompt=f"{number} + 1 =", system_prompt="Add.", answer=str(number + 1)), self.config.task)
            number += 1

__all__ = ["Sums"]
"""


def test_a_taskset_is_a_task_with_its_own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_sums.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    task = make_task(
        task_spec(
            {"type": "python", "factory": "taskset_task:make", "options": {"taskset": "own_sums", "questions": 60}}
        ),
        seed=3,
    )
    sizes = {split: task.size(split) for split in ("train", "test")}
    assert sum(sizes.values()) == 60
    assert 5 < sizes["test"] < 25
    examples = {split: [task.example(split, index) for index in range(size)] for split, size in sizes.items()}
    prompts = {split: {example.prompt for example in asked} for split, asked in examples.items()}
    assert prompts["train"] & prompts["test"] == set()
    example = next(one for one in examples["train"] if one.answer == "8")
    assert example.prompt == "Add.\n\n7 + 1 ="
    assert (judge(task, example, "8").reward, judge(task, example, "8").parts) == (1.0, {"right": 0.75, "short": 0.25})
    assert judge(task, example, "I think that it is 8").reward == 0.75
    assert judge(task, example, "I think that it is").reward == 0.0


def test_there_and_back_a_task_of_ours_asks_and_scores_the_same() -> None:
    ours = make_task(task_spec({"type": "chain", "hops": 3}), seed=0)
    back = make("neuromas_taskset", {"task_spec": '{"type": "chain", "hops": 3}', "questions": 30, "split": "train"})
    asked = {ours.example("train", index).prompt: ours.example("train", index) for index in range(30)}
    found = [back.example(split, index) for split in ("train", "test") for index in range(back.size(split) or 0)]
    assert {example.prompt for example in found} == set(asked)
    for example in found:
        for text in (example.answer, f"So: {example.answer}.", "zzz", ""):
            assert judge(back, example, text).reward == judge(ours, asked[example.prompt], text).reward


class Needy(vf.Task[vf.TaskData]):
    """What only a runtime can score."""

    @vf.reward(weight=1.0)
    async def ran(self, runtime: vf.Runtime) -> float:
        return 1.0


def test_tasks_that_need_more_than_a_text_are_refused() -> None:
    user, reply = vf.UserMessage(content="2 + 2 ="), vf.AssistantMessage(content="4")
    assert refusal(vf.Task(vf.TaskData(prompt="2 + 2 ="))) is None
    assert refusal(vf.Task(vf.TaskData(prompt=[user]))) is None
    assert refusal(vf.Task(vf.TaskData(prompt=[user, reply, user]))) == "is no single text of the user's"
    assert refusal(vf.Task(vf.TaskData())) == "is no single text of the user's"
    assert refusal(Needy(vf.TaskData(prompt="2 + 2 ="))) == "is scored by ran, which needs a runtime"


def test_a_question_that_is_refused_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_sums.py").write_text(
        OWN.replace("def right(self, task, trace)", "def right(self, task, runtime)")
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match="taskset needy_sums: question 0 is scored by right, which needs a runtime"):
        make("needy_sums", questions=3)


def test_the_evaluator_takes_the_taskset_and_the_options_that_its_file_states(tmp_path: Path) -> None:
    told = Path(sys.modules["taskset_task"].__file__ or "").with_name("neuromas_taskset.py").read_text()
    words = told[told.index("vf-eval") : told.index("--no-push")].replace("\\\n", " ").replace("'", "").split()
    spec = words.index("--env.taskset.task-spec")
    command = [
        *words[:spec],
        words[spec],
        '{"type": "chain", "hops": 5}',
        *words[words.index("--env.agent.harness.id") :],
    ]
    command[0] = str(Path(sys.executable).with_name("vf-eval"))
    done = subprocess.run(
        [*command, "--no-push", "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "http://127.0.0.1:8000/v1" in next(tmp_path.rglob("eval.json")).read_text()
