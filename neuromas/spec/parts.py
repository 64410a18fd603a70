"""The sections of a run spec that say how nodes read and speak: prompt and sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neuromas.schema.model import SpecModel


class PromptSpec(SpecModel):
    """The text a Node reads. Role-free: the defaults hold positions, the task and signals, never a persona."""

    renderer: Literal["auto", "compact", "plain", "chat"] = "auto"
    """"auto" takes the base's own declaration, else "chat" where its tokenizer has a chat template, else "plain"."""
    instruction: str | None = None
    """Replaces the renderer's default text about position and answer format; may use {layer}, {index}, {depth},
    {width} and {max_tokens}. Not used by "compact"."""
    answer_format: str = ""
    """What the output Node is asked for, e.g. "the final number after ####". Not used by "compact"."""
    max_signal_tokens: int | None = Field(default=None, ge=1)
    """Longest signal a Node reads, in tokens of the base; longer ones keep their end. None = no limit."""


class SamplingSpec(SpecModel):
    """Sampling of training rollouts and sampled evaluation; Nodes may override max_tokens and temperature."""

    max_tokens: int = Field(default=8, ge=1, le=32768)
    """Token budget of a message, end-of-sequence token included."""
    temperature: float = Field(default=1.0, gt=0, le=4)
    top_p: float = Field(default=1.0, gt=0, le=1)
