"""GraphEnv: a Topology and a Task as an environment of RLlib, each Node an agent that speaks in turn.

The environment is the graph: it asks every Node once, in topological order, and shows it the question and the
messages of its predecessors. What a Node answers is up to the policies; RLlib's own algorithms, or a person, can take
the seats. The terminal reward is shared by all.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from gymnasium.spaces import Dict, Space, Text
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from neuromas.errors import TaskError
from neuromas.rollout.prompt_text import PromptText
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example, Task
from neuromas.tasks.judge import judge
from neuromas.topology.graph import Topology

PRINTABLE = frozenset(string.printable)
"""Characters of the text spaces unless others are given."""

Step = tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]


class GraphEnv(MultiAgentEnv):  # type: ignore[misc]
    """One question per episode, one turn per Node; observations are prompts and actions are messages.

    Characters outside the spaces' character set are shown as ``?``.
    """

    def __init__(
        self,
        topology: Topology,
        task: Task,
        *,
        level: int | None = None,
        prompt: PromptSpec | None = None,
        max_prompt_characters: int = 8192,
        max_message_characters: int = 1024,
        characters: frozenset[str] = PRINTABLE,
    ) -> None:
        """Set up the environment.

        Args:
            topology: the graph.
            task: draws and scores the questions.
            level: task level; None = the target.
            prompt: how prompts are worded; None = the defaults.
            max_prompt_characters: longest observation; longer prompts keep their end.
            max_message_characters: longest action.
            characters: of both spaces.
        """
        self.possible_agents = list(topology.order)
        self.agents = list(topology.order)
        self._agent_ids = set(topology.order)
        prompts = Text(max_prompt_characters, min_length=1, charset=characters)
        messages = Text(max_message_characters, min_length=0, charset=characters)
        self.observation_spaces: dict[str, Space[Any]] = dict.fromkeys(topology.order, prompts)
        self.action_spaces: dict[str, Space[Any]] = dict.fromkeys(topology.order, messages)
        self.observation_space = Dict(self.observation_spaces)
        self.action_space = Dict(self.action_spaces)
        super().__init__()
        self._topology, self._task, self._level = topology, task, level
        self._text = PromptText(prompt or PromptSpec())
        self._max_prompt, self._characters = max_prompt_characters, characters
        self._next_example = 0
        self._example: Example | None = None
        self._messages: dict[str, str] = {}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Begin an episode and return the first Node's prompt.

        Args:
            seed: index of the training example to begin with; None = the one after the last episode's.
            options: ignored.
        """
        super().reset(seed=seed)
        index = self._next_example if seed is None else seed
        size = self._task.size("train")
        self._example = self._task.example("train", index if size is None else index % size, self._level)
        self._next_example = index + 1
        self._messages = {}
        first = self._topology.order[0]
        return {first: self._prompt(first)}, {first: {"example": self._example.id}}

    def step(self, action_dict: Mapping[str, str]) -> Step:
        """Take the message of the Node whose turn it is.

        Returns:
            Observation of the next Node, rewards, terminated, truncated and infos by Node. After the output's message
            every Node gets the terminal reward.

        Raises:
            TaskError: the episode is over, or another Node's message was given.
        """
        if self._example is None or len(self._messages) == len(self._topology.order):
            raise TaskError("the episode is over; call reset() first")
        turn = self._topology.order[len(self._messages)]
        if set(action_dict) != {turn}:
            raise TaskError(f"got messages of {sorted(action_dict)}; it is the turn of node {turn!r} alone")
        self._messages[turn] = action_dict[turn]
        if len(self._messages) < len(self._topology.order):
            following = self._topology.order[len(self._messages)]
            going_on = {"__all__": False}
            return {following: self._prompt(following)}, {}, going_on, dict(going_on), {following: {}}
        return self._end(self._example)

    def _end(self, example: Example) -> Step:
        nodes = self._topology.order
        reward = judge(self._task, example, self._messages[self._topology.output]).reward
        over = dict.fromkeys(nodes, True) | {"__all__": True}
        return {}, dict.fromkeys(nodes, reward), over, dict.fromkeys(over, False), {}

    def _prompt(self, node: str) -> str:
        assert self._example is not None
        signals = [(sender, self._messages[sender]) for sender in self._topology.predecessors(node)]
        text = self._text.write(self._topology, node, self._example, signals, self._topology.node(node).max_tokens)
        shown = "".join(character if character in self._characters else "?" for character in text)
        return shown[-self._max_prompt :]
