"""What a base decides where a spec says nothing: sizes and rates that suit a real language model.

The settings of a spec that are left out are made for the tiny base. On any other base those listed here take the value
that suits one of 100 million parameters and more; what a spec sets stays as it is. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count, islice
from typing import Any

from neuromas.adapters.kinds import section_path
from neuromas.base.linears import linear_names
from neuromas.base.resolve import BaseInfo, declared_renderer, read_base, resolve_base
from neuromas.errors import BaseModelError, SpecError
from neuromas.schema.model import SpecModel
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.parts import DemonstrationSpec
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Task
from neuromas.tasks.registry import make_task

_RANK = 8
_LEARNING_RATE = 5e-4
"""About ten times what full tuning takes; SmolLM2-135M learns sums with it in 50 steps."""
_MAX_TOKENS = 32
_MAX_MODEL_LEN = 512
_TRIES = 64
"""Training questions looked at for each worked example: easy levels repeat theirs."""


@dataclass(frozen=True, slots=True)
class BaseChoice:
    """A setting that the base decided: its path in the spec and its value."""

    setting: str
    value: object


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """A spec with everything decided, and what the base decided of it."""

    spec: RunSpec
    choices: tuple[BaseChoice, ...]


def suit_spec(spec: RunSpec) -> ResolvedSpec:
    """Return the spec that a run of ``spec`` is carried out with; of a decided spec, the same again.

    A base that cannot be read decides nothing: the check of the run says what is wrong with it.

    Raises:
        SpecError: what is decided does not go together with what the spec sets.
        TaskError: worked examples are to be drawn and the task cannot be made, or has too few.
    """
    try:
        folder = resolve_base(spec.base)
        choices = () if declared_renderer(folder) is not None else tuple(_choices(spec, read_base(folder)))
    except BaseModelError:
        return ResolvedSpec(spec, ())
    decided = reduce(_with_choice, choices, spec)
    if spec.prompt.drawn_demonstrations:
        drawn = _drawn(make_task(spec.task, spec.seed), spec.prompt.drawn_demonstrations)
        prompt = spec.prompt.model_copy(update={"demonstrations": drawn, "drawn_demonstrations": 0})
        decided = decided.model_copy(update={"prompt": prompt})
    if decided is spec:
        return ResolvedSpec(spec, ())
    return ResolvedSpec(parse_run_spec(decided.model_dump(mode="json")), choices)


def _choices(spec: RunSpec, base: BaseInfo) -> Iterator[BaseChoice]:
    wanted: list[tuple[str, SpecModel, object]] = []
    for group, adapter in spec.adapters.sections.items():
        wanted.append((f"{section_path(group)}.targets", adapter, linear_names(base.folder)))
        wanted.append((f"{section_path(group)}.rank", adapter, _RANK))
    wanted += [
        ("sampling.max_tokens", spec.sampling, _MAX_TOKENS),
        ("training.learning_rate", spec.training, _LEARNING_RATE),
        ("engine.max_model_len", spec.engine, min(_MAX_MODEL_LEN, base.max_positions or _MAX_MODEL_LEN)),
    ]
    for path, section, value in wanted:
        field = path.rpartition(".")[2]
        if field in type(section).model_fields and field not in section.model_fields_set:
            yield BaseChoice(path, value)


def _with_choice(spec: RunSpec, choice: BaseChoice) -> RunSpec:
    changed: RunSpec = _with_value(spec, choice.setting.split("."), choice.value)
    return changed


def _with_value(section: Any, keys: Sequence[str], value: object) -> Any:
    """Return a section, or a table of sections by name, with the value at a path in it."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(section, Mapping):
        return {**section, key: _with_value(section[key], rest, value)}
    return section.model_copy(update={key: _with_value(getattr(section, key), rest, value)})


def _drawn(task: Task, number: int) -> tuple[DemonstrationSpec, ...]:
    """Return worked examples of every level from the beginning of the training split, no question twice."""
    return tuple(worked for level in task.levels or (None,) for worked in _of_level(task, level, number))


def _of_level(task: Task, level: int | None, number: int) -> Sequence[DemonstrationSpec]:
    size = task.size("train")
    places = count() if size is None else range(size)
    found: dict[str, DemonstrationSpec] = {}
    for place in islice(places, _TRIES * number):
        example = task.example("train", place, level)
        found.setdefault(example.prompt, DemonstrationSpec(question=example.prompt, answer=example.answer, level=level))
        if len(found) == number:
            return tuple(found.values())
    raise SpecError(
        f"prompt.drawn_demonstrations: got {number}, but the training questions"
        f"{'' if level is None else f' of level {level}'} hold {len(found)}; ask for fewer"
    )
