"""The sections of a run spec that say what is trained: task, adapter, prompt and sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuromas.schema.model import SpecModel


class ChainTaskSpec(SpecModel):
    """Follow a random permutation of 8 symbols for ``hops`` steps."""

    type: Literal["chain"]
    hops: int = Field(default=5, ge=1, le=9)
    """Target level: number of hops asked for. Levels are 1..hops."""
    cycles: Literal["one", "any"] = "one"
    """"one": each permutation is a single cycle, so that no other number of hops below 8 ends at the same symbol and a
    guess is right for 1 question of 7. "any": 5 hops end where 1 does for 3 questions of 8, a shortcut that pays."""


class TreeTaskSpec(SpecModel):
    """Evaluate a complete binary expression of + and - modulo 10."""

    type: Literal["tree"]
    depth: int = Field(default=3, ge=1, le=4)
    """Target level: depth of the expression (3 = 7 gates). Levels are 1..depth."""


class FileTaskSpec(SpecModel):
    """Questions and answers from JSON-lines files."""

    type: Literal["file"]
    train: str
    """Path of the training file, absolute or from the working directory: one JSON object a line."""
    test: str
    """Path of the held-out file."""
    question_key: str = "question"
    answer_key: str = "answer"
    verifier: Literal["exact", "number", "choice"] = "exact"
    """How an answer is checked: normalised text, last number in the text, or last letter A-Z named as choice."""
    level_key: str | None = None
    """Key of an integer level in each object; None = the task has no levels."""


TaskSpec = Annotated[ChainTaskSpec | TreeTaskSpec | FileTaskSpec, Field(discriminator="type")]


class AdapterSpec(SpecModel):
    """The trainable weights that each adapter name gets."""

    type: Literal["lora", "unilora"] = "lora"
    rank: int = Field(default=1, ge=1, le=512)
    """LoRA rank r (Uni-LoRA: rank of the pairs its vector is projected to)."""
    alpha: float | None = Field(default=None, gt=0)
    """LoRA scale is alpha / rank; None = rank, a scale of 1."""
    dimension: int | None = Field(default=None, ge=1)
    """Uni-LoRA only: length d of the trained vector."""
    targets: tuple[str, ...] = ("q_proj", "v_proj", "up_proj", "down_proj")
    """Names of the linear layers that carry adapters."""

    @model_validator(mode="after")
    def _dimension_belongs_to_unilora(self) -> AdapterSpec:
        if (self.type == "unilora") != (self.dimension is not None):
            raise ValueError("dimension is required for type 'unilora' and refused for type 'lora'")
        if not self.targets:
            raise ValueError("targets must name at least one linear layer")
        return self


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
