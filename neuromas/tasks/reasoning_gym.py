"""The reasoning_gym task: procedural questions of the package ``reasoning-gym`` 0.1.25, imported when it is used."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Any, Final, Literal

from pydantic import Field

from neuromas.errors import TaskError
from neuromas.schema.bounds import Key
from neuromas.schema.suggest import suggest
from neuromas.tasks.base import Example, Split, Task
from neuromas.tasks.spec import TaskSpec

REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("isomorphic_strings", "ransom_note", "polynomial_multiplication", "knight_swap", "word_ladder"),
        "asks other questions in every process",
    ),
    **dict.fromkeys(
        ("acre", "gsm_symbolic", "list_functions", "composite"), "is a list with an end, or made of others"
    ),
    "game_of_life_halting": "pays for any text",
    **dict.fromkeys(
        ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"), "has no right answer as text"
    ),
}
"""Data sets that cannot be trained on honestly, and why."""
_ITEMS: Final = 2**30
_PATIENCE: Final = 2000
_HELD_OUT: Final = 4  # one question of so many


class ReasoningGymSpec(TaskSpec):
    """Procedural questions of the package reasoning-gym: pip install 'neuromas[reasoning-gym]'."""

    type: Literal["reasoning_gym"]
    dataset: Key
    """Name of the data set, such as "chain_sum"."""
    attribute: Key | None = None
    """Attribute of its curriculum that makes the levels, such as "num_terms": level 1 is the easiest, each level asks
    its own questions alone. None = no levels."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of the data set; those of the attribute come from the level."""
    graded: bool = False
    """Whether the package's score counts as it is; else an answer is right (1) or wrong (0)."""

    def make(self, seed: int) -> ReasoningGymTask:
        """Return the task.

        Raises:
            TaskError: the package is missing, or has no such data set or attribute.
        """
        task = ReasoningGymTask(
            self.dataset, self.attribute, json.dumps(self.config, sort_keys=True), self.graded, seed
        )
        task.example("train", 0)
        return task

    def levels(self) -> tuple[int, ...] | None:
        """Return None where the package's curriculum has the levels."""
        return () if self.attribute is None else None

    def describe(self) -> str:
        """Return what is trained on."""
        return f"{self.dataset} of reasoning-gym"


@dataclass(frozen=True)
class ReasoningGymTask(Task):
    """One data set. A quarter of all questions, chosen by their text, is held out at every level.

    Attributes:
        dataset: name of the data set.
        attribute: of its curriculum; None = no levels.
        config: settings of the data set, as JSON.
        graded: whether scores between 0 and 1 count.
        seed: selects the stream of examples.
    """

    dataset: str
    attribute: str | None
    config: str
    graded: bool
    seed: int

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "reasoning_gym"

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of the attribute's levels from 1 on."""
        if self.attribute is None:
            return ()
        return tuple(range(1, len(_curriculum(self.dataset, self.attribute).attributes[self.attribute].levels) + 1))

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` (None = the hardest).

        Raises:
            TaskError: the level is not one of ``levels``, or almost no question belongs to the split.
        """
        if level is not None and level not in self.levels:
            raise TaskError(f"reasoning_gym: got level {level}, allowed are {self.levels or 'none without attribute'}")
        chosen = self.levels[-1] if level is None and self.levels else level
        items = self._items(chosen)
        rng = Random(f"reasoning_gym/{self.dataset}/{self.seed}/{split}/{chosen}/{index}")
        for _ in range(_PATIENCE):
            number = rng.randrange(_ITEMS)
            item = items[number]
            # By the text: other items have the same question, so numbers of items would leak.
            if (blake2b(item["question"].encode()).digest()[0] % _HELD_OUT == 0) == (split == "test"):
                name = f"{self.dataset}/{chosen}/{self.seed}/{split}/{index}"
                return Example(name, item["question"], str(item["answer"]), chosen, {"item": number})
        raise TaskError(
            f"reasoning_gym: no {split} question of {self.dataset} in {_PATIENCE}; it has too few questions"
        )

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 for a right answer, else 0.0; with ``graded`` the package's own score.

        The answer is what stands in ``<answer>``, else the last line.
        """
        from reasoning_gym.utils import extract_answer

        lines = text.strip().splitlines()
        answer = extract_answer(text) or (lines[-1].strip() if lines else "")
        items = self._items(example.level)
        try:
            score = float(items.score_answer(answer, items[int(str(example.info["item"]))]))
        except Exception:  # noqa: BLE001 - the package's scorers raise on text that is no answer
            return 0.0
        return min(max(score, 0.0), 1.0) if self.graded else float(score >= 1.0)

    def _items(self, level: int | None) -> Any:
        return _data_set(self.dataset, self.attribute, level, self.config)


def _gym() -> Any:
    try:
        with warnings.catch_warnings():
            # One of its packages, cellpylib, is compiled when it is first imported, and not free of warnings.
            warnings.simplefilter("ignore", SyntaxWarning)
            from reasoning_gym import factory
    except ImportError as error:
        raise TaskError(
            "task.type: reasoning_gym needs the package reasoning-gym: pip install 'neuromas[reasoning-gym]'"
        ) from error
    return factory


def _curriculum(dataset: str, attribute: str) -> Any:
    factory = _gym()
    if dataset not in factory.CURRICULA:
        raise TaskError(f"task.attribute: {dataset} of reasoning-gym has no curriculum; leave the attribute out")
    curriculum = factory.create_curriculum(dataset)
    if attribute not in curriculum.attributes:
        raise TaskError(f"task.attribute: got {attribute!r}; allowed are {', '.join(curriculum.attributes)}")
    return curriculum


@lru_cache(maxsize=64)
def _data_set(dataset: str, attribute: str | None, level: int | None, config: str) -> Any:
    factory = _gym()
    if dataset in REFUSED or dataset not in factory.DATASETS:
        why = (
            REFUSED.get(dataset)
            or f"is none of reasoning-gym; {suggest(dataset, sorted(set(factory.DATASETS) - set(REFUSED)))}"
        )
        raise TaskError(f"task.dataset: {dataset!r} {why}")
    settings = {**json.loads(config), "seed": 0, "size": _ITEMS}
    try:
        if attribute is None or level is None:
            return factory.create_dataset(dataset, **settings)
        from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

        curriculum = _curriculum(dataset, attribute)
        curriculum.set_attr_level(attribute, level - 1)
        # The upper bound: else a level would ask the questions of all levels below it too.
        context = DefaultCurriculumContext(RangeAttributeMode.UPPER_BOUND)
        return factory.DATASETS[dataset][0](curriculum.generate_configuration(settings, context))
    except (AssertionError, TypeError, ValueError) as error:
        raise TaskError(f"task.config: {dataset} of reasoning-gym refuses it: {error!r}") from error
