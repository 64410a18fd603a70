"""The sections of a run spec that say how nodes read and speak: prompt and sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from neuromas.schema.bounds import MAX_STEPS, MAX_TEXT, Key, Number
from neuromas.schema.model import SpecModel
from neuromas.topology.graph import MAX_TEMPERATURE, MAX_TOKENS, MIN_TEMPERATURE, MIN_TOP_P


class DemonstrationSpec(SpecModel):
    """A worked example."""

    question: str = Field(min_length=1, max_length=MAX_TEXT)
    """As the task would ask it."""
    answer: str = Field(min_length=1, max_length=MAX_TEXT)
    """What the output Node should say to it, with its steps where they help."""
    level: int | None = Field(default=None, ge=0, le=MAX_STEPS)
    """Shown with questions of this level only; None = with all."""


class PromptSpec(SpecModel):
    """The text a Node reads. Role-free: the defaults hold positions, the task and signals, never a persona."""

    renderer: Literal["auto", "compact", "plain", "chat"] = "auto"
    """"auto" takes the base's own declaration, else "chat" where its tokenizer has a chat template, else "plain".
    "compact" is for bases whose vocabulary is a list of words; of this section it uses ``stop`` and
    ``max_signal_tokens`` alone."""
    instruction: str | None = Field(default=None, max_length=MAX_TEXT)
    """Replaces the default text about position and answer format, "" leaves it out; may use {layer}, {index}, {depth},
    {width} and {max_tokens}."""
    answer_format: str = Field(default="", max_length=MAX_TEXT)
    """What the output Node is asked for, e.g. "the final number after ####"."""
    template: str | None = Field(default=None, max_length=MAX_TEXT)
    """Replaces the whole text, {question} included; may use the fields of ``instruction`` and {messages} (all of them,
    with their senders), {messages[ID]} (the text of one sender) and {demonstrations}. Nothing but these names is read:
    no attributes, no formats."""
    demonstrations: tuple[DemonstrationSpec, ...] = Field(default=(), max_length=1024)
    """Worked examples, shown before the task. One that is the very question asked is left out there."""
    drawn_demonstrations: int = Field(default=0, ge=0, le=64)
    """Worked examples drawn from the training questions instead, as many for each level; never from held-out ones. They
    are written into ``demonstrations`` when a run starts."""
    cue: str | None = Field(default=None, max_length=MAX_TEXT)
    """Text that the completion continues; None = "Answer:" or "Message:" in plain text, nothing in chats, where it
    begins the assistant's turn."""
    stop: tuple[Key, ...] = Field(default=(), max_length=16)
    """Texts that end every message, e.g. "\\n", in training and in serving; what follows from there on is cut off."""
    system: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT)
    """Text of a system turn; chats only. None = none of ours (a template may have a text of its own)."""
    template_kwargs: Mapping[Key, bool | Number | Key] = Field(default={}, max_length=64)
    """Variables of the base's chat template, e.g. {enable_thinking = false}; chats only."""
    max_signal_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    """Longest signal a Node reads, in tokens of the base; longer ones keep their end. None = no limit."""

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> PromptSpec:
        if self.template is not None and (self.instruction is not None or self.answer_format):
            raise ValueError("template replaces instruction and answer_format; leave those out")
        if self.demonstrations and self.drawn_demonstrations:
            raise ValueError("demonstrations are given or drawn (drawn_demonstrations), not both")
        if "" in self.stop:
            raise ValueError("stop holds an empty text")
        return self

    @property
    def worked_levels(self) -> frozenset[int]:
        """Levels that have worked examples of their own."""
        return frozenset(worked.level for worked in self.demonstrations if worked.level is not None)


class SamplingSpec(SpecModel):
    """Sampling of training rollouts and sampled evaluation; Nodes may override max_tokens and temperature."""

    max_tokens: int = Field(default=8, ge=1, le=MAX_TOKENS)
    """Token budget of a message, end-of-sequence token included."""
    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    """Of Nodes that have none of their own. Above 1 where groups answer alike, below 1 where nothing right is said."""
    top_p: float = Field(default=1.0, ge=MIN_TOP_P, le=1)
    """Nucleus mass. Below 1 training needs training.old_logprobs = "trainer"."""
