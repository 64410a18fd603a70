"""What every peer is asked to do. Standard library only: environments without NeuroMAS read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Work:
    """Steps of a chain of nodes, with all that a peer which has no graphs needs to do as much.

    Attributes:
        base: folder of the base.
        nodes: agents, each with a LoRA of its own.
        steps: optimizer steps, warm-up included.
        examples: questions a step.
        group_size: rollouts per question.
        max_tokens: of a message.
        rank: of the LoRAs.
        targets: the layers that have one.
        learning_rate: of all of them.
        prompts: of shape (nodes, steps x examples): what each node reads where those before it stated true facts.
        prompt_tokens: of the same shape: the lengths of these.
        answers: of shape (nodes, steps x examples): the fact that each node is rewarded for.
    """

    base: str
    nodes: int
    steps: int
    examples: int
    group_size: int
    max_tokens: int
    rank: int
    targets: list[str]
    learning_rate: float
    prompts: list[list[str]]
    prompt_tokens: list[list[int]]
    answers: list[list[str]]

    @classmethod
    def read(cls, file: Path) -> Work:
        """Return what ``write`` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def read_tokens(self, step: int) -> int:
        """Return the tokens of all prompts of a step, each read once per rollout."""
        at = slice(step * self.examples, (step + 1) * self.examples)
        return self.group_size * sum(sum(lengths[at]) for lengths in self.prompt_tokens)


class StepLog:
    """The file to which a peer adds a line at the end of each step."""

    def __init__(self, file: Path, work: Work) -> None:
        self._file = file
        self._work = work
        self._steps = 0
        file.write_text("")

    def add(self, generated: int) -> None:
        """Note a step of all nodes, with the tokens that they generated."""
        line = {"step": self._steps + 1, "read": self._work.read_tokens(self._steps), "generated": generated}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._steps += 1
