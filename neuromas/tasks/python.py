"""The python task: a task of the user's own, made by a function that the spec names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from neuromas.schema.bounds import MAX_KEY
from neuromas.tasks.base import Task
from neuromas.tasks.code import CODE, load_code
from neuromas.tasks.spec import TaskSpec


class PythonSpec(TaskSpec):
    """A task of your own, in Python: see docs/extending.md."""

    runs_code: ClassVar[bool] = True

    type: Literal["python"]
    factory: str = Field(pattern=f"^{CODE}$", max_length=MAX_KEY)
    """The function that makes it, as "package.module:function"; called with ``seed`` and the options."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the factory."""

    def make(self, seed: int) -> Task:
        """Return what the factory returns.

        Raises:
            TaskError: the factory cannot be imported.
        """
        task: Task = load_code(self.factory, "task.factory")(seed=seed, **self.options)
        return task

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the task of {self.factory}"

    def code(self) -> Mapping[str, str]:
        """Return the factory."""
        return {"factory": self.factory}
