"""TaskSpec: what every section ``task`` of a run says of itself, so that nothing else needs to know the families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from neuromas.schema.model import SpecModel
from neuromas.tasks.base import Task

TARGET_KEY = "x-target"
"""Key in the JSON schema of a family: name of the setting that is its target level, for forms that raise it."""


class TaskSpec(SpecModel):
    """The section ``task`` of a run spec: a family, and which of its questions. Each family has a subclass."""

    target: ClassVar[str | None] = None
    """Name of the setting that is the target level; None where no single number is."""
    level_hint: ClassVar[str] = ""
    """What gives a task levels that has none; the end of a sentence."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Names of the settings that hold paths of files."""
    runs_code: ClassVar[bool] = False
    """Whether the family is nothing but code that the spec names."""
    type: Any
    """Name of the family; subclasses narrow it to a literal."""

    def make(self, seed: int) -> Task:
        """Return the task; the seed selects its stream of examples.

        Raises:
            TaskError: a file of the task cannot be read or does not hold what the spec says.
        """
        raise NotImplementedError

    def levels(self) -> tuple[int, ...] | None:
        """Return the levels in order of difficulty, as far as the section alone tells; None = once it is made."""
        return None

    def describe(self) -> str:
        """Return what is trained on, as a phrase in a sentence: "chains of 5 hops"."""
        return f"the task {self.type!r}"

    def files(self) -> Mapping[str, str]:
        """Return the files that the task reads: name of the setting -> path."""
        return {name: value for name in self.paths if isinstance(value := getattr(self, name), str)}

    def code(self) -> Mapping[str, str]:
        """Return the code outside NeuroMAS that the task runs: name of the setting -> "package.module:function"."""
        own = type(self)
        return {} if own.__module__.startswith("neuromas.") else {"type": f"{own.__module__}:{own.__qualname__}"}

    def level_faults(self, asked: Sequence[int]) -> list[str]:
        """Return what is wrong with the levels that a growth schedule asks for."""
        known = self.levels()
        if known is None or not asked:
            return []
        if not known:
            return [f"the {self.type} task has no levels{self.level_hint}"]
        faults = []
        last = known[-1] if self.target is None else f"task.{self.target} = {known[-1]}"
        if outside := [level for level in asked if level not in known]:
            faults.append(f"got {outside}; allowed are {known[0]} to {last}")
        if asked[-1] != known[-1]:
            faults.append(f"end at {asked[-1]}; the last must be the target, {last}")
        return faults

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the JSON schema, which also names the target's setting."""
        schema = handler(core_schema)
        if cls.target is not None:
            handler.resolve_ref_schema(schema)[TARGET_KEY] = cls.target
        return schema
