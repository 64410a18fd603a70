"""Any single-turn taskset of the package verifiers 0.4 as a task to train on: pip install verifiers==0.4.0.

    task = { type = "python", factory = "taskset_task:make", options = { taskset = "my_taskset" } }

with ``PYTHONPATH=examples/verifiers`` and the taskset installed. Its questions are split by their text, a quarter of
them held out. Replies are scored by its own rewards without a runtime, so tasks that need one are refused.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Score, Split, Task
from neuromas.tasks.split import is_held_out


def make(taskset: str, config: Mapping[str, Any] | None = None, questions: int = 1000, **_seed: int) -> Task:
    """Return the first ``questions`` of a taskset as a task; a list of questions makes no use of a seed.

    Raises:
        TaskError: a question needs more than a text and its reply.
    """
    from verifiers.v1.utils.loaders import load_taskset, taskset_config_type

    loaded = load_taskset(taskset_config_type(taskset)(id=taskset, **(config or {})))
    tasks = list(loaded.take(questions))
    for task in tasks:
        if why := refusal(task):
            raise TaskError(f"taskset {taskset}: question {task.data.idx} {why}")
    return TasksetTask(tasks)


def by_split(prompts: Sequence[str]) -> dict[Split, list[int]]:
    """Return the places of the questions of each split, each text once."""
    first = {prompt: place for place, prompt in reversed(list(enumerate(prompts)))}
    places: dict[Split, list[int]] = {"train": [], "test": []}
    for place in sorted(first.values()):
        places["test" if is_held_out(prompts[place].encode()) else "train"].append(place)
    return places


def refusal(task: Any) -> str | None:
    """Return why a task of verifiers cannot be scored from a text alone; None where it can."""
    import verifiers.v1 as vf

    own = type(task)
    if task.NEEDS_CONTAINER or own.setup is not vf.Task.setup or own.finalize is not vf.Task.finalize:
        return "needs a runtime"
    if own.toolsets(task.config):
        return "has tools"
    signals = [*task.hooks("reward"), *task.hooks("metric"), *(judge.score for judge in task.plugged_judges())]
    for signal in signals:
        runtime = inspect.signature(signal).parameters.get("runtime")
        if runtime is not None and runtime.default is inspect.Parameter.empty:
            return f"is scored by {signal.__name__}, which needs a runtime"
    prompt = task.data.prompt
    if not isinstance(prompt, str) and [message.role for message in prompt or []] != ["user"]:
        return "is no single text of the user's"
    return None if task.data.prompt_text else "has no text"


class TasksetTask(Task):
    """The questions of a taskset."""

    scoring_timeout_s = 60.0  # the first answer waits for the import

    def __init__(self, tasks: Sequence[Any]) -> None:
        self._tasks = tasks
        self._places = by_split([_asked(task.data) for task in tasks])

    def size(self, split: Split, level: int | None = None) -> int:
        """Number of questions of the split."""
        return len(self._places[split])

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return a question; what the taskset calls its answer, if anything, is the right one."""
        place = self._places[split][index]
        data = self._tasks[place].data
        return Example(f"{split}/{index}", _asked(data), str(getattr(data, "answer", "")), info={"place": place})

    def score(self, example: Example, text: str) -> Score:
        """Return the taskset's reward, and each of those it is made of."""
        import verifiers.v1 as vf

        task = self._tasks[int(str(example.info["place"]))]
        reply = vf.MessageNode(message=vf.AssistantMessage(content=text), sampled=True)
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data),
            agent=vf.AgentInfo(config=vf.AgentConfig(runtime=vf.SubprocessConfig())),
            nodes=[reply],
        )
        asyncio.run(task.score(trace))
        return Score(trace.reward, {name: reward.value for name, reward in trace.rewards.items() if reward is not None})


def _asked(data: Any) -> str:
    system = f"{data.system_prompt}\n\n" if data.system_prompt else ""
    return system + data.prompt_text
