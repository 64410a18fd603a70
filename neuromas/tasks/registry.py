"""All families of tasks by the name that a spec gives them: NeuroMAS' own, and those that installed packages add."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from importlib.metadata import entry_points
from operator import or_
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator

from neuromas.errors import Fault, NeuroMASError, SpecError, TaskError
from neuromas.schema.model import SpecModel
from neuromas.schema.parse import parse_section
from neuromas.tasks.arithmetic import ArithmeticSpec
from neuromas.tasks.base import Task
from neuromas.tasks.chain import ChainSpec
from neuromas.tasks.circuit import CircuitSpec
from neuromas.tasks.dynamics.task import DynamicsSpec
from neuromas.tasks.file import FileSpec
from neuromas.tasks.given import GIVEN, GivenSpec
from neuromas.tasks.hidden_tree import HiddenTreeSpec
from neuromas.tasks.hub import HubSpec
from neuromas.tasks.programs import ProgramsSpec
from neuromas.tasks.python import PythonSpec
from neuromas.tasks.reasoning_gym import ReasoningGymSpec
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.tree import TreeSpec

FAMILIES: Final[Mapping[str, type[TaskSpec]]] = {
    "chain": ChainSpec,
    "tree": TreeSpec,
    "circuit": CircuitSpec,
    "arithmetic": ArithmeticSpec,
    "hidden_tree": HiddenTreeSpec,
    "dynamics": DynamicsSpec,
    "file": FileSpec,
    "hub": HubSpec,
    "reasoning_gym": ReasoningGymSpec,
    "programs": ProgramsSpec,
    "python": PythonSpec,
}
GROUP: Final = "neuromas.tasks"
"""Group of the entry points by which an installed package adds a family: its name -> a subclass of ``TaskSpec``."""
_MEMBERS = ("name", "levels", "example", "size", "chance", "sample", "score", "describe", "scoring_timeout_s")


def family(name: str) -> type[TaskSpec] | None:
    """Return the spec of a family of that name, own or installed; None where there is none.

    Raises:
        SpecError: an installed package names it, and does not give a ``TaskSpec``.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name == GIVEN:  # in no list: a spec cannot ask for it, but the folder of a run may hold it
        return GivenSpec
    for entry in entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        except Exception as error:
            raise SpecError(f"type {name!r} is {entry.value}, which cannot be loaded: {error!r}") from error
        if not (isinstance(found, type) and issubclass(found, TaskSpec)):
            raise SpecError(f"type {name!r} is {entry.value}; expected a subclass of neuromas.tasks.spec.TaskSpec")
        return found
    return None


def installed() -> list[str]:
    """Return the names of the families that installed packages add; nothing of theirs is imported."""
    return sorted({entry.name for entry in entry_points(group=GROUP)} - set(FAMILIES))


def task_spec(document: Mapping[str, object]) -> TaskSpec:
    """Return the section ``task`` that a document describes.

    Raises:
        SpecError: it is not valid, or no family of that name is installed.
    """
    return parse_section(_Section, {"task": document}, "the task").task


def make_task(spec: TaskSpec, seed: int) -> Task:
    """Return the task that a spec describes; the seed selects its stream of examples.

    Raises:
        TaskError: a file of the task cannot be read or does not hold what the spec says, or code of the user's fails.
    """
    try:
        task = spec.make(seed)
    except NeuroMASError:
        raise
    except Exception as error:
        raise TaskError(f"making {spec.describe()} failed: {error!r}") from error
    if lacking := [member for member in _MEMBERS if not hasattr(task, member)]:
        raise TaskError(
            f"{spec.describe()} is a {type(task).__name__} without {', '.join(lacking)}; "
            "derive it from neuromas.tasks.base.Task"
        )
    return task


def _read(value: object, read_own: ValidatorFunctionWrapHandler) -> TaskSpec:
    name = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(value, TaskSpec):
        return value
    found = family(name) if isinstance(name, str) and name not in FAMILIES else None
    if found is None or not isinstance(value, Mapping):
        own: TaskSpec = read_own(value)
        return own
    return parse_section(found, value, "the task")


if TYPE_CHECKING:
    AnyTaskSpec = TaskSpec
else:
    AnyTaskSpec = Annotated[
        Annotated[reduce(or_, FAMILIES.values()), Field(discriminator="type")],
        WrapValidator(_read),
        SerializeAsAny(),
    ]
"""The section ``task`` of a run spec: the union of all families, told apart by ``type``."""


class _Section(SpecModel):
    task: AnyTaskSpec


def level_fault(task: Task, level: int | None) -> Fault | None:
    """Return what is wrong with a level that was asked for: the task does not have it; None, its target, is right."""
    if level is None or level in task.levels:
        return None
    allowed = ", ".join(map(str, task.levels)) or "none: the task has no levels"
    return Fault("level", f"got {level}; allowed are {allowed}")
