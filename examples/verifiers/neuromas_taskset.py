r"""Any task of NeuroMAS as a taskset of the package verifiers 0.4, whose evaluator then measures a graph of yours.

    pip install neuromas verifiers==0.4.0 uv   # in an environment of its own: verifiers needs openai < 3
    neuromas serve runs/quickstart             # in the environment that trains
    PYTHONPATH=examples/verifiers KEY=none vf-eval neuromas_taskset \
        --env.taskset.task-spec '{"type": "chain", "hops": 5}' \
        --env.agent.harness.id null --env.agent.runtime.type subprocess --model quickstart \
        --client.type eval --client.base-url http://127.0.0.1:8000/v1 --client.api-key-var KEY --no-push

Without ``--no-push`` the evaluator uploads what it has seen. Sampling is the endpoint's: the greedy answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Literal

import verifiers.v1 as vf

from neuromas.tasks.base import Example
from neuromas.tasks.judge import judge
from neuromas.tasks.registry import make_task, task_spec

__all__ = ["NeuroMASTaskset"]


class Config(vf.TasksetConfig):
    """Which questions: a task as specs describe it, in JSON."""

    task_spec: str = '{"type": "chain", "hops": 5}'
    split: Literal["train", "test"] = "test"
    level: int | None = None
    questions: int = 20
    seed: int = 0


class Question(vf.TaskData):
    """A question, and what scores its answers."""

    task_spec: str
    seed: int
    answer: str
    level: int | None = None
    info: Mapping[str, object]


class QuestionTask(vf.Task[Question]):
    """One question."""

    @vf.reward(weight=1.0)
    async def reward(self, task: Question, trace: vf.Trace) -> float:
        """Return what NeuroMAS rewards the reply with."""
        scorer = make_task(task_spec(json.loads(task.task_spec)), task.seed)
        return judge(scorer, Example(task.id, task.prompt, task.answer, task.level, task.info), trace.last_reply).reward


class NeuroMASTaskset(vf.Taskset[QuestionTask, Config]):
    """The first questions of a split."""

    def load(self) -> Iterator[QuestionTask]:
        """Yield them."""
        config = self.config
        task = make_task(task_spec(json.loads(config.task_spec)), config.seed)
        size = task.size(config.split, config.level)
        for index in range(config.questions if size is None else min(size, config.questions)):
            example = task.example(config.split, index, config.level)
            shown = {"id": example.id, "prompt": example.prompt, "answer": example.answer}
            kept = {"level": example.level, "info": dict(example.info), "task_spec": config.task_spec}
            yield QuestionTask(Question(**shown, **kept, seed=config.seed), config.task)
